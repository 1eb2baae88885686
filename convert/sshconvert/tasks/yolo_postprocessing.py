"""ONNX nodes that decode a head of YOLOv3 in the network, by the rules of `sshconvert.tasks.yolo_heads`."""

from __future__ import annotations

from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel
from sshconvert.tasks.postprocessing import Candidates, grid
from sshconvert.tasks.yolo_heads import BOX, CLASSES, YoloHead


def decode_head(build: Builder, model: OnnxModel, head: YoloHead) -> Candidates:
    """Emit all candidates of one head with one class, without clipping.

    Intermediate tensors are [N, H, W, A, …], in the order of `YoloHead.scores_of`.
    """
    at, anchors = f"stride{head.stride}", len(head.anchors)
    *_, height, width = model.outputs[head.output]
    values = build.node(f"{at}_nhwc", "Transpose", [head.output], perm=(0, 2, 3, 1))
    shape = build.integers(f"{at}_by_anchor", (0, 0, 0, anchors, CLASSES + 1))
    values = build.node(f"{at}_values", "Reshape", [values, shape])
    parts = build.integers(f"{at}_parts", (2, 2, 1, 1))
    move, grow, objectness, one_class = build.split(f"{at}_move", "Split", [values, parts], 4, axis=4)
    shares = [
        build.node(f"{at}_share_of_{name}", "Sigmoid", [part])
        for name, part in (("objectness", objectness), ("class", one_class))
    ]
    scores = build.node(f"{at}_products", "Mul", shares)
    scores = build.node(f"{at}_scores", "Reshape", [scores, build.integers(f"{at}_row", (0, -1))])
    stride = build.floats(f"{at}_stride", head.stride)
    inner = build.node(f"{at}_inner", "Mul", [build.node(f"{at}_share_of_place", "Sigmoid", [move]), stride])
    centres = build.node(f"{at}_centres", "Add", [inner, grid(build, head.output, head.stride, 0)])
    halves = build.floats(f"{at}_halves", [(width / 2, height / 2) for width, height in head.anchors])
    reach = build.node(f"{at}_reach", "Mul", [build.node(f"{at}_exp", "Exp", [grow]), halves])
    corners = [build.node(f"{at}_{name}", name, [centres, reach]) for name in ("Sub", "Add")]
    boxes = build.node(f"{at}_corners", "Concat", corners, axis=4)
    boxes = build.node(f"{at}_boxes", "Reshape", [boxes, build.integers(f"{at}_rows", (0, -1, BOX))])
    count = height * width * anchors if isinstance(height, int) and isinstance(width, int) else None
    return Candidates(boxes, scores, count)
