# Services for the tests: found where they run, else installed and started. Sourced by .ci/run.

. .ci/object_storage.sh

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

apt_install() { # apt_install PACKAGE... : from the system's package index
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

ensure_base() {
    command -v make >/dev/null || apt_install make
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        python3.11 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3 python3-venv
}

# An external PostgreSQL beside the embedded one: another major version, over TCP. Leaves EXTERNAL_DATABASE_URL.
need_postgres() {
    local url="${EXTERNAL_DATABASE_URL:-postgresql://postgres@127.0.0.1:5432/postgres}"
    if ! reachable "$url"; then
        command -v pg_ctlcluster >/dev/null || apt_install postgresql
        local version port=5432
        version=$(ls /etc/postgresql | sort -n | tail -n 1)
        as_root sed -i 's/^\(host.*127\.0\.0\.1\/32\).*/\1 trust/' "/etc/postgresql/$version/main/pg_hba.conf"
        as_root pg_ctlcluster --skip-systemctl-redirect "$version" main restart
        port=$(pg_lsclusters -h | awk -v v="$version" '$1 == v && $2 == "main" { print $3 }')
        url="postgresql://postgres@127.0.0.1:$port/postgres"
    fi
    reachable "$url" || { echo "error: no external PostgreSQL at $url; set EXTERNAL_DATABASE_URL" >&2; exit 1; }
    export EXTERNAL_DATABASE_URL="$url"
    echo "== external PostgreSQL: $url"
}

# NATS with JetStream: the program, for tests that kill servers of their own, and one server for the others. Leaves PENSTOCK_TEST_NATS_URL.
need_nats() {
    nats_program >/dev/null || apt_install nats-server
    nats_program >/dev/null || { echo "error: no program nats-server, and the system's packages have none" >&2; exit 1; }
    if ! has_jetstream "${PENSTOCK_TEST_NATS_URL:-}"; then
        local folder="$PWD/.cache/nats" port _
        port=$(free_ports 4300 1)
        rm -rf "$folder" && mkdir -p "$folder"
        "$(nats_program)" -js -a 127.0.0.1 -p "$port" -sd "$folder/store" >"$folder/log" 2>&1 </dev/null &
        NATS_PID=$!
        export PENSTOCK_TEST_NATS_URL="nats://127.0.0.1:$port"
        for _ in $(seq 40); do
            has_jetstream "$PENSTOCK_TEST_NATS_URL" && break
            sleep 0.25
        done
        has_jetstream "$PENSTOCK_TEST_NATS_URL" || { echo "error: NATS did not start:" >&2; tail -n 20 "$folder/log" >&2; exit 1; }
    fi
    echo "== NATS: $PENSTOCK_TEST_NATS_URL"
}

end_nats() {
    [ -z "${NATS_PID:-}" ] || kill "$NATS_PID" 2>/dev/null || true
    [ -z "${NATS_PID:-}" ] || wait "$NATS_PID" 2>/dev/null || true
    NATS_PID=
}

nats_program() { command -v nats-server || command -v /usr/sbin/nats-server; }

has_jetstream() { # has_jetstream URL
    [ -n "$1" ] && .venv/bin/python - "$1" <<'PY' 2>/dev/null
import asyncio, sys
import nats

async def look():
    client = await nats.connect(sys.argv[1], connect_timeout=5, max_reconnect_attempts=1)
    await client.jetstream().account_info()
    await client.close()

asyncio.run(asyncio.wait_for(look(), 10))
PY
}

reachable() {
    .venv/bin/python - "$1" <<'PY' 2>/dev/null
import sys
import psycopg
psycopg.connect(sys.argv[1], connect_timeout=5).close()
PY
}
