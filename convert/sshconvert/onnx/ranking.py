"""Building nodes that sort candidates, select the best and rank them, exactly and in every runtime.

Among equal scores, the first candidate comes first. ONNX Runtime's TopK keeps that order, but OpenVINO's does not, so
scores that may be equal are never sorted by TopK alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sshconvert.onnx.builder import Builder

MOST_CANDIDATES: Final = 1 << 23  # float32 holds the keys, integers of up to twice their number


def row_count(build: Builder, scores: str, role: str) -> str:
    """Emit the number of candidates S of scores [N, S]: int64 [1]."""
    shape = build.node(f"{role}_shape", "Shape", [scores])
    return build.node(f"{role}_all", "Gather", [shape, build.integers(f"{role}_axis", [1])])


def numbers(build: Builder, count: str, role: str) -> str:
    """Emit 0, 1, 2, … for each candidate: float32 [S]."""
    number = build.node(f"{role}_end", "Squeeze", [count])
    steps = [build.integers(f"{role}_{name}", value) for name, value in (("first", 0), ("step", 1))]
    order = build.node(f"{role}_order", "Range", [steps[0], number, steps[1]])
    return build.cast(f"{role}_order_float", order)


def gather_rows(build: Builder, values: str, places: str, role: str) -> str:
    """Emit the rows of `values` [N, S, …] at `places` [N, K]."""
    indices = build.node(f"{role}_places", "Unsqueeze", [places, build.integers(f"{role}_last", [2])])
    return build.node(role, "GatherND", [values, indices], batch_dims=1)


def best_places(build: Builder, scores: str, count: str, number: str, role: str) -> str:
    """Emit the places of the `number` best of scores [N, S] in their order, except that the last of equals come last.

    One TopK finds the lowest score that is kept, and another one selects by distinct keys: candidates above that
    score, then candidates with that score.
    """
    highest, _ = build.split(f"{role}_scores_alone", "TopK", [scores, number], 2, axis=1)
    last = build.node(f"{role}_last", "ReduceMin", [highest], axes=[1])
    above, kept = (
        build.cast(f"{role}_{name}_float", compared)
        for name, compared in (
            ("above", build.node(f"{role}_above", "Greater", [scores, last])),
            ("kept", build.node(f"{role}_kept", "GreaterOrEqual", [scores, last])),
        )
    )
    group = build.node(f"{role}_group", "Add", [above, kept])
    width = build.cast(f"{role}_width", count)
    keys = build.node(
        f"{role}_keys", "Sub", [build.node(f"{role}_of", "Mul", [group, width]), numbers(build, count, role)]
    )
    return build.split(f"{role}_chosen", "TopK", [keys, number], 2, axis=1)[1]


def ranks(build: Builder, selected: str, nothing: str, role: str = "") -> str:
    """Emit a rank for each candidate: float32 [N, S], the largest for the one that a suppression selected first.

    `selected` are indices of NonMaxSuppression, and `nothing` is 0 for each candidate, which others keep.
    """
    places, falling = selected_ranks(build, selected, role)
    return build.node(f"{role}ranked", "ScatterND", [nothing, places, falling])


def selected_ranks(build: Builder, selected: str, role: str = "") -> tuple[str, str]:
    """Emit image and number of each selected candidate: int64 [M, 2], and its rank: float32 [M]."""
    places = build.node(
        f"{role}selected_places", "Gather", [selected, build.integers(f"{role}image_and_box", (0, 2))], axis=1
    )
    shape = build.node(f"{role}selected_shape", "Shape", [places])
    number = build.node(f"{role}selected_number", "Gather", [shape, build.integers(f"{role}first_axis", 0)])
    steps = [build.integers(f"{role}{name}", value) for name, value in (("first_rank", 0), ("next_rank", 1))]
    # Upwards, because tract computes another length of a Range that counts down.
    rising = build.node(f"{role}rising", "Range", [steps[0], number, steps[1]])
    falling = build.node(f"{role}falling", "Sub", [number, rising])
    return places, build.cast(f"{role}ranks", falling)
