"""Copies a folder into a bucket: FOLDER BUCKET/FOLDER."""

from __future__ import annotations

import json
import sys

import s3fs


def main() -> None:
    folder, place = sys.argv[1:]
    store = s3fs.S3FileSystem()
    store.mkdir(place.partition("/")[0])
    store.put(f"{folder}/", f"{place}/", recursive=True)
    print(json.dumps(len(store.find(place))))  # noqa: T201  # for the test


if __name__ == "__main__":
    main()
