"""A file's post-processing, tried on made-up heads: healthy files pass, and each planted fault is caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.tasks.detection import detection_task
from sshtool.demo.network import write_demo
from sshtool.parity.postprocessing import check_postprocessing
from sshtool.parity.reference import Answer, Reference
from sshtool.parity.samples import Sample
from sshtool.runtimes.loading import load

pytestmark = pytest.mark.independent

SSH: Final = "ssh-mxnet"
MASKS: Final = "retinaface-anti-cov"  # with landmarks and an attribute
YOLO: Final = "mobilefacedet-v1-mxnet"
SIZE: Final = (128, 160)
OTHER: Final = (96, 96)
CHECK: Final = "post-processing"


class Shapes(Reference):
    """Answers of zeros, which have the shapes of the heads."""

    def __init__(self, model: ModelSpec) -> None:
        self.source, self.weights, self._task = "shapes", "", detection_task("", model.task)

    def answers(self, *size: int) -> Sequence[Answer]:
        return [self._at(size)]

    def other_size(self) -> Answer | None:
        return self._at(OTHER)

    def _at(self, size: tuple[int, ...]) -> Answer:
        sample = Sample("zeros", "", np.zeros((1, *size, 3), np.uint8))
        return Answer(sample, head_shapes(self._task, size))


def head_shapes(task: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """Zeros of the shapes of a task's heads."""
    shapes = {}
    for head in task.heads:
        of_head = head.tensors if hasattr(head, "sizes") else ((head.output, 6),)
        anchors = len(head.sizes if hasattr(head, "sizes") else head.anchors)
        for name, channels in of_head:
            shapes[name] = np.zeros((1, channels * anchors, *(-(-side // head.stride) for side in size)), np.float32)
    return shapes


@dataclass(frozen=True, eq=False)
class Demo:
    """A model, and where its demo checkpoint and its files lie."""

    model: ModelSpec
    folder: Path

    @cached_property
    def checkpoint(self) -> Any:
        write_demo(self.folder, self.model)
        return open_checkpoint(self.folder, self.model)

    @cache  # noqa: B019  # as long as the module's tests
    def made(self, **options: Any) -> dict[str, Path]:
        """Convert with post-processing, and return the files by their suffixes."""
        options = {"input_shape": (1, 3, *SIZE), "postprocessing": Postprocessing(), **options}
        number = len(list(self.folder.iterdir()))
        folder = self.folder / f"made{number}"
        return {item.path.suffix: item.path for item in convert(self.checkpoint, folder, Options(**options))}


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Demo]:
    @cache
    def demo(name: str) -> Demo:
        return Demo(load_model(name), tmp_path_factory.mktemp(name))

    return demo


def found_in(path: Path, model: ModelSpec) -> list[str]:
    return [item.message for item in check_postprocessing(load(path, model), model, Shapes(model))]


FORMS: Final[dict[str, dict[str, Any]]] = {
    "fixed": {},
    "fp16": {"precisions": (Precision.FP16,)},
    "batch of 4, u8, NHWC, heads kept": {
        "input_shape": (4, 3, *SIZE),
        "layout": Layout.NHWC,
        "input_type": InputType.UINT8,
        "postprocessing": Postprocessing(keep_heads=True),
    },
    "few detections": {"postprocessing": Postprocessing(top_k=7)},
    "other thresholds": {"postprocessing": Postprocessing(score_threshold=0.62, iou_threshold=0.55)},
    "any number": {"dynamic": Dynamic.BATCH},
    "any size": {"dynamic": Dynamic.ALL},
}
SHORT: Final = {(SSH, "fixed"), (MASKS, "any size"), (YOLO, "batch of 4, u8, NHWC, heads kept")}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, marks=() if (name, form) in SHORT else pytest.mark.long)
        for name in (SSH, MASKS, YOLO)
        for form in FORMS
        # The loader refuses such a file: it keeps all candidates, of which a large image has too many.
        if (name, form) != (YOLO, "any size")
    ],
)
def test_a_healthy_file_gives_what_the_decoding_in_float64_gives(
    name: str, form: str, demos: Callable[[str], Demo]
) -> None:
    demo = demos(name)
    for path in demo.made(**FORMS[form]).values():
        assert found_in(path, demo.model) == []
