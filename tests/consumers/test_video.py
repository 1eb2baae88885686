"""`sshtool detect` with videos and cameras: real files, made and read by PyAV at the locked version."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image, ImageChops, ImageStat

from environments import SCRIPTS
from media import Media
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import Options

pytestmark = [
    pytest.mark.consumer,
    pytest.mark.skipif(sys.platform != "linux", reason="the environment's folders are those of Linux"),
]

CONTAINERS: Final = ("clip.mp4", "clip.mkv", "clip.ts", "clip.mov", "clip.avi", "clip.webm")
EXTRACTED: Final = ("clip.mp4", "turned.mp4", "odd.mkv")
PLAYLISTS: Final = {"concat.mp4", "dash.mp4", "playlist.mp4", "playlist.ts", "session.mp4"}
THRESHOLD: Final = ("--threshold", "0.3")
LIMITED: Final = """
import resource
from sshtool.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""


@pytest.fixture(scope="module")
def media(environment: Callable[..., Path]) -> Media:
    return Media(environment)


@pytest.fixture(scope="module")
def folder(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos of `make_videos.py`."""
    folder = tmp_path_factory.mktemp("videos")
    media.script("make_videos", folder)
    return folder


@pytest.fixture(scope="module")
def artifacts(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a small detector."""
    folder = tmp_path_factory.mktemp("artifacts")
    convert(plain_checkpoint, folder, Options(("onnx",), input_shape=(1, 3, 64, 64)))
    return folder


@pytest.fixture
def output(artifacts: Path, tmp_path: Path) -> tuple[str | Path, ...]:
    """Options for results in a folder of the test."""
    artifact = artifacts / "ssh-mxnet" / "FP32" / "ssh-mxnet.onnx"
    return "-o", tmp_path, "--artifact", artifact, "-q", *THRESHOLD


def detections_in(folder: Path) -> Path:
    return folder / "ssh-mxnet" / "detections"


def test_each_container_gives_its_frames_in_order_with_their_times(media: Media, folder: Path, output: Any) -> None:
    """The rate varies, and the transport stream starts later than at 0."""
    lines = media.lines("detect", *(folder / name for name in CONTAINERS), *output)
    times = [0, 0.04, 0.1, 0.12, 0.3, 0.34, 0.5, 1.0]
    for name in CONTAINERS:
        of_one = [line for line in lines if line["image"].endswith(name)]
        assert [line["frame"] for line in of_one] == list(range(len(times))), name
        assert [line["time"] for line in of_one] == times, name
        assert all((line["width"], line["height"]) == (96, 80) for line in of_one)


def test_the_frames_of_avi_have_the_times_at_which_they_are_shown(media: Media, folder: Path, output: Any) -> None:
    """It states when frames are decoded: with B-frames, in another order."""
    lines = media.lines("detect", folder / "reordered.avi", *output)
    stated = [time for time, _, _ in media.script("frames_of", folder / "reordered.avi")]
    assert stated != sorted(stated)
    assert [line["time"] for line in lines] == [number / 25 for number in range(8)]


@pytest.fixture(scope="module")
def pictures(media: Media, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of some videos, as PyAV alone extracts them and Pillow turns them."""
    made = tmp_path_factory.mktemp("pictures")
    for name in EXTRACTED:
        media.script("frames_of", folder / name, made)
    return made


def test_a_frame_has_the_detections_of_the_same_picture_and_is_drawn_alike(
    media: Media, folder: Path, pictures: Path, output: Any, tmp_path: Path
) -> None:
    """No frame is like the next, so none can be missed. H.264 blurs the drawn ones a little."""
    frames = media.lines("detect", *(folder / name for name in EXTRACTED), "--save-images", *output)
    names = [f"{Path(line['image']).stem}-{line['frame']:06}" for line in frames]
    images = media.lines("detect", *(pictures / f"{name}.png" for name in names), "--save-images", *output)
    assert len(frames) == 19
    assert [line["detections"] for line in frames] == [line["detections"] for line in images]
    assert all(one["detections"] != following["detections"] for one, following in pairwise(frames))
    assert all(
        (one["width"], one["height"]) == (two["width"], two["height"]) for one, two in zip(frames, images, strict=True)
    )
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for name in EXTRACTED:
        of_one = [line for line in frames if line["image"].endswith(name)]
        (picture,) = {line["picture"] for line in of_one}
        size = [of_one[0]["width"], of_one[0]["height"]]
        assert media.script("frames_of", picture, drawn) == [[line["time"], *size] for line in of_one], name
    for name, image in zip(names, images, strict=True):
        found, expected, plain = (
            Image.open(path).convert("RGB")
            for path in (drawn / f"{name}.png", image["picture"], pictures / f"{name}.png")
        )
        assert difference(found, expected) < min(10, difference(plain, expected) / 3), name


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference in brightness."""
    return float(ImageStat.Stat(ImageChops.difference(one.convert("L"), other.convert("L"))).mean[0])


def test_the_same_video_gives_the_same_bytes(media: Media, folder: Path, output: Any, tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        media.sshtool("detect", folder / "clip.mp4", "--save-images", *output)
        made.append((detections_in(tmp_path) / "clip.mp4").read_bytes())
    assert made[0] == made[1]


def test_every_format_of_results_names_the_frames(media: Media, folder: Path, output: Any, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "clip-000001.png")  # has the name of a frame
    arguments = (folder / "clip.mp4", tmp_path / "clip-000001.png", folder / "clip.mkv", *output)
    saving = ("--save-results", "jsonl,csv,coco,yolo,wider", "--save-crops")
    lines = media.lines("detect", *arguments, *saving)
    place = detections_in(tmp_path)
    frames = [line for line in lines if "frame" in line]
    assert len(frames) == 16
    assert [json.loads(line) for line in (place / "detections.jsonl").read_text("utf-8").splitlines()] == lines
    names = [line["crops"][0].rpartition("/")[2].rpartition("-")[0] for line in frames]
    first, second = names[0][:-7], names[8][:-7]
    assert names == [f"{name}-{number:06}" for name in (first, second) for number in range(8)]
    assert first != second
    labels = {path.stem for path in (place / "yolo" / "labels").iterdir()}
    assert len(labels) == len(lines)
    assert labels >= set(names)
    assert {path.stem for path in (place / "wider").rglob("*.txt")} == labels
    coco = json.loads((place / "coco.json").read_text("utf-8"))
    of_frames = [entry for entry in coco["images"] if "video_id" in entry]
    assert [entry["file_name"] for entry in of_frames] == [f"{name}.png" for name in names]
    assert [entry["frame_id"] for entry in of_frames] == [*range(8), *range(8)]
    assert [entry["time"] for entry in of_frames] == [line["time"] for line in frames]
    assert [video["id"] for video in coco["videos"]] == [1, 2]
    rows = (place / "detections.csv").read_text("utf-8").splitlines()
    assert rows[0].endswith(",frame,time")
    assert rows[-1].endswith(",7,1.0")


def test_one_frame_that_cannot_be_decoded_is_reported_and_the_others_are_read(
    media: Media, folder: Path, output: Any
) -> None:
    lines = media.lines("detect", folder / "damaged.mp4", "--save-images", *output, code=1)
    (lost,) = [line for line in lines if "error" in line]
    assert (lost["frame"], lost["time"], lost["error"]["type"]) == (4, 0.16, "VideoError")
    assert "frame 4 cannot be decoded" in lost["error"]["message"]
    assert [line["frame"] for line in lines] == list(range(8))
    (picture,) = {line["picture"] for line in lines if "picture" in line}
    assert len(media.script("frames_of", picture)) == 7
    text = media.sshtool("detect", folder / "damaged.mp4", *output, code=1).stdout
    assert "1 videos, 7 frames" in text
    assert "1 not read" in text


def test_a_video_that_is_cut_off_is_read_as_far_as_it_goes_and_reported(
    media: Media, folder: Path, output: Any
) -> None:
    found = media.lines("detect", folder / "cut.mkv", folder / "cut.avi", *output, code=1)
    for name in ("cut.mkv", "cut.avi"):
        lines = [line for line in found if line["image"].endswith(name)]
        assert 1 <= sum("detections" in line for line in lines) < 8
        assert "is cut off" in lines[-1]["error"]["message"]


def test_no_other_file_is_read_and_no_hostile_one_leaves_anything(
    media: Media, folder: Path, output: Any, tmp_path: Path
) -> None:
    hostile = folder / "hostile"
    # The playlist is one: FFmpeg itself opens the other file.
    assert len(media.script("frames_of", hostile / "concat.mp4")) == 8
    os.mkfifo(tmp_path / "pipe.mp4")
    files = sorted({*hostile.iterdir()} - {hostile / "clip.ts"})
    result = media.sshtool("detect", *files, tmp_path / "pipe.mp4", "--save-images", "--json", *output, code=1)
    assert result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {Path(line["image"]).name for line in lines} == {*(path.name for path in files), "pipe.mp4"}
    assert {path.name for path in files} > PLAYLISTS
    for line in lines:
        assert "detections" not in line
        assert line["error"]["type"] == "VideoError"
        assert "\n" not in line["error"]["message"]
        assert "; " in line["error"]["message"]
    messages = {Path(line["image"]).name: line["error"]["message"] for line in lines}
    assert "is cut off" in messages["cut.mp4"]
    assert "is an empty file" in messages["empty.mp4"]
    assert "is an image" in messages["picture.mp4"]
    assert "the codec snow" in messages["codec.avi"]
    assert "holds no video" in messages["sound.mp4"]
    assert "it is not a file" in messages["pipe.mp4"]
    assert list(detections_in(tmp_path).rglob("*")) == []


def test_altered_bytes_are_damage_and_never_anything_else(media: Media, folder: Path, tmp_path: Path) -> None:
    """Bytes in heads, indices and frames are altered, and ends cut off: a video is read or a VideoError."""
    files = [folder / name for name in ("clip.mp4", "clip.mkv", "clip.ts", "reordered.avi", "odd.mkv")]
    found = media.script("altered_videos", tmp_path, 60, *files)
    assert found["read"] + found["refused"] == 60 * len(files)
    assert min(found["read"], found["refused"], found["damaged frames"]) > 10


def test_a_title_in_another_encoding_does_not_matter(media: Media, folder: Path, output: Any) -> None:
    assert b"TIT\xe9\xff" in (folder / "titled.mp4").read_bytes()
    (line,) = media.lines("detect", folder / "titled.mp4", *output)
    assert line["frame"] == 0


def test_a_full_disk_leaves_no_part_of_a_video(media: Media, folder: Path, output: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, "detect", str(folder / "clip.mp4"), "--save-images", *map(str, output)]
    result = subprocess.run(command, env=media.variables, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot be written (File too large)" in result.stderr
    assert list(detections_in(tmp_path).rglob("*")) == []


def test_frames_are_chosen_by_number(media: Media, folder: Path, output: Any, tmp_path: Path) -> None:
    lines = media.lines("detect", folder / "clip.mp4", "--every", "3", "--save-images", *output)
    assert [(line["frame"], line["time"]) for line in lines] == [(0, 0), (3, 0.12), (6, 0.5)]
    frames = media.script("frames_of", detections_in(tmp_path) / "clip.mp4")
    assert [time for time, _, _ in frames] == [0, 0.12, 0.5]
    lines = media.lines("detect", folder / "clip.mp4", "--every", "2", "--frames", "2", *output)
    assert [line["frame"] for line in lines] == [0, 2]


# A child's peak begins with what its parent has, which is little in a process of its own.
MEASURED: Final = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(media: Media, command: list[str]) -> int:
    """The most memory of a process, or of one that it starts, in bytes."""
    measured = [sys.executable, "-c", MEASURED, *command]
    return int(subprocess.run(measured, env=media.variables, capture_output=True, check=True).stdout) << 10


def test_the_memory_does_not_grow_with_the_number_of_frames(media: Media, folder: Path, output: Any) -> None:
    """A frame takes half a megabyte. A program that holds all of them shows what that would be."""
    arguments = ["detect", *map(str, output), "--save-results", "jsonl"]
    short = peak(media, media.command(*arguments, folder / "long30.mp4"))
    long = peak(media, media.command(*arguments, folder / "long330.mp4"))
    leaking = [sys.executable, str(SCRIPTS / "leaking_detect.py"), *arguments, str(folder / "long330.mp4")]
    assert long - short < 30 << 20
    assert peak(media, leaking) - short > 80 << 20


def test_a_signal_ends_a_camera_and_all_results_are_complete(media: Media, output: Any, tmp_path: Path) -> None:
    saving = ("--save-images", "--save-results", "jsonl,coco", "--json")
    command = [sys.executable, str(SCRIPTS / "lavfi_camera.py"), "detect", "camera:0", *map(str, output), *saving]
    with subprocess.Popen(
        command, env=media.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = [process.stdout.readline() for _ in range(3)]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        lines = [json.loads(line) for line in [*first, *process.stdout]]
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert {line["image"] for line in lines} == {"camera:0"}
    place = detections_in(tmp_path)
    assert [json.loads(line) for line in (place / "detections.jsonl").read_text("utf-8").splitlines()] == lines
    assert len(json.loads((place / "coco.json").read_text("utf-8"))["images"]) == len(lines)
    frames = media.script("frames_of", place / "camera-0.mp4")
    assert frames == [[round(line["time"], 4), 320, 240] for line in lines]
    assert sorted(path.name for path in place.iterdir()) == ["camera-0.mp4", "coco.json", "detections.jsonl"]


def test_a_camera_ends_after_the_given_number_of_frames(media: Media, output: Any) -> None:
    command = [sys.executable, str(SCRIPTS / "lavfi_camera.py"), "detect", "camera:0", "--frames", "4", "--json"]
    result = subprocess.run(
        [*command, *map(str, output)], env=media.variables, capture_output=True, text=True, check=True, timeout=60
    )
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 1, 2, 3]


def test_a_camera_that_is_not_there_is_one_error(media: Media, output: Any) -> None:
    (line,) = media.lines("detect", "camera:99", *output, code=1)
    assert line["error"]["type"] == "VideoError"
    assert "check that the camera is there" in line["error"]["message"]
