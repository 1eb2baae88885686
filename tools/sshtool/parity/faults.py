"""Faults that a conversion can have, each defined once for every format: what `sshtool verify --self-test` plants.

Most are mistakes that converters, or the people who use them, have made; the rest is what a disk or a wrong file does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sshconvert.arrays import Floats
from sshconvert.checkpoint import DEMO
from sshconvert.contract import COLOR_ORDER, MEAN_VALUES, WEIGHTS, other_color, other_mean
from sshconvert.editing.base import Arithmetic, EditableModel, NotThereError
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Precision
from sshconvert.passes.fp16 import SMALLEST_HALVED
from sshconvert.tasks.anchor_detection import AnchorDetection, detect
from sshconvert.tasks.postprocessing import BOXES, COUNT, SCORES
from sshtool.parity.verify import Decode

Editable = EditableModel[Any]
Plant = Callable[[Editable, ModelSpec], None]
Tensors = Mapping[str, npt.NDArray[np.float32]]

OTHER_TRAINING_SEED: Final = 4000
OTHER_TRAINING_SPREAD: Final = 0.01
UNKNOWN_WEIGHTS: Final = "params-sha256:" + "0" * 64


def nothing(_copy: Editable, _model: ModelSpec) -> None:
    """Leaves the file as it is, for a fault that lies elsewhere."""


@dataclass(frozen=True)
class Fault:
    """One fault. `name` says what is wrong.

    `plant` puts it into a copy of an artifact, or raises NotThereError; `decode` is what turns outputs into faces;
    `file_of` names the precision whose file lies in the artifact's place. With `at_other_size` it shows at the batch
    of another size only, and is planted in what converts to that size too.
    """

    name: str
    plant: Plant = nothing
    decode: Decode = detect
    file_of: str = ""
    at_other_size: bool = False


def leave_channels_unreversed(copy: Editable, _model: ModelSpec) -> None:
    first = copy.convolutions[0]
    copy.set_mean(copy.mean()[::-1])
    copy.set_weight(first, copy.weight(first)[:, ::-1])


def reverse_mean(copy: Editable, _model: ModelSpec) -> None:
    copy.set_mean(copy.mean()[::-1])


def remove_mean(copy: Editable, _model: ModelSpec) -> None:
    copy.set_mean(np.zeros_like(copy.mean()))


def double_mean(copy: Editable, _model: ModelSpec) -> None:
    copy.set_mean(2 * copy.mean())


def declare_other_channel_order(copy: Editable, _model: ModelSpec) -> None:
    copy.declare(COLOR_ORDER, other_color(copy.declared(COLOR_ORDER)))


def declare_other_mean(copy: Editable, model: ModelSpec) -> None:
    """A mean that was subtracted inside is declared as still to be subtracted, or the other way round."""
    copy.declare(MEAN_VALUES, other_mean(copy.declared(MEAN_VALUES), model))


def declare_other_weights(copy: Editable, _model: ModelSpec) -> None:
    copy.declare(WEIGHTS, UNKNOWN_WEIGHTS if copy.declared(WEIGHTS) == DEMO else DEMO)


def swap_two_outputs(copy: Editable, model: ModelSpec) -> None:
    """The scores of the last two strides have the same number of channels, and only sizes tell them apart."""
    *_, one, other = (head.scores for head in model.task.heads)
    order = copy.outputs
    if one not in order or other not in order:
        raise NotThereError("the heads are not outputs of the file")
    copy.rename_outputs({one: other, other: one})
    copy.reorder_outputs(order)


def reverse_output_order(copy: Editable, _model: ModelSpec) -> None:
    copy.reorder_outputs(copy.outputs[::-1])


def rename_output(copy: Editable, _model: ModelSpec) -> None:
    name = copy.outputs[0]
    copy.rename_outputs({name: f"{name}:0"})


def flip_one_sign(copy: Editable, _model: ModelSpec) -> None:
    """One bit: the sign of the strongest weight of a large layer in the middle of the network."""
    name = _largest(copy)[0]
    weight = copy.weight(name)
    weight.flat[np.argmax(np.abs(weight))] *= -1
    copy.set_weight(name, weight)


def spoil_one_weight(copy: Editable, _model: ModelSpec) -> None:
    name = _largest(copy)[-1]
    weight = copy.weight(name)
    weight.flat[0] = np.nan
    copy.set_weight(name, weight)


def zero_one_bias(copy: Editable, model: ModelSpec) -> None:
    """The largest of those that deltas are made with. Behind a softmax, a score may be so sure that no bias shows."""
    biases: dict[str, Floats] = {}
    for head in model.task.heads:
        name = copy.convolution_behind(head.boxes)
        bias = copy.bias(name)
        if bias is not None:
            biases[name] = bias
    if not biases:
        raise NotThereError("the file stores no bias for the deltas")
    name = max(biases, key=lambda name: float(np.abs(biases[name]).max()))
    biases[name][np.argmax(np.abs(biases[name]))] = 0
    copy.set_bias(name, biases[name])


def exchange_two_layers(copy: Editable, _model: ModelSpec) -> None:
    """Two neighbours of the same shape have each other's weights."""
    one, other, *_ = _largest(copy)
    weight = copy.weight(one)
    copy.set_weight(one, copy.weight(other))
    copy.set_weight(other, weight)


def transpose_kernel(copy: Editable, _model: ModelSpec) -> None:
    name = _largest(copy)[0]
    copy.set_weight(name, copy.weight(name).swapaxes(2, 3))


def flip_deconvolution(copy: Editable, _model: ModelSpec) -> None:
    name = _deconvolution(copy)
    copy.set_weight(name, copy.weight(name)[..., ::-1, ::-1])


def shift_crop(copy: Editable, _model: ModelSpec) -> None:
    """What a deconvolution leaves out at its borders, and a crop behind it, move the same window."""
    copy.shift(_deconvolution(copy), 1)


def softmax_over_last_axis(copy: Editable, _model: ModelSpec) -> None:
    """The axis that frameworks take when they are told none."""
    copy.set_softmax_axis(3)


def round_pooling_up(copy: Editable, _model: ModelSpec) -> None:
    copy.round_pooling_up()


def exchange_anchors(copy: Editable, model: ModelSpec) -> None:
    """In one head the first anchor gets the deltas of the last."""
    head = model.task.heads[-1]
    _permute_channels(copy, head.boxes, lambda channels: np.roll(channels, 4))


def exchange_background_and_face(copy: Editable, model: ModelSpec) -> None:
    head = model.task.heads[-1]
    _permute_channels(copy, head.scores, lambda channels: np.roll(channels, len(head.sizes)))


def round_to_halves(copy: Editable, _model: ModelSpec) -> None:
    for name in copy.convolutions:
        weight = copy.weight(name)
        if weight.size >= SMALLEST_HALVED:
            copy.set_weight(name, weight.astype(np.float16).astype(np.float32))


def train_again(copy: Editable, _model: ModelSpec) -> None:
    """The same network a little later in its training: each large weight another one by a hundredth of itself."""
    random: Any = np.random.RandomState(OTHER_TRAINING_SEED)
    for name in copy.convolutions:
        weight = copy.weight(name)
        if weight.size >= SMALLEST_HALVED:
            noise = random.standard_normal(weight.shape).astype(np.float32)
            copy.set_weight(name, weight * (1 + np.float32(OTHER_TRAINING_SPREAD) * noise))


def spoil_scores(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(SCORES, Arithmetic.MULTIPLY, np.array([[np.nan]], np.float32))


def set_scores_to_one(copy: Editable, _model: ModelSpec) -> None:
    """Those of faces; what lies behind the last face stays zero."""
    copy.combine(SCORES, Arithmetic.MULTIPLY, np.array([[1e6]], np.float32))
    copy.combine(SCORES, Arithmetic.LESSER, np.array([[1]], np.float32))


def halve_scores(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(SCORES, Arithmetic.MULTIPLY, np.array([[0.5]], np.float32))


def exchange_two_boxes(copy: Editable, _model: ModelSpec) -> None:
    """The best face and the eighth, whose scores are far apart, have each other's."""
    _, rows, _ = copy.output_shape(BOXES)
    order, other = [*range(rows)], min(7, rows - 1)
    order[0], order[other] = other, 0
    copy.take(BOXES, order, 1)


def count_one_too_many(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(COUNT, Arithmetic.ADD, np.array([1], np.int32))


def count_one_too_few(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(COUNT, Arithmetic.ADD, np.array([-1], np.int32))


def count_in_floats(copy: Editable, _model: ModelSpec) -> None:
    copy.cast(COUNT, np.float32)


def count_in_64_bits(copy: Editable, _model: ModelSpec) -> None:
    copy.cast(COUNT, np.int64)


def leave_a_box_behind_the_last(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(BOXES, Arithmetic.ADD, _in_last_row(copy.output_shape(BOXES), 1))


def leave_a_score_behind_the_last(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(SCORES, Arithmetic.ADD, _in_last_row(copy.output_shape(SCORES), 0.01))


def spoil_a_box_behind_the_last(copy: Editable, _model: ModelSpec) -> None:
    copy.combine(BOXES, Arithmetic.ADD, _in_last_row(copy.output_shape(BOXES), np.nan))


def answer_for_first_image(copy: Editable, _model: ModelSpec) -> None:
    """All images of a batch get what was computed for the first."""
    _take_images(copy, lambda images: [0] * images)


def reverse_images(copy: Editable, _model: ModelSpec) -> None:
    _take_images(copy, lambda images: [*range(images)][::-1])


def repeat_image_before_last(copy: Editable, _model: ModelSpec) -> None:
    """The last image alone gets another one's answer."""
    _take_images(copy, lambda images: [*range(images - 1), images - 2])


def cut_off(copy: Editable, _model: ModelSpec) -> None:
    copy.cut_off()


def exchange_width_and_height(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    """Take deltas as (dx, dy, dh, dw), as the model card says."""

    def exchange(deltas: Floats) -> Floats:
        return deltas[:, :, [0, 1, 3, 2]]

    return detect(_with_deltas(outputs, rules, exchange), image_size, rules)


def move_corner(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    """Let (dx, dy) move the upper left corner, as the model card says: the centre moves by half of the growth too."""

    def move(deltas: Floats) -> Floats:
        growth = np.exp(deltas[:, :, 2:]) - 1
        return np.concatenate([deltas[:, :, :2] + 0.5 * growth, deltas[:, :, 2:]], axis=2)

    return detect(_with_deltas(outputs, rules, move), image_size, rules)


def take_background(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    exchanged = {head.scores: np.roll(outputs[head.scores], len(head.sizes), axis=1) for head in rules.heads}
    return detect({**outputs, **exchanged}, image_size, rules)


def take_first_image(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    found = detect(outputs, image_size, rules)
    return [found[0]] * len(found)


def clip_a_pixel_late(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    height, width = image_size
    return detect(outputs, (height + 1, width + 1), rules)


def clip_never(outputs: Tensors, _image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    """Boxes reach as far as they like to the right and down."""
    return detect(outputs, (1 << 20, 1 << 20), rules)


def shrink_anchors(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
    heads = tuple(head.model_copy(update={"base_size": head.base_size - 1}) for head in rules.heads)
    return detect(outputs, image_size, rules.model_copy(update={"heads": heads}))


def with_rules(**changed: float) -> Decode:
    """Decoding with other numbers than the model's."""

    def decode(outputs: Tensors, image_size: tuple[int, int], rules: AnchorDetection) -> list[Floats]:
        return detect(outputs, image_size, rules.model_copy(update=changed))

    return decode


FAULTS: Final = (
    Fault("channels not reversed", leave_channels_unreversed),
    Fault("means in the wrong order", reverse_mean),
    Fault("mean missing", remove_mean),
    Fault("mean applied twice", double_mean),
    Fault("declares the wrong channel order", declare_other_channel_order),
    Fault("declares the wrong mean", declare_other_mean),
    Fault("two outputs swapped", swap_two_outputs),
    Fault("output order changed", reverse_output_order),
    Fault("an output renamed", rename_output),
    Fault("one weight with the wrong sign", flip_one_sign),
    Fault("one weight not a number", spoil_one_weight),
    Fault("one bias zeroed", zero_one_bias),
    Fault("two layers exchanged", exchange_two_layers),
    Fault("kernel transposed", transpose_kernel),
    Fault("deconvolution kernel flipped", flip_deconvolution),
    Fault("crop offset by one", shift_crop),
    Fault("softmax on the wrong axis", softmax_over_last_axis),
    Fault("pooling rounds up", round_pooling_up, at_other_size=True),
    Fault("anchors exchanged", exchange_anchors),
    Fault("background and face exchanged", exchange_background_and_face),
    Fault("FP16 file in the FP32 place", file_of=Precision.FP16.value),
    Fault("FP16 weights in a file that says FP32", round_to_halves),
    Fault("another checkpoint's weights", train_again),
    Fault("declares another checkpoint", declare_other_weights),
    Fault("file cut off in the middle", cut_off),
    Fault("scores not a number", spoil_scores),
    Fault("scores all 1", set_scores_to_one),
    Fault("scores halved", halve_scores),
    Fault("two faces with each other's scores", exchange_two_boxes),
    Fault("count one too high", count_one_too_many),
    Fault("count one too low", count_one_too_few),
    Fault("count in floats", count_in_floats),
    Fault("count in 64 bits", count_in_64_bits),
    Fault("a box behind the last face", leave_a_box_behind_the_last),
    Fault("a score behind the last face", leave_a_score_behind_the_last),
    Fault("not a number behind the last face", spoil_a_box_behind_the_last),
    Fault("first image's answer for the whole batch", answer_for_first_image),
    Fault("batch reversed", reverse_images),
    Fault("last image of the batch gets another's answer", repeat_image_before_last),
    Fault("dw and dh exchanged", decode=exchange_width_and_height),
    Fault("dx and dy move the corner", decode=move_corner),
    Fault("anchors without the +1", decode=shrink_anchors),
    Fault("NMS at the wrong threshold", decode=with_rules(iou_threshold=0.5)),
    Fault("score threshold too high", decode=with_rules(score_threshold=0.5)),
    Fault("score threshold too low", decode=with_rules(score_threshold=0.02)),
    Fault("background score taken for face score", decode=take_background),
    Fault("boxes clipped to W instead of W - 1", decode=clip_a_pixel_late),
    Fault("boxes not clipped", decode=clip_never),
    Fault("first image's faces for the whole batch", decode=take_first_image, at_other_size=True),
)


def _take_images(copy: Editable, choose: Callable[[int], list[int]]) -> None:
    for output in copy.outputs:
        images, *_ = copy.output_shape(output)
        if images < 2:
            raise NotThereError("the file takes one image at a time")
        copy.take(output, choose(images), 0)


def _in_last_row(shape: tuple[int, ...], value: float) -> Floats:
    """Zeros [1, K, …], but for the last row: so many faces there hardly ever are."""
    values = np.zeros((1, *shape[1:]), np.float32)
    values[:, -1] = value
    return values


def _largest(copy: Editable) -> list[str]:
    """The convolutions with the most weights, in the order of computation."""
    sizes = {name: copy.weight(name).size for name in copy.convolutions}
    return [name for name, size in sizes.items() if size == max(sizes.values())]


def _deconvolution(copy: Editable) -> str:
    if not copy.deconvolutions:
        raise NotThereError("there is no deconvolution in the file")
    return copy.deconvolutions[0]


def _permute_channels(copy: Editable, output: str, permute: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    """Put the channels of an output into another order."""
    name = copy.convolution_behind(output)
    weight, bias = copy.weight(name), copy.bias(name)
    order = permute(np.arange(len(weight)))
    copy.set_weight(name, weight[order])
    if bias is not None:
        copy.set_bias(name, bias[order])


def _with_deltas(outputs: Tensors, rules: AnchorDetection, change: Callable[[Floats], Floats]) -> Tensors:
    """The outputs, `change` applied to all deltas, which it gets as [N, A, 4, H, W]."""
    changed = {}
    for head in rules.heads:
        deltas = outputs[head.boxes]
        batch, channels, height, width = deltas.shape
        anchors = deltas.reshape(batch, channels // 4, 4, height, width)
        changed[head.boxes] = change(anchors).reshape(deltas.shape)
    return {**outputs, **changed}
