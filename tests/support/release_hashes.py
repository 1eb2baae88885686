"""Hashes of what a commit makes of the demo checkpoint: `python tests/support/release_hashes.py COMMIT [COMMIT]`.

Each commit runs in a checkout of its own, with the packages of this interpreter. It converts the demo checkpoint to
all formats and precisions and to a few variants, verifies, and packages them. One line a file: its SHA-256 and its
path, "=" in front where both commits give the same bytes. The exit code is 1 if a converted model differs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from project import ROOT

PRECISIONS: Final = ("--precision", "FP32,FP16,INT8")
VARIANTS: Final = {
    "faces": ("--postprocess", "--keep-heads", "--precision", "FP32,FP16", "--input-shape", "1,3,256,320"),
    "camera": ("--input-layout", "NHWC", "--input-dtype", "u8", "--input-color", "rgb", "--dynamic", "all"),
    "original": ("--no-preprocessing", "--precision", "FP16", "--input-shape", "2,3,128,128"),
    "small": (*PRECISIONS, "--input-shape", "1,3,192,192", "--postprocess", "--dynamic", "batch"),
}
MODELS: Final = (".onnx", ".xml", ".bin")


def hashes_of(commit: str, folder: Path) -> dict[str, str]:
    """The hash of every file, by its path. The folder is the same for all commits: reports name it."""
    source, out = folder / "source", folder / "out"
    run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(source), commit], {})
    try:
        paths = {"PYTHONPATH": os.pathsep.join([str(source / "convert"), str(source / "tools")])}
        program = [sys.executable, "-m", "sshtool"]
        run([*program, "run", "--demo", *PRECISIONS, "-o", str(out / "run"), "--quiet"], paths)
        for name, options in VARIANTS.items():
            params = next((out / "run").rglob("*.params"))
            run([*program, "convert", "--checkpoint", str(params), *options, "-o", str(out / name), "--quiet"], paths)
    finally:
        run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(source)], {})
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    hashes = {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    shutil.rmtree(out)
    return hashes


def run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)


def main(commits: list[str]) -> int:
    with tempfile.TemporaryDirectory() as name:
        hashes = [hashes_of(commit, Path(name)) for commit in commits]
    first, last = hashes[0], hashes[-1]
    differing = {path for path in first.keys() | last.keys() if first.get(path) != last.get(path)}
    for path in sorted(first.keys() | last.keys()):
        mark = "!" if path in differing else "="
        sys.stdout.write(f"{mark} {first.get(path, 'absent')} {path}\n")
        if path in differing:
            sys.stdout.write(f"  {last.get(path, 'absent')}\n")
    return int(any(path.endswith(MODELS) for path in differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
