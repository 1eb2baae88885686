"""Tasks by their kind, and the task that leaves outputs as they are."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from command_line import sshtool
from sshconvert.errors import DetectionError, ModelError, UsageError
from sshconvert.models.registry import parse_model
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.registry import TASKS

MODEL: Final = """
name = "two"
inputs = [{ name = "data", shape = [1, 3, 8, 8], image = {} }]
task = { kind = "tensors", names = ["a", "b"] }
"""


def test_the_kind_of_a_model_chooses_its_task() -> None:
    model = parse_model(MODEL.encode(), source="two.toml")
    assert isinstance(model.task, TASKS["tensors"])
    assert model.output_names == ("a", "b")
    assert parse_model(MODEL.encode(), source="two.toml").model_dump() == model.model_dump()
    assert model.model_dump()["task"]["names"] == ("a", "b")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ('{ kind = "tensor", names = ["a"] }', "'tensor', expected one of anchor_detection, .*tensors"),
        ('{ kind = ["tensors"], names = ["a"] }', "expected one of"),
        ('{ names = ["a"] }', "expected one of"),
        ('{ kind = "tensors", names = [] }', r"\.names"),
        ('{ kind = "tensors", names = ["a"], heads = [] }', r"\.heads"),
        ('"tensors"', "expected one of"),
    ],
)
def test_a_task_that_is_none_is_refused_with_its_place(task: str, message: str) -> None:
    text = MODEL.replace('{ kind = "tensors", names = ["a", "b"] }', task)
    with pytest.raises(ModelError, match=f"two.toml: task.*{message}"):
        parse_model(text.encode(), source="two.toml")


def test_tensors_are_split_by_image_and_nothing_is_detected_in_them() -> None:
    model = parse_model(MODEL.encode(), source="two.toml")
    outputs = {"a": np.arange(6).reshape(2, 3), "b": np.arange(2)}
    first, second = model.task.decode(outputs, (8, 8))
    assert (first["a"].tolist(), first["b"], second["b"]) == ([0, 1, 2], 0, 1)
    with pytest.raises(DetectionError, match="b are missing"):
        model.task.decode({"a": outputs["a"]}, (8, 8))
    with pytest.raises(UsageError, match="detects nothing; choose another --model"):
        detection_task(model.name, model.task)


@pytest.mark.parametrize("name", ["face-recognition-mobilefacenet-arcface", "octave-resnet-26-0.25"])
def test_detect_on_a_network_that_detects_nothing_names_the_verb_that_fits(name: str) -> None:
    line = sshtool("detect", "photo.png", "--model", name, "--quiet", code=2).stderr
    assert line.count("\n") == 1
    assert line.endswith("which detects nothing; use `sshtool predict`\n")
