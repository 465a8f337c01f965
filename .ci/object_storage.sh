# S3 for the tests, from two programs that nobody else's data lies in: OpenStack Swift, which checks every signature, and LocalStack, which
# knows more of the S3 API. Sourced by .ci/services.sh. Both come from the package index into .cache/, run as whoever runs this, listen on
# 127.0.0.1 only, and begin empty. What is installed stands in locks: LocalStack needs its dependencies as they were when it came out, newer
# ones break it, and newer releases of it need a newer Python.

STORAGE_CACHE="$PWD/.cache/object-storage"
STORAGE_PIDS=()

end_object_storage() {
    [ "${#STORAGE_PIDS[@]}" = 0 ] || kill "${STORAGE_PIDS[@]}" 2>/dev/null || true
    [ "${#STORAGE_PIDS[@]}" = 0 ] || wait "${STORAGE_PIDS[@]}" 2>/dev/null || true
    STORAGE_PIDS=()
}

started() { # started NAME COMMAND... : in the background, its words in a log
    local name="$1"
    shift
    "$@" >"$STORAGE_CACHE/$name.log" 2>&1 </dev/null &
    STORAGE_PIDS+=($!)
}

answers() { # answers URL TEXT : whether the page holds the text
    .venv/bin/python -c 'import sys, urllib.request as u; sys.exit(sys.argv[2] not in u.urlopen(sys.argv[1], timeout=5).read().decode())' "$@" 2>/dev/null
}

wait_for() { # wait_for NAME URL TEXT : a minute at most
    local _
    for _ in $(seq 240); do
        answers "$2" "$3" && return
        sleep 0.25
    done
    echo "error: $1 did not start in 60 seconds; its last words:" >&2
    tail -n 20 "$STORAGE_CACHE/$1"*.log >&2
    exit 1
}

free_ports() { # free_ports FIRST COUNT : the first of so many free ports in a row, FIRST if they are free
    .venv/bin/python - "$@" <<'PY'
import socket, sys

def free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

first, count = int(sys.argv[1]), int(sys.argv[2])
print(next(port for port in range(first, 65000, 10) if all(free(port + n) for n in range(count))))
PY
}

installed() { # installed NAME PROGRAM : from its lock, into a virtual environment of its own, made once for a lock
    local place="$STORAGE_CACHE/$1" lock=".ci/$1.lock"
    cmp -s "$lock" "$place/installed.lock" && return
    rm -rf "$place"
    .venv/bin/python -m venv "$place"
    .venv/bin/uv pip install --quiet --python "$place/bin/python" --require-hashes --requirements "$lock" 2>"$STORAGE_CACHE/$1-uv.log" ||
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
    [ -x "$place/bin/$2" ]
    cp "$lock" "$place/installed.lock"
}

make_bucket() { # make_bucket URL KEY SECRET BUCKET
    .venv/bin/python .ci/make_bucket.py "$@"
}

need_swift() { # leaves PENSTOCK_TEST_SWIFT_URL, .._KEY, .._SECRET, .._BUCKET
    mkdir -p "$STORAGE_CACHE"
    installed swift swift-proxy-server
    local port
    port=$(free_ports 8780 4) # the proxy's, and its three servers'
    rm -rf "$STORAGE_CACHE/swift-data"
    .venv/bin/python .ci/swift_conf.py "$STORAGE_CACHE/swift-data" "$port" "$(id -un)" "$STORAGE_CACHE/swift/bin"
    local server
    for server in account container object proxy; do
        started "swift-$server" "$STORAGE_CACHE/swift/bin/swift-$server-server" "$STORAGE_CACHE/swift-data/$server.conf"
    done
    wait_for swift "http://127.0.0.1:$port/healthcheck" OK
    export PENSTOCK_TEST_SWIFT_URL="http://127.0.0.1:$port" PENSTOCK_TEST_SWIFT_KEY=demo:app PENSTOCK_TEST_SWIFT_SECRET=SECRET
    export PENSTOCK_TEST_SWIFT_BUCKET=penstock
    make_bucket "$PENSTOCK_TEST_SWIFT_URL" demo:app SECRET penstock
    echo "== S3 by Swift: $PENSTOCK_TEST_SWIFT_URL"
}

need_localstack() { # leaves PENSTOCK_TEST_LOCALSTACK_URL, .._KEY, .._SECRET, .._BUCKET
    mkdir -p "$STORAGE_CACHE"
    installed localstack localstack
    rm -rf "$STORAGE_CACHE/localstack-data"
    local address
    address="127.0.0.1:$(free_ports 4566 1)"
    # Without S3_SKIP_SIGNATURE_VALIDATION=0 it takes forged and expired links; signatures are checked against the keys test/test only.
    started localstack env SERVICES=s3 GATEWAY_LISTEN="$address" LOCALSTACK_HOST="$address" FILESYSTEM_ROOT="$STORAGE_CACHE/localstack-data" \
        EAGER_SERVICE_LOADING=1 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 S3_SKIP_SIGNATURE_VALIDATION=0 \
        "$STORAGE_CACHE/localstack/bin/python" -m localstack.runtime.main
    wait_for localstack "http://$address/_localstack/health" '"s3": "running"'
    export PENSTOCK_TEST_LOCALSTACK_URL="http://$address" PENSTOCK_TEST_LOCALSTACK_KEY=test PENSTOCK_TEST_LOCALSTACK_SECRET=test
    export PENSTOCK_TEST_LOCALSTACK_BUCKET=penstock
    make_bucket "$PENSTOCK_TEST_LOCALSTACK_URL" test test penstock
    echo "== S3 by LocalStack: $PENSTOCK_TEST_LOCALSTACK_URL"
}
