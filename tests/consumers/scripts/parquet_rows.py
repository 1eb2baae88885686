"""Reads a Parquet file with PyArrow: `parquet_rows.py FILE`. Prints its rows."""

from __future__ import annotations

import json
import sys

from pyarrow import parquet

print(json.dumps(parquet.read_table(sys.argv[1]).to_pylist()))  # noqa: T201  # a script
