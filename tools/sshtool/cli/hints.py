"""The verb for a file that stands where a verb is expected: `sshtool photo.jpg`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Final

from sshconvert.reading import is_file, is_folder

_ABOUT: Final = "describes it"

# The suffixes of a kind of file, its name, and the commands for it with what they do. {} is the file.
_KINDS: Final[tuple[tuple[tuple[str, ...], str, dict[str, str]], ...]] = (
    (
        (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
        "an image",
        {"detect {}": "finds objects", "predict {}": "is for classifiers and embedders"},
    ),
    ((".mp4", ".mov", ".mkv", ".webm", ".avi"), "a video", {"detect {}": "finds objects in its frames"}),
    (
        ("-symbol.json",),
        "a symbol",
        {"info {}": _ABOUT, "convert --symbol {} --params FILE": "converts it with its parameters"},
    ),
    ((".params",), "a checkpoint", {"info {}": _ABOUT, "convert --params {}": "converts it"}),
    (
        (".onnx", ".xml", ".ncnn.param"),
        "a model",
        {"info {}": _ABOUT, "verify --artifact {}": "compares it with the original"},
    ),
    (
        (".zip", ".tar.gz", ".tgz", ".tar"),
        "an archive",
        {"check {}": "checks a package", "download --from-archive {}": "unpacks a checkpoint"},
    ),
    ((".npz",), "a reference pack", {"verify --reference {}": "compares with its answers"}),
    ((".toml",), "a model's description", {"run --model {}": "does the whole job"}),
)

# The same for folders, by the pattern of a file in it.
_FOLDERS: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    ("manifest.json", "a package", {"check {}": "checks it", "info {}": _ABOUT}),
    ("*.params", "a folder with a checkpoint", {"info {}": _ABOUT, "convert --checkpoint {}": "converts it"}),
    ("", "a folder", {"detect {}": "finds objects in its images", "check {}": "checks a package"}),
)

_TAKEN: Final = "sshtool takes images, videos, .params files, symbols, converted models, packages and folders of them"


def hint(given: str) -> str:
    """The commands for a file of this name or for a folder, in one line; "" for what is neither."""
    name = PurePath(given).name.lower()
    for suffixes, kind, commands in _KINDS:
        if name.endswith(suffixes) and name not in suffixes:
            return _line(given, kind, commands)
    path = Path(given)
    if given and is_folder(path):
        for pattern, kind, commands in _FOLDERS:
            if not pattern or next(path.glob(pattern), None):
                return _line(given, kind, commands)
    if is_file(path):
        return f"{shlex.quote(given)} is a file of no known kind: {_TAKEN}"
    return ""


def _line(given: str, kind: str, commands: Mapping[str, str]) -> str:
    file = shlex.quote(given)
    ways = "; ".join(f"`sshtool {command.format(file)}` {what}" for command, what in commands.items())
    return f"{file} is {kind}, and the verb is missing: {ways}"
