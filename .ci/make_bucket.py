"""Make a bucket: `python make_bucket.py URL KEY SECRET BUCKET`."""  # noqa: INP001 - a script beside others

import sys
from datetime import timedelta

import httpx
import obstore
from obstore.store import S3Store

MINE_ALREADY = 409


def main() -> None:
    url, key, secret, bucket = sys.argv[1:]
    # Where the bucket's name is taken for a part of the host, the object "bucket" has the address of the bucket itself.
    store = S3Store(
        bucket,
        config={
            "endpoint": url,
            "access_key_id": key,
            "secret_access_key": secret,
            "region": "us-east-1",
            "virtual_hosted_style_request": True,
        },
        client_options={"allow_http": True},
    )
    answer = httpx.put(obstore.sign(store, "PUT", bucket, timedelta(minutes=5)), timeout=30)
    if answer.is_error and answer.status_code != MINE_ALREADY:
        raise SystemExit(f"error: no bucket {bucket} at {url}: {answer.status_code} {answer.text}")


if __name__ == "__main__":
    main()
