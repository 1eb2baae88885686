"""Classification: probabilities, the best classes, ties, and the faults that the comparison catches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sshconvert.errors import DetectionError, ModelError
from sshconvert.models.registry import parse_model
from sshconvert.tasks.base import Task
from sshconvert.tasks.registry import parse_task
from sshconvert.tasks.results import Scores
from sshconvert.tasks.tolerances import PROFILES, Profile, Tolerance

pytestmark = pytest.mark.independent

FP32 = PROFILES["FP32"]


def classification(**fields: Any) -> Task:
    return parse_task({"kind": "classification", "output": "softmax", **fields})


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def random_logits(images: int = 4, classes: int = 20) -> Any:
    return 3 * np.random.default_rng(0).standard_normal((images, classes))


def compare(
    task: Task, expected: list[Scores], found: list[Scores], profile: Profile = FP32
) -> tuple[tuple[Any, ...], dict[str, str]]:
    tolerance = task.result_tolerance(profile.tensors, np.stack([item.raw for item in expected]))
    compared = task.compare(expected, found, profile, lambda _: tolerance)
    judged = task.judge([(f"image {number}", image) for number, image in enumerate(compared)], profile)
    return compared, {item.check: item.message for item in judged}


def test_logits_become_the_probabilities_of_a_softmax() -> None:
    logits = random_logits()
    from_logits = classification(probabilities=False).decode({"softmax": logits}, ())
    from_probabilities = classification().decode({"softmax": softmax(logits)}, ())
    for one, other in zip(from_logits, from_probabilities, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-12)
        assert one.best(5) == other.best(5)


def test_the_best_classes_come_first_and_equal_ones_in_their_order() -> None:
    scores = Scores.of(np.array([0.1, 0.4, 0.1, 0.4]), ("a", "b", "c", "d"), are_probabilities=True)
    assert scores.best(3) == [1, 3, 0]
    assert [scores.label(number) for number in scores.best(9)] == ["b", "d", "a", "c"]
    assert Scores.of(np.ones(2), (), are_probabilities=False).label(1) == "class 1"


@pytest.mark.parametrize(
    ("outputs", "fields", "message"),
    [
        pytest.param({}, {}, "softmax is missing", id="no output"),
        pytest.param({"softmax": np.ones((1, 3, 2))}, {}, r"expected \[N, D\]", id="another shape"),
        pytest.param({"softmax": np.array([[1.5, -0.5]])}, {}, "no probabilities", id="logits for probabilities"),
        pytest.param({"softmax": np.ones((1, 3))}, {"labels": ("a", "b")}, "3 classes, and .* 2 labels", id="labels"),
    ],
)
def test_other_outputs_are_refused(outputs: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        classification(**fields).decode(outputs, ())


def test_a_tie_within_the_tolerance_may_go_either_way_and_a_difference_beyond_it_may_not() -> None:
    task = classification(top_k=2)
    expected = task.decode({"softmax": np.array([[0.5, 0.49999, 0.00001]])}, ())
    tied = task.decode({"softmax": np.array([[0.49999, 0.5, 0.00001]])}, ())
    (image,), findings = compare(task, expected, tied)
    assert (image.ties, image.differing, findings) == (2, (), {})
    apart = task.decode({"softmax": np.array([[0.4, 0.6, 0.0]])}, ())
    (image,), findings = compare(task, expected, apart)
    assert "scores" in findings
    far = task.decode({"softmax": np.array([[0.5, 0.2, 0.3]])}, ())
    (image,), findings = compare(task, expected, far)
    assert image.differing == (1,)
    assert set(findings) == {"top-k", "scores"}


@pytest.mark.parametrize("probabilities", [True, False])
@pytest.mark.parametrize("number", range(4))
def test_a_fault_of_the_decoding_is_caught(number: int, probabilities: bool) -> None:
    logits = random_logits()
    outputs = {"softmax": softmax(logits) if probabilities else logits}
    task = classification(probabilities=probabilities)
    expected = task.decode(outputs, ())
    assert compare(task, expected, task.decode(outputs, ()))[1] == {}
    faults = [item for item in task.faults() if item.decode]
    assert len(faults) == 4
    decode = faults[number].decode
    assert decode is not None
    assert compare(task, expected, decode(task, outputs, ()))[1] != {}


def test_a_rounded_output_agrees_in_its_precision() -> None:
    logits = random_logits()
    for name in ("FP32", "FP16", "BF16", "INT8"):
        profile = PROFILES[name]
        noise = 0.5 * profile.tensors.atol * np.abs(logits).max(axis=1, keepdims=True)
        for are in (True, False):
            task = classification(probabilities=are)
            first, second = logits, logits + noise * np.sign(random_logits())
            outputs = [softmax(first), softmax(first) * (1 + 0.5 * profile.tensors.rtol)] if are else [first, second]
            expected, found = (task.decode({"softmax": item}, ()) for item in outputs)
            assert compare(task, expected, found, profile)[1] == {}, name


def test_quality_is_the_share_of_images_with_the_same_best_class() -> None:
    task = classification()
    truths = task.truths(task.decode({"softmax": np.eye(4)}, ()))
    assert task.quality(truths, truths) == 1
    assert task.quality([truths[0], truths[1], truths[2], truths[0]], truths) == 0.75


def test_another_number_of_classes_is_a_problem() -> None:
    task = classification()
    expected, found = (task.decode({"softmax": np.full((1, size), 0.1)}, ()) for size in (3, 4))
    compared = task.compare(expected, found, FP32, lambda _: Tolerance(0, 0))
    assert compared[0].problem == "the output has 4 classes, expected 3"
    assert set(task.figures(compared).values()) == {"not comparable"}


def test_a_model_names_its_classes() -> None:
    text = """
name = "two"
inputs = [{ name = "data", shape = [1, 3, 8, 8], image = {} }]
task = { kind = "classification", output = "softmax", labels = ["cat", "dog"], top_k = 1 }
"""
    model = parse_model(text.encode(), source="two.toml")
    assert "Classes: cat, dog." in model.task.card(None)
    assert model.task.words({"softmax": np.array([[0.2, 0.8]])}, ()) == ["dog 0.800"]
    with pytest.raises(ModelError, match="top_k"):
        parse_model(text.replace("top_k = 1", "top_k = 0").encode(), source="two.toml")
