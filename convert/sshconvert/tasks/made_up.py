"""Made-up tensors of heads, which try the post-processing of a file apart from its network.

Each image tries one thing: every row and column of a stride, scores at the threshold, overlaps at the limit, and so on.
Rounding decides nothing in them: overlaps and computed scores keep away from the thresholds by more than the error of
float32, so the task's decoding in float64 tells the one right result.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array, Doubles, Floats, Indices
from sshconvert.boxes import overlaps

EPSILON: Final = float(np.finfo(np.float32).eps)
# A coordinate's largest error in units of float32's epsilon, relative to the largest coordinate before clipping.
COORDINATE_UNITS: Final = 4.0
# Scores beside the threshold, relative to it; those nearer than the error of a computed score are left out.
BESIDE: Final = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 5e-3, 0.02, 0.1, 0.2)
# Overlaps beside the limit, relative to it, beside the smallest ones that rounding permits.
BESIDE_LIMIT: Final = (1e-3, 1e-2, 0.1)
# Logarithms of the size of large boxes, over the anchor's. Detectors cap them at log(1000 / 16) = 4.1, among others.
GROWTHS: Final = (1.5, 2.8, 4.0, 4.3, 5.5)
LARGEST: Final = 128  # of a box, over the image
UNDERFLOW: Final = -30.0  # the logarithm of the size of a box almost without extent
OVERFLOW: Final = 100.0  # of one that is infinite in float32
MOST_PIXELS: Final = 100  # of a box whose overlap equals the limit
MORE: Final = 40  # than fit
CROWD: Final = 150
MARGIN: Final = 1.5  # of an overlap's distance from the limit over its error


@dataclass(frozen=True)
class MadeUp:
    """The tensors of one image's heads, float32 without a batch, and what they try, in words.

    `reach` is the largest coordinate of a box before clipping, in pixels: the scale of the error of float32.
    `score_error` is the largest error of a score, 0 if scores are only selected.
    """

    name: str
    tensors: Mapping[str, Floats]
    reach: float
    score_error: float


@dataclass(frozen=True)
class Limits:
    """The thresholds of a post-processing, and the largest numbers of its detections and of a stride's candidates."""

    score: float
    overlap: float
    top_k: int
    per_stride: int | None = None


@dataclass(frozen=True)
class Candidates:
    """Places of one head and what is to be there: boxes float64 [K, 4] in pixels, scores [K]."""

    head: int
    rows: Indices
    columns: Indices
    anchors: Indices
    boxes: Doubles
    scores: Doubles

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Any) -> Candidates:
        return Candidates(
            self.head,
            self.rows[chosen],
            self.columns[chosen],
            self.anchors[chosen],
            self.boxes[chosen],
            self.scores[chosen],
        )


class Canvas(ABC):
    """The tensors of one head, to be filled: `anchors` [A, 2] are widths and heights in pixels."""

    stride: int
    centre: float  # of the first cell, in pixels, when nothing moves the box
    anchors: Doubles
    is_free: bool  # whether a box may leave its cell
    is_exact: bool = False  # whether float32 holds places and boxes of an anchor's size without error
    score_error: float  # the largest error of a score, 0 if scores are only selected

    def __init__(self, cells: tuple[int, int]) -> None:
        self.rows, self.columns = cells

    @abstractmethod
    def blank(self, random: Any, least: float) -> dict[str, Floats]:
        """Return the tensors with scores below `least`, and distinct other values everywhere."""

    @abstractmethod
    def fill(self, tensors: dict[str, Floats], candidates: Candidates) -> None:
        """Write candidates into the tensors."""

    @abstractmethod
    def grow(self, tensors: dict[str, Floats], place: tuple[int, int, int], logarithm: float) -> None:
        """Set the logarithms of width and height of a place (row, column, anchor)."""

    def places(self, boxes: Doubles) -> tuple[Indices, Indices]:
        """Return the rows and columns of the cells in which boxes have their centres, or of the nearest cells."""
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        first = self.centre - self.stride / 2 if self.is_free else 0
        columns, rows = np.floor((centres - first) / self.stride).T
        return (
            np.clip(rows, 0, self.rows - 1).astype(np.intp),
            np.clip(columns, 0, self.columns - 1).astype(np.intp),
        )

    def middle(self, rows: Indices, columns: Indices) -> Doubles:
        """Return the middle of cells, [K, 2], x and y in pixels."""
        offset = self.centre if self.is_free else self.stride / 2
        return np.stack([columns, rows], axis=1).astype(np.float64) * self.stride + offset


@dataclass(frozen=True)
class Easel:
    """The heads of one image of a size, and what decides: how boxes are clipped and suppressed."""

    canvases: Sequence[Canvas]
    size: tuple[int, ...]
    limits: Limits
    last_pixel: int
    clips_last: bool
    random: Any = field(repr=False)

    @property
    def side(self) -> int:
        return max(self.size)

    def made(self, name: str, parts: Sequence[Candidates], *, exact: bool = False) -> MadeUp:
        """Return tensors with candidates, without those that rounding could suppress or keep unless all is `exact`."""
        parts = parts if exact else self._settled(parts)
        tensors: dict[str, Floats] = {}
        for number, canvas in enumerate(self.canvases):
            own = canvas.blank(self.random, self.limits.score)
            for part in parts:
                if part.head == number:
                    canvas.fill(own, part)
            tensors |= own
        return MadeUp(name, tensors, self._reach(parts), max(canvas.score_error for canvas in self.canvases))

    def scores(self, count: int) -> Doubles:
        """Return scores above the threshold in a random order, distinct if float32 can tell so many apart."""
        least = self.limits.score
        high = max(0.999, min(2 * least, 1.0))
        error = max(canvas.score_error for canvas in self.canvases)
        levels = max(1, min(count, int((high - least) / (4 * error)) if error else count))
        steps = (np.arange(count) % levels + 0.5) / levels
        return np.asarray(self.random.permutation(least + (high - least) * (0.02 + 0.98 * steps)))

    def around(self, head: int, rows: Indices, columns: Indices, sizes: Doubles) -> Doubles:
        """Return boxes [K, 4] of `sizes` [K, 2] near the middle of their cells, moved by up to an eighth of it."""
        canvas = self.canvases[head]
        shift = (self.random.random_sample(sizes.shape) - 0.5) * canvas.stride / 4
        return self.boxes(canvas.middle(rows, columns) + shift, sizes)

    def boxes(self, centres: Doubles, sizes: Doubles) -> Doubles:
        reach = (sizes - self.last_pixel) / 2
        return np.concatenate([centres - reach, centres + reach], axis=1)

    def small(self, head: int, rows: Indices, columns: Indices, anchors: Indices, scores: Doubles) -> Candidates:
        """Return candidates that stay within their cells, so that none overlaps one of another cell."""
        sizes = (0.3 + 0.4 * self.random.random_sample((len(rows), 2))) * self.canvases[head].stride
        return Candidates(head, rows, columns, anchors, self.around(head, rows, columns, sizes), scores)

    def error(self, parts: Sequence[Candidates]) -> float:
        """Return the largest error of a coordinate in float32, in pixels."""
        return COORDINATE_UNITS * EPSILON * self._reach(parts)

    def _reach(self, parts: Sequence[Candidates]) -> float:
        return max([self.side, *(float(np.abs(part.boxes).max(initial=0)) for part in parts)])

    def _settled(self, parts: Sequence[Candidates]) -> list[Candidates]:
        """Drop candidates of the same place as another, and the lower of two that overlap almost by the limit."""
        kept = [part[_first_of_each_place(part)] for part in _joined(parts)]
        if not kept or sum(map(len, kept)) > MOST_PAIRED:
            return kept  # those are all small, each in its cell
        boxes = np.concatenate([part.boxes for part in kept])
        scores = np.concatenate([part.scores for part in kept])
        if not self.clips_last:
            height, width = self.size
            boxes = np.clip(boxes, 0, np.array([width, height, width, height]) - float(self.last_pixel))
        sides = boxes[:, 2:] - boxes[:, :2] + self.last_pixel
        shares = overlaps(boxes, boxes, self.last_pixel)
        half = sides.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            unions = (sides.prod(axis=1)[:, None] + sides.prod(axis=1)) / (1 + shares)
            errors = self.error(kept) * 2 * (half[:, None] + half) / unions
        unclear = np.triu(~(np.abs(shares - self.limits.overlap) > MARGIN * errors) & (shares > 0), 1)
        dropped = np.zeros(len(scores), bool)
        for one, other in np.argwhere(unclear):
            if not dropped[one] and not dropped[other]:
                dropped[one if scores[one] < scores[other] else other] = True
        ends = np.cumsum([len(part) for part in kept])[:-1]
        return [part[~flags] for part, flags in zip(kept, np.split(dropped, ends), strict=True)]


MOST_PAIRED: Final = 1000  # candidates whose overlaps are all computed


def made_up(easel: Easel) -> Iterator[MadeUp]:
    """Yield images of heads that try every part of a post-processing."""
    yield easel.made("no candidates", ())
    for head, canvas in enumerate(easel.canvases):
        where = f"stride {canvas.stride}"
        yield from _every_place(easel, head, f"every row and column of {where}")
        yield easel.made(f"scores at the threshold, {where}", [_at_threshold(easel, head)])
        yield from _anchors(easel, head, where)
        yield from _large(easel, head, where)
        yield from _overlapping(easel, head, f"overlaps beside the limit, {where}")
        if pair := _equal_to_limit(easel, head):
            yield easel.made(f"an overlap equal to the limit, {where}", [pair], exact=True)
    yield easel.made("overlaps across strides", list(_across(easel)))
    yield from _extremes(easel)
    yield easel.made("equal scores", list(_ties(easel)))
    for number in range(2):
        yield easel.made(f"crowd {number}", list(_crowd(easel)))
    yield easel.made("more than fit", list(_many(easel, equal=False)))
    yield easel.made("more of equal scores than fit", list(_many(easel, equal=True)))


def _every_place(easel: Easel, head: int, name: str) -> Iterator[MadeUp]:
    """Yield candidates of every anchor in every row and column, as many at a time as stay."""
    canvas = easel.canvases[head]
    longest, anchors = max(canvas.rows, canvas.columns), len(canvas.anchors)
    numbers, which = (grid.ravel() for grid in np.indices((longest, anchors)))
    most = min(easel.limits.top_k, easel.limits.per_stride or longest * anchors)
    order = easel.random.permutation(len(numbers))
    for start in range(0, len(order), most):
        chosen = order[start : start + most]
        rows, columns = numbers[chosen] % canvas.rows, (numbers[chosen] + which[chosen]) % canvas.columns
        part = easel.small(head, rows, columns, which[chosen], easel.scores(len(chosen)))
        yield easel.made(name, [part])


def _at_threshold(easel: Easel, head: int) -> Candidates:
    canvas, least = easel.canvases[head], np.float32(easel.limits.score)
    beside = [step for step in BESIDE if step * least > canvas.score_error]
    scores = [float(least) * (1 + side * step) for step in beside for side in (1, -1)]
    if not canvas.score_error:
        scores += [float(least), *(float(np.nextafter(least, np.float32(end))) for end in (0, 2))]
    values = np.array([score for score in scores if score < 1], np.float64)
    rows, columns = _scattered(canvas, easel.random, len(values))
    anchors = np.arange(len(rows)) % len(canvas.anchors)
    return easel.small(head, rows, columns, anchors, easel.random.permutation(values)[: len(rows)])


def _anchors(easel: Easel, head: int, where: str) -> Iterator[MadeUp]:
    """Yield boxes about as large as each anchor."""
    canvas = easel.canvases[head]
    for number, anchor in enumerate(canvas.anchors):
        rows, columns = _scattered(canvas, easel.random, 4)
        sizes = anchor * np.exp(easel.random.random_sample((len(rows), 2)) - 0.5)
        boxes = easel.around(head, rows, columns, sizes)
        part = Candidates(head, rows, columns, np.full(len(rows), number), boxes, easel.scores(len(rows)))
        yield easel.made(f"anchor {number} of {where}", [part])


def _large(easel: Easel, head: int, where: str) -> Iterator[MadeUp]:
    """Yield boxes of which only a corner, or for a centre in the image a side, lies inside."""
    canvas, (height, width) = easel.canvases[head], easel.size
    image = np.array([width, height], np.float64)
    for number, anchor in enumerate(canvas.anchors):
        parts = []
        for turn, growth in enumerate(GROWTHS):
            sign = np.array([(-1, -1), (1, 1), (-1, 1), (1, -1)][turn % 4], np.float64)
            sizes = anchor * np.exp([growth, growth - 0.1 * turn])
            if canvas.is_free:
                inner = image * (0.5 + sign * (0.25 + 0.02 * turn))
                centres, fits = inner + sign * sizes / 2, sizes.max() < LARGEST * easel.side
            else:
                centres, fits = np.where(sign < 0, 0.4, image - 0.4), (sizes < 1.9 * image).all()
            if not fits:
                continue
            box = easel.boxes(centres[None], sizes[None])
            rows, columns = canvas.places(box)
            part = Candidates(head, rows, columns, np.array([number]), box, easel.scores(1))
            parts.append(part)
            if not canvas.is_free or len(parts) == 4:
                yield easel.made(f"large boxes of anchor {number}, {where}", parts)
                parts = []
        if parts:
            yield easel.made(f"large boxes of anchor {number}, {where}", parts)


def _overlapping(easel: Easel, head: int, name: str) -> Iterator[MadeUp]:
    """Yield pairs of boxes that overlap by the limit, a little more and a little less."""
    canvas, limit = easel.canvases[head], easel.limits.overlap
    anchors = len(canvas.anchors)
    shift = (1 - limit) / (1 + limit)  # of boxes of one size, in their width
    width = float(np.clip(min(easel.size) / 6, 12, 64))
    if anchors == 1 and shift:
        width = max(width, 1.1 * canvas.stride / shift)
    tile = 2.2 * width + canvas.stride
    down, across = (max(1, int(side // tile)) for side in easel.size)
    # As in `_settled`: the overlap's error by that of coordinates. MARGIN of it is dropped, so this is a little more.
    error = COORDINATE_UNITS * EPSILON * easel.side * 8 * width / (width**2 * 2 / (1 + limit)) / limit
    steps = sorted({1.1 * MARGIN * error, *(step for step in BESIDE_LIMIT if step > 1.2 * MARGIN * error)})
    wanted = [limit * (1 + side * step) for step in steps for side in (1, -1)]
    wanted = [share for share in wanted if share < 1] * 2
    per = down * across
    for start in range(0, len(wanted), per):
        boxes = []
        for place, share in enumerate(wanted[start : start + per]):
            row, column = divmod(place, across)
            moved = np.zeros(2)
            moved[place % 2] = width * (1 - share) / (1 + share)
            centre = np.array([column + 0.35, row + 0.35]) * tile + 0.2 * easel.random.random_sample(2)
            boxes += [centre, centre + moved]
        centres = np.array(boxes)
        several = easel.boxes(centres, np.full((len(centres), 2), width))
        rows, columns = canvas.places(several)
        which = (np.arange(len(several)) + np.arange(len(several)) // 2) % anchors
        yield easel.made(
            name, _pairs_alone(Candidates(head, rows, columns, which, several, easel.scores(len(several))))
        )


def _equal_to_limit(easel: Easel, head: int) -> Candidates | None:
    """Return two boxes whose overlap float32 computes without rounding before the division: small whole numbers.

    Clipping cuts boxes of an anchor's size at the corner of the image to p x q and q x q pixels, for the limit p / q.
    """
    canvas, limit = easel.canvases[head], easel.limits.overlap
    share = Fraction(limit).limit_denominator(MOST_PIXELS)
    inner, outer = share.numerator, share.denominator
    size = float(canvas.anchors[0].max())
    if easel.clips_last or not canvas.is_exact or float(share) != limit or canvas.columns < 2:
        return None
    if not inner < outer <= min(size, *easel.size):
        return None
    corners = np.array([(outer, outer), (inner, outer)], np.float64) - easel.last_pixel
    boxes = np.concatenate([corners - (canvas.anchors[0] - easel.last_pixel), corners], axis=1)
    places = np.zeros(2, np.intp), np.arange(2), np.zeros(2, np.intp)
    return Candidates(head, *places, boxes, np.sort(easel.scores(2)))


def _across(easel: Easel) -> Iterator[Candidates]:
    """Yield equal boxes of all strides and anchors, of which one stays at each place."""
    width = float(np.clip(min(easel.size) / 8, 8, 48))
    down, across = (max(1, int(side // (2.5 * width))) for side in easel.size)
    rows, columns = (grid.ravel() for grid in np.indices((down, across)))
    centres = (np.stack([columns, rows], axis=1).astype(np.float64) + 0.5) * 2.5 * width
    boxes = easel.boxes(centres, np.full((len(centres), 2), width))
    scores = np.split(easel.scores(len(boxes) * len(easel.canvases)), len(easel.canvases))
    for head, canvas in enumerate(easel.canvases):
        own_rows, own_columns = canvas.places(boxes)
        anchors = easel.random.randint(0, len(canvas.anchors), len(boxes))
        yield Candidates(head, own_rows, own_columns, anchors, boxes, scores[head])


def _extremes(easel: Easel) -> Iterator[MadeUp]:
    """Yield boxes outside the image, an infinite one, and boxes almost without extent."""
    for head, canvas in enumerate(easel.canvases):
        where = f"stride {canvas.stride}"
        if canvas.is_free:
            yield easel.made(f"boxes outside the image, {where}", [_outside(easel, head)])
        for logarithm, words in ((OVERFLOW, "an infinite box"), (UNDERFLOW, "a box without extent")):
            rows, columns = _scattered(canvas, easel.random, 1)
            anchor = np.array([easel.random.randint(len(canvas.anchors))])
            image = easel.made(f"{words}, {where}", [easel.small(head, rows, columns, anchor, easel.scores(1))])
            canvas.grow(dict(image.tensors), (int(rows[0]), int(columns[0]), int(anchor[0])), logarithm)
            yield image


def _outside(easel: Easel, head: int) -> Candidates:
    """Return boxes beyond each side and each corner of the image."""
    canvas, (height, width) = easel.canvases[head], easel.size
    image, far = np.array([width, height], np.float64), 3.0 * easel.side
    sides = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y], np.float64)
    centres = image / 2 + sides * (image / 2 + far)
    boxes = easel.boxes(centres, np.full((len(centres), 2), easel.side / 4))
    rows, columns = canvas.places(boxes)
    anchors = np.arange(len(boxes)) % len(canvas.anchors)
    return Candidates(head, rows, columns, anchors, boxes, easel.scores(len(boxes)))


def _ties(easel: Easel) -> Iterator[Candidates]:
    """Yield candidates of few scores, among them pairs of boxes that overlap."""
    scores = easel.scores(3)
    for head, canvas in enumerate(easel.canvases):
        rows, columns = _scattered(canvas, easel.random, 24)
        anchors = easel.random.randint(0, len(canvas.anchors), len(rows))
        yield easel.small(head, rows, columns, anchors, scores[np.arange(len(rows)) % 3])
        if len(canvas.anchors) > 1:  # the same boxes again, by another anchor
            part = easel.small(head, rows, columns, anchors, scores[np.arange(len(rows)) % 3])
            yield Candidates(head, rows, columns, (anchors + 1) % len(canvas.anchors), part.boxes, part.scores)


def _crowd(easel: Easel) -> Iterator[Candidates]:
    """Yield many candidates around few objects."""
    objects = easel.random.random_sample((8, 2)) * easel.size[::-1]
    sizes = (0.05 + 0.3 * easel.random.random_sample((8, 2))) * min(easel.size)
    scores = easel.scores(CROWD * len(easel.canvases)).reshape(len(easel.canvases), CROWD)
    for head, canvas in enumerate(easel.canvases):
        which = easel.random.randint(0, len(objects), CROWD)
        spread = (easel.random.random_sample((CROWD, 2)) - 0.5) * 0.5 * sizes[which]
        grown = sizes[which] * np.exp(0.5 * easel.random.random_sample((CROWD, 2)) - 0.25)
        centres = np.clip(objects[which] + spread, 0.5, np.array(easel.size[::-1]) - 1.0)
        boxes = easel.boxes(centres, grown)
        rows, columns = canvas.places(boxes)
        anchors = easel.random.randint(0, len(canvas.anchors), CROWD)
        yield Candidates(head, rows, columns, anchors, boxes, scores[head])


def _many(easel: Easel, *, equal: bool) -> Iterator[Candidates]:
    """Yield more candidates than stay, each in its cell, and each head in its own part of the image."""
    heads = sorted(range(len(easel.canvases)), key=lambda head: easel.canvases[head].stride)
    most = max(easel.limits.top_k, easel.limits.per_stride or 0) + MORE
    share = 0.6 if len(heads) > 1 else 1.0
    bounds = np.cumsum([0, share, *[(1 - share) / max(1, len(heads) - 1)] * (len(heads) - 1)])
    chosen = []
    for head, left, right in zip(heads, bounds, bounds[1:], strict=False):
        canvas = easel.canvases[head]
        columns = np.arange(math.ceil(left * canvas.columns), math.floor(right * canvas.columns + 1e-9))
        rows, columns = (grid.ravel() for grid in np.meshgrid(np.arange(canvas.rows), columns))
        order = easel.random.permutation(len(rows))[:most]
        chosen.append((head, rows[order], columns[order]))
    scores = easel.scores(sum(len(rows) for _, rows, _ in chosen))
    same = easel.scores(1)
    for head, rows, columns in chosen:
        own, scores = scores[: len(rows)], scores[len(rows) :]
        anchors = easel.random.randint(0, len(easel.canvases[head].anchors), len(rows))
        yield easel.small(head, rows, columns, anchors, np.repeat(same, len(rows)) if equal else own)


def _scattered(canvas: Canvas, random: Any, count: int) -> tuple[Indices, Indices]:
    """Return the rows and columns of different cells, fewer if the head has fewer."""
    cells = random.permutation(canvas.rows * canvas.columns)[:count]
    rows, columns = np.divmod(cells, canvas.columns)
    return rows, columns


def _joined(parts: Sequence[Candidates]) -> list[Candidates]:
    """Return the candidates of each head as one."""
    joined = []
    for head in sorted({part.head for part in parts}):
        own = [part for part in parts if part.head == head]
        names = ("rows", "columns", "anchors", "boxes", "scores")
        joined.append(Candidates(head, *(np.concatenate([getattr(part, name) for part in own]) for name in names)))
    return joined


def _first_of_each_place(part: Candidates) -> Indices:
    places = np.stack([part.rows, part.columns, part.anchors], axis=1)
    return np.sort(np.unique(places, axis=0, return_index=True)[1])


def _pairs_alone(part: Candidates) -> list[Candidates]:
    """Return the pairs whose members have different places."""
    places: Array = np.stack([part.rows, part.columns, part.anchors], axis=1)
    return [part[np.repeat((places[::2] != places[1::2]).any(axis=1), 2)]]
