"""Matching by parts gives what comparing everything with everything gives, and takes no time for what lies apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from limited_process import timed
from sshconvert.boxes import overlaps
from sshconvert.errors import EvaluationError
from sshtool.evaluate import matching
from sshtool.evaluate.matching import NOWHERE, ON_FACE, best_face, corners
from sshtool.evaluate.wider import integer_overlaps

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats, Floats], Floats]
MEASURES = pytest.mark.parametrize("measure", [overlaps, integer_overlaps])


def best_of_all(predictions: Floats, faces: Floats, measure: Measure) -> list[int]:
    """What `best_face` says that it finds, written out plainly."""
    if not len(faces):
        return [NOWHERE] * len(predictions)
    table = measure(predictions, faces)
    return [int(np.argmax(row)) if row.max() >= ON_FACE else NOWHERE for row in table]


def boxes(chance: np.random.Generator, count: int, extent: int, largest: int) -> Floats:
    """Of whole pixels, some without extent: many are equal, and overlap equally."""
    places, sizes = chance.integers(0, extent, (count, 2)), chance.integers(-2, largest, (count, 2))
    drawn: Floats = np.concatenate([places, sizes], axis=1).astype(np.float64)
    return drawn


@MEASURES
@given(
    seed=st.integers(0, 1 << 30),
    extent=st.sampled_from([2, 8, 60, 1000]),
    largest=st.sampled_from([2, 5, 40, 600]),
    noise=st.sampled_from([0.0, 0.25, 0.5, 3.0]),
)
@settings(deadline=None, max_examples=60)
def test_matching_by_parts_is_matching_of_all(
    measure: Measure, seed: int, extent: int, largest: int, noise: float
) -> None:
    chance = np.random.default_rng(seed)
    faces = boxes(chance, int(chance.integers(0, 60)), extent, largest)
    near = faces[chance.integers(0, len(faces), 40)] if len(faces) else boxes(chance, 0, extent, largest)
    near = near + np.rint(chance.normal(size=near.shape) * 4 * noise) / 4  # quarters: where halves are rounded
    found = np.concatenate([near, boxes(chance, 30, extent, largest)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_LARGEST_TABLE", 32)
        got = best_face(corners(found), corners(faces), measure)
    assert got.tolist() == best_of_all(corners(found), corners(faces), measure)


@pytest.mark.parametrize("step", [(10, 0), (0, 10), (7, 7)], ids=["a row", "a column", "a diagonal"])
def test_what_lies_apart_is_not_compared(step: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 boxes on as many faces would be 400 million pairs."""
    places = np.arange(20_000)[:, None] * np.array(step)
    faces = corners(np.concatenate([places, np.full_like(places, 9)], axis=1).astype(np.float64))
    monkeypatch.setattr(matching, "MOST_OVERLAPS", 30_000_000)
    with timed("matching"):
        assert best_face(faces, faces, overlaps).tolist() == list(range(20_000))


def test_small_faces_on_large_ones_are_not_compared_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.concatenate([np.indices((100, 100)).reshape(2, -1).T * 10, np.full((10_000, 2), 9)], axis=1)
    large = np.tile([0, 0, 1000, 1000], (1000, 1))
    faces = corners(np.concatenate([large, small]).astype(np.float64))
    monkeypatch.setattr(matching, "MOST_OVERLAPS", 20_000_000)
    with timed("matching"):
        found = best_face(corners(small.astype(np.float64)), faces, overlaps)
    assert found.tolist() == list(range(1000, 11_000))


def test_what_lies_all_in_one_place_is_refused_beyond_a_bound() -> None:
    same = np.tile([0.0, 0.0, 9.0, 9.0], (20_000, 1))
    with timed("refusing"), pytest.raises(EvaluationError, match="20000"):
        best_face(same, same)
