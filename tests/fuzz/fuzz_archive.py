"""Archives: refused by name, or both of the model's files come out. See `fuzzing`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzzing import fuzz


def load() -> Callable[[bytes], object]:
    from sshconvert.errors import ArchiveError
    from sshconvert.models.registry import load_model
    from sshtool.checkpoint.archive import unpack

    model = load_model("ssh-mxnet")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-archive-"))

    def check(data: bytes) -> None:
        path, out = folder / "a.zip", folder / "out"
        path.write_bytes(data)
        try:
            unpack(path, model, out)
            expected = {model.checkpoint.symbol, model.checkpoint.params}
        except ArchiveError:
            expected = set()
        found = {file.name for file in out.iterdir()} if out.exists() else set()
        if found != expected or {file.name for file in folder.iterdir()} - {"a.zip", "out"}:
            raise AssertionError(f"{found} was left, expected {expected}")
        for name in found:
            (out / name).unlink()

    return check


if __name__ == "__main__":
    fuzz(load)
