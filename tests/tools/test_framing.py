"""Images as the input of a classifier or an embedder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sshconvert.tasks.registry import parse_task
from sshtool.framing import central, cubic, framed

pytestmark = pytest.mark.independent


def plain_cubic(x: float) -> float:
    """The cubic convolution of Keys with a = -0.75, as its paper writes it."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def plain_central(image: Any, size: int, crop: float) -> Any:
    """Resize the whole image pixel by pixel, then crop, with two loops."""
    height, width, _ = image.shape
    side = round(size / crop)
    new_width, new_height = (side, int(side * height / width)) if height > width else (int(side * width / height), side)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    result = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            y = (row + top + 0.5) * height / new_height - 0.5
            x = (column + left + 0.5) * width / new_width - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    pixel = image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                    result[row, column] += plain_cubic(y - i) * plain_cubic(x - j) * pixel
    return np.rint(np.clip(result, 0, 255))


@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (16, 16), (9, 30), (20, 20)])
def test_a_classifier_gets_the_centre_of_the_resized_image(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = central(image, 14, 14, 0.875)
    assert found.dtype == np.uint8
    difference = np.abs(found - plain_central(image, 14, 0.875))
    assert difference.max() <= 1  # a half may round either way in float32
    assert np.count_nonzero(difference) <= 2


def test_the_four_weights_of_any_place_add_up_to_one() -> None:
    for place in np.linspace(0, 1, 11):
        distances = np.abs(place - np.arange(-1, 3))
        assert cubic(distances).sum() == pytest.approx(1)
        assert [plain_cubic(one) for one in distances] == pytest.approx(cubic(distances).tolist())


def test_the_whole_image_enlarged_eightfold_keeps_its_colours() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = 200
    found = central(image, 32, 32, 1.0)
    assert (found[0] == 200).all()
    assert (found[-1] == 0).all()
    assert found.max() <= 255


def test_each_task_frames_by_its_own_rule() -> None:
    image = np.full((20, 40, 3), 255, np.uint8)
    classifier = parse_task({"kind": "classification", "output": "a"})
    embedder = parse_task({"kind": "embedding", "output": "a"})
    tensors = parse_task({"kind": "tensors", "names": ["a"]})
    assert (framed(image, 16, 16, classifier, (0, 0, 0)) == 255).all()
    assert (framed(image, 16, 16, embedder, (0, 0, 0)) == 255).all()
    assert (framed(image, 16, 16, tensors, (7, 7, 7))[8:] == 7).all()
    exact = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert framed(exact, 16, 16, embedder, (0, 0, 0)) is exact
