"""NaN and infinities among the weights: found exactly, refused, and counted where they are allowed."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings, strategies as st

from command_line import sshtool
from sshconvert.arrays import Pixels
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.errors import CheckpointError
from sshconvert.finite import NonFinite, find_nonfinite, summary
from sshconvert.models.registry import load_model
from sshconvert.mxnet.params import read_params, write_params
from sshtool.checkpoint.archive import opened, pack
from sshtool.demo.dataset import demo_dataset
from sshtool.picture import save_picture

MODEL: Final = load_model("ssh-mxnet")
REFUSED: Final = "weights not finite: 2 NaN, 1 Inf"
LARGEST: Final = float(np.finfo(np.float32).max)


@pytest.fixture(scope="module")
def spoilt(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with two NaN in one parameter and an infinity in another."""
    folder = tmp_path_factory.mktemp("spoilt")
    shutil.copyfile(plain_checkpoint.symbol_path, folder / MODEL.checkpoint.symbol)
    arrays = {name: np.array(array) for name, array in read_params(plain_checkpoint.params_path).items()}
    arrays["arg:conv3_2_weight"][7, 5, 2, 1] = np.nan
    arrays["arg:conv3_2_weight"][20, 0, 0, 0] = np.nan
    arrays["arg:conv5_3_bias"][63] = -np.inf
    write_params(folder / MODEL.checkpoint.params, arrays)
    return folder


def test_nan_and_infinities_are_refused_with_their_number_and_place(spoilt: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(spoilt, MODEL)

    assert str(caught.value) == (
        f"{spoilt / MODEL.checkpoint.params}: {REFUSED} (conv3_2_weight has 2 NaN, the first at [7, 5, 2, 1]; "
        "conv5_3_bias has 1 Inf, the first at [63]); get the file again, or allow them with --allow-nonfinite"
    )


def test_nan_and_infinities_that_are_allowed_are_kept_and_counted(spoilt: Path) -> None:
    checkpoint = open_checkpoint(spoilt, MODEL, allow_nonfinite=True)

    assert checkpoint.nonfinite == (
        NonFinite("conv3_2_weight", nan=2, inf=0, first=(7, 5, 2, 1)),
        NonFinite("conv5_3_bias", nan=0, inf=1, first=(63,)),
    )
    assert np.isnan(checkpoint.parameters["conv3_2_weight"][20, 0, 0, 0])


def test_an_archive_with_nan_is_refused_or_allowed_likewise(spoilt: Path, tmp_path: Path) -> None:
    pack(spoilt, MODEL, tmp_path / "spoilt.zip")

    with pytest.raises(CheckpointError, match=REFUSED), opened(tmp_path / "spoilt.zip", MODEL):
        pass
    with opened(tmp_path / "spoilt.zip", MODEL, allow_nonfinite=True) as checkpoint:
        assert len(checkpoint.nonfinite) == 2


def test_a_good_checkpoint_has_nothing_to_count(plain_checkpoint: Checkpoint) -> None:
    assert plain_checkpoint.nonfinite == ()


# Each option makes the verb stop early, for another reason, where the weights are let through.
VERBS: Final = {
    "convert": ("convert", "--input-shape", "1,4,64,64"),
    "info": ("info", "--input-shape", "1,4,64,64"),
    "run": ("run", "--input-shape", "1,4,64,64"),
    "verify": ("verify", "--artifact", "{folder}/sshb-symbol.json", "--reference", "{folder}/no.npz"),
    "reference": ("reference", "--dry-run"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_nan_unless_it_is_told(
    spoilt: Path, tmp_path: Path, verb: str, request: pytest.FixtureRequest
) -> None:
    if verb == "reference":
        request.getfixturevalue("mxnet")
    arguments = [part.format(folder=spoilt) for part in VERBS[verb]]
    command = [*arguments, "--checkpoint", str(spoilt), "-o", str(tmp_path)]

    assert f"{REFUSED} (conv3_2_weight has 2 NaN" in sshtool(*command, code=1).stderr
    assert "not finite" not in outcome(*command, "--allow-nonfinite")
    assert list(tmp_path.iterdir()) == []


def outcome(*arguments: str | Path) -> str:
    """What a verb says, whether it succeeds or, where MXNet is missing, fails."""
    try:
        return sshtool(*arguments).stderr
    except AssertionError:
        return sshtool(*arguments, code=1).stderr


@pytest.mark.usefixtures("mxnet")
def test_detect_with_mxnet_refuses_nan_unless_it_is_told(spoilt: Path, tmp_path: Path) -> None:
    image: Pixels = np.zeros((64, 64, 3), np.uint8)
    save_picture(tmp_path / "black.png", image, np.zeros((0, 5), np.float32))
    command = ("detect", tmp_path / "black.png", "--artifact", spoilt / MODEL.checkpoint.params, "--dry-run")

    assert REFUSED in sshtool(*command, code=1).stderr
    assert "not finite" not in outcome(*command, "--allow-nonfinite")


@pytest.mark.usefixtures("mxnet")
def test_evaluate_with_mxnet_refuses_nan_unless_it_is_told(spoilt: Path, tmp_path: Path) -> None:
    drawn = demo_dataset(tmp_path / "drawn", images=1, seed=0)
    weights = spoilt / MODEL.checkpoint.params
    command = ("evaluate", "--dataset", drawn.dataset, "--artifact", weights, "-o", tmp_path, "--device", "TOASTER")

    assert REFUSED in sshtool(*command, code=1).stderr
    assert "TOASTER" in sshtool(*command, "--allow-nonfinite", code=1).stderr


def test_download_refuses_nan_unless_it_is_told(spoilt: Path, tmp_path: Path) -> None:
    pack(spoilt, MODEL, tmp_path / "spoilt.zip")
    command = ("download", "--from-archive", tmp_path / "spoilt.zip", "--allow-unverified", "-o", tmp_path / "out")

    assert REFUSED in sshtool(*command, code=1).stderr
    assert not list((tmp_path / "out").rglob("*.params"))
    sshtool(*command, "--allow-nonfinite")
    assert len(list((tmp_path / "out").rglob("*.params"))) == 1


def test_info_and_convert_state_what_they_let_through(spoilt: Path, tmp_path: Path) -> None:
    counted = [
        {"name": "conv3_2_weight", "nan": 2, "inf": 0, "first": [7, 5, 2, 1]},
        {"name": "conv5_3_bias", "nan": 0, "inf": 1, "first": [63]},
    ]
    allowed = ("--checkpoint", spoilt, "--allow-nonfinite", "--input-shape", "1,3,64,64")
    convert = ("convert", *allowed, "-o", tmp_path, "--format", "onnx")

    assert json.loads(sshtool("info", *allowed, "--json").stdout)["result"]["nonfinite"] == counted
    assert REFUSED in sshtool("info", *allowed).stdout
    assert json.loads(sshtool(*convert, "--json").stdout)["result"]["nonfinite"] == counted
    assert REFUSED in sshtool(*convert, "--dry-run").stdout
    made = onnx.load(tmp_path / "ssh-mxnet" / "FP32" / "ssh-mxnet.onnx")
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in made.graph.initializer}
    expected = open_checkpoint(spoilt, MODEL, allow_nonfinite=True).parameters
    assert weights["conv3_2_weight"].tobytes() == expected["conv3_2_weight"].tobytes()


BITS: Final = {
    "largest": 0x7F7FFFFF,
    "lowest": 0xFF7FFFFF,
    "smallest": 0x00000001,
    "minus zero": 0x80000000,
    "infinity": 0x7F800000,
    "minus infinity": 0xFF800000,
    "quiet NaN": 0x7FC00000,
    "signalling NaN": 0x7F800001,
    "NaN of all ones": 0xFFFFFFFF,
}


@pytest.mark.parametrize("name", BITS)
def test_exactly_nan_and_infinities_are_found(name: str) -> None:
    array = np.frombuffer(struct.pack("<3I", 0, BITS[name], 0), np.float32)

    found = find_nonfinite({"a": array})

    nan, inf = "NaN" in name, "infinity" in name
    assert found == ((NonFinite("a", nan, inf, (1,)),) if nan or inf else ())


def test_values_whose_sum_and_product_overflow_are_finite() -> None:
    assert find_nonfinite({"a": np.full((1 << 18,), LARGEST, np.float32)}) == ()


@pytest.mark.parametrize("index", [0, (1 << 16) - 1, 1 << 16, (1 << 17) - 1, 1 << 17, (1 << 17) + 2])
def test_the_place_does_not_matter(index: int) -> None:
    array = np.zeros((1 << 17) + 3, np.float32)
    array[index] = np.nan

    assert find_nonfinite({"good": np.ones(3, np.float32), "a": array}) == (NonFinite("a", 1, 0, (index,)),)


def test_arrays_that_lie_anyhow_in_memory_are_looked_at() -> None:
    raw = b"\x00" + struct.pack("<6f", 1, 2, np.inf, 4, np.nan, 6)
    odd = np.frombuffer(raw, np.float32, 6, 1).reshape(2, 3)

    assert find_nonfinite({"odd": odd, "turned": odd.T}) == (
        NonFinite("odd", 1, 1, (0, 2)),
        NonFinite("turned", 1, 1, (1, 1)),
    )


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_the_counts_are_those_of_the_elements(values: list[float]) -> None:
    array: npt.NDArray[Any] = np.array(values, np.float32)
    bad = [index for index, value in enumerate(values) if not np.isfinite(value)]

    found = find_nonfinite({"a": array})

    assert bool(found) == bool(bad)
    for item in found:
        assert item.first == (bad[0],)
        assert item.nan + item.inf == len(bad)
        assert item.nan == sum(np.isnan(values))
        assert summary(found) == f"weights not finite: {item.nan} NaN, {item.inf} Inf"
