"""What a model card says about heads with anchors: their tensors, their rules, and a program that decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sshconvert.tasks.anchors import PLAIN, AnchorHead

_USAGE: Final = """\
found = []  # x1, y1, x2, y2, score{meanings}
for {tensors}, stride, scales in zip({slices}, {strides}, {scales}):
    for number, size in enumerate({base} * np.array(scales)):
        dx, dy, dw, dh = deltas[0, 4 * number : 4 * number + 4]{deviations}
        y, x = np.indices(dx.shape) * stride + {centre}
{steps}        x, y, w, h = x + dx * size, y + dy * size, np.exp(dw) * size - 1, np.exp(dh) * size - 1
        {noun} = scores[0, len(scales) + number]
        found.append(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2, {noun}{columns}], 2)[{noun} >= 0.5])
found = np.concatenate(found)
{noun}s = []
for box in found[np.argsort(-found[:, 4])]:
    better = np.array([box, *{noun}s])
    sizes = np.minimum(better[:, 2:4], box[2:4]) - np.maximum(better[:, :2], box[:2]) + 1
    common = np.prod(np.maximum(sizes, 0), 1)  # with itself first, so its own area
    areas = np.prod(better[:, 2:4] - better[:, :2] + 1, 1)
    if (common[1:] < {overlap} * (areas[0] + areas[1:] - common[1:])).all():
        {noun}s.append(box)
print(np.array({noun}s))"""


def meaning(heads: Sequence[AnchorHead], output: str, noun: str) -> str:
    """Return the meaning of an output, "" if it belongs to no head."""
    for head in heads:
        count, blocks = len(head.sizes), head.attributes.blocks if head.attributes else ()
        texts = {
            head.scores: f"{count} channels of background, then {count} of {noun}, one an anchor",
            head.boxes: "(dx, dy, dw, dh) of each anchor",
            head.landmarks: f"(dx, dy) of {head.points} landmarks of each anchor",
            head.attributes and head.attributes.tensor: f"blocks of {count} channels, one an anchor: "
            + ", ".join(name or "unused" for name in blocks),
        }
        if output in texts:
            return f": stride {head.stride}; {texts[output]}"
    return ""


def describe(heads: Sequence[AnchorHead], noun: str, score: float, overlap: float) -> str:
    """Return the paragraph about the rules, with the least score and the overlap that suppresses."""
    first = heads[0]
    if not has_plain_anchors(heads):
        sizes = "; ".join(
            f"{' and '.join(f'{width:g} x {height:g}' for width, height in head.sizes)} (stride {head.stride})"
            for head in heads
        )
        anchors = f"The anchors of a cell, width x height in pixels: {sizes}. Deltas are (dx, dy, dw, dh) for each."
        return f"{anchors}{_describe_columns(first)}"
    sizes = ",".join(f"{' and '.join(map(str, head.scales))} (stride {head.stride})" for head in heads)
    return (
        f"The anchors of a cell are squares of {first.base_size} times {sizes} pixels, centred {first.centre} "
        "pixels right of and below the cell's corner. Deltas are (dx, dy, dw, dh) for each: the centre moves by\n"
        f"d times the size, and the size is multiplied by exp(d). {noun.capitalize()}s of a score below "
        f"{score} are dropped, and so is a {noun}\n"
        f"that overlaps a better one by {overlap} (intersection over union, corner pixels included)."
        f"{_describe_columns(first)}"
    )


def _describe_columns(head: AnchorHead) -> str:
    text = ""
    if head.box_std != PLAIN:
        text += f" Each d is multiplied by its standard deviation before: {', '.join(map(_number, head.box_std))}."
    if head.landmarks:
        text += (
            f"\nEach of the {head.points} landmarks is the anchor's centre, moved by (dx, dy) times its size"
            f"{_times(head.landmark_std, ' times ')}."
        )
    if head.attributes:
        text += f"\nThe attributes of each anchor, from 0 to 1: {', '.join(head.attribute_names)}."
    return text


def has_plain_anchors(heads: Sequence[AnchorHead]) -> bool:
    """Return whether `program` applies: square anchors of one base size, and the same deviations in all heads."""
    first = heads[0]
    forms = {(head.base_size, head.ratios, head.box_std, head.landmark_std) for head in heads}
    return forms == {(first.base_size, (1.0,), first.box_std, first.landmark_std)}


def program(heads: Sequence[AnchorHead], noun: str, overlap: float) -> str:
    """Return Python lines that decode `outputs`, a list of arrays, with NumPy: boxes, scores, landmarks, attributes."""
    first = heads[0]
    tensors, meanings, steps, columns = ["scores", "deltas"], "", "", ""
    if first.landmarks:
        count = 2 * first.points
        tensors.append("points")
        meanings += ", x and y of each landmark"
        steps += f"        moves = points[0, {count} * number : {count} * number + {count}]"
        steps += f"{_times(first.landmark_std, ' * ')}\n"
        steps += f"        landmarks = moves * size + np.stack([x, y] * {first.points})\n"
        columns += ", *landmarks"
    if first.attributes:
        tensors.append("blocks")
        meanings += f", {', '.join(first.attribute_names)}"
        columns += "".join(f", blocks[0, {block} * len(scales) + number]" for block in first.attributes.numbers)
    deviations = (
        "" if first.box_std == PLAIN else f" * np.reshape([{', '.join(map(_number, first.box_std))}], (4, 1, 1))"
    )
    return _USAGE.format(
        tensors=", ".join(tensors),
        slices=", ".join(f"outputs[{number}::{len(tensors)}]" for number in range(len(tensors))),
        meanings=meanings,
        deviations="" if first.box_std == PLAIN else f" * np.reshape([{deviations}], (4, 1, 1))",
        steps=steps,
        columns=columns,
        strides=tuple(head.stride for head in heads),
        scales=tuple(head.scales for head in heads),
        base=first.base_size,
        centre=first.centre,
        overlap=overlap,
        noun=noun,
    )


def _number(value: float) -> str:
    return f"{value:g}"


def _times(deviation: float, sign: str) -> str:
    return "" if deviation == 1 else f"{sign}{deviation:g}"
