"""Runs verbs one after the other: `verbs_in_turn.py JSON`, a list of calls. Prints the exit code and streams of each.

With the folder `absent_packages` on PYTHONPATH, packages that ABSENT_PACKAGES names are not installed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence


def call(arguments: Sequence[str]) -> tuple[object, str, str]:
    from sshtool.cli.app import app

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    sys.argv = ["sshtool", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app()
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    results = [call(arguments) for arguments in json.loads(sys.argv[1])]
    print(json.dumps(results))  # noqa: T201  # what it is for
