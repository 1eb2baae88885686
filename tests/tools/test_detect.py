from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image as pillow  # noqa: N813  # as in sshtool.images
from rich.console import Console

from command_line import sshtool
from detections import SSH, detections, table
from limited_process import allow, run_limited
from sshconvert.arrays import Pixels
from sshconvert.boxes import overlaps
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import DetectionError, ImageError, RuntimeUnavailableError, UsageError
from sshconvert.messages import path_of
from sshconvert.models.registry import load_model
from sshconvert.options import Options
from sshtool import detection as detect_command, images
from sshtool.candidates import usual_artifact
from sshtool.cli.session import Session
from sshtool.concurrency import THREADS, WAITING, SharedRuntime
from sshtool.demo.scenes import Scene, draw_scene
from sshtool.detection import Saving, detect
from sshtool.detector import Detector, DetectorOptions
from sshtool.images import (
    BACKGROUND,
    LARGEST_FILE,
    Placement,
    Resize,
    _decoding_errors as decoding_errors,
    fit,
    read_image,
    read_size,
    readable_extensions,
    reading,
)
from sshtool.results.outcomes import Detected, ImageJob, NotRead, Outcome
from sshtool.runtimes.base import Settings
from sshtool.runtimes.loading import load
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.selection import select_images
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
MEAN: Final = (104, 117, 124)  # B, G, R
SIZE: Final = 320  # of the network's input here: a quarter of the usual work
SCENE_SEED: Final = 118  # at SIZE, six of its seven faces are found
ALL: Final = DetectorOptions(threshold=SSH.score_threshold)

Lines = list[dict[str, Any]]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sshtool", "detect", *map(str, arguments)]


def lines(text: str) -> Lines:
    return [json.loads(line) for line in text.splitlines()]


def boxes_of(line: dict[str, Any]) -> npt.NDArray[np.float32]:
    rows = [[*face["box"], face["score"]] for face in line["detections"]]
    return np.array(rows, np.float32).reshape(-1, 5)


def save(path: Path, image: Pixels, **options: Any) -> Path:
    """Save a BGR array with Pillow, in the format of the extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(np.ascontiguousarray(image[..., ::-1])).save(path, **options)
    return path


def random_image(height: int, width: int) -> Pixels:
    random: Any = np.random.RandomState(3)
    return np.asarray(random.randint(0, 256, (height, width, 3)), np.uint8)


@pytest.fixture(scope="module")
def artifacts(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with artifacts for images of SIZE x SIZE."""
    folder = tmp_path_factory.mktemp("artifacts")
    convert(plain_checkpoint, folder, Options(input_shape=(1, 3, SIZE, SIZE)))
    return folder


@pytest.fixture(scope="module")
def demo_artifacts(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the demo, which finds the faces of scenes."""
    folder = tmp_path_factory.mktemp("demo")
    convert(demo_checkpoint, folder, Options(("onnx",), input_shape=(1, 3, SIZE, SIZE)))
    return folder


@pytest.fixture(scope="module")
def demo_file(demo_artifacts: Path) -> Path:
    return demo_artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx"


@pytest.fixture(scope="module")
def onnx_file(artifacts: Path) -> Path:
    return artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx"


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(SCENE_SEED, SIZE, SIZE)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_plain_image_is_read_as_bgr(tmp_path: Path) -> None:
    image = random_image(5, 7)
    found = read_image(save(tmp_path / "a.png", image))
    np.testing.assert_array_equal(found, image)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous


# How an upright array has to be stored for each orientation to turn it upright again, by EXIF's definitions.
STORED: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}


def turned(path: Path, image: Pixels, orientation: int, **options: Any) -> Path:
    exif = pillow.Exif()
    exif[0x0112] = orientation
    return save(path, STORED[orientation](image), exif=exif, **options)


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_turned_upright_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = random_image(6, 9)
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = turned(tmp_path / f"a.{suffix}", image, orientation, **lossless)
    np.testing.assert_array_equal(read_image(path), image)


# The artist, after the orientation: of a kind that there is not; a number instead of text, on which
# ImageOps.exif_transpose fails as it writes it again; and data behind the end, of which Pillow warns.
MALFORMED: Final = {
    "unknown kind": b"\x01\x3b\x00\x63\xff\xff\xff\xff\xff\xff\xff\xff",
    "wrong kind": b"\x01\x3b\x00\x0b\x00\x00\x00\x01\x3f\x80\x00\x00",
    "data behind the end": b"\x01\x3b\x00\x02\x00\x00\x00\x40\x00\x00\xff\xff",
}


@pytest.mark.parametrize("tag", MALFORMED.values(), ids=MALFORMED)
def test_an_orientation_is_heeded_beside_a_malformed_tag(tmp_path: Path, tag: bytes) -> None:
    image = random_image(6, 9)
    orientation = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x03\x00\x00"
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x02" + orientation + tag + b"\x00\x00\x00\x00"
    path = save(tmp_path / "a.png", STORED[3](image), exif=exif)
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize("exif", [b"Exif\x00\x00rubbish", b"Exif\x00\x00MM\x00*\x00\x00\xff\xff", b"\x00"], ids=str)
def test_an_image_whose_exif_is_rubbish_is_taken_as_it_lies(tmp_path: Path, exif: bytes) -> None:
    image = random_image(6, 9)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", image, exif=exif)), image)


def test_16_bit_images_are_turned_too(tmp_path: Path) -> None:
    grey = random_image(6, 9)[..., 0]
    exif = pillow.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(grey, 1)).astype(np.uint16) * 257
    pillow.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(grey[..., None], 3, axis=2))


def grey_of(image: Pixels) -> Pixels:
    return np.asarray(image.mean(axis=2), np.uint8)


def three(grey: npt.NDArray[Any]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


Pair = tuple[pillow.Image, Pixels]  # a picture in some mode, and what it has to be read as


def coloured(mode: str) -> Callable[[Pixels], Pair]:
    return lambda image: (pillow.fromarray(np.ascontiguousarray(image[..., ::-1])).convert(mode), image)


def black_and_white(image: Pixels) -> Pair:
    white = grey_of(image) > 127
    return pillow.fromarray(white), three(white * 255)


def grey(mode: str) -> Callable[[Pixels], Pair]:
    return lambda image: (pillow.fromarray(grey_of(image)).convert(mode), three(grey_of(image)))


def deep(kind: str, factor: float) -> Callable[[Pixels], Pair]:
    return lambda image: (pillow.fromarray((grey_of(image).astype(float) * factor).astype(kind)), three(grey_of(image)))


def palette(mode: str) -> Callable[[Pixels], Pair]:
    """64 colours, so that nothing is left to an algorithm that chooses them."""

    def make(image: Pixels) -> Pair:
        levels = image // 64
        made = pillow.fromarray((levels[..., 0] + 4 * levels[..., 1] + 16 * levels[..., 2]).astype(np.uint8), "P")
        blue, green, red = (np.arange(64) // 4**place % 4 * 64 for place in range(3))
        made.putpalette(np.stack([red, green, blue], axis=1).astype(np.uint8).tobytes())
        return made.convert(mode) if mode != "P" else made, np.asarray(levels * 64, np.uint8)

    return make


# Each mode that Pillow gives files, in a lossless format that has it: the mode, the extension, and how to make one.
MODES: Final[dict[str, tuple[str, str, Callable[[Pixels], Pair]]]] = {
    "1": ("1", "png", black_and_white),
    "L": ("L", "png", grey("L")),
    "LA": ("LA", "png", grey("LA")),
    "P": ("P", "png", palette("P")),
    "P in GIF": ("P", "gif", palette("P")),
    "PA": ("PA", "tiff", palette("PA")),
    "RGB in BMP": ("RGB", "bmp", coloured("RGB")),
    "RGBA": ("RGBA", "png", coloured("RGBA")),
    "CMYK": ("CMYK", "tiff", coloured("CMYK")),
    "YCbCr": ("YCbCr", "tiff", coloured("YCbCr")),
    "I;16": ("I;16", "png", deep("uint16", 257)),
    "I;16 in TIFF": ("I;16", "tiff", deep("uint16", 257)),
    "I": ("I", "tiff", deep("int32", 257)),
    "F to 1": ("F", "tiff", deep("float32", 1 / 255)),
    "F to 255": ("F", "tiff", deep("float32", 1)),
}
OLDER_MODES: Final = {"I;16": "I"}  # as which Pillow 10 opens it
ROUNDING: Final = {"YCbCr": 4}  # which has fewer colours than RGB


def saved_in_mode(folder: Path, name: str, image: Pixels) -> tuple[Path, Pixels]:
    mode, suffix, make = MODES[name]
    picture, expected = make(image)
    path = folder / f"{name.replace(';', '_').replace(' ', '_')}.{suffix}"
    picture.save(path)
    with pillow.open(path) as opened:
        assert opened.mode in (mode, OLDER_MODES.get(mode))  # or this would test another mode than it says
    return path, expected


@pytest.mark.parametrize("name", MODES)
def test_every_mode_is_read_as_its_rgb_picture(tmp_path: Path, name: str) -> None:
    path, expected = saved_in_mode(tmp_path, name, random_image(20, 30))
    difference = np.abs(read_image(path).astype(int) - expected)
    assert difference.max() <= ROUNDING.get(name, 0)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "RGB"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str) -> None:
    """The left pixel is transparent, the right one opaque: by an alpha channel, or by one colour that is named so."""
    picture = pillow.new("RGB", (2, 1), (200, 200, 200))
    picture.putpixel((0, 0), (10, 10, 10))
    if mode in ("LA", "RGBA"):
        picture = picture.convert(mode)
        picture.putalpha(pillow.frombytes("L", (2, 1), b"\x00\xff"))
        picture.save(tmp_path / "a.png")
    elif mode == "P":
        picture = picture.quantize(2)
        picture.save(tmp_path / "a.png", transparency=picture.getpixel((0, 0)))
    else:
        picture.save(tmp_path / "a.png", transparency=(10, 10, 10))
    assert read_image(tmp_path / "a.png")[0].tolist() == [[*BACKGROUND], [200, 200, 200]]


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path: Path) -> None:
    pillow.new("RGBA", (1, 1), (255, 0, 0, 128)).save(tmp_path / "a.png")
    blue, green, red = read_image(tmp_path / "a.png")[0, 0].tolist()
    assert (blue, green) == (64, 64)
    assert red in (191, 192)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("uint16", [0, 128, 300, 65535], [0, 0, 1, 255]),  # scaled, where clipping would give 0, 128, 255, 255
        ("int32", [0, 128, 300, 65535], [0, 0, 1, 255]),
        ("int32", [-100, 0, 100, 100_000], [0, 0, 1, 255]),
        ("int32", [70_000, 70_000, 70_000, 70_000], [0, 0, 0, 0]),
        ("float32", [0, 0.25, 0.5, 1], [0, 64, 128, 255]),
        ("float32", [0, 0.25, 64, 128], [0, 0, 64, 128]),
        ("float32", [-1, 0, 0.5, 1], [0, 128, 191, 255]),
        ("float32", [0, float("nan"), float("inf"), 1], [0, 0, 0, 255]),
    ],
)
def test_grey_of_more_than_8_bits_is_scaled(
    tmp_path: Path, kind: str, values: list[float], expected: list[int]
) -> None:
    pillow.fromarray(np.array([values], kind)).save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff")[0, :, 0].tolist() == expected


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [pillow.new("RGB", (4, 4), (level, level, level)) for level in (50, 150, 250)]
    for suffix in ("gif", "png", "tiff"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert (read_image(path) == 50).all()


def read_at_once(path: Path) -> Pixels:
    """What `read_image` reads part by part, written out plainly."""
    with pillow.open(path) as picture:
        picture.load()
        turn = {3: "ROTATE_180", 5: "TRANSPOSE", 6: "ROTATE_270", 8: "ROTATE_90"}.get(picture.getexif().get(274, 1))
        image = picture if turn is None else picture.transpose(pillow.Transpose[turn])
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            grey = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
            low, high = float(grey.min()), float(grey.max())
            tops = (1.0, 255.0) if image.mode == "F" else (65535.0,)
            if low >= 0 and high <= tops[-1]:
                low, high = 0.0, next(top for top in tops if high <= top)
            return three(np.rint((grey - low) * (255 / max(high - low, 1e-300))))
        if image.has_transparency_data:
            behind = pillow.new("RGBA", image.size, (*BACKGROUND, 255))
            behind.alpha_composite(image.convert("RGBA"))
            image = behind
        return np.asarray(image.convert("RGB"))[..., ::-1]


def test_an_image_that_is_read_in_parts_is_that_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_PART", 20)
    image = random_image(21, 33)
    paths = [saved_in_mode(tmp_path, name, image)[0] for name in MODES]
    paths += [turned(tmp_path / f"turned{orientation}.png", image, orientation) for orientation in (3, 5, 6, 8)]
    for suffix in ("jpg", "webp", "avif", "jp2", "tga", "ppm", "ico", "dib"):
        paths.append(save(tmp_path / f"other.{suffix}", image))
    picture = pillow.fromarray(np.random.default_rng(0).integers(0, 256, (21, 33, 4), np.uint8), "RGBA")
    for name, made in (("alpha", picture), ("palette", picture.quantize(9)), ("la", picture.convert("LA"))):
        paths.append(tmp_path / f"{name}.png")
        made.save(paths[-1])
    values = np.random.default_rng(1).normal(size=(21, 33)).astype(np.float32)
    for name, deep_values in (
        ("negative", values * 1e6),
        ("numbers", np.abs(values)),
        ("int", (values * 1e5).astype(np.int32)),
    ):
        paths.append(tmp_path / f"{name}.tiff")
        pillow.fromarray(deep_values).save(paths[-1])
    frames = [pillow.fromarray(random_image(21, 33)) for _ in range(2)]
    for suffix in ("mpo", "gif"):
        paths.append(tmp_path / f"frames.{suffix}")
        frames[0].save(paths[-1], save_all=True, append_images=frames[1:])
    pillow.fromarray(image[..., ::-1].copy()).save(tmp_path / "progressive.jpg", progressive=True, subsampling=0)
    for path in [*paths, tmp_path / "progressive.jpg"]:
        np.testing.assert_array_equal(read_image(path), read_at_once(path), err_msg=path.name)


def broken_files(folder: Path) -> dict[str, Path]:
    made = {}
    for suffix in ("png", "jpg", "tiff", "gif", "bmp"):
        whole = save(folder / f"whole.{suffix}", random_image(40, 50)).read_bytes()
        made[f"truncated {suffix}"] = folder / f"truncated.{suffix}"
        made[f"truncated {suffix}"].write_bytes(whole[: len(whole) // 2])
    for name, content in (("text", b"hello"), ("empty", b""), ("beginning", b"\x89PNG\r\n\x1a\n")):
        made[name] = folder / f"{name}.png"
        made[name].write_bytes(content)
    made["postscript"] = folder / "drawing.eps"
    made["postscript"].write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    return made | {"folder": folder, "missing": folder / "nowhere.png"}


def test_what_is_no_whole_image_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    for name, path in broken_files(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: "), name
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is not a file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_that_may_not_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "a.png", random_image(2, 2))
    monkeypatch.setattr(os, "open", refuse)  # the superuser may open anything
    with pytest.raises(ImageError, match=r"cannot be opened \(Permission denied\)"):
        read_image(path)


@pytest.mark.parametrize("limit", [399, 150], ids=["Pillow would warn", "Pillow would refuse"])
def test_an_image_too_large_to_be_honest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    path = save(tmp_path / "a.png", random_image(20, 20))
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageError, match=f"too large .*{limit} pixels"):
        read_image(path)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 400)
    assert read_image(path).shape == (20, 20, 3)


def test_an_image_for_which_there_is_no_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pillow.new("L", (9000, 9000)).save(path)
    assert "too large" in run_limited(f"test_detect:refusal_in_little_memory({str(path)!r})")


def refusal_in_little_memory(path: str) -> str:
    """For a process of its own."""
    allow(0)
    with pytest.raises(ImageError) as caught:
        read_image(Path(path))
    return str(caught.value)


def test_a_bomb_is_refused_beside_another_image_that_is_done_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters of warnings are the process's: whoever ends first must not take them from who is still decoding."""
    path = save(tmp_path / "a.png", random_image(20, 20))
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 399)
    before = list(warnings.filters)
    sooner = decoding_errors(path)
    sooner.__enter__()

    def decode() -> None:
        with decoding_errors(path):
            sooner.__exit__(None, None, None)
            pillow.open(path).close()

    with pytest.raises(ImageError, match="too large"):
        decode()
    assert warnings.filters == before


# --- placing ---------------------------------------------------------------------------------------------------------

sides = st.integers(1, 700)
inputs = st.integers(32, 256)


@given(height=sides, width=sides, input_height=inputs, input_width=inputs, resize=st.sampled_from(Resize))
@settings(deadline=None, max_examples=60)
def test_the_corners_of_the_used_part_come_back_as_the_corners_of_the_image(
    height: int, width: int, input_height: int, input_width: int, resize: Resize
) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    fitted, placement = fit(image, input_height, input_width, resize, (0, 0, 0))
    assert fitted.shape == (input_height, input_width, 3)
    rows, columns = np.nonzero(fitted[..., 0])
    assert np.min(rows) == np.min(columns) == 0
    # The used part ends half a pixel behind its last centre, as the image does.
    edge = np.array([[-0.5, -0.5, np.max(columns) + 0.5, np.max(rows) + 0.5, 0.5]], np.float32)
    ends = (edge[0, 2:4] + 0.5) / [placement.scale_x, placement.scale_y] - 0.5
    np.testing.assert_allclose(ends, [width - 0.5, height - 0.5], rtol=1e-5)
    inside = detections(edge - np.array([0, 0, 0.01, 0.01, 0]))
    np.testing.assert_allclose(placement.to_image(inside).boxes, [[0, 0, width - 1, height - 1]])
    used = (int(np.max(rows)) + 1, int(np.max(columns)) + 1)
    assert used[0] == input_height or used[1] == input_width
    if resize is Resize.STRETCH:
        assert used == (input_height, input_width)


@given(
    st.builds(
        Placement,
        height=st.integers(1, 5000),
        width=st.integers(1, 5000),
        scale_y=st.floats(0.05, 20),
        scale_x=st.floats(0.05, 20),
    ),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_box_put_into_the_input_comes_back_to_its_pixels(
    placement: Placement, shares: tuple[float, float, float, float]
) -> None:
    last = np.array([placement.width - 1, placement.height - 1] * 2)
    box = np.array(shares) * last
    # Written out: a pixel centre k lies k + 0.5 from the edge, in either picture.
    scales = [placement.scale_x, placement.scale_y] * 2
    there = [(value + 0.5) * scale - 0.5 for value, scale in zip(box.tolist(), scales, strict=True)]
    back = placement.to_image(detections([*there, 0.75]))
    np.testing.assert_allclose(back.boxes, [box], atol=2e-3)
    assert back.scores.tolist() == [0.75]
    assert (back.boxes <= last).all()


@given(
    height=st.integers(60, 400),
    width=st.integers(60, 400),
    top=st.floats(0, 0.6),
    left=st.floats(0, 0.6),
    resize=st.sampled_from(Resize),
)
@settings(deadline=None, max_examples=60)
def test_a_block_drawn_in_the_image_is_where_its_box_in_the_input_leads(
    height: int, width: int, top: float, left: float, resize: Resize
) -> None:
    """Pixels and arithmetic against each other: what `fit` moved is found, and `to_image` has to lead back."""
    y1, x1 = int(top * height), int(left * width)
    y2, x2 = y1 + height // 3, x1 + width // 3
    image = np.zeros((height, width, 3), np.uint8)
    image[y1 : y2 + 1, x1 : x2 + 1] = 255
    fitted, placement = fit(image, 160, 192, resize, (0, 0, 0))
    rows, columns = np.nonzero(fitted[..., 0] > 127)
    box = np.array([[np.min(columns), np.min(rows), np.max(columns), np.max(rows), 1]], np.float32)
    pixel = max(1, 1 / placement.scale_x, 1 / placement.scale_y)  # of the coarser of both
    np.testing.assert_allclose(placement.to_image(detections(box)).boxes, [[x1, y1, x2, y2]], atol=pixel)


def test_an_image_of_the_networks_size_is_not_touched() -> None:
    image = random_image(64, 96)
    for resize in Resize:
        fitted, placement = fit(image, 64, 96, resize, MEAN)
        np.testing.assert_array_equal(fitted, image)
        assert (placement.scale_x, placement.scale_y) == (1, 1)


def test_the_letterboxs_padding_is_the_mean_and_lies_right_or_below() -> None:
    wide, _ = fit(np.zeros((50, 100, 3), np.uint8), 64, 64, Resize.LETTERBOX, MEAN)
    assert (wide[:32] == 0).all()
    assert (wide[32:] == MEAN).all()
    tall, _ = fit(np.zeros((100, 50, 3), np.uint8), 64, 64, Resize.LETTERBOX, MEAN)
    assert (tall[:, :32] == 0).all()
    assert (tall[:, 32:] == MEAN).all()


def test_boxes_are_clipped_to_the_image_and_those_in_the_padding_left_out() -> None:
    placement = Placement(height=100, width=200, scale_y=0.5, scale_x=0.5)
    found = placement.to_image(
        detections([[-9, -9, 300, 300, 0.9], [10, 51, 20, 60, 0.8], [101, 5, 110, 9, 0.7], [90, 40, 120, 60, 0.6]])
    )
    np.testing.assert_allclose(table(found), [[0, 0, 199, 99, 0.9], [180.5, 80.5, 199, 99, 0.6]])


def test_the_detector_pads_with_the_models_mean(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(onnx_file, MODEL)
    run = detector.runtime.run
    seen = []

    def watched(images: Pixels) -> dict[str, npt.NDArray[np.float32]]:
        seen.append(images)
        return run(images)

    monkeypatch.setattr(detector.runtime, "run", watched)
    detector.find([np.zeros((100, 200, 3), np.uint8)])
    assert seen[0].shape == (1, SIZE, SIZE, 3)
    assert (seen[0][0, SIZE // 2 :] == MEAN).all()
    np.testing.assert_allclose(MEAN, MODEL.image.mean[::-1], atol=0.5)


# --- choosing files --------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.PNG", "a.jpg", "deep/c.tif", "deep/er/d.webp", ".hidden.png", "odd[1].png"):
        save(tmp_path / "photos" / name, random_image(2, 2))
    for name in ("notes.txt", "film.mpg", "drawing.eps"):
        (tmp_path / "photos" / name).write_text("no image")
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def test_a_folder_gives_its_images_sorted_and_nothing_else(photos: Path) -> None:
    assert select_images(["photos"]) == (photos / "a.jpg", photos / "b.PNG", photos / "odd[1].png")


def test_a_pattern_gives_what_it_matches_sorted(photos: Path) -> None:
    assert select_images(["photos/*.[jP]*"]) == (photos / "a.jpg", photos / "b.PNG")
    assert select_images(["photos/**/*.tif", "photos/**/d*"]) == (
        photos / "deep" / "c.tif",
        photos / "deep" / "er" / "d.webp",
        photos / "drawing.eps",
    )


@pytest.mark.usefixtures("photos")
def test_a_named_file_is_taken_whatever_it_is_called() -> None:
    names = ["photos/notes.txt", "photos/odd[1].png", "photos/.hidden.png"]
    assert select_images(names) == tuple(map(Path, names))


def test_files_come_in_the_order_given_and_once(photos: Path) -> None:
    (photos / "link.jpg").symlink_to("a.jpg")
    absolute = (photos / "a.jpg").absolute()
    arguments: list[str | Path] = [
        "photos/b.PNG",
        absolute,
        "photos/deep/../a.jpg",
        "photos/link.jpg",
        "photos",
        "photos/*",
    ]
    assert select_images(arguments)[:3] == (photos / "b.PNG", absolute, photos / "odd[1].png")


def test_formats_that_pillow_cannot_decode_are_no_images() -> None:
    assert {".png", ".jpg", ".jpeg", ".tif", ".webp", ".bmp", ".gif"} <= readable_extensions()
    assert not {".eps", ".mpg", ".pdf", ".wmf", ".h5"} & readable_extensions()


@pytest.mark.parametrize("argument", ["nowhere.png", "photos/*.heic", "photos/empty", "x" * 5000, "photos/a.jpg/b"])
def test_what_leads_to_no_file_is_wrong_usage(photos: Path, argument: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        select_images(["photos", argument])
    assert str(caught.value).startswith(f"{argument}: ")


# --- detecting, from Python ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", Resize)
@pytest.mark.parametrize(("height", "width", "seed"), [(480, 640, 124), (700, 400, 113), (SIZE, SIZE, SCENE_SEED)])
def test_faces_are_found_where_they_were_drawn_in_the_original(
    demo_file: Path, tmp_path: Path, height: int, width: int, seed: int, resize: Resize
) -> None:
    drawn = draw_scene(seed, height, width)
    path = save(tmp_path / "scene.png", drawn.image)
    result = detect(Workspace(MODEL, tmp_path), [path], DetectorOptions(resize=resize), artifact=demo_file)
    (found,) = result.images
    assert isinstance(found, Detected)
    assert (found.width, found.height) == (width, height)
    boxes = np.array([face.box for face in found.detections], np.float32)
    assert len(boxes)
    assert overlaps(boxes, drawn.faces).max(axis=1).min() >= 0.5
    scores = [face.score for face in found.detections]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.5


@pytest.mark.parametrize("resize", Resize)
def test_boxes_are_those_of_the_network_moved_by_the_stated_rule(demo_file: Path, resize: Resize) -> None:
    """Done here once more, step by step: 640x480 becomes 320x240 above 80 rows of padding, or 320x320."""
    drawn = draw_scene(124, 480, 640)
    height = 240 if resize is Resize.LETTERBOX else SIZE
    resized = pillow.fromarray(drawn.image).resize((SIZE, height), pillow.Resampling.BICUBIC)
    pixels = np.full((1, SIZE, SIZE, 3), MEAN, np.uint8)
    pixels[0, :height] = np.asarray(resized)
    detector = Detector(demo_file, MODEL, DetectorOptions(resize=resize))
    outputs = OnnxRuntime(demo_file).run(pixels)
    (decoded,) = MODEL.task.decode(outputs, (SIZE, SIZE))
    expected = table(decoded.from_score(0.5))
    expected[:, 0:4:2] = expected[:, 0:4:2] * 2 + 0.5
    expected[:, 1:4:2] = (expected[:, 1:4:2] + 0.5) * 480 / height - 0.5
    expected[:, 3] = np.minimum(expected[:, 3], 479)
    (found,) = detector.find([drawn.image])
    assert len(expected)
    np.testing.assert_allclose(table(found), expected, atol=1e-2)


def test_a_fixed_batch_is_filled_and_gives_what_single_images_give(
    plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    detectors = []
    for batch in (1, 2):
        convert(plain_checkpoint, tmp_path / str(batch), Options(input_shape=(batch, 3, 128, 128)))
        path = tmp_path / str(batch) / MODEL.name / "FP32" / f"{MODEL.name}.xml"
        detectors.append(Detector(path, MODEL, ALL))
    images = [draw_scene(seed, 128, 128 + 20 * seed).image for seed in range(3)]
    single, double = (detector.find(images) for detector in detectors)
    assert [len(boxes) > 0 for boxes in single] == [True] * 3
    for one, two in zip(single, double, strict=True):
        np.testing.assert_allclose(table(two), table(one), atol=1e-2)


def test_a_broken_image_in_a_batch_leaves_the_others_theirs(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    convert(plain_checkpoint, tmp_path, Options(input_shape=(2, 3, 128, 128)))
    names = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(names):
        save(path, draw_scene(number, 128, 128 + number).image)
    names[2].write_bytes(b"no image")  # the first of the second batch
    images = detect(Workspace(MODEL, tmp_path), names, ALL).images
    assert [item.image for item in images] == names
    assert [isinstance(item, NotRead) for item in images] == [False, False, True, False, False]
    assert [item.width for item in images if isinstance(item, Detected)] == [128, 129, 131, 132]
    (alone,) = detect(Workspace(MODEL, tmp_path), names[3:4], ALL).images
    assert isinstance(alone, Detected)
    assert alone == images[3]
    assert alone.detections


@pytest.fixture(scope="module")
def small_file(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For images of 128 x 128, which cost next to nothing. The IR lies beside it."""
    return convert(plain_checkpoint, tmp_path_factory.mktemp("small"), Options(input_shape=(1, 3, 128, 128)))[0].path


def read_ahead(artifact: Path) -> int:
    """How many images are begun before the first is reported, at most."""
    return WAITING * SharedRuntime(load(artifact, MODEL, Settings(throughput=True))).workers


def test_an_image_is_reported_before_those_far_behind_are_read(small_file: Path, tmp_path: Path) -> None:
    ahead = read_ahead(small_file)
    paths = [save(tmp_path / f"{number}.png", random_image(64, 64)) for number in range(ahead + 2)]
    told: list[Outcome] = []

    def report(item: Outcome) -> None:
        told.append(item)
        for path in paths[ahead:]:
            path.unlink(missing_ok=True)

    result = detect(Workspace(MODEL, tmp_path), paths, artifact=small_file, report=report)
    assert [type(item) for item in told] == [Detected] * ahead + [NotRead] * 2
    assert [item.image for item in told] == paths
    assert list(result.images) == told
    assert result.not_read == tuple(told[-2:])


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_many_images_at_once_have_the_bits_and_the_order_of_one_after_another(
    small_file: Path, tmp_path: Path, suffix: str
) -> None:
    artifact = small_file.with_suffix(suffix)
    paths = [save(tmp_path / f"{seed}.png", draw_scene(seed, 128, 128 + 20 * seed).image) for seed in range(6)]
    together = detect(Workspace(MODEL, tmp_path), paths, ALL, artifact=artifact).images
    one_by_one = Detector(artifact, MODEL, ALL)
    for item, path in zip(together, paths, strict=True):
        assert [item] == list(detect_command.detect_each(one_by_one, [ImageJob(path, path.stem)]))
    assert all(isinstance(item, Detected) and item.detections for item in together)


def test_images_are_read_while_others_are_computed(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network waits for the second image; were one done after the other, it would wait in vain."""
    paths = [save(tmp_path / f"{number}.png", random_image(64, 64)) for number in range(2)]
    second = threading.Event()
    run = OnnxRuntime.run

    def waiting(self: OnnxRuntime, images: Pixels) -> dict[str, npt.NDArray[np.float32]]:
        assert second.wait(timeout=30)
        return run(self, images)

    def watched(path: Path) -> AbstractContextManager[Pixels]:
        if path == paths[1]:
            second.set()
        return reading(path)

    monkeypatch.setattr(OnnxRuntime, "run", waiting)
    monkeypatch.setattr(detect_command, "reading", watched)
    assert len(detect(Workspace(MODEL, tmp_path), paths, artifact=small_file).images) == 2


def test_an_error_ends_it_and_no_thread_is_left(small_file: Path, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", random_image(64, 64)) for number in range(40)]
    told: list[Outcome] = []

    def report(item: Outcome) -> None:
        told.append(item)
        if len(told) == 2:
            raise OSError("nobody listens")

    with pytest.raises(OSError, match="nobody listens"):
        detect(Workspace(MODEL, tmp_path), paths, artifact=small_file, report=report)
    assert len(told) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def test_one_image_gets_all_of_the_machine_and_many_share_it(small_file: Path) -> None:
    artifact = small_file.with_suffix(".xml")
    assert load(artifact, MODEL, Settings(throughput=True, images=1)).parallel == 2  # one is prepared meanwhile
    assert load(artifact, MODEL, Settings(throughput=True)).parallel >= 2


def test_a_file_of_another_model_is_refused_by_name(
    onnx_file: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(onnx_file, MODEL)
    monkeypatch.setattr(detector.runtime, "run", lambda _: {})
    with pytest.raises(DetectionError, match=f"{onnx_file.name}: is not this model"):
        detector.find([scene.image])


def test_without_a_name_the_first_artifact_that_the_runtime_takes_is_used(tmp_path: Path) -> None:
    def made(precision: str, suffix: str) -> Path:
        path = tmp_path / MODEL.name / precision / f"{MODEL.name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def chosen(runtime: str = "") -> Path:
        return usual_artifact(Workspace(MODEL, tmp_path), runtime)

    assert not chosen().exists()
    half_xml = made("FP16", ".xml")
    assert chosen() == chosen("openvino") == half_xml
    half_onnx = made("FP16", ".onnx")
    assert (chosen(), chosen("openvino"), chosen("onnxruntime")) == (half_onnx, half_xml, half_onnx)
    xml = made("FP32", ".xml")
    assert (chosen(), chosen("openvino"), chosen("onnxruntime")) == (xml, xml, half_onnx)
    onnx = made("FP32", ".onnx")
    assert (chosen(), chosen("openvino"), chosen("onnxruntime")) == (onnx, xml, onnx)


@pytest.mark.usefixtures("mxnet")
def test_mxnet_takes_a_checkpoint_at_the_models_own_size(demo_checkpoint: Checkpoint) -> None:
    """A file that takes any size is given the size that the network was made for."""
    detector = Detector(demo_checkpoint.params_path, MODEL)
    assert detector.runtime.declaration.input_shape == (None, 3, None, None)
    drawn = draw_scene(0, 640, 500)
    (found,) = detector.find([drawn.image])
    assert len(found)
    assert overlaps(found.boxes, drawn.faces).max(axis=1).min() >= 0.5


# --- detecting, from the command line --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene in every orientation and mode, each with its twin: the upright RGB picture that it has to equal."""
    folder = tmp_path_factory.mktemp("album")
    image = draw_scene(1, 128, 100).image
    for orientation in STORED:
        turned(folder / f"turned{orientation}.png", image, orientation)
    save(folder / "twins" / "turned.png", image)
    for name in MODES:
        path, expected = saved_in_mode(folder, name, image)
        save(folder / "twins" / f"{path.stem}.png", expected)
    return folder


def test_every_mode_and_orientation_has_the_boxes_of_its_upright_rgb_picture(
    demo_checkpoint: Checkpoint, album: Path, tmp_path: Path
) -> None:
    convert(demo_checkpoint, tmp_path, Options(("onnx",), input_shape=(1, 3, 128, 128)))
    result = sshtool("detect", album / "twins", album, "-o", tmp_path, "--threshold", "0.05", "--json", "-q")
    found = {Path(line["image"]).relative_to(album): line for line in lines(result.stdout)}
    assert len(found) == len(STORED) + 1 + 2 * len(MODES)
    for path, line in found.items():
        twin = found[Path("twins", ("turned" if path.stem.startswith("turned") else path.stem) + ".png")]
        assert len(twin["detections"]) >= 1, path
        assert (line["width"], line["height"]) == (100, 128)
        rough = 0.0 if path.stem not in ROUNDING else 1.0  # pixels
        np.testing.assert_allclose(boxes_of(line), boxes_of(twin), atol=rough, err_msg=str(path))


def test_json_is_a_line_an_image_with_these_keys(artifacts: Path, tmp_path: Path, scene: Scene) -> None:
    path = save(tmp_path / "a.png", scene.image)
    save(tmp_path / "plain.png", np.full((30, 40, 3), MEAN, np.uint8))
    first, second = lines(sshtool("detect", tmp_path, "-o", artifacts, "--json", "--threshold", "0.7").stdout)
    assert list(first) == ["schema_version", "verb", "image", "width", "height", "inference_precision", "detections"]
    assert {key: first[key] for key in list(first)[:-1]} == {
        "schema_version": 1,
        "verb": "detect",
        "image": str(path),
        "width": SIZE,
        "height": SIZE,
        "inference_precision": "f32",
    }
    assert list(first["detections"][0]) == ["box", "score"]
    assert len(first["detections"][0]["box"]) == 4
    assert all(face["score"] >= 0.7 for face in first["detections"])
    assert second["detections"] == []
    (expected,) = Detector(usual_artifact(Workspace(MODEL, artifacts)), MODEL, DetectorOptions(threshold=0.7)).find(
        [scene.image]
    )
    np.testing.assert_allclose(boxes_of(first), table(expected), atol=1e-2)


def test_a_broken_image_is_reported_and_the_others_are_done(artifacts: Path, tmp_path: Path, scene: Scene) -> None:
    first, last = (save(tmp_path / name, scene.image) for name in ("a.png", "c.png"))
    broken = tmp_path / "b.png"
    broken.write_bytes(first.read_bytes()[:5000])
    result = sshtool("detect", tmp_path / "*.png", "-o", artifacts, "--json", "-q", code=1)
    done = lines(result.stdout)
    assert [line["image"] for line in done] == [str(first), str(broken), str(last)]
    assert list(done[1]) == ["schema_version", "verb", "image", "error"]
    assert done[1]["error"]["type"] == "ImageError"
    assert done[1]["error"]["message"].startswith(f"{broken}: is damaged")
    assert done[0]["detections"] == done[2]["detections"] != []
    assert result.stderr == ""


def test_a_person_gets_a_table_and_the_reasons_below_it(
    demo_artifacts: Path, tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.png"), scene.image)
    save(Path("[/b] ü.png"), np.full((30, 40, 3), MEAN, np.uint8))  # in the folder "["; together, rich's markup
    Path("broken.png").write_bytes(b"no image")
    result = sshtool("detect", ".", "[", "-o", demo_artifacts, "--save-images", code=1)
    title, columns, *rows = (line.split() for line in result.stdout.splitlines())
    assert " ".join(title).startswith("ssh-mxnet, weights demo, ONNX Runtime")
    assert " ".join(title).endswith(": 3 images, 6 found, 1 not read")
    assert columns == ["image", "size", "found", "best", "score", "picture"]
    assert rows[0][:3] == ["a.png", f"{SIZE}x{SIZE}", "6"]
    assert 0.5 <= float(rows[0][3]) <= 1
    assert rows[1] == ["broken.png", "not", "read"]
    assert rows[2] == ["[/b]", "ü.png", "40x30", "0", "b]", "ü.png"]
    assert " ".join(rows[3]).startswith("broken.png: is not an image")
    assert "detecting" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_a_name_that_is_not_text_does_not_stop_anything(artifacts: Path, tmp_path: Path, scene: Scene) -> None:
    save(tmp_path / "a.png", scene.image).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.png"))
    assert "\\xff\\n.png" in sshtool("detect", tmp_path, "-o", artifacts, "--dry-run").stdout
    (line,) = lines(sshtool("detect", tmp_path, "-o", artifacts, "--dry-run", "--json").stdout)
    assert line["image"].encode()
    assert path_of(line["image"]).exists()


def test_save_images_draws_the_boxes_on_the_original(demo_artifacts: Path, tmp_path: Path) -> None:
    drawn = draw_scene(118, 480, 640)
    turned(tmp_path / "in" / "a.tiff", drawn.image, 6)
    (line,) = lines(sshtool("detect", tmp_path / "in", "-o", demo_artifacts, "--save-images", "--json", "-q").stdout)
    picture = Path(line["picture"])
    assert picture == demo_artifacts / MODEL.name / "detections" / "a.png"
    shown = read_image(picture)
    assert shown.shape == (480, 640, 3)
    changed = (shown != drawn.image).any(axis=2)
    frame = (shown == (60, 230, 0)).all(axis=2)
    boxes = boxes_of(line)
    assert len(boxes) == 2
    for x1, y1, x2, y2 in boxes[:, :4].round().astype(int):
        for row, column in ((y1 + y2) // 2, x1), ((y1 + y2) // 2, x2), (y2, (x1 + x2) // 2):
            assert frame[row - 1 : row + 2, column - 1 : column + 2].any()
        assert not changed[y1 + 3 : y2 - 2, x1 + 3 : x2 - 2].any()
        changed[max(0, y1 - 22) : y2 + 3, x1 - 3 : max(x2, x1 + 40) + 3] = False
    assert not changed.any()  # outside boxes and labels, every pixel is the original's


def test_pictures_of_equal_names_get_numbers_and_a_dry_run_names_them(artifacts: Path, tmp_path: Path) -> None:
    names = ("a/x.png", "b/X.jpg", "b/x-2.png", "c/x.bmp", "c/x.png")
    paths = [save(tmp_path / name, random_image(3, 3)) for name in names]
    result = sshtool("detect", *paths, "-o", artifacts, "--save-images", "--dry-run", "--json")
    done = lines(result.stdout)
    assert [line["image"] for line in done] == list(map(str, paths))
    assert [Path(line["picture"]).name for line in done] == ["x.png", "X-2.png", "x-2-2.png", "x-3.png", "x-4.png"]
    assert all("detections" not in line for line in done)
    assert not any(Path(line["picture"]).exists() for line in done)


def test_an_original_is_never_overwritten(onnx_file: Path, tmp_path: Path, scene: Scene) -> None:
    path = save(tmp_path / MODEL.name / "detections" / "a.png", scene.image)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--output-dir"):
        detect(Workspace(MODEL, tmp_path), [path], artifact=onnx_file, saving=Saving(images=True))
    assert path.read_bytes() == before


def test_both_runtimes_find_the_same_faces(artifacts: Path, tmp_path: Path) -> None:
    save(tmp_path / "a.png", draw_scene(113, 700, 400).image)
    save(tmp_path / "b.png", draw_scene(SCENE_SEED, SIZE, SIZE).image)
    by_runtime = [
        lines(sshtool("detect", tmp_path, "-o", artifacts, "--runtime", key, "--threads", "1", "--json").stdout)
        for key in ("onnxruntime", "openvino")
    ]
    for one, other in zip(*by_runtime, strict=True):
        assert len(boxes_of(one))
        np.testing.assert_allclose(boxes_of(other), boxes_of(one), atol=0.02)


def test_each_line_comes_as_soon_as_its_image_is_done(small_file: Path, tmp_path: Path) -> None:
    """The last image disappears when the first line has come; were the lines kept back, it would still be read."""
    ahead = read_ahead(small_file)
    count = ahead + 60  # so many that a busy machine cannot read the last before this process removes it
    paths = [save(tmp_path / f"{number:03}.png", random_image(64, 64)) for number in range(count)]
    arguments = command(tmp_path, "--artifact", small_file, "--json", "-q")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=buffered) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        paths[-1].unlink()
        rest = lines(process.stdout.read())
    assert process.returncode == 1
    assert "detections" in first
    assert ["error" in line for line in rest] == [False] * (count - 2) + [True]


def test_a_reader_that_has_had_enough_ends_it_without_a_word(artifacts: Path, tmp_path: Path, scene: Scene) -> None:
    save(tmp_path / "0.png", scene.image)
    for number in range(1, 100):  # more than are done before the reader is gone
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    arguments = command(tmp_path, "-o", artifacts, "--json", "-q", "--debug")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert said == ""
    assert process.returncode == 1


ERRORS: Final[dict[str, tuple[tuple[str, ...], int, str]]] = {
    "unknown runtime": (("--runtime", "tflite"), 2, "tflite"),
    "runtime for other files": (("--runtime", "mxnet"), 2, "MXNet"),
    "unknown device": (("--device", "TOASTER"), 1, "TOASTER"),
    "threshold below upstream's": (("--threshold", "0.04"), 2, "0.05"),
    "threshold above 1": (("--threshold", "1.01"), 2, "'--threshold'"),
    "threshold that is no number": (("--threshold", "nan"), 2, "'--threshold'"),
    "unknown resize": (("--resize", "crop"), 2, "crop"),
    "two resizes": (("--resize", "letterbox,stretch"), 2, "letterbox, stretch"),
    "image not there": (("nowhere.png",), 2, "nowhere.png"),
    "artifact not there": (("--artifact", "nowhere.onnx"), 1, "nowhere.onnx"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_line_with_the_remedy(
    artifacts: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    path = save(tmp_path / "a.png", random_image(3, 3))
    result = sshtool("detect", path, *arguments, "-o", artifacts, "-q", code=code)
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_error_that_ends_it_is_one_json_line_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", random_image(3, 3))
    (line,) = lines(sshtool("detect", path, "-o", tmp_path, "--json", "-q", code=1).stdout)
    assert line["ok"] is False
    assert line["error"]["type"] == "ArtifactError"
    assert "`sshtool convert`" in line["error"]["message"]


def test_a_picture_that_cannot_be_written_ends_it(artifacts: Path, tmp_path: Path, scene: Scene) -> None:
    path = save(tmp_path / "a.png", scene.image)
    (tmp_path / MODEL.name).write_text("in the way")
    artifact = artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    result = sshtool("detect", path, "--artifact", artifact, "-o", tmp_path, "--save-images", "-q", code=1)
    assert str(tmp_path / MODEL.name) in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_pillow_it_says_what_to_install(artifacts: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['PIL'] = None; import runpy; runpy.run_module('sshtool', run_name='__main__')"
    path = save(tmp_path / "a.png", random_image(3, 3))
    arguments = [sys.executable, "-c", code, "detect", str(path), "-o", str(artifacts), "-q"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert re.search(r"pip install .*pillow>=", result.stderr)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(readable_extensions, id="asking what can be read"),
        pytest.param(lambda: read_image(Path("a.png")), id="reading an image"),
        pytest.param(lambda: read_size(Path("a.png")), id="reading an image's size"),
        pytest.param(lambda: fit(random_image(4, 4), 8, 8, Resize.STRETCH, (0, 0, 0)), id="resizing"),
    ],
)
def test_each_use_of_pillow_says_what_to_install(use: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install .*pillow>="):
        use()


def test_the_spinner_takes_a_files_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    session, screen = Session("detect", json=True, quiet=False, debug=False, lines=True), io.StringIO()
    session.status = Console(file=screen, force_terminal=True).status("starting")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with session:
        session.progress("1 of 2: [/b].png")
        session.emit({"image": "[/b].png"})
    assert "1 of 2: [/b].png" in screen.getvalue()


def test_a_file_larger_than_any_photo_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.touch()
    os.truncate(path, LARGEST_FILE + 1)
    with pytest.raises(ImageError, match=rf"huge\.png: has {LARGEST_FILE + 1} bytes, more than any image"):
        read_image(path)
