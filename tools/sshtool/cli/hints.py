"""The verb for a file that stands where a verb is expected: `sshtool photo.jpg`."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Final

_ABOUT: Final = "describes it"

# The suffixes of a kind of file, its name, and the commands for it with what they do. {} is the file.
_KINDS: Final[tuple[tuple[tuple[str, ...], str, dict[str, str]], ...]] = (
    (
        (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
        "an image",
        {"detect {}": "finds faces", "predict {}": "is for classifiers and embedders"},
    ),
    ((".mp4", ".mov", ".mkv", ".webm", ".avi"), "a video", {"detect {}": "finds faces in its frames"}),
    (("-symbol.json",), "a symbol", {"info {}": _ABOUT, "convert --symbol {}": "needs --params or its file too"}),
    ((".params",), "a checkpoint", {"info {}": _ABOUT, "convert --params {}": "converts it"}),
    ((".onnx", ".xml"), "a model", {"info {}": _ABOUT, "verify --artifact {}": "compares it with the original"}),
    (
        (".zip", ".tar.gz", ".tgz", ".tar"),
        "an archive",
        {"check {}": "checks a package", "download --from-archive {}": "unpacks a checkpoint"},
    ),
    ((".npz",), "a reference pack", {"verify --reference {}": "compares with its answers"}),
    ((".toml",), "a model's description", {"run --model {}": "does the whole job"}),
)


def hint(given: str) -> str:
    """The commands for a file of this name, in one line; "" for a name of no known kind."""
    name = PurePath(given).name.lower()
    for suffixes, kind, commands in _KINDS:
        if name.endswith(suffixes) and name not in suffixes:
            file = shlex.quote(given)
            ways = "; ".join(f"`sshtool {command.format(file)}` {what}" for command, what in commands.items())
            return f"{file} is {kind}, and the verb is missing: {ways}"
    return ""
