"""The faults of any network's conversion, which `sshtool verify --self-test` plants.

Most are mistakes that converters or their users have made; the others come from a disk or a wrong file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.checkpoint import DEMO
from sshconvert.contract import (
    CHANNELS,
    COLOR_ORDER,
    IOU_THRESHOLD,
    MEAN_VALUES,
    SCORE_THRESHOLD,
    TOP_K,
    WEIGHTS,
    other_color,
    other_mean,
)
from sshconvert.editable import NotThereError
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Precision
from sshconvert.passes.fp16 import SMALLEST_HALVED
from sshconvert.tasks.faults import Editable, Fault, Stage
from sshconvert.tasks.inside import BOXES

IMAGE_WEIGHT: Final = 4  # the dimensions of a convolution's weight over images
OTHER_TRAINING_SEED: Final = 4000
OTHER_TRAINING_SPREAD: Final = 0.01
FINELY_TESTED: Final = ("FP32", "FP16", "INT8")  # precisions whose artifacts are compared with exact answers
FINE: Final = 1.001  # halves round it to 1 to 2 of their units, which is 0.1 % on average
UNKNOWN_WEIGHTS: Final = "params-sha256:" + "0" * 64


def leave_channels_unreversed(copy: Editable) -> None:
    first = next(iter(copy.convolutions), "")
    weight = copy.weight(first)
    if weight.shape[1] != CHANNELS:
        raise NotThereError(f"{first} does not read the image")
    with contextlib.suppress(NotThereError):  # no mean to reverse
        copy.set_mean(copy.mean()[::-1])
    copy.set_weight(first, weight[:, ::-1])


def reverse_output_order(copy: Editable) -> None:
    if len(copy.outputs) < 2:
        raise NotThereError("the file has one output")
    copy.reorder_outputs(copy.outputs[::-1])


def rename_output(copy: Editable) -> None:
    name = copy.outputs[0]
    copy.rename_outputs({name: f"{name}:0"})


def flip_one_sign(copy: Editable) -> None:
    """Flip one bit: the sign of the largest weight of a large layer in the middle of the network."""
    name = _largest(copy)[0]
    weight = copy.weight(name)
    weight.flat[np.argmax(np.abs(weight))] *= -1
    copy.set_weight(name, weight)


def spoil_one_weight(copy: Editable) -> None:
    name = _largest(copy)[-1]
    weight = copy.weight(name)
    weight.flat[0] = np.nan
    copy.set_weight(name, weight)


def zero_one_bias(copy: Editable, outputs: Sequence[str]) -> None:
    """Zero the largest bias of the linear outputs. A softmax can saturate and hide a changed bias."""
    biases: dict[str, Floats] = {}
    for output in outputs:
        name = copy.convolution_behind(output)
        bias = copy.bias(name)
        if bias is not None:
            biases[name] = bias
    if not biases:
        raise NotThereError("the file stores no bias for its outputs")
    name = max(biases, key=lambda name: float(np.abs(biases[name]).max()))
    biases[name][np.argmax(np.abs(biases[name]))] = 0
    copy.set_bias(name, biases[name])


def exchange_two_layers(copy: Editable) -> None:
    """Exchange the weights of two layers of the same size."""
    largest = _largest(copy)
    if len(largest) < 2:
        raise NotThereError("no other layer has as many weights as the largest")
    first, second, *_ = largest
    weight = copy.weight(first)
    copy.set_weight(first, copy.weight(second))
    copy.set_weight(second, weight)


def transpose_kernel(copy: Editable) -> None:
    name = _largest(copy)[0]
    weight = copy.weight(name)
    if weight.ndim < IMAGE_WEIGHT:
        raise NotThereError(f"{name} has no kernel of two dimensions")
    copy.set_weight(name, weight.swapaxes(2, 3))


def flip_deconvolution(copy: Editable) -> None:
    name = _deconvolution(copy)
    copy.set_weight(name, copy.weight(name)[..., ::-1, ::-1])


def round_to_halves(copy: Editable, outputs: Sequence[str]) -> None:
    if not {*outputs} & {*copy.outputs}:
        raise NotThereError("the file gives results alone, which halves hardly move")
    for name in copy.convolutions:
        weight = copy.weight(name)
        if weight.size >= SMALLEST_HALVED:
            copy.set_weight(name, weight.astype(np.float16).astype(np.float32))


def train_again(copy: Editable) -> None:
    """Change each large weight by about 1 %, as further training would."""
    random: Any = np.random.RandomState(OTHER_TRAINING_SEED)
    for name in copy.convolutions:
        weight = copy.weight(name)
        if weight.size >= SMALLEST_HALVED:
            noise = random.standard_normal(weight.shape).astype(np.float32)
            copy.set_weight(name, weight * (1 + np.float32(OTHER_TRAINING_SPREAD) * noise))


def scale_one_filter(copy: Editable, convolution: str) -> None:
    """Scale the strongest filter of a layer by `FINE`."""
    strengths = np.linalg.norm(copy.filters(convolution), axis=1)
    copy.scale_filter(convolution, int(np.argmax(strengths)), FINE)


def scale_filter_at(place: float) -> Callable[[Editable], None]:
    """Return a fault in the layer at a place between 0, the first, and 1, the last."""

    def plant(copy: Editable) -> None:
        layers = [name for name in copy.convolutions if name not in copy.deconvolutions]
        if not layers:
            raise NotThereError("there is no convolution in the file")
        scale_one_filter(copy, layers[round(place * (len(layers) - 1))])

    return plant


def scale_filter_of(output: str) -> Callable[[Editable], None]:
    """Return a fault in the layer that computes an output of the task."""
    return lambda copy: scale_one_filter(copy, copy.convolution_behind(output))


def declare(key: str, other: Callable[[str], str]) -> Callable[[Editable], None]:
    """Return a fault that replaces a value of the metadata."""
    return lambda copy: copy.declare(key, other(copy.declared(key)))


def declare_more(key: str, factor: float) -> Callable[[Editable], None]:
    """Return a fault that declares a number of the post-processing times a factor. The file applies it as before."""

    def plant(copy: Editable) -> None:
        if not copy.declared(key):
            raise NotThereError(f"the file declares no {key}")
        copy.declare(key, f"{float(copy.declared(key)) * factor:.6g}")

    return plant


def declare_fewer(copy: Editable) -> None:
    _, rows, *_ = copy.output_shape(BOXES)
    copy.declare(TOP_K, str(max(1, rows // 2)))


def other_weights(weights: str) -> str:
    return UNKNOWN_WEIGHTS if weights == DEMO else DEMO


def take(choose: Callable[[int], list[int]]) -> Callable[[Editable], None]:
    """Return a fault that gives each place of a batch the answer for another image, which `choose` returns."""

    def plant(copy: Editable) -> None:
        for output in copy.outputs:
            images = copy.batch(output)
            if images is None:
                raise NotThereError("the file takes any number of images")
            _require_several(images)
            copy.take(output, choose(images), 0)

    return plant


def reverse_batch(copy: Editable) -> None:
    for output in copy.outputs:
        _require_several(copy.batch(output))
        copy.reverse(output)


def fine_faults(model: ModelSpec) -> tuple[Fault, ...]:
    """Return the smallest faults that a comparison must catch: 0.1 % of one filter."""
    places = {"first": 0.0, "middle": 0.5, "last": 1.0}
    return (
        *(Fault(Stage.FINE, f"0.1 % of a filter, {name} layer", scale_filter_at(at)) for name, at in places.items()),
        *(Fault(Stage.FINE, f"0.1 % of a filter behind {name}", scale_filter_of(name)) for name in model.output_names),
    )


def faults_of(model: ModelSpec, precision: str = Precision.FP32.value) -> tuple[Fault, ...]:
    """Return the faults of any network and of the model's task for a precision, in the order of their stages."""
    names, linear = model.output_names, model.task.linear_outputs()
    image = (
        Fault(Stage.INPUT, "channels not reversed", leave_channels_unreversed),
        Fault(Stage.INPUT, "means in the wrong order", lambda copy: copy.set_mean(copy.mean()[::-1])),
        Fault(Stage.INPUT, "mean missing", lambda copy: copy.set_mean(0 * copy.mean())),
        Fault(Stage.INPUT, "mean applied twice", lambda copy: copy.set_mean(2 * copy.mean())),
        Fault(Stage.INPUT, "declares the wrong channel order", declare(COLOR_ORDER, other_color)),
        Fault(Stage.INPUT, "declares the wrong mean", declare(MEAN_VALUES, lambda mean: other_mean(mean, model))),
    )
    inside = (
        Fault(Stage.INSIDE, "declares a score threshold 1 % higher", declare_more(SCORE_THRESHOLD, 1.01)),
        Fault(Stage.INSIDE, "declares 0.301 for an overlap of 0.3", declare_more(IOU_THRESHOLD, 0.301 / 0.3)),
        Fault(Stage.INSIDE, "declares fewer detections than it gives", declare_fewer),
    )
    general = (
        Fault(Stage.OUTPUTS, "output order changed", reverse_output_order),
        Fault(Stage.OUTPUTS, "an output renamed", rename_output),
        Fault(Stage.WEIGHTS, "one weight with the wrong sign", flip_one_sign),
        Fault(Stage.WEIGHTS, "one weight not a number", spoil_one_weight),
        Fault(Stage.WEIGHTS, "one bias zeroed", lambda copy: zero_one_bias(copy, linear)),
        Fault(Stage.WEIGHTS, "two layers exchanged", exchange_two_layers),
        Fault(Stage.WEIGHTS, "kernel transposed", transpose_kernel),
        Fault(Stage.WEIGHTS, "deconvolution kernel flipped", flip_deconvolution),
        # The padding of the deconvolution before the crop moves the same window.
        Fault(Stage.WEIGHTS, "crop offset by one", lambda copy: copy.shift(_deconvolution(copy), 1)),
        Fault(Stage.WEIGHTS, "softmax on the wrong axis", lambda copy: copy.set_softmax_axis(3)),
        Fault(Stage.WEIGHTS, "pooling rounds up", lambda copy: copy.round_pooling_up(), at_other_size=True),
        Fault(Stage.FILE, "FP16 file in the FP32 place", file_of=Precision.FP16.value),
        Fault(Stage.FILE, "FP16 weights in a file that says FP32", lambda copy: round_to_halves(copy, names)),
        Fault(Stage.FILE, "another checkpoint's weights", train_again),
        Fault(Stage.FILE, "declares another checkpoint", declare(WEIGHTS, other_weights)),
        Fault(Stage.FILE, "file cut off in the middle", lambda copy: copy.cut_off()),
        Fault(Stage.BATCH, "first image's answer for the whole batch", take(lambda images: [0] * images)),
        Fault(Stage.BATCH, "batch reversed", reverse_batch),
        Fault(
            Stage.BATCH,
            "last image of the batch gets another's answer",
            take(lambda images: [*range(images - 1), images - 2]),
        ),
    )
    own = (
        *model.task.faults(),
        *(inside if model.task.inside_outputs else ()),
        *(image if model.takes_image else ()),
        *general,
        *(fine_faults(model) if precision in FINELY_TESTED else ()),
    )
    return tuple(sorted(own, key=lambda fault: fault.stage))


def _require_several(images: int | None) -> None:
    if images == 1:
        raise NotThereError("the file takes one image at a time")


def _largest(copy: Editable) -> list[str]:
    """Return the convolutions with the most weights, in the order of computation."""
    if not copy.convolutions:
        raise NotThereError("there is no convolution in the file")
    sizes = {name: copy.weight(name).size for name in copy.convolutions}
    return [name for name, size in sizes.items() if size == max(sizes.values())]


def _deconvolution(copy: Editable) -> str:
    if not copy.deconvolutions:
        raise NotThereError("there is no deconvolution in the file")
    return copy.deconvolutions[0]
