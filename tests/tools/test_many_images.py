"""Lists of many images, their journal, and what URLs and clusters need."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, strategies as st

from sshconvert.errors import EvaluationError, RuntimeUnavailableError, UsageError
from sshtool.cluster.client import Cluster
from sshtool.detection_journal import VERSION, DetectionJournal, Header, read_outcomes
from sshtool.results.outcomes import Detected, Detection, NotRead
from sshtool.runtimes.base import Settings
from sshtool.selection import list_images, select_images
from sshtool.stores import StoredFile

pytest.importorskip("PIL.Image")

HEADER: Final = Header(
    VERSION, "1.0", "m", "demo", {"m.onnx": "0" * 64}, "ONNX Runtime 1", {"threshold": "0.5"}, 3, "d"
)
NUMBERS: Final = st.floats(-1e6, 1e6, width=32)
DETECTIONS: Final = st.builds(
    Detection,
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.floats(0, 1, width=32),
    st.sampled_from(["", "dog"]),
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5).map(tuple),
    st.dictionaries(st.sampled_from(["mask"]), st.floats(0, 1, width=32)),
)
IMAGES: Final = st.sampled_from(
    [Path("a.jpg"), Path("photos/c\udcff \\x41\n.jpg"), StoredFile("s3://bucket/some folder/a.jpg")]
)


def detected(image: Path | StoredFile, detections: tuple[Detection, ...], picture: Path | None) -> Detected:
    return Detected(image, 640, 480, detections, picture, "f32", image.stem, crops=(Path("crops/a-1.png"),))


OUTCOMES: Final = st.one_of(
    st.builds(detected, IMAGES, st.lists(DETECTIONS, max_size=3).map(tuple), st.sampled_from([None, Path("a.png")])),
    st.builds(NotRead, IMAGES, st.just("ImageError"), st.text(max_size=20)),
)


def folder_of_images(folder: Path) -> Path:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "c.webp"):
        (folder / name).touch()
    (folder / "d.png").mkdir()
    return folder


def test_many_images_are_listed_as_few_are(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path)
    several: list[list[str | Path]] = [[folder], [f"{folder}/*.png", folder / "b.JPG"], [folder / "notes.txt"]]
    for arguments in several:
        assert list_images(arguments) == [str(path) for path in select_images(arguments) if path.name != "d.png"]
    assert [Path(name).name for name in list_images([folder])] == ["a.png", "b.JPG", "c.webp"]
    assert list_images([folder, folder / "c.webp", folder]) == list_images([folder])


@pytest.mark.parametrize("select", [select_images, list_images])
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("-", "-: images are not read from standard input"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg: images are read from file://, s3://"),
        ("simplecache::s3://bucket/a.jpg", "images are read from file://, s3://"),
        ("github://owner:name@/a.jpg", "images are read from file://, s3://"),
        ("missing.jpg", "missing.jpg: does not exist"),
    ],
)
def test_what_is_no_file_and_no_store_is_refused(
    select: Callable[[list[str]], object], argument: str, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        select([argument])


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_store_says_which_package_reads_it(scheme: str, package: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(RuntimeUnavailableError, match=rf"install '?{package}"):
        select_images([f"{scheme}://bucket/a.jpg"])


@pytest.mark.skipif(find_spec("distributed") is not None, reason="Dask is installed")
def test_a_cluster_says_which_package_reaches_it() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"^Dask: .*install 'distributed>="):
        Cluster("tcp://127.0.0.1:8786", Settings())
    with pytest.raises(UsageError, match="--threads: a worker computes with the threads that Dask gives it"):
        Cluster("tcp://127.0.0.1:8786", Settings(threads=2))


@given(st.lists(OUTCOMES, max_size=4))
def test_a_journal_returns_each_outcome_with_all_digits(outcomes: list[Detected | NotRead]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "detections.journal")
        with DetectionJournal(path, HEADER, resume=False) as journal:
            for outcome in outcomes:
                journal.append(outcome)
        returned = list(read_outcomes(path))
        for item, outcome in zip(returned, outcomes, strict=True):
            if isinstance(outcome, NotRead) and isinstance(item, NotRead):
                item = replace(item, message=outcome.message)  # noqa: PLW2901  # it is printable in the journal
            assert item == outcome
        with DetectionJournal(path, HEADER, resume=True) as journal:
            assert journal.done == len(outcomes)


def test_a_journal_of_another_run_a_damaged_one_and_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.journal"
    with DetectionJournal(path, HEADER, resume=False) as journal:
        for name in ("a.jpg", "b.jpg"):
            journal.append(NotRead(Path(name), "ImageError", "is empty"))
    whole = path.read_bytes()
    for other, difference in (
        (replace(HEADER, options={"threshold": "0.6"}), "its options is"),
        (replace(HEADER, names="e"), "its images are others"),
        (replace(HEADER, computer="OpenVINO 1"), "its computer is ONNX Runtime 1, not OpenVINO 1"),
    ):
        with pytest.raises(EvaluationError, match=f"is of another run: {difference}"):
            DetectionJournal(path, other, resume=True)
    path.write_bytes(whole.replace(b"is empty", b"was open", 1))
    with pytest.raises(EvaluationError, match="line 2: has a wrong digest"):
        DetectionJournal(path, HEADER, resume=True)
    path.write_bytes(whole[:-5])  # a run that was killed while it wrote
    with DetectionJournal(path, HEADER, resume=True) as journal:
        assert journal.done == 1
    path.write_bytes(b'{"name": "model"}\n')
    with pytest.raises(EvaluationError, match=r"line 1: has a wrong digest|is no journal"):
        DetectionJournal(path, HEADER, resume=True)
    path.write_bytes(whole[:40])  # the header itself is torn
    with DetectionJournal(path, HEADER, resume=True) as journal:
        assert journal.done == 0
    assert math.isclose(len(path.read_bytes()), len(whole.splitlines()[0]) + 1)
