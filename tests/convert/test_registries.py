"""The registry: one order, no half-loaded view for other threads, and one line for a broken extension."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KEYS = "import json; from sshconvert.operators.registry import OPERATORS; print(json.dumps(list(OPERATORS)))"
THREADS = """
import sys; sys.setswitchinterval(1e-6)
from concurrent.futures import ThreadPoolExecutor
from sshconvert.operators.registry import OPERATORS
with ThreadPoolExecutor(8) as pool:
    print(len(set(pool.map(lambda _: len(OPERATORS), range(8)))))
"""


def run(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*folders, *sys.path]))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_the_order_of_entries_does_not_depend_on_what_was_imported_first() -> None:
    first = json.loads(run(KEYS).stdout)
    assert json.loads(run(f"import sshconvert.operators.shaping; {KEYS}").stdout) == first


def test_every_thread_sees_the_whole_registry() -> None:
    assert run(THREADS).stdout == "1\n"


def test_an_extension_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    information = tmp_path / "broken-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[sshtool.extensions]\nfaulty = faulty\n")
    (tmp_path / "faulty.py").write_text("raise ValueError('two\\nlines')\n")
    result = run("import sys; sys.argv = ['sshtool', 'info']; from sshtool.main import main; main()", tmp_path)
    assert result.returncode == 1
    assert "faulty" in result.stderr.splitlines()[-1]
    assert "uninstall" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
