"""Everything that four Swift servers need to run on one folder: `python swift_conf.py FOLDER PORT USER BIN`.

The proxy listens at PORT, the account, container and object servers at the next three. One copy of everything, on one "disk".
"""  # noqa: INP001 - a script beside others

import subprocess
import sys
from pathlib import Path

SERVERS = ("account", "container", "object")

SWIFT = """\
[swift-hash]
swift_hash_path_suffix = tests
swift_hash_path_prefix = tests
[storage-policy:0]
name = one
default = yes
"""

STORAGE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/disks
mount_check = false
[pipeline:main]
pipeline = {server}-server
[app:{server}-server]
use = egg:swift#{server}
"""

PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink "
    "proxy-logging proxy-server"
)

PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_demo_app = SECRET .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
min_segment_size = 1
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
"""

PLAIN_FILTERS = {
    "catch_errors": "catch_errors",
    "gatekeeper": "gatekeeper",
    "healthcheck": "healthcheck",
    "proxy-logging": "proxy_logging",
    "listing_formats": "listing_formats",
    "bulk": "bulk",
    "copy": "copy",
    "slo": "slo",
    "dlo": "dlo",
    "symlink": "symlink",
}


def make_ring(folder: Path, server: str, port: int, binaries: Path) -> None:
    builder = [str(binaries / "swift-ring-builder"), str(folder / f"{server}.builder")]
    for words in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
        made = subprocess.run([*builder, *words], check=False, capture_output=True, text=True)  # noqa: S603 - our own program and words
        if made.returncode not in (0, 1):  # 1 is a warning
            raise SystemExit(f"error: {words[0]} of the {server} ring: {made.stdout}{made.stderr}")


def main() -> None:
    folder, port, user, binaries = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    (folder / "disks" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(SWIFT)
    for number, server in enumerate(SERVERS, start=1):
        text = STORAGE.format(port=port + number, user=user, folder=folder, server=server)
        (folder / f"{server}.conf").write_text(text)
        make_ring(folder, server, port + number, binaries)
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{entry}\n" for name, entry in PLAIN_FILTERS.items())
    (folder / "proxy.conf").write_text(PROXY.format(port=port, user=user, folder=folder, pipeline=PIPELINE) + filters)


if __name__ == "__main__":
    main()
