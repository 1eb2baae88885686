"""Embeddings: unit vectors, their comparison, and the faults that it catches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sshconvert.errors import DetectionError
from sshconvert.tasks.base import Task
from sshconvert.tasks.faults import Stage
from sshconvert.tasks.registry import parse_task
from sshconvert.tasks.results import Vectors
from sshconvert.tasks.tolerances import PROFILES, Tolerance

pytestmark = pytest.mark.independent

FP32 = PROFILES["FP32"]


def embedding(**fields: Any) -> Task:
    return parse_task({"kind": "embedding", "output": "fc1", **fields})


def random_outputs(images: int = 3, size: int = 128) -> dict[str, Any]:
    return {"fc1": 3 * np.random.default_rng(0).standard_normal((images, size)).astype(np.float32)}


def problems(task: Task, expected: list[Vectors], found: list[Vectors]) -> list[str]:
    compared = task.compare(expected, found, FP32, lambda _: Tolerance(1e-5, 1e-5))
    return [item.message for item in task.judge([("sample", image) for image in compared], FP32)]


def test_a_vector_is_divided_by_its_length() -> None:
    (found,) = embedding().decode({"fc1": np.array([[3.0, 0, -4]], np.float32)}, ())
    assert found.values.tolist() == [0.6, 0, -0.8]
    assert found.length == 5
    assert found.cosine(Vectors.of(np.array([0.0, 0, 2]))) == -0.8
    assert found.distance(found) == 0


def test_a_vector_of_zeros_has_no_direction() -> None:
    (found,) = embedding().decode({"fc1": np.zeros((1, 4), np.float32)}, ())
    assert found.values.tolist() == [0, 0, 0, 0]
    assert found.cosine(Vectors.of(np.ones(4))) == 0


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param({"fc2": np.ones((1, 4))}, "fc1 is missing", id="another output"),
        pytest.param({"fc1": np.ones(4)}, r"shape \(4,\), expected \[N, D\]", id="without a batch"),
        pytest.param({"fc1": np.ones((1, 4, 2, 1))}, r"expected \[N, D\]", id="a map of features"),
        pytest.param({"fc1": np.array([[1, np.nan]])}, "not finite", id="not a number"),
    ],
)
def test_other_outputs_are_refused(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        embedding().decode(outputs, ())


def test_a_network_that_normalises_gives_vectors_of_length_one() -> None:
    unit = np.array([[0.6, 0.8]], np.float32)
    assert embedding(normalized=True).decode({"fc1": unit}, ())[0].length == pytest.approx(1)
    with pytest.raises(DetectionError, match="length 2, expected 1"):
        embedding(normalized=True).decode({"fc1": 2 * unit}, ())


def test_the_same_vectors_agree_whatever_their_length() -> None:
    task, outputs = embedding(), random_outputs()
    expected = task.decode(outputs, ())
    assert problems(task, expected, task.decode({"fc1": 7 * outputs["fc1"]}, ())) == []
    turned = task.decode({"fc1": outputs["fc1"] + np.float32(0.02)}, ())
    assert len(problems(task, expected, turned)) == 3


@pytest.mark.parametrize("fault", [item for item in embedding().faults() if item.decode], ids=lambda item: item.name)
def test_a_fault_of_the_decoding_is_caught(fault: Any) -> None:
    task, outputs = embedding(), random_outputs()
    assert fault.stage is Stage.DECODING
    found = fault.decode(task, outputs, ())
    assert len(problems(task, task.decode(outputs, ()), found)) == len(found)


def test_quality_is_the_mean_cosine_to_the_float_vectors() -> None:
    task = embedding()
    truths = task.truths(task.decode({"fc1": np.array([[1.0, 0], [0, 1], [1, 0]])}, ()))
    results = task.decode({"fc1": np.array([[2.0, 0], [1, 1], [-1, 0]])}, ())
    assert task.quality(truths, truths) == 1
    assert task.quality(results, truths) == pytest.approx((1 + 0.5**0.5 + 0) / 3)


def test_an_embedding_of_another_size_is_a_problem() -> None:
    task, outputs = embedding(), random_outputs()
    short = [replace(one, values=one.values[:-1]) for one in task.decode(outputs, ())]
    compared = task.compare(task.decode(outputs, ()), short, FP32, lambda _: Tolerance(0, 0))
    assert {image.problem for image in compared} == {"the embedding has 127 numbers, expected 128"}
    assert task.figures(compared) == {"embeddings": "not comparable"}
