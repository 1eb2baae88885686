"""Videos without PyAV: names, where a file ends, how a frame is turned. Real ones are in `tests/consumers`."""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from sshconvert.arrays import Pixels
from sshconvert.errors import RuntimeUnavailableError, UsageError, VideoError
from sshconvert.models.registry import load_model
from sshtool import interruption
from sshtool.detection import Saving, detect, jobs_of
from sshtool.meter import PERIOD, Meter
from sshtool.selection import select_images
from sshtool.stores import StoredFile
from sshtool.video.extent import missing_bytes
from sshtool.video.naming import EXTENSIONS, device_of, is_camera, is_video
from sshtool.video.reading import Frame, missing
from sshtool.workspace import Workspace

UNKNOWN: Final = b"\x01" + b"\xff" * 7  # a size in Matroska


def test_a_video_is_known_by_its_extension_in_any_case() -> None:
    assert is_video(Path("a/CLIP.MP4"))
    assert is_video(StoredFile("s3://bucket/clip.mov"))
    assert not is_video(Path("mp4"))
    assert not is_video(Path("clip.mp4.png"))


def test_no_image_has_the_extension_of_a_video() -> None:
    from sshtool.images import readable_extensions

    assert not EXTENSIONS & readable_extensions()


def test_a_folder_gives_its_images_and_not_its_videos(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.png", "c.mov"):
        (tmp_path / name).touch()
    assert select_images([tmp_path]) == (tmp_path / "b.png",)
    assert select_images([tmp_path / "*.m*"]) == (tmp_path / "a.mp4", tmp_path / "c.mov")


@pytest.mark.parametrize(
    ("platform", "camera", "device"),
    [
        ("linux", "camera:0", ("v4l2", "/dev/video0")),
        ("darwin", "camera:1", ("avfoundation", "1")),
        ("win32", "camera:Integrated Camera", ("dshow", "video=Integrated Camera")),
    ],
)
def test_a_camera_is_the_systems_device(
    platform: str, camera: str, device: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert is_camera(camera)
    assert device_of(camera) == device


@pytest.mark.parametrize("camera", ["camera:", "camera:../x", "camera:0;x", "camera:-1", "camera:12345"])
def test_no_other_device_is_a_camera_on_linux(camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UsageError, match="names no camera"):
        device_of(camera)


def test_a_camera_is_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name it alone"):
        detect(Workspace(load_model("ssh-mxnet"), tmp_path), ["camera:0", "camera:1"])


@pytest.mark.parametrize("argument", ["clip.mp4", "camera:0"])
def test_pyav_is_asked_for_before_anything_is_loaded(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    Path("clip.mp4").touch()
    with pytest.raises(RuntimeUnavailableError, match="PyAV: cannot be imported"):
        detect(Workspace(load_model("ssh-mxnet"), tmp_path), [argument])


def test_a_video_in_a_store_is_refused() -> None:
    with pytest.raises(VideoError, match="get it from the store first"):
        missing(StoredFile("s3://bucket/clip.mp4"))


def test_no_image_has_the_name_of_a_frame() -> None:
    given = ["clip-000001.png", "clip.mp4", "CLIP.mkv", "clip-3-000002.jpg", "img-20240101.png", "img-20240102.png"]
    jobs = jobs_of([Path(name) for name in given], Path("out"), Saving(images=True))
    names = ["clip-000001", "clip-2", "CLIP-3", "clip-3-000002-2", "img-20240101", "img-20240102"]
    assert [job.name for job in jobs] == names
    assert [job.picture and job.picture.name for job in jobs[:3]] == ["clip-000001.png", "clip-2.mp4", "CLIP-3.mp4"]


def box(kind: bytes, size: int, *, stated: int | None = None) -> bytes:
    return struct.pack(">I4s", size if stated is None else stated, kind) + bytes(size - 8)


def large_box(kind: bytes, size: int) -> bytes:
    return struct.pack(">I4sQ", 1, kind, size) + bytes(size - 16)


def matroska(size: bytes, content: int) -> bytes:
    return b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67" + size + bytes(content)


WHOLE: Final = {
    "MP4": box(b"ftyp", 24) + box(b"free", 8) + box(b"mdat", 500) + box(b"moov", 100),
    "a box of 64 bits": box(b"ftyp", 24) + large_box(b"mdat", 300),
    "Matroska": matroska(b"\x01" + (300).to_bytes(7, "big"), 300),
    "a short size": matroska(b"\x42\x00", 512),
    "AVI": b"RIFF" + struct.pack("<I", 400) + bytes(400),
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_the_missing_bytes_are_counted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip"
    for lacking in (0, 1, 90):
        path.write_bytes(data[: len(data) - lacking])
        with path.open("rb") as file:
            assert missing_bytes(file) == lacking


OPEN: Final = {
    "an empty file": b"",
    "another format": b"OggS" + bytes(100),
    "a box to the end": box(b"ftyp", 24) + box(b"mdat", 500, stated=0),
    "a box without a size": box(b"ftyp", 24) + box(b"mdat", 500, stated=5),
    "a live recording": matroska(UNKNOWN, 300),
    "no segment": b"\x1a\x45\xdf\xa3\x84" + bytes(200),
    "a cut head": b"\x1a\x45\xdf\xa3",
    "bytes behind the last box": box(b"ftyp", 24) + bytes(7),
}


@pytest.mark.parametrize("data", OPEN.values(), ids=OPEN)
def test_what_states_no_size_lacks_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "clip").write_bytes(data)
    with (tmp_path / "clip").open("rb") as file:
        assert missing_bytes(file) == 0


class Picture:
    """What `Frame` uses of PyAV's frame."""

    def __init__(self, image: Pixels, colorspace: int = 1) -> None:
        self.height, self.width = image.shape[:2]
        self.colorspace, self.format = colorspace, type("Format", (), {"name": "yuv420p"})
        self.image, self.asked = image, dict[str, Any]()

    def to_ndarray(self, **asked: Any) -> Pixels:
        self.asked = asked
        return self.image


# a, b, c, d of ISO/IEC 14496-12: x' = a x + c y, y' = b x + d y; and what they make of a stored image.
TURNS: Final = {
    "as it is": ((1, 0, 0, 1), lambda image: image),
    "a quarter clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "a quarter counterclockwise": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transposed": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "transposed and turned": ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    "a few degrees": ((65000, 3000, -3000, 65000), lambda image: image),
}


@pytest.mark.parametrize(("turn", "expected"), TURNS.values(), ids=TURNS)
def test_each_display_matrix_turns_a_frame_upright(turn: tuple[int, int, int, int], expected: Any) -> None:
    image = np.random.default_rng(5).integers(0, 256, (4, 6, 3), np.uint8)
    frame = Frame(0, 0, 0.0, turn, Picture(image))
    pixels = frame.pixels()
    np.testing.assert_array_equal(pixels, expected(image))
    assert pixels.shape[:2] == frame.size
    assert pixels.flags.c_contiguous


def test_a_large_video_that_states_no_colours_has_those_of_television_in_hd() -> None:
    for height, colorspace, expected in ((720, 2, 1), (576, 2, None), (1080, 5, None)):
        picture = Picture(np.zeros((height, 8, 3), np.uint8), colorspace)
        Frame(0, 0, 0.0, (1, 0, 0, 1), picture).pixels()
        assert picture.asked.get("src_colorspace") == expected


def test_progress_without_a_total_has_the_number_and_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[tuple[str, int, int]] = []
    meter = Meter("detecting", 0, 0, lambda step, done=0, total=0: said.append((step, done, total)), unit="frames")
    now = 2.0
    meter.step()
    assert said == [("detecting", 0, 0), ("detecting, 1 frames, 0.5 frames/s", 1, 0)]
    now = PERIOD + 1
    meter.step()
    assert said[-1] == ("detecting: 2 frames, 0.0328 frames/s", 0, 0)


def test_the_first_signal_ends_the_work_and_the_second_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_told", "_first"):
        monkeypatch.setattr(interruption, name, type(interruption._told)())
    with interruption.ended_by_signal() as end:
        assert not end.is_set()
        interruption._interrupt(2, None)
        assert end.is_set()
        with pytest.raises(interruption.Interrupted):
            interruption._interrupt(2, None)
