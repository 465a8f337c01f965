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

reachable() {
    .venv/bin/python - "$1" <<'PY' 2>/dev/null
import sys
import psycopg
psycopg.connect(sys.argv[1], connect_timeout=5).close()
PY
}
