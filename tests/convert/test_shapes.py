"""The shapes and inputs that people deploy: each against the original, or the plain artifact, on the same images."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from command_line import sshtool
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact, convert
from sshconvert.errors import PreprocessingError, RuntimeUnavailableError
from sshconvert.libraries import import_openvino
from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Precision
from sshtool.runtimes.base import Outputs, Runtime
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet
from sshtool.runtimes.onnxruntime import OnnxRuntime

Images = npt.NDArray[np.uint8]
Original = Callable[[Images], Outputs]

# Number, height and width: the least there is, odd ones, larger than those that the export looked at, long and flat.
SIZES: Final = [(1, 32, 32), (2, 33, 47), (1, 100, 333), (3, 161, 95), (1, 64, 640), (1, 327, 255)]
BOTH: Final = ("onnx", "openvino")
SMALL: Final = (1, 3, 64, 96)
FRAMES: Final = Options(input_shape=SMALL, layout=Layout.NHWC, input_type=InputType.UINT8, color=Color.RGB)


def images_of(number: int, height: int, width: int) -> Images:
    return np.random.default_rng(height).integers(0, 256, (number, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def original(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Original:
    """MXNet; where it is not, what is converted for just that size, which other tests hold to MXNet."""
    try:
        return Mxnet(checkpoint).run
    except RuntimeUnavailableError:
        folder = tmp_path_factory.mktemp("static")

    def run(images: Images) -> Outputs:
        number, height, width, channels = images.shape
        options = Options(("onnx",), input_shape=(number, channels, height, width))
        return OnnxRuntime(convert(checkpoint, folder, options)[0].path).run(images)

    return run


def made(checkpoint: Checkpoint, folder: Path, options: Options) -> list[tuple[Artifact, Runtime]]:
    artifacts = convert(checkpoint, folder, replace(options, formats=BOTH))
    return [(artifact, load(artifact.path, checkpoint.model)) for artifact in artifacts]


def assert_same(found: Outputs, expected: Outputs, tolerance: float = 5e-5) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def of_any_size(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Artifact, Runtime]]:
    return made(checkpoint, tmp_path_factory.mktemp("any"), Options(dynamic=Dynamic.ALL))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_one_file_takes_any_number_of_images_of_any_size(
    size: tuple[int, int, int], of_any_size: list[tuple[Artifact, Runtime]], original: Original
) -> None:
    images = images_of(*size)
    expected = original(images)
    for _, runtime in of_any_size:
        assert_same(runtime.run(images), expected)


def test_what_is_free_is_declared_by_name_and_what_is_not_keeps_its_size(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    expected = {
        Dynamic.NOTHING: [2, 3, 64, 96],
        Dynamic.BATCH: ["batch", 3, 64, 96],
        Dynamic.SIZE: [2, 3, "height", "width"],
        Dynamic.ALL: ["batch", 3, "height", "width"],
    }
    for dynamic, dimensions in expected.items():
        options = Options(BOTH, (Precision.FP16,), (2, 3, 64, 96), dynamic=dynamic)
        exported, ir = convert(checkpoint, tmp_path / dynamic.value, options)
        model = onnx.load(exported.path)
        onnx.checker.check_model(model, full_check=True)
        assert sizes(model.graph.input[0]) == dimensions
        for tensor in (*model.graph.input, *model.graph.output):
            for size in tensor.type.tensor_type.shape.dim:  # named, or left open: never by a name of nothing
                assert size.WhichOneof("value") != "dim_param" or size.dim_param
        first = "batch" if dynamic in (Dynamic.BATCH, Dynamic.ALL) else 2
        assert [sizes(output)[:2] for output in model.graph.output] == [[first, 4], [first, 8]] * 3
        assert [output.name for output in model.graph.output] == list(checkpoint.model.output_names)
        shape = import_openvino().Core().read_model(str(ir.path)).input(0).partial_shape
        assert [size.get_length() if size.is_static else None for size in shape] == [
            size if isinstance(size, int) else None for size in dimensions
        ]


def sizes(tensor: onnx.ValueInfoProto) -> list[int | str]:
    return [size.dim_param or size.dim_value for size in tensor.type.tensor_type.shape.dim]


def test_a_file_of_any_size_says_nothing_of_the_size_it_was_made_for(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shapes = [(1, 3, 64, 96), (2, 3, 640, 640)]
    options = [Options(BOTH, input_shape=shape, dynamic=Dynamic.ALL) for shape in shapes]
    one, other = (convert(checkpoint, tmp_path / str(number), item) for number, item in enumerate(options))
    for first, second in zip(one, other, strict=True):
        assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in second.files]


def test_a_batch_gives_each_image_the_answer_that_it_gets_alone(
    checkpoint: Checkpoint, original: Original, tmp_path: Path
) -> None:
    images = images_of(3, 64, 96)
    expected = original(images)
    for _, runtime in made(checkpoint, tmp_path, Options(input_shape=(3, 3, 64, 96))):
        assert_same(runtime.run(images), expected)


FORMS: Final = list(itertools.product(Layout, InputType, Color))


@pytest.mark.parametrize(("layout", "kind", "color"), FORMS, ids=lambda item: item.value)
def test_the_input_takes_frames_as_they_are(
    layout: Layout, kind: InputType, color: Color, checkpoint: Checkpoint, original: Original, tmp_path: Path
) -> None:
    """Fed by hand, as an application does, not by what our runtimes read in the file."""
    images = images_of(1, 64, 96)
    expected = original(images)
    fed: npt.NDArray[Any] = images if color is Color.BGR else images[..., ::-1]
    fed = fed if layout is Layout.NHWC else fed.transpose(0, 3, 1, 2)
    fed = np.ascontiguousarray(fed, np.uint8 if kind is InputType.UINT8 else np.float32)

    options = Options(BOTH, input_shape=SMALL, layout=layout, input_type=kind, color=color)
    exported, ir = convert(checkpoint, tmp_path, options)

    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert sizes(model.graph.input[0]) == list(fed.shape)
    session = OnnxRuntime(exported.path)._session
    assert_same(dict(zip(expected, session.run(list(expected), {"data": fed}), strict=True)), expected)

    network = import_openvino().Core().read_model(str(ir.path))
    assert network.get_parameters()[0].get_layout().to_string() == f"[{','.join(layout.value)}]"
    compiled = import_openvino().Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_same({port.any_name: value for port, value in compiled([fed]).items()}, expected)


def test_the_runtimes_read_the_form_in_the_file(checkpoint: Checkpoint, original: Original, tmp_path: Path) -> None:
    images = images_of(1, 64, 96)
    for _, runtime in made(checkpoint, tmp_path, FRAMES):
        declaration = runtime.declaration
        assert (declaration.input_layout, declaration.input_type, declaration.color_order) == ("NHWC", "uint8", "RGB")
        assert declaration.input_shape == SMALL
        assert_same(runtime.run(images), original(images))


def test_without_preprocessing_there_is_nothing_that_bytes_could_hold(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(PreprocessingError, match="uint8"):
        convert(checkpoint, tmp_path, replace(FRAMES, preprocessing=False))
    assert list(tmp_path.iterdir()) == []


def test_the_originals_input_can_have_its_channels_last_too(
    checkpoint: Checkpoint, original: Original, tmp_path: Path
) -> None:
    images = images_of(1, 64, 96)
    for _, runtime in made(checkpoint, tmp_path, Options(input_shape=SMALL, layout=Layout.NHWC, preprocessing=False)):
        assert_same(runtime.run(images), original(images))


@pytest.fixture(scope="module")
def frames(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `sshtool convert` for whole frames: any size, channels last, bytes, RGB."""
    folder = tmp_path_factory.mktemp("frames")
    form = ("--dynamic", "all", "--input-layout", "nhwc", "--input-dtype", "u8", "--input-color", "rgb")
    sshtool(
        "convert", "--checkpoint", plain_checkpoint.params_path, "-o", folder, "--input-shape", "1,3,128,128", *form
    )
    return folder


def test_detect_reads_the_declaration(frames: Path, tmp_path: Path) -> None:
    from PIL import Image

    from sshtool.demo.scenes import draw_scene

    scene = draw_scene(0)
    Image.fromarray(scene.image[..., ::-1]).save(tmp_path / "scene.png")
    for suffix in (".onnx", ".xml"):
        artifact = frames / "ssh-mxnet" / "FP32" / f"ssh-mxnet{suffix}"
        line = json.loads(sshtool("detect", tmp_path / "scene.png", "--artifact", artifact, "--json").stdout)
        assert len(line["detections"]) >= len(scene.faces) - 1


@pytest.mark.long  # it takes the original's size: minutes on two cores
def test_verify_reads_the_declaration(frames: Path, plain_checkpoint: Checkpoint) -> None:
    result = sshtool("verify", "--checkpoint", plain_checkpoint.params_path, "-o", frames, "--json")
    report = json.loads(result.stdout)["result"]["report"]
    assert report["passed"]
    assert [artifact["skipped"] for artifact in report["artifacts"]] == [{}, {}]
    assert not any(sample["converted_again"] for item in report["artifacts"] for sample in item["samples"])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    {
        "two batches": (("--batch", "2", "--input-shape", "3,3,64,64"), 2, "--batch: 2 contradicts"),
        "unknown dimensions": (("--dynamic", "height"), 2, "--dynamic: height"),
        "unknown layout": (("--input-layout", "HWC"), 2, "--input-layout: HWC"),
        "unknown type": (("--input-dtype", "f64"), 2, "--input-dtype: f64"),
        "unknown colour": (("--input-color", "grey"), 2, "--input-color: grey"),
        "colour of the original": (("--input-color", "bgr", "--no-preprocessing"), 2, "rgb"),
        "bytes of the original": (("--input-dtype", "u8", "--no-preprocessing"), 1, "uint8"),
    }.values(),
    ids=lambda item: item if isinstance(item, str) else None,
)
def test_forms_that_cannot_be_are_refused(
    options: Sequence[str], code: int, message: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    result = sshtool("convert", "--checkpoint", checkpoint.params_path, "-o", output, *options, code=code)
    assert message in result.stderr
    assert not output.exists()


def test_a_batch_can_be_asked_for_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    sshtool("convert", "--checkpoint", checkpoint.params_path, "-o", tmp_path, "--batch", "4", "--format", "onnx")
    model = onnx.load(tmp_path / "ssh-mxnet" / "FP32" / "ssh-mxnet.onnx")
    assert sizes(model.graph.input[0]) == [4, 3, 640, 640]
