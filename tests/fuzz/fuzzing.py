"""What the fuzzers share. One runs alone as `python tests/fuzz/fuzz_NAME.py CORPUS -max_total_time=60`, and as a test
through `run_fuzzer`.

A fuzzer is `fuzz(load)`, where `load` imports what is to be fuzzed, so that it is instrumented, and returns the check:
a function of the bytes that raises nothing unless something is wrong.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
SLOWEST: Final = 2  # seconds for one input
MEMORY: Final = 1024  # MB for the process, which is large because it is instrumented


def fuzz(load: Callable[[], Callable[[bytes], object]], *more: str) -> None:
    """Hand the bytes that libFuzzer makes to the check, until one raises an exception or the time is over.

    `more` are packages to be instrumented besides the project's own, such as "json".
    """
    import atheris

    with atheris.instrument_imports(include=["sshconvert", "sshtool", *more]):
        check = load()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


def run_fuzzer(name: str, seeds: Iterable[bytes], folder: Path, *, seconds: int = 60, largest: int = 4096) -> int:
    """Run `fuzz_NAME.py` on those seeds and require that it finds nothing. Returns how many inputs it tried.

    `folder` gets the corpus and, if one is found, the input that breaks the reader. Skips the test without atheris.
    """
    import pytest  # here, because no fuzzer needs it

    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris, which the extra fuzz brings on Linux, is not installed")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}", f"-max_len={largest}"]
    script = str(FOLDER / f"fuzz_{name}.py")
    command = [sys.executable, script, str(corpus), *limits, "-seed=1", f"-artifact_prefix={folder}/"]
    result = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=10 * seconds + 120
    )
    assert result.returncode == 0, result.stderr[-4000:]
    done = re.search(r"Done (\d+) runs", result.stderr)
    assert done, result.stderr[-4000:]
    return int(done[1])
