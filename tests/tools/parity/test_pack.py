from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_packs import computed_answers, empty_answers
from sshconvert.checkpoint import Checkpoint
from sshconvert.errors import OutputError, ReferencePackError
from sshconvert.models.registry import load_model
from sshconvert.tasks.tolerances import PROFILES
from sshtool.parity import pack
from sshtool.parity.pack import PackReference, demo_pack, read_pack, write_pack
from sshtool.parity.reference import Answer
from sshtool.parity.samples import OTHER, exact_samples, other_size, sample_names
from sshtool.runtimes.mxnet import Mxnet

MODEL = load_model("ssh-mxnet")
SIZE = (96, 128)
FORMAT: Any = np.lib.format  # NumPy 1 has no types for it
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def answers(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    """The format does not depend on who answers."""
    return computed_answers(demo_checkpoint, tmp_path_factory.mktemp("artifact"), SIZE)


@pytest.fixture(scope="module")
def packed(demo_checkpoint: Checkpoint, answers: list[Answer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "reference.npz"
    write_pack(path, demo_checkpoint, "ONNX Runtime 1", answers)
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, target: Path, change: Callable[[Members], Any], method: int = zipfile.ZIP_DEFLATED) -> Path:
    contents = members(path)
    change(contents)
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return target


def edited(contents: Members, change: Callable[[Any], Any]) -> None:
    document = json.loads(contents["reference.json"])
    change(document)
    contents["reference.json"] = json.dumps(document).encode()


def test_a_pack_gives_back_the_answers_to_the_bit(packed: Path, answers: list[Answer]) -> None:
    reference = read_pack(packed, MODEL)
    found = [*reference.answers(*SIZE), reference.other_size()]
    assert [answer and answer.sample.name for answer in found] == [*sample_names(), OTHER]
    for answer, original in zip(found, answers, strict=True):
        assert answer is not None
        np.testing.assert_array_equal(answer.sample.images, original.sample.images)
        assert list(answer.outputs) == list(original.outputs)
        for name, array in original.outputs.items():
            np.testing.assert_array_equal(answer.outputs[name], array, strict=True)


def test_a_pack_says_whose_answers_it_holds(packed: Path) -> None:
    reference = read_pack(packed, MODEL)
    assert reference.source == "ONNX Runtime 1 (reference pack reference.npz)"
    assert "not run" in reference.note
    assert reference.weights == "demo"
    assert set(reference.contents.checkpoint) == {MODEL.checkpoint.symbol, MODEL.checkpoint.params}
    assert {"sshtool", "numpy", "python", "platform"} <= set(reference.contents.versions)


def test_the_same_answers_give_the_same_bytes(
    packed: Path, demo_checkpoint: Checkpoint, answers: list[Answer], tmp_path: Path
) -> None:
    write_pack(tmp_path / "again.npz", demo_checkpoint, "ONNX Runtime 1", answers)
    assert (tmp_path / "again.npz").read_bytes() == packed.read_bytes()


def test_numpy_alone_reads_a_packs_arrays(packed: Path, answers: list[Answer]) -> None:
    with np.load(packed) as arrays:
        stored = arrays["scene-0/rpn_bbox_pred_stride8"]
    np.testing.assert_array_equal(stored, answers[0].outputs["rpn_bbox_pred_stride8"])


def test_a_pack_has_no_answers_for_another_size(packed: Path) -> None:
    with pytest.raises(ReferencePackError, match=r"96x128.*640x640"):
        read_pack(packed, MODEL).answers(640, 640)


def test_a_pack_that_would_be_too_large_is_not_written(
    demo_checkpoint: Checkpoint, answers: list[Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "LARGEST_FILE", 1000)
    with pytest.raises(OutputError, match=r"1000.*--scenes"):
        write_pack(tmp_path / "reference.npz", demo_checkpoint, "ONNX Runtime 1", answers)
    assert not list(tmp_path.iterdir())


def flip(contents: Members) -> None:
    """A stored score of 0.9 where there was next to nothing: decodes to a detection that is not in the list."""
    name = "colours/rpn_cls_prob_reshape_stride8.npy"
    array = np.load(io.BytesIO(contents[name]))
    array[0, 2, 3, 3] = 0.9
    stored = io.BytesIO()
    FORMAT.write_array(stored, array, (1, 0))
    contents[name] = stored.getvalue()


def as_array(array: Any) -> Callable[[Members], None]:
    def change(contents: Members) -> None:
        stored = io.BytesIO()
        np.save(stored, array, allow_pickle=True)
        contents["noise/rpn_bbox_pred_stride8.npy"] = stored.getvalue()

    return change


def claiming(shape: tuple[int, ...]) -> Callable[[Members], None]:
    def change(contents: Members) -> None:
        stored = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        FORMAT.write_array_header_1_0(stored, header)
        contents["noise/rpn_bbox_pred_stride8.npy"] = stored.getvalue() + b"\0" * 64

    return change


def with_header_length(contents: Members) -> None:
    """The header is whole, but is said to be a byte shorter."""
    data = bytearray(contents["noise/rpn_bbox_pred_stride8.npy"])
    data[8] -= 1
    contents["noise/rpn_bbox_pred_stride8.npy"] = bytes(data)


def with_much(contents: Members) -> None:
    """Members that are not too large by themselves."""
    contents.update(dict.fromkeys(("x", "y"), bytes(17 << 20)))


def without(*names: str) -> Callable[[Members], None]:
    """The pack without these samples, whole otherwise."""

    def change(contents: Members) -> None:
        def remove(document: Any) -> None:
            document["samples"] = [item for item in document["samples"] if item["name"] not in names]

        edited(contents, remove)
        for member in [member for member in contents if member.split("/")[0] in names]:
            del contents[member]

    return change


def of_another_size(contents: Members) -> None:
    """One of the samples is much smaller than the others."""
    small = next(answer for answer in empty_answers((32, 32)) if answer.sample.name == "noise")
    described = pack._describe(small, MODEL).model_dump(mode="json")
    for name, array in small.outputs.items():
        stored = io.BytesIO()
        FORMAT.write_array(stored, array, (1, 0))
        contents[f"noise/{name}.npy"] = stored.getvalue()
    edited(contents, lambda document: document["samples"].__setitem__(3, described))


def move(detections: Any) -> None:
    detections[0][0][2] += 0.02


def sample(change: Callable[[Any], Any]) -> Callable[[Members], None]:
    return lambda contents: edited(contents, lambda document: change(document["samples"][0]))


FAULTS: dict[str, tuple[Callable[[Members], Any], str]] = {
    "no contents": (lambda m: m.pop("reference.json"), "not a reference pack"),
    "contents are no JSON": (lambda m: m.update({"reference.json": b"{"}), "not a reference pack"),
    "another schema": (lambda m: edited(m, lambda d: d.update(schema_version=1)), "another version of sshtool"),
    "an unknown key": (lambda m: edited(m, lambda d: d.update(more=1)), "more"),
    "another model": (lambda m: edited(m, lambda d: d.update(model="other")), "is for other"),
    "other outputs": (lambda m: edited(m, lambda d: d["outputs"].reverse()), "other outputs"),
    "a member missing": (lambda m: m.pop("noise/rpn_bbox_pred_stride8.npy"), "noise/rpn_bbox_pred_stride8.npy"),
    "a member too many": (lambda m: m.update({"x": b""}), "unlisted members: x"),
    "a pickle": (as_array(np.array([{}], object)), "not a reference pack"),
    "doubles": (as_array(np.zeros((1, 8, 12, 16))), "not float32"),
    "Fortran order": (as_array(np.asfortranarray(np.zeros((1, 8, 12, 16), np.float32))), "not a reference pack"),
    "NaN": (as_array(np.full((1, 8, 12, 16), np.nan, np.float32)), "not finite"),
    "another shape": (as_array(np.zeros((1, 8, 12, 17), np.float32)), "has shape"),
    "a huge shape": (claiming((99999,) * 4), "claims float32"),
    "a dimension of many digits": (claiming((1, 1, 1, 1 << 40)), "not float32"),
    "one dimension": (claiming((16,)), "has shape"),
    "a negative shape": (claiming((-4, -4, 1, 1)), "not float32"),
    "a truncated array": (lambda m: m.update({"noise/rpn_bbox_pred_stride8.npy": b"\x93NUMPY"}), "not a reference"),
    "a sample that nobody knows": (sample(lambda s: s.update(name="scene-x")), "not complete"),
    "huge images": (sample(lambda s: s.update(shape=[1, 1 << 14, 65, 3])), "claims images"),
    "images of another size": (sample(lambda s: s.update(shape=[1, 96, 129, 3])), "another image"),
    "images of another hash": (sample(lambda s: s.update(images_sha256="0" * 64)), "another image"),
    "a detection less": (sample(lambda s: s["detections"][0].pop()), "other detections"),
    "an image's detections less": (sample(lambda s: s["detections"].pop()), "not a reference pack"),
    "more images": (sample(lambda s: s.update(shape=[2, 96, 128, 3])), "another image"),
    "images of four channels": (sample(lambda s: s.update(shape=[1, 96, 128, 4])), "claims images"),
    "a path for a name": (sample(lambda s: s.update(name="../a")), "samples.0.name"),
    "a name that is too long": (sample(lambda s: s.update(name="a" * 101)), "samples.0.name"),
    "a text that is too long": (lambda m: edited(m, lambda d: d.update(runtime="a" * 201)), "runtime"),
    "a sample twice": (lambda m: edited(m, lambda d: d["samples"].append(d["samples"][0])), "one sample twice"),
    "a header of another length": (with_header_length, "not float32"),
    "a detection moved": (sample(lambda s: move(s["detections"])), "other detections"),
    "much contents": (
        lambda m: m.update({"reference.json": m["reference.json"] + b" " * (2 << 20)}),
        "of reference.json",
    ),
    "much of answers": (with_much, "bytes together"),
    "an output changed": (flip, "colours .* other detections"),
    "colours alone": (
        without(*(name for name in (*sample_names(), OTHER) if name != "colours")),
        "7 .* samples",
    ),
    **{f"all but {name}": (without(name), f"1 .* samples .{name}") for name in (*sample_names(), OTHER)},
    "a sample of another size": (of_another_size, "several sizes"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_a_pack_that_is_not_right_is_refused_in_one_line(
    change: Callable[[Members], Any], message: str, packed: Path, tmp_path: Path
) -> None:
    path = rewritten(packed, tmp_path / "broken.npz", change)
    with pytest.raises(ReferencePackError, match=message) as caught:
        read_pack(path, MODEL)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pack_may_be_packed_in_three_ways_and_no_other(packed: Path, tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        read_pack(rewritten(packed, tmp_path / "other.npz", lambda _: None, method), MODEL)
    with pytest.raises(ReferencePackError, match="12"):
        read_pack(rewritten(packed, tmp_path / "other.npz", lambda _: None, zipfile.ZIP_BZIP2), MODEL)


@pytest.mark.parametrize("length", [0, 10, 1000, -10])
def test_a_truncated_pack_is_refused(length: int, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "short.npz").write_bytes(packed.read_bytes()[:length])
    with pytest.raises(ReferencePackError, match="not a reference pack"):
        read_pack(tmp_path / "short.npz", MODEL)


def test_a_flipped_bit_in_an_array_is_noticed(packed: Path, tmp_path: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(data)
    with pytest.raises(ReferencePackError, match="not a reference pack"):
        read_pack(tmp_path / "flipped.npz", MODEL)


def test_a_missing_pack_and_one_that_is_too_large_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ReferencePackError, match="check the path"):
        read_pack(tmp_path / "none.npz", MODEL)
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(5_000_001)
    with pytest.raises(ReferencePackError, match="5000000 bytes"):
        read_pack(tmp_path / "large.npz", MODEL)


@pytest.fixture(scope="module")
def shipped() -> PackReference:
    return demo_pack(MODEL)


def test_the_shipped_pack_is_exact_for_this_demo_at_the_models_own_size(
    shipped: PackReference, demo_checkpoint: Checkpoint
) -> None:
    assert shipped.contents.yardstick is not None
    assert shipped.contents.yardstick.source == "MXNet 1.9.1"
    (halves,) = shipped.contents.halves
    assert halves.formats == ("onnx", "openvino")
    assert {*exact_samples(sample_names()), OTHER} == {packed.name for packed in halves.samples}
    assert MODEL.demo is not None
    assert shipped.contents.checkpoint[MODEL.checkpoint.params] == MODEL.demo.params_sha256
    assert len(shipped.answers(*MODEL.image_input.shape[2:])) == len(sample_names())
    assert shipped.other_size() is not None
    assert shipped.weights == demo_checkpoint.weights


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("name", ["scene-0", "noise", "batch-of-2"])
def test_the_shipped_pack_holds_what_mxnet_answers_here(
    name: str, shipped: PackReference, demo_checkpoint: Checkpoint
) -> None:
    answer = shipped.answer(name, 640, 640)
    assert answer is not None
    for output, array in Mxnet(demo_checkpoint).run(answer.sample.images).items():
        # As another runtime's: another processor adds up in another order.
        np.testing.assert_allclose(answer.outputs[output], array, rtol=0, atol=PROFILES["FP32"].tensors.atol)


def test_a_sample_keeps_its_bytes_on_every_platform(shipped: PackReference) -> None:
    """Reading drew every sample again and held it against the hash that was taken where the pack was made."""
    names = {packed.name for packed in shipped.contents.samples}
    assert names == {*sample_names(), other_size().name}
