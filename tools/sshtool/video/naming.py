"""Which arguments of `detect` are videos or cameras."""

from __future__ import annotations

import re
import sys
from typing import Final

from sshconvert.errors import UsageError
from sshconvert.schema import one_line
from sshtool.stores import ImageFile

# Of the containers of `sshtool.video.reading`.
EXTENSIONS: Final = frozenset(
    {
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    }
)
CAMERA: Final = "camera:"

# The system's library for cameras, by FFmpeg's name, and how it takes a device.
_DEVICES: Final = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}


def is_video(path: ImageFile) -> bool:
    """Return whether the extension is that of a video file."""
    return path.suffix.lower() in EXTENSIONS


def is_camera(argument: str | ImageFile) -> bool:
    """Return whether an argument is `camera:` and a device."""
    return str(argument).startswith(CAMERA)


def has_frames(path: ImageFile) -> bool:
    """Return whether it is a video or a camera."""
    return is_camera(path) or is_video(path)


def device_of(camera: str) -> tuple[str, str]:
    """Return FFmpeg's name of the library for cameras, and of the device of `camera:DEVICE`.

    DEVICE is a number on Linux (`camera:0` is /dev/video0), a number or name on macOS, and a name on Windows.

    Raises UsageError for another device, or another system.
    """
    device = camera.removeprefix(CAMERA)
    if sys.platform not in _DEVICES:
        raise UsageError(f"{one_line(camera)}: cameras are read on Linux, macOS and Windows; name a video file")
    library, form = _DEVICES[sys.platform]
    if not (re.fullmatch(r"\d{1,3}", device) if library == "v4l2" else device.strip() and device.isprintable()):
        raise UsageError(f"{one_line(camera)!r}: names no camera; give its number, such as camera:0")
    return library, form.format(device)
