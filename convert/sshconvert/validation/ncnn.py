"""The check of an ncnn network: its .param, a text with a layer in each line, and its .bin with the weights.

ncnn trusts both. This module accepts the files that pnnx writes of sshtool's networks: known layers with known
parameters (`ncnn_layers`), each blob written once and read at most once, sizes in proportion to the input, and exactly
as many weights as the .bin holds.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from sshconvert.reading import open_regular, read_small
from sshconvert.schema import one_line
from sshconvert.validation.ncnn_layers import LAYERS, Parameters, Shape
from sshconvert.validation.sizes import Tally

SUFFIX: Final = ".ncnn.param"
WEIGHTS_SUFFIX: Final = ".ncnn.bin"
MAGIC: Final = "7767517"
LARGEST_PARAM: Final = 16 << 20  # bytes; far above the size of a network's description
MOST_LAYERS: Final = 20_000
MOST_BLOBS: Final = 1000  # of one layer
LONGEST_NAME: Final = 200  # ncnn reads 255 characters

_COUNT: Final = re.compile(r"[0-9]{1,6}")
_NAME: Final = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_NAME}}}")

# The marks before weights, as ncnn's `ModelBinFromDataReader` knows them, with the bytes of a value.
FLOAT16: Final = 0x01306B47
_MARKS: Final[Mapping[int, int]] = {0: 4, 0x0002C056: 4, FLOAT16: 2}


@dataclass(frozen=True)
class NcnnLayer:
    """A line of a .param. ncnn takes blobs without a batch; their shapes are outermost dimension first."""

    kind: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    parameters: str


@dataclass(frozen=True)
class NcnnWeights:
    """`number` values of a layer's weights behind byte `place` of the .bin, of `width` bytes each.

    Before `marked` ones are four bytes that tell their type; all others are float32.
    """

    layer: NcnnLayer
    place: int
    number: int
    width: int
    marked: bool


@dataclass(frozen=True)
class NcnnNetwork:
    """A checked network. `outputs` are the blobs that no layer reads, in the order of the file."""

    layers: tuple[NcnnLayer, ...]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    weights: tuple[NcnnWeights, ...]


def weights_of(path: Path) -> Path:
    """Return the .bin of a .param."""
    return path.with_name(path.name[: -len(SUFFIX)] + WEIGHTS_SUFFIX)


def parse(text: str) -> Iterator[NcnnLayer]:
    """Yield the layers of a .param, unchecked but for their form. Raises ValueError."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"does not begin with {MAGIC}, as an ncnn network does")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(map(_COUNT.fullmatch, counts)) or len(lines) != 2 + int(counts[0]):
        raise ValueError(f"has {len(lines) - 2} lines of layers and declares other counts")
    if len(lines) - 2 > MOST_LAYERS:
        raise ValueError(f"it has more than {MOST_LAYERS} layers; no network has as many")
    blobs = 0
    for line in lines[2:]:
        layer = _layer(line)
        blobs += len(layer.writes)
        yield layer
    if blobs != int(counts[1]):
        raise ValueError(f"it has {blobs} blobs and declares {counts[1]}")


def read(path: Path) -> NcnnNetwork:
    """Check the .param and the .bin beside it. Raises OSError and ValueError."""
    try:
        text = read_small(path, LARGEST_PARAM).decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("is no text of an ncnn network") from None
    layers = tuple(parse(text))
    with open_regular(weights_of(path)) as file:
        weights = _Weights(file, weights_of(path).name)
        shapes = _shapes(layers, weights)
        weights.finish()
    read_blobs = {blob for layer in layers for blob in layer.reads}
    inputs = {blob: shapes[blob] for layer in layers if layer.kind == "Input" for blob in layer.writes}
    outputs = {blob: shape for blob, shape in shapes.items() if blob not in read_blobs and blob not in inputs}
    if not inputs or not outputs:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, expected some of both")
    return NcnnNetwork(layers, inputs, outputs, tuple(weights.taken))


def _layer(line: str) -> NcnnLayer:
    words = line.split()
    if len(words) < 4 or not all(map(_COUNT.fullmatch, words[2:4])):
        raise ValueError(f"its line {one_line(line)!r} is no layer")
    reads, writes = map(int, words[2:4])
    names = words[4 : 4 + reads + writes]
    if max(reads, writes) > MOST_BLOBS or len(names) != reads + writes:
        raise ValueError(f"its layer {one_line(words[1])!r} has another number of blobs than it declares")
    if not all(map(_NAME.fullmatch, [words[1], *names])):
        raise ValueError(f"its layer {one_line(words[1])!r} or one of its blobs has a name beyond ncnn's reach")
    return NcnnLayer(
        words[0], words[1], tuple(names[:reads]), tuple(names[reads:]), " ".join(words[4 + reads + writes :])
    )


def _shapes(layers: tuple[NcnnLayer, ...], weights: _Weights) -> dict[str, Shape]:
    """Return the shape of each blob. Reads the weights of the layers in their order."""
    shapes: dict[str, Shape] = {}
    unread: set[str] = set()
    tally = None
    for layer in layers:
        where = f"its layer {one_line(layer.name)!r} ({one_line(layer.kind)})"
        if layer.kind not in LAYERS:
            raise ValueError(f"its layer {one_line(layer.kind)!r} is in no converted network")
        if not unread.issuperset(layer.reads) or len(set(layer.reads)) < len(layer.reads):
            raise ValueError(f"{where} reads a blob that no layer before it writes, or that another one reads")
        unread.difference_update(layer.reads)
        if len(set(layer.writes)) < len(layer.writes) or not shapes.keys().isdisjoint(layer.writes):
            raise ValueError(f"{where} writes a blob that another one writes")
        try:
            parameters = Parameters(layer.parameters, len(layer.writes))
            written, counts = LAYERS[layer.kind](parameters, [shapes[blob] for blob in layer.reads])
            parameters.finish(len(written))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if layer.kind != "Input" and tally is None:
            tally = Tally(shapes, weights.size, fixed=True)
        for number in counts:
            weights.take(layer, number, where)
        work = sum(abs(number) for number in counts) * max((math.prod(shape[1:]) for shape in written), default=1)
        for shape in written:
            _check(shape, where)
            if tally:
                tally.add(shape, work)
        shapes |= dict(zip(layer.writes, written, strict=True))
        unread.update(layer.writes)
    return shapes


def _check(shape: Shape, where: str) -> None:
    if not 1 <= len(shape) <= 4 or min(shape) < 1 or math.prod(shape) >= 1 << 31:
        raise ValueError(f"{where} computes a tensor of shape {list(shape)}")


class _Weights:
    """Walks through a .bin by the sizes that the layers need."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self.size = file.seek(0, 2)
        self._place = 0
        self.taken: list[NcnnWeights] = []

    def take(self, layer: NcnnLayer, number: int, where: str) -> None:
        """Pass `number` values. Positive numbers count values behind a mark, negative ones plain float32."""
        width = 4
        if number > 0:
            self._file.seek(self._place)
            mark = self._file.read(4)
            width = _MARKS.get(struct.unpack("<I", mark)[0], 0) if len(mark) == 4 else 0
            if not width:
                raise ValueError(f"{where}: {self._name} has no float32 or float16 weights for it")
            self._place += 4
        self.taken.append(NcnnWeights(layer, self._place, abs(number), width, number > 0))
        self._place += (abs(number) * width + 3) // 4 * 4  # ncnn aligns weights of 16 bits
        if self._place > self.size:
            raise ValueError(f"{where}: its weights end beyond {self._name}, which has {self.size} bytes")

    def finish(self) -> None:
        if self._place != self.size:
            raise ValueError(f"its weights take {self._place} bytes of {self._name}, which has {self.size}")
