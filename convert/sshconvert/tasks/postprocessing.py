"""ONNX nodes that turn candidates into detections in the network, and those that decode heads with anchors.

The rules are those of `sshconvert.tasks.detection` and `sshconvert.tasks.anchor_detection`. `sshconvert.tasks.inside`
describes the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from sshconvert.errors import UsageError
from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel
from sshconvert.onnx.ranking import best_places, gather_rows, row_count, selected_ranks
from sshconvert.tasks.anchors import PLAIN, AnchorHead
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.inside import ATTRIBUTES, BOXES, COUNT, LANDMARKS, NODES, SCORES

_CORNERS: Final = 4
_CHANNELS: Final = 3

# More than a tensor can have candidates. tract wants the limit of a suppression as a constant.
_ANY_NUMBER: Final = 2**31 - 1


def append_postprocessing(
    model: OnnxModel,
    task: DetectionTask,
    decode: Callable[[Builder, str], Sequence[Candidates]],
    *,
    input_name: str,
    top_k: int,
    keep_heads: bool = False,
) -> OnnxModel:
    """Append decoding and suppression in standard operators, with the thresholds of `task`.

    The input is [N, 3, H, W] or [N, H, W, 3]. `decode` emits the candidates of each head, clipped to the tensor whose
    name it takes unless the task clips last. `top_k` limits the detections of an image. With `keep_heads`, the tensors
    of the heads stay outputs. Raises UsageError for conflicting names of tensors.
    """
    if conflicts := sorted({*task.inside_outputs} & {*model.names}):
        raise UsageError(f"--postprocess: the network already has tensors named {', '.join(conflicts)}; omit it")
    build = Builder({*model.names, *task.inside_outputs}, NODES)
    limits = _limits(build, model, input_name, task.last_pixel)
    joined = _join(build, decode(build, limits))
    size = _choose(build, _suppress(build, joined, task), joined, top_k, limits if task.clips_last else "")
    batch = next(iter(model.outputs.values()))[0]
    return replace(
        build.extend(model),
        outputs={**task.columns.shapes(batch, size), **(model.outputs if keep_heads else {})},
        types={**model.types, COUNT: np.int32},
    )


@dataclass(frozen=True)
class Candidates:
    """The names of tensors with all candidates of each image, and their number S if the input size is fixed.

    Boxes are [N, S, 4], scores [N, S], landmarks [N, S, P, 2] and attributes [N, S, A]; "" without them.
    """

    boxes: str
    scores: str
    count: int | None
    landmarks: str = ""
    attributes: str = ""

    @property
    def columns(self) -> dict[str, str]:
        """The name of each tensor, by its field."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "count"}
        return {name: tensor for name, tensor in named.items() if tensor}


def _join(build: Builder, parts: Sequence[Candidates]) -> Candidates:
    names = list(parts[0].columns)
    columns = {
        name: build.node(f"all_{name}", "Concat", [part.columns[name] for part in parts], axis=1) for name in names
    }
    counts = [part.count for part in parts]
    total = sum(counts) if None not in counts else None  # type: ignore[arg-type]  # without None
    return Candidates(**columns, count=total)


def _limits(build: Builder, model: OnnxModel, input_name: str, last_pixel: int) -> str:
    """Emit the largest coordinates of boxes in the input, as x, y, x, y."""
    dimensions = model.inputs[input_name]
    last = dimensions[3] == _CHANNELS and dimensions[1] != _CHANNELS  # [N, H, W, 3]
    shape = build.node("input_shape", "Shape", [input_name])
    sizes = build.node("sizes", "Gather", [shape, build.integers("corners", [2, 1, 2, 1] if last else [3, 2, 3, 2])])
    as_float = build.cast("sizes_float", sizes)
    return build.node("limits", "Sub", [as_float, build.floats("one", last_pixel)]) if last_pixel else as_float


def decode_head(build: Builder, model: OnnxModel, head: AnchorHead, most: int | None, limits: str) -> Candidates:
    """Emit the best candidates of one head, by the arithmetic of `anchors.apply_deltas` and `Detections.clipped`.

    Intermediate tensors are [N, H, W, A, …], in the order of `AnchorHead.anchors`.
    """
    at, anchors = f"stride{head.stride}", len(head.sizes)
    *_, height, width = model.outputs[head.scores]
    scores = build.node(f"{at}_scores_nhwc", "Transpose", [head.scores], perm=(0, 2, 3, 1))
    axis = build.integers(f"{at}_channels", [3])
    face = [build.integers(f"{at}_{role}", [value]) for role, value in (("face", anchors), ("end", 2 * anchors))]
    scores = build.node(f"{at}_face_scores", "Slice", [scores, *face, axis])
    scores = build.node(f"{at}_scores", "Reshape", [scores, build.integers(f"{at}_row", (0, -1))])
    deltas = build.node(f"{at}_deltas_nhwc", "Transpose", [head.boxes], perm=(0, 2, 3, 1))
    shape = build.integers(f"{at}_by_anchor", (0, 0, 0, anchors, _CORNERS))
    deltas = build.node(f"{at}_deltas", "Reshape", [deltas, shape])
    halves = build.integers(f"{at}_halves", (2, 2))
    move, grow = build.split(f"{at}_move", "Split", [deltas, halves], 2, axis=4)
    sizes = build.floats(
        f"{at}_sizes",
        head.sizes if any(width != height for width, height in head.sizes) else [size[:1] for size in head.sizes],
    )
    if head.box_std != PLAIN:
        move = build.node(f"{at}_move_scaled", "Mul", [move, build.floats(f"{at}_move_std", head.box_std[:2])])
        grow = build.node(f"{at}_grow_scaled", "Mul", [grow, build.floats(f"{at}_grow_std", head.box_std[2:])])
    centres = build.node(f"{at}_moved", "Mul", [move, sizes])
    places = grid(build, head.scores, head.stride, head.centre)
    centres = build.node(f"{at}_centres", "Add", [centres, places])
    reach = build.node(f"{at}_grown", "Mul", [build.node(f"{at}_exp", "Exp", [grow]), sizes])
    reach = build.node(f"{at}_inner", "Sub", [reach, build.floats(f"{at}_one", 1)])
    reach = build.node(f"{at}_reach", "Mul", [reach, build.floats(f"{at}_half", 0.5)])
    corners = [build.node(f"{at}_{name}", name, [centres, reach]) for name in ("Sub", "Add")]
    boxes = build.node(f"{at}_corners", "Concat", corners, axis=4)
    boxes = build.node(f"{at}_not_below", "Max", [boxes, build.floats(f"{at}_zero", 0)])
    boxes = build.node(f"{at}_clipped", "Min", [boxes, limits])
    boxes = build.node(f"{at}_boxes", "Reshape", [boxes, build.integers(f"{at}_rows", (0, -1, _CORNERS))])
    count = height * width * anchors if isinstance(height, int) and isinstance(width, int) else None
    landmarks, attributes = _landmarks(build, head, places), _attributes(build, head)
    return _best(build, Candidates(boxes, scores, count, landmarks, attributes), most, f"{at}_best")


def _landmarks(build: Builder, head: AnchorHead, centres: str) -> str:
    """Emit the landmarks, by the arithmetic of `anchors.move_points`: [N, S, P, 2]. Returns "" without landmarks."""
    if head.landmarks is None:
        return ""
    at, anchors = f"stride{head.stride}_landmark", len(head.sizes)
    deltas = build.node(f"{at}_deltas_nhwc", "Transpose", [head.landmarks], perm=(0, 2, 3, 1))
    shape = build.integers(f"{at}_by_anchor", (0, 0, 0, anchors, 2 * head.points))
    deltas = build.node(f"{at}_deltas", "Reshape", [deltas, shape])
    if head.landmark_std != 1:
        deltas = build.node(f"{at}_scaled", "Mul", [deltas, build.floats(f"{at}_std", head.landmark_std)])
    # Sizes and places repeat for each point, so that the arithmetic needs no sixth dimension.
    places = build.node(f"{at}_places", "Tile", [centres, build.integers(f"{at}_points", (1, 1, 1, head.points))])
    sizes = build.floats(f"{at}_sizes", [[*size] * head.points for size in head.sizes])
    points = build.node(f"{at}_moved", "Add", [build.node(f"{at}_reach", "Mul", [deltas, sizes]), places])
    return build.node(f"{at}s", "Reshape", [points, build.integers(f"{at}_rows", (0, -1, head.points, 2))])


def _attributes(build: Builder, head: AnchorHead) -> str:
    """Emit the attributes: [N, S, A]. Returns "" without attributes."""
    if head.attributes is None:
        return ""
    at, anchors = f"stride{head.stride}_attribute", len(head.sizes)
    blocks = build.node(f"{at}_nhwc", "Transpose", [head.attributes.tensor], perm=(0, 2, 3, 1))
    channels = [block * anchors + anchor for anchor in range(anchors) for block in head.attributes.numbers]
    chosen = build.node(f"{at}_chosen", "Gather", [blocks, build.integers(f"{at}_channels", channels)], axis=3)
    rows = build.integers(f"{at}_rows", (0, -1, len(head.attributes.numbers)))
    return build.node(f"{at}s", "Reshape", [chosen, rows])


def grid(build: Builder, tensor: str, stride: int, first: float) -> str:
    """Emit `first` plus `stride` times the column and row of each cell of a tensor: float32 [H, W, 1, 2], x and y."""
    at = f"stride{stride}"
    shape = build.node(f"{at}_shape", "Shape", [tensor])
    ones = build.integers(f"{at}_ones", (1, 1))
    cells = build.node(f"{at}_cells", "Gather", [shape, build.integers(f"{at}_spatial", (2, 3))])
    target = build.node(f"{at}_target", "Concat", [cells, ones], axis=0)
    planes = []
    for name, axis, around in (("columns", 3, (1, -1, 1, 1)), ("rows", 2, (-1, 1, 1, 1))):
        size = build.node(f"{at}_{name}_number", "Gather", [shape, build.integers(f"{at}_{name}_axis", axis)])
        bounds = [build.integers(f"{at}_{name}_{role}", value) for role, value in (("first", 0), ("step", 1))]
        numbers = build.node(f"{at}_{name}", "Range", [bounds[0], size, bounds[1]])
        places = build.cast(f"{at}_{name}_float", numbers)
        places = build.node(f"{at}_{name}_scaled", "Mul", [places, build.floats(f"{at}_{name}_stride", stride)])
        places = build.node(f"{at}_{name}_centres", "Add", [places, build.floats(f"{at}_{name}_offset", first)])
        shaped = build.node(f"{at}_{name}_line", "Reshape", [places, build.integers(f"{at}_{name}_shape", around)])
        planes.append(build.node(f"{at}_{name}_plane", "Expand", [shaped, target]))
    return build.node(f"{at}_grid", "Concat", planes, axis=3)


def _best(build: Builder, candidates: Candidates, most: int | None, role: str) -> Candidates:
    """Emit the `most` best candidates of each image in their order. The first of equal scores win."""
    if most is None:
        return candidates
    count = row_count(build, candidates.scores, role)
    number = build.node(f"{role}_number", "Min", [count, build.integers(f"{role}_most", [most])])
    places = best_places(build, candidates.scores, count, number, role)
    columns = {
        name: gather_rows(build, values, places, f"{role}_{name}") for name, values in candidates.columns.items()
    }
    return Candidates(**columns, count=None if candidates.count is None else min(candidates.count, most))


def _suppress(build: Builder, faces: Candidates, task: DetectionTask) -> str:
    """Emit a rank for each candidate: float32 [N, S], the largest for the best detection, 0 for a suppressed candidate.

    NonMaxSuppression suppresses overlaps above its threshold. If the task also suppresses those equal to it, the
    threshold is the next smaller float. The operator selects the highest scores first, and the first of equal scores.
    """
    threshold = np.float32(task.iou_threshold)
    if task.suppresses_equal:
        threshold = np.nextafter(threshold, np.float32(0))
    good = build.node("good", "GreaterOrEqual", [faces.scores, build.floats("score_threshold", task.score_threshold)])
    nothing = build.floats("nothing", 0)
    scores = build.node("good_scores", "Where", [good, faces.scores, nothing])
    boxes = faces.boxes
    if task.last_pixel:
        boxes = build.node("with_last_pixel", "Add", [boxes, build.floats("last_pixel", [0, 0, 1, 1])])
    selected = build.node(
        "selected",
        "NonMaxSuppression",
        [
            boxes,
            build.node("one_class", "Unsqueeze", [scores, build.integers("class_axis", [1])]),
            build.integers("most_selected", [_ANY_NUMBER]),
            build.floats("iou_threshold", [threshold]),
            build.floats("no_score", [0]),
        ],
    )
    places, falling = selected_ranks(build, selected)
    return build.node("ranked", "ScatterND", [build.node("unranked", "Mul", [scores, nothing]), places, falling])


def _choose(build: Builder, ranked: str, faces: Candidates, top_k: int, limits: str) -> int | str:
    """Emit the outputs, with boxes clipped to `limits` unless it is "". Returns K, or "" if it depends on the run."""
    number = build.node(
        "top_number", "Min", [row_count(build, faces.scores, "top"), build.integers("top_most", [top_k])]
    )
    order, places = build.split("chosen", "TopK", [ranked, number], 2, axis=1)
    present = build.node("there", "Greater", [order, build.floats("no_rank", 0)])
    present_float = build.cast("there_float", present)
    columns = {name: gather_rows(build, values, places, f"chosen_{name}") for name, values in faces.columns.items()}
    if limits:
        not_below = build.node("not_below", "Max", [columns["boxes"], build.floats("zero", 0)])
        columns["boxes"] = build.node("clipped", "Min", [not_below, limits])
    mask = build.node("there_box", "Unsqueeze", [present_float, build.integers("box_axis", [2])])
    build.output(BOXES, "Mul", [columns["boxes"], mask])
    build.output(SCORES, "Mul", [columns["scores"], present_float])
    present_integer = build.cast("there_integer", present, np.int32)
    build.output(COUNT, "ReduceSum", [present_integer, build.integers("faces_axis", [1])], keepdims=0)
    if faces.landmarks:
        point = build.node("there_point", "Unsqueeze", [mask, build.integers("point_axis", [3])])
        build.output(LANDMARKS, "Mul", [columns["landmarks"], point])
    if faces.attributes:
        build.output(ATTRIBUTES, "Mul", [columns["attributes"], mask])
    return "" if faces.count is None else min(top_k, faces.count)
