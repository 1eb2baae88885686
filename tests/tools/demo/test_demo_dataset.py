from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from command_line import sshtool
from sshconvert.errors import OutputError, UsageError
from sshconvert.models.registry import load_model
from sshtool.demo import dataset as demo_dataset
from sshtool.demo.dataset import FIRST_SCENE, RECORD, SETTINGS, SIZES, DrawnImage, demo_dataset as draw, write_dataset
from sshtool.demo.fitting import TRAINING_SEEDS, VALIDATION_SEEDS
from sshtool.demo.scenes import draw_scene
from sshtool.evaluate.feeding import UpstreamScales
from sshtool.images import read_image, read_size
from sshtool.limits import MOST_DRAWN
from sshtool.wider_face.ground_truth import read_ground_truth

IMAGES: Final = 7  # two of two sizes and three of one
MODEL: Final = load_model("ssh-mxnet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn") / "wider"


@pytest.fixture(scope="module")
def drawn(folder: Path) -> tuple[DrawnImage, ...]:
    return write_dataset(folder, images=IMAGES, seed=5)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_laid_out_as_wider_face(folder: Path, drawn: tuple[DrawnImage, ...]) -> None:
    images = {f"WIDER_val/images/{item.event}/{item.name}.jpg" for item in drawn}
    assert len(images) == IMAGES
    assert set(files(folder)) == images | {
        "wider_face_split/wider_face_val_bbx_gt.txt",
        *(f"ground_truth/wider_{name}_val.mat" for name in ("face", "easy", "medium", "hard")),
        RECORD,
    }
    assert json.loads((folder / RECORD).read_text()) == {
        "drawn_by": "sshtool demo-dataset", "seed": 5, "images": IMAGES,
    }  # fmt: skip


@pytest.mark.usefixtures("drawn")
def test_the_same_seed_gives_the_same_bytes_and_more_images_only_add(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", images=IMAGES, seed=5)
    assert files(tmp_path / "again") == files(folder)
    write_dataset(tmp_path / "more", images=IMAGES + 1, seed=5)
    assert {name for name in files(folder) if name.endswith(".jpg")} < set(files(tmp_path / "more"))
    fewer, more = files(folder), files(tmp_path / "more")
    assert all(fewer[name] == more[name] for name in fewer if name.endswith(".jpg"))


@pytest.mark.usefixtures("drawn")
def test_another_seed_gives_other_images(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", images=2, seed=6)
    mine, theirs = files(folder), files(tmp_path / "other")
    assert not [name for name in theirs if name.endswith(".jpg") and mine.get(name) == theirs[name]]


def test_nothing_was_fitted_to_its_scenes() -> None:
    assert max(*TRAINING_SEEDS, *VALIDATION_SEEDS) < FIRST_SCENE


def test_images_take_turns_in_the_sizes_and_are_the_scenes(folder: Path, drawn: tuple[DrawnImage, ...]) -> None:
    for item in drawn:
        number = int(item.name.rsplit("_", 1)[1])
        height, width = SIZES[number % len(SIZES)]
        path = folder / "WIDER_val" / "images" / item.event / f"{item.name}.jpg"
        scene = draw_scene(FIRST_SCENE + 5 * MOST_DRAWN + number, height, width)
        assert read_size(path) == (height, width)
        assert np.abs(read_image(path).astype(int) - scene.image).mean() < 6  # JPEG loses something
        x1, y1, x2, y2 = scene.faces.T
        np.testing.assert_allclose(item.faces, np.stack([x1, y1, x2 - x1, y2 - y1], axis=1), atol=1)


def test_upstreams_test_scale_makes_one_size_of_all() -> None:
    """So that one artifact of a fixed shape can take the whole dataset."""
    feed = UpstreamScales(MODEL, pyramid=False)
    assert {size for height, width in SIZES for size in feed.sizes(height, width)} == {(1200, 1600)}


def test_faces_lie_inside_their_image(drawn: tuple[DrawnImage, ...]) -> None:
    for item in drawn:
        width, height = map(int, item.event.rsplit("_", 1)[1].split("x"))
        assert len(item.faces)
        assert (item.faces[:, :2] >= 0).all()
        assert (item.faces[:, :2] + item.faces[:, 2:] <= (width - 1, height - 1)).all()


def test_what_is_read_back_is_what_was_drawn(folder: Path, drawn: tuple[DrawnImage, ...]) -> None:
    truth = read_ground_truth(folder)
    assert [image.image for image in truth.images] == [f"{item.event}/{item.name}.jpg" for item in drawn]
    assert truth.settings == ("easy", "medium", "hard")
    for image, item in zip(truth.images, drawn, strict=True):
        np.testing.assert_array_equal(image.boxes, item.faces)
        np.testing.assert_array_equal(image.annotated, item.faces)
        for name, least in SETTINGS.items():
            np.testing.assert_array_equal(image.counted[name], item.faces[:, 3] >= least)


def test_easy_faces_are_medium_ones_and_all_are_hard(drawn: tuple[DrawnImage, ...]) -> None:
    counts = [sum(len(demo_dataset.counted(item.faces, name)) for item in drawn) for name in SETTINGS]
    assert 0 < counts[0] < counts[1] < counts[2] == sum(len(item.faces) for item in drawn)


def test_a_dataset_of_ours_is_replaced_and_anything_else_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "wider"
    folder.mkdir()
    write_dataset(folder, images=2, seed=1)
    write_dataset(folder, images=1, seed=1)
    assert sum(name.endswith(".jpg") for name in files(folder)) == 1
    (folder / RECORD).unlink()
    before = files(folder)
    with pytest.raises(OutputError, match=r"was not drawn by sshtool; move it away"):
        write_dataset(folder, images=1, seed=2)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["wider"]


def test_a_failure_on_the_way_leaves_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wider"
    write_dataset(folder, images=2, seed=1)
    before = files(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo_dataset, "write_ground_truth", full)
    with pytest.raises(OutputError, match="No space left"):
        write_dataset(folder, images=3, seed=2)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["wider"]


def test_the_verb_says_what_it_drew(tmp_path: Path) -> None:
    result = json.loads(sshtool("demo-dataset", "-o", tmp_path, "--images", "2", "--json").stdout)["result"]
    assert Path(result["dataset"]) == tmp_path / "datasets" / "wider-demo"
    assert result["sizes"] == [[1024, 768], [800, 600], [640, 480]]
    truth = read_ground_truth(Path(result["dataset"]))
    assert result["faces"] == sum(len(image.boxes) for image in truth.images)
    assert {item["name"]: item["faces"] for item in result["settings"]} == {
        name: sum(int(image.counted[name].sum()) for image in truth.images) for name in SETTINGS
    }


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert "would be 24 images" in sshtool("demo-dataset", "-o", tmp_path, "--dry-run").stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0), "--images: 0 .*10000"), ((1, -1), "--seed: -1 is not between")],
)
def test_numbers_without_scenes_are_refused(tmp_path: Path, arguments: tuple[int, int], message: str) -> None:
    images, seed = arguments
    with pytest.raises(UsageError, match=message):
        draw(tmp_path, images=images, seed=seed)
    assert not list(tmp_path.iterdir())
