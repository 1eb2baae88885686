"""Runs many calls of sshtool in one process, for tests of its output.

The argument is a file with a JSON list of lists of arguments. Each call is announced in JSON before it runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sshtool.main import _silence_libraries


def calls_in(path: Path, calls: Sequence[Sequence[str]], *more: str) -> Iterator[tuple[Sequence[str], str]]:
    """Run the calls, each with `more` arguments, and yield for each what it printed on stdout. `path` is scratch."""
    path.write_text(json.dumps([[*call, *more] for call in calls]))
    result = subprocess.run([sys.executable, __file__, path], capture_output=True, text=True, check=True)
    parts = re.split(r"^call \d+(?:: .*| ends: .*)\n", result.stdout, flags=re.MULTILINE)
    return zip(calls, parts[1::2], strict=True)


def main() -> None:
    _silence_libraries()
    from sshtool.cli.app import app

    for number, arguments in enumerate(json.loads(Path(sys.argv[1]).read_bytes())):
        for stream in (sys.stdout, sys.stderr):
            stream.write(f"call {number}: {json.dumps(arguments)[:300]}\n")
            stream.flush()
        try:
            app(arguments)
        except SystemExit as end:
            sys.stdout.write(f"call {number} ends: {end.code}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
