"""Files of ncnn from strangers: what the check takes, and the one line with which it refuses everything else."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from sshconvert.contract import Contract, Tensor
from sshconvert.errors import ArtifactError
from sshconvert.formats.ncnn import Ncnn
from sshconvert.validation import check_ncnn
from sshconvert.validation.ncnn import FLOAT16, NcnnNetwork

pytestmark = pytest.mark.independent

# A small network with most layers: its lines, and the numbers of weights, negative without a mark.
LINES: Final = (
    "Input data 0 1 data 0=16 1=12 2=3",
    "MemoryData mean 0 1 mean 0=1 1=1 2=3",
    "BinaryOp minus 2 1 data mean 1 0=1",
    "Convolution body 1 1 1 2 0=8 1=3 4=1 5=1 6=216 9=1",
    "Split twice 1 2 2 3 4",
    "ConvolutionDepthWise depth 1 1 3 5 0=8 1=3 11=3 3=2 13=2 4=1 14=1 5=0 6=72 7=8",
    "PReLU slopes 1 1 5 6 0=8",
    "Pooling pool 1 1 4 7 0=0 1=3 2=2 3=1 5=0",
    "Crop crop 1 1 7 8 -23309=2,0,0 -23310=2,6,8 -23311=2,1,2",
    "Concat joined 2 1 6 8 9 0=0",
    "BatchNorm norm 1 1 9 10 0=16 1=0.001",
    "Deconvolution up 1 1 10 11 0=4 1=4 2=1 3=2 4=1 5=1 6=1024",
    "Reshape rows 1 1 11 12 0=32 1=12 2=2",
    "Softmax prob 1 1 12 13 0=0 1=1",
    "Slice parts 1 2 13 14 boxes -23300=2,1,-233 1=0",
    "Pooling all 1 1 14 15 0=1 4=1",
    "InnerProduct scores 1 1 15 scores 0=5 1=1 2=5",
)
WEIGHTS: Final = (-3, 216, -8, 72, -8, -16, -16, -16, -16, 1024, -4, 5, -5)


def write(folder: Path, lines: tuple[str, ...] = LINES, weights: tuple[int, ...] = WEIGHTS, *, mark: int = 0) -> Path:
    blobs = sum(int(line.split()[3]) for line in lines)
    path = folder / "net.ncnn.param"
    path.write_text("\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""]))
    kind = np.float16 if mark == FLOAT16 else np.float32
    data = b""
    for number in weights:
        values = np.ones(abs(number), kind if number > 0 else np.float32).tobytes()
        data += (struct.pack("<I", mark) if number > 0 else b"") + values + bytes(-len(values) % 4)
    Ncnn.companions(path)[0].write_bytes(data)
    return path


def replaced(before: str, after: str) -> tuple[str, ...]:
    assert sum(before in line for line in LINES) == 1
    return tuple(line.replace(before, after) for line in LINES)


@pytest.mark.parametrize("mark", [0, 0x0002C056, FLOAT16])
def test_a_network_of_known_layers_passes_with_the_shapes_that_it_computes(tmp_path: Path, mark: int) -> None:
    network = check_ncnn(write(tmp_path, mark=mark))
    assert isinstance(network, NcnnNetwork)
    assert network.inputs == {"data": (3, 12, 16)}
    assert network.outputs == {"boxes": (1, 12, 32), "scores": (5,)}
    assert [item.number for item in network.weights] == [abs(number) for number in WEIGHTS]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("PReLU slopes", "Custom slopes", "its layer 'Custom' is in no converted network"),
        ("6=216", "6=217", r"'body' \(Convolution\): has 217 weights, expected 216"),
        ("6=216", "6=216 8=1", "parameter 8 is '1'"),
        ("6=216", "6=216 33=1", "parameter 33 is in no"),
        ("6=216", "6=216 6=216", "is no parameter, or is given twice"),
        ("6=216", "6=1e9", "parameter 6 is '1e9'"),
        ("6=216", "6=99999999999", "parameter 6 is '99999999999'"),
        ("0=8 1=3 4=1", "0=8 1=-233 4=1", "parameter 1 is '-233'"),
        ("0=8 1=3 4=1", "0=8 1=65536 4=0", "has 216 weights|kernel larger"),
        ("7=8", "7=3", "3 groups of 8"),
        ("PReLU slopes 1 1 5 6 0=8", "PReLU slopes 1 1 5 6 0=7", "has 7 slopes for 8 channels"),
        ("0=16 1=0.001", "0=15 1=0.001", "normalises 15 channels of 16"),
        ("1 1 10 11 0=4", "1 1 9 11 0=4", "'up'.* reads a blob that no layer before it writes, or that another"),
        ("1 1 10 11 0=4", "1 1 99 11 0=4", "'up'.* reads a blob that no layer before"),
        ("1 1 5 6 0=8", "1 1 5 5 0=8", "'slopes'.* writes a blob that another one writes"),
        ("1 2 2 3 4", "1 3 2 3 4", "has another number of blobs than it declares"),
        ("1 2 2 3 4", "1 -2 2 3 4", "is no layer"),
        ("0=32 1=12 2=2", "0=32 1=12 2=3", r"makes \[3, 12, 32\] of \[4, 12, 16\]"),
        ("0=32 1=12 2=2", "0=0 1=12 2=2", "copies sizes"),
        ("0=0 1=1", "0=3 1=1", "its axis 3 is not one of"),
        ("-23300=2,1,-233", "-23300=2,1,3", r"cuts \[1, 3\] of 2"),
        ("-23300=2,1,-233", "-23300=3,1,-233", "another length than it declares"),
        ("-23300=2,1,-233 1=0", "1=0", "writes 2 blobs, expected 0"),
        ("-23300=2,1,-233", "-23300=1,-233", "writes 2 blobs, expected 1"),
        ("-23310=2,6,8", "-23310=2,6,10", "cuts 0 to 10 of 9"),
        ("0=16 1=12 2=3", "0=16 1=12 2=4", r"combines \[4, 12, 16\] with \[3, 1, 1\]"),
        ("0=16 1=12 2=3", "0=40000 1=40000 2=3", "computes a tensor of shape"),
        ("0=16 1=12 2=3", "1=12 2=3", "has no whole shape"),
        ("2=5", "2=6", "has 6 weights, expected 5"),
        ("Concat joined 2 1 6 8 9 0=0", "Concat joined 2 1 6 8 9 0=1", "joins the shapes|normalises"),
        ("Softmax prob", "Softmax \x7f", "beyond ncnn's reach"),
        ("data 0 1 data", f"data 0 1 {'d' * 300}", "beyond ncnn's reach"),
    ],
)
def test_a_changed_layer_is_refused_in_one_line(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = write(tmp_path, replaced(before, after))
    with pytest.raises(ArtifactError, match=message) as error:
        check_ncnn(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_weights_must_fill_the_file_exactly(tmp_path: Path) -> None:
    path = write(tmp_path)
    weights = Ncnn.companions(path)[0]
    data = weights.read_bytes()
    for changed, message in (
        (data[:-4], "its weights end beyond net.ncnn.bin"),
        (data + b"\0\0\0\0", "of net.ncnn.bin, which has"),
        (data[:12] + b"\x01\0\0\0" + data[16:], "has no float32 or float16 weights"),
        (data[:12] + struct.pack("<I", 0x000D4B38) + data[16:], "has no float32 or float16 weights"),
        (b"", "its weights end beyond"),
    ):
        weights.write_bytes(changed)
        with pytest.raises(ArtifactError, match=message):
            check_ncnn(path)
    weights.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        check_ncnn(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("7767518\n1 1\n", "does not begin with 7767517"),
        ("7767517\n", "declares other counts"),
        ("7767517\n2 1\nInput data 0 1 data 0=3\n", "declares other counts"),
        ("7767517\n1 2\nInput data 0 1 data 0=3\n", "it has 1 blobs and declares 2"),
        ("7767517\n1 1\nInput data 0 1 data 0=3\n", "1 inputs and 0 outputs"),
        ("7767517\n1 1\nInput d\u00e4ta 0 1 data 0=3\n", "no text of an ncnn network"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path)
    path.write_text(text, encoding="utf-8")
    Ncnn.companions(path)[0].write_bytes(b"")
    with pytest.raises(ArtifactError, match=message):
        check_ncnn(path)


def test_the_contract_names_the_blobs_of_the_network(tmp_path: Path) -> None:
    path = write(tmp_path)
    description = Ncnn.companions(path)[1]
    outputs = (Tensor("scores", "float32", (1, 5)), Tensor("boxes", "float32", (1, 1, 12, 32)))
    contract = Contract({"model": "net"}, (Tensor("data", "float32", (1, 3, 12, 16)),), outputs)
    description.write_text(json.dumps(contract.to_plain()))
    assert Ncnn.read_contract(path) == contract
    for other in (
        Contract(contract.metadata, contract.inputs, outputs[:1]),
        Contract(contract.metadata, contract.inputs, (outputs[0], Tensor("boxes", "float32", (1, 2, 12, 32)))),
        Contract(contract.metadata, (Tensor("image", "float32", (1, 3, 12, 16)),), outputs),
        Contract(contract.metadata, contract.inputs, (*outputs, outputs[0])),
    ):
        description.write_text(json.dumps(other.to_plain()))
        with pytest.raises(ArtifactError, match=r"are not those that net\.ncnn\.json declares"):
            Ncnn.read_contract(path)
    for damaged in ("", "[]", "[" * 100_000, '{"metadata": 1}'):
        description.write_text(damaged)
        with pytest.raises(ArtifactError, match=r"its contract net\.ncnn\.json is damaged"):
            Ncnn.read_contract(path)
    description.unlink()
    with pytest.raises(ArtifactError, match=r"net\.ncnn\.json cannot be read"):
        Ncnn.screen(path)
