"""The reference pack: the expected outputs and the yardstick in one small file, for verification without a checkpoint.

A zip of NumPy arrays that `numpy.load` reads too:

- `reference.json`: the model, the checkpoint, versions and the yardstick; for each sample its name, which determines
  the images or tensors, their shape and hash, and the detections
- `<sample>/<output>.npy`: the expected output, float32 or an integer type, of up to eight dimensions
- `FP16/<format>/<sample>/<output>.npy`: that of the network with weights rounded to halves as files of a format store
  them, for some of the samples

The same answers give the same bytes: no times, a fixed order, one compression.
"""

from __future__ import annotations

import io
import math
import platform
import re
import zipfile
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, BinaryIO, Final, Literal

import numpy as np
import pydantic

import sshconvert
from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import CHANNELS
from sshconvert.digest import bytes_sha256, file_sha256
from sshconvert.errors import DetectionError, OutputError, ReferencePackError
from sshconvert.files import staged
from sshconvert.formats.registry import format_key
from sshconvert.models.spec import ModelSpec, Sha256
from sshconvert.options import Precision
from sshconvert.reading import read_small
from sshconvert.recognition import PACK, mistaken
from sshconvert.schema import Dimension, Strict, one_line, parse_json
from sshconvert.tasks.faults import Size
from sshconvert.tasks.tolerances import MOST_DISTANT, Yardstick
from sshtool.archives.zip_check import ArchiveLimits, check
from sshtool.archives.zip_layout import DEFLATED, LZMA, STORED, Member, RefusedError, read_members, stream
from sshtool.parity.reference import Answer, Reference, rounded_reference
from sshtool.parity.samples import OTHER, draw_sample, exact_samples, sample_names
from sshtool.runtimes.base import Feed, Outputs
from sshtool.runtimes.exact import Exact

DEMO_PACK: Final = "demo_reference.npz"
DEMO_MODEL: Final = "ssh-mxnet"
CONTENTS: Final = "reference.json"
LARGEST_FILE: Final = 5_000_000
# The answers hardly compress. These limits exceed the largest genuine packs and fit in memory.
LARGEST_CONTENTS: Final = 2 << 20
LARGEST_ANSWERS: Final = 32 << 20
MOST_PIXELS: Final = 1 << 20  # of a sample's images together

# The largest difference of a box or score. Only exp() rounds differently between machines.
SAME_DETECTION: Final = 1e-2

_FORMAT: Any = np.lib.format  # NumPy 1 has no types for it

# The only header that a pack uses, in version 1.0 of NumPy's format. NumPy's reader evaluates an expression.
_HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(<f4|<i4|<i8)', 'fortran_order': False, "
    rb"'shape': \(([0-9]{1,8}(?:, [0-9]{1,8}){0,7},?)\), \} *\n",
    re.DOTALL,
)

Name = Annotated[str, pydantic.StringConstraints(pattern=r"^\w[\w-]*$", max_length=100)]
Text = Annotated[str, pydantic.StringConstraints(max_length=200)]
Distance = Annotated[float, pydantic.Field(ge=0, le=MOST_DISTANT)]
Magnitude = Annotated[float, pydantic.Field(ge=0, le=float(np.finfo(np.float32).max))]
Row = Annotated[tuple[float, ...], pydantic.Field(min_length=5, max_length=3000)]


class PackedYardstick(Strict):
    """The fields of `Yardstick`."""

    source: Text
    distances: Mapping[Text, Distance]
    means: Mapping[Text, Distance]
    scales: Mapping[Text, Magnitude]
    unstable: Mapping[Text, tuple[Name, ...]]


class PackedSample(Strict):
    """A sample, and for each of its images the rows (`Task.rows`) that the expected outputs decode to.

    `exact` outputs are computed in double precision; others are MXNet's.
    """

    name: Name
    exact: bool
    shape: tuple[Dimension, ...]  # N, H, W, C of images; of tensors, the first one's
    images_sha256: Sha256
    detections: tuple[tuple[Row, ...], ...]


class PackedHalves(Strict):
    """Samples with answers for weights that are rounded to halves, as files of these formats store them.

    Formats differ if one multiplies a normalisation into the weights before it rounds them.
    """

    formats: Annotated[tuple[Name, ...], pydantic.Field(min_length=1)]
    samples: tuple[PackedSample, ...]

    @property
    def folder(self) -> str:
        """The folder of the answers in the pack."""
        return f"{Precision.FP16.value}/{self.formats[0]}/"


class Contents(Strict):
    """`reference.json`.

    `one_size`: the original takes one size only, so that the pack has no answers for the batch of another size.
    """

    schema_version: Literal[2] = 2
    one_size: bool = False
    model: Text
    weights: Text
    checkpoint: Mapping[Text, Sha256]  # hashes of the two files
    runtime: Text
    versions: Mapping[Text, Text]
    outputs: tuple[Text, ...]
    samples: tuple[PackedSample, ...]
    yardstick: PackedYardstick | None = None
    halves: tuple[PackedHalves, ...] = ()


class PackReference(Reference):
    """Answers from a pack. `sha256` is that of the file.

    `exact` computes the pack's checkpoint, for the answers to rounded weights that the pack does not hold.
    """

    exact: Exact | None = None

    def __init__(
        self,
        contents: Contents,
        answers: Sequence[Answer],
        path: Path,
        sha256: str,
        halves: Mapping[str, Sequence[Answer]] = MappingProxyType({}),
    ) -> None:
        """Hold all answers. `halves` are those for weights rounded to halves, by the key of the format."""
        self.contents, self.path, self.sha256 = contents, path, sha256
        self.source = f"{contents.runtime} (reference pack {path.name})"
        self.weights = contents.weights
        self.note = (
            f"the expected outputs come from the reference pack {path.name}, made by {contents.runtime} on "
            f"{contents.versions.get('platform', 'another machine')}; the original did not run here"
        )
        self._answers, self._halves = tuple(answers), halves
        self._roundings: dict[str, Reference] = {}

    @property
    def image_size(self) -> tuple[int, ...]:
        """The height and width of all samples except the batch of another size; () for tensors."""
        return next(item.sample.image_size for item in self._answers if not _is_other(item))

    @property
    def is_shipped(self) -> bool:
        """Whether the file is identical to the pack that ships with sshtool."""
        return self.sha256 == file_sha256(demo_pack_path())

    def answers(self, *size: int) -> Sequence[Answer]:
        singles = [answer for answer in self._answers if not _is_other(answer)]
        answers = [answer for answer in singles if answer.sample.image_size == size]
        if not answers:
            sizes = sorted({answer.sample.image_size for answer in singles})
            raise ReferencePackError(
                f"{self.path}: holds answers for {_sizes(sizes)}, not for {_sizes([size])}; "
                "make another with `sshtool reference --input-shape`"
            )
        return answers

    def other_size(self) -> Answer | None:
        return next(filter(_is_other, self._answers), None)

    def yardstick(self, *size: int) -> Yardstick | None:
        packed = self.contents.yardstick
        return Yardstick(**dict(packed)) if packed else None

    def rounded(self, artifact: Path, precision: str, left_out: Container[str] = ()) -> Reference | None:
        if precision == Precision.FP16.value and format_key(artifact) in self._halves:
            return _Halves(self, self._halves[format_key(artifact)])
        if self.exact is None:
            return None
        names = [answer.sample.name for answer in self._answers if answer.sample.name not in left_out]
        return rounded_reference(self, self.exact, exact_samples(names), artifact, self._roundings)


class _Halves(Reference):
    """A pack's answers for weights that are rounded to halves."""

    def __init__(self, parent: PackReference, answers: Sequence[Answer]) -> None:
        self.source, self.weights = parent.source, parent.weights
        self._parent, self._answers = parent, answers

    def answers(self, *size: int) -> Sequence[Answer]:
        return [answer for answer in self._answers if answer.sample.image_size == size and not _is_other(answer)]

    def other_size(self) -> Answer | None:
        return next(filter(_is_other, self._answers), None)

    def yardstick(self, *size: int) -> Yardstick | None:
        return self._parent.yardstick(*size)


def write_pack(
    path: Path,
    checkpoint: Checkpoint,
    runtime: str,
    answers: Iterable[Answer],
    *,
    one_size: bool = False,
    yardstick: Yardstick | None = None,
    halves: Mapping[tuple[str, ...], Sequence[Answer]] = MappingProxyType({}),
) -> Contents:
    """Write a complete pack of expected outputs for a checkpoint. `Contents` describes `one_size`.

    `halves` are the answers for weights rounded to halves, by the formats that round them so.

    Raises OutputError if it cannot be written or would be larger than `LARGEST_FILE`.
    """
    answers = tuple(answers)
    contents = Contents(
        one_size=one_size,
        yardstick=None if yardstick is None else PackedYardstick(**vars(yardstick)),
        halves=tuple(
            PackedHalves(formats=formats, samples=tuple(_describe(answer, checkpoint.model) for answer in group))
            for formats, group in halves.items()
        ),
        model=checkpoint.model.name,
        weights=checkpoint.weights,
        checkpoint=checkpoint.sha256,
        runtime=runtime,
        versions={
            "sshtool": sshconvert.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
        },
        outputs=tuple(answers[0].outputs),
        samples=tuple(_describe(answer, checkpoint.model) for answer in answers),
    )
    with staged(path) as part:
        with zipfile.ZipFile(part, "w") as archive:
            left_out = None if one_size else {"one_size"}  # as in packs of other networks
            _add(archive, CONTENTS, contents.model_dump_json(indent=1, exclude=left_out).encode())
            folders = ["", *(packed.folder for packed in contents.halves)]
            for folder, group in zip(folders, (answers, *halves.values()), strict=True):
                for answer in group:
                    for name, array in answer.outputs.items():
                        _add(archive, folder + _member(answer.sample.name, name), _npy(array))
                        _require_room(part, path)  # before hours of packing
        _require_room(part, path)
    return contents


def _npy(array: Array) -> bytes:
    data = io.BytesIO()
    little = array.dtype.newbyteorder("<")
    _FORMAT.write_array(data, np.ascontiguousarray(array, little), (1, 0), allow_pickle=False)
    return data.getvalue()


def _require_room(part: Path, path: Path) -> None:
    if part.stat().st_size > LARGEST_FILE:
        raise OutputError(f"{path}: would have more than {LARGEST_FILE} bytes; use fewer --scenes or a smaller size")


def read_pack(path: Path, model: ModelSpec) -> PackReference:
    """Read a pack, draw its samples again, and check all of it.

    Raises ReferencePackError if the file is malformed, belongs to another model, or comes from a version with other
    images or another decoding.
    """
    try:
        data = read_small(path, LARGEST_FILE)
        archive = _Archive(io.BytesIO(data))
        contents = parse_json(Contents, archive.read(CONTENTS))
        _check_contents(contents, model, archive.names, path)
        answers = [_answer(archive, packed, contents, model, path) for packed in contents.samples]
        halves = {
            key: [_answer(archive, packed, contents, model, path, group.folder) for packed in group.samples]
            for group in contents.halves
            for key in group.formats
        }
        _check_one_size([*answers, *chain(*halves.values())], path)
    except (OSError, RefusedError, KeyError, ValueError) as error:
        other_type = mistaken(path, PACK)
        if isinstance(error, OSError) and not other_type:
            raise ReferencePackError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        why = f"it is {other_type}" if other_type else one_line(error)
        if "schema_version: " in why:
            why = "another version of sshtool made it"
        raise ReferencePackError(f"{path}: not a reference pack ({why}); make one with `sshtool reference`") from None
    return PackReference(contents, answers, path, bytes_sha256(data), halves)


def demo_pack(model: ModelSpec) -> PackReference:
    """Read the pack that ships with sshtool: the answers for the demo checkpoint at the model's own size."""
    return read_pack(demo_pack_path(), model)


def has_demo_pack(model: ModelSpec) -> bool:
    """Whether the pack that ships with sshtool is of this model."""
    return model.name == DEMO_MODEL


def demo_pack_path() -> Path:
    """Return the path of the pack that ships with sshtool."""
    return Path(__file__).with_name(DEMO_PACK)


def _describe(answer: Answer, model: ModelSpec) -> PackedSample:
    return PackedSample.model_validate(
        {
            "name": answer.sample.name,
            "exact": answer.exact,
            "shape": answer.sample.shape,
            "images_sha256": _sha256(answer.sample.feed),
            "detections": model.task.rows(answer.outputs, answer.sample.image_size),
        }
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    member.compress_type = zipfile.ZIP_LZMA
    archive.writestr(member, data)


class _Archive:
    """The members of a pack, checked before any is unpacked. Raises RefusedError."""

    def __init__(self, file: BinaryIO) -> None:
        members = read_members(file)
        # The constant answers to constant images compress without limit, so the ratio is not checked.
        check(members, ArchiveLimits((STORED, DEFLATED, LZMA), LARGEST_ANSWERS, ratio=math.inf))
        self._file = file
        self._members: dict[str, Member] = {member.name: member for member in members}
        self.names = tuple(self._members)
        if CONTENTS in self._members and (size := self._members[CONTENTS].unpacked) > LARGEST_CONTENTS:
            raise RefusedError(f"it claims {size} bytes of {CONTENTS}")

    def read(self, name: str) -> bytes:
        """Return a member's bytes. Raises KeyError if there is no such member."""
        return b"".join(stream(self._file, self._members[name]))


def _check_contents(contents: Contents, model: ModelSpec, listed: Sequence[str], path: Path) -> None:
    if contents.model != model.name or contents.outputs != model.output_names:
        raise ReferencePackError(
            f"{path}: is for {one_line(contents.model)} with other outputs than {model.name}; choose --model"
        )
    expected = {
        CONTENTS,
        *(_member(sample.name, name) for sample in contents.samples for name in contents.outputs),
        *(
            group.folder + _member(sample.name, name)
            for group in contents.halves
            for sample in group.samples
            for name in contents.outputs
        ),
    }
    if unexpected := sorted(expected.symmetric_difference(listed)):
        raise ReferencePackError(f"{path}: is not complete, or has unlisted members: {', '.join(unexpected[:5])}")
    names = [sample.name for sample in contents.samples]
    halves = [(key, sample.name) for group in contents.halves for key in group.formats for sample in group.samples]
    if len(set(names)) < len(names) or len(set(halves)) < len(halves):
        raise ReferencePackError(f"{path}: has answers for one sample twice; make the pack again")
    # A verdict needs all standard samples, because each shows other faults.
    other = () if contents.one_size else (OTHER,)
    standard = (*sample_names(), *other) if model.takes_image else sample_names(tensors=True)
    if missing := [name for name in standard if name not in names]:
        raise ReferencePackError(
            f"{path}: has no answers for {len(missing)} of the standard samples ({', '.join(missing)}); "
            "make a complete pack with `sshtool reference`"
        )


def _check_one_size(answers: Sequence[Answer], path: Path) -> None:
    """Require one size, because each size needs all standard samples."""
    sizes = sorted({answer.sample.image_size for answer in answers if not _is_other(answer)})
    if len(sizes) > 1:
        raise ReferencePackError(
            f"{path}: has samples of several sizes ({_sizes(sizes)}); make one pack for each with "
            "`sshtool reference --input-shape`"
        )


def _answer(
    archive: _Archive, packed: PackedSample, contents: Contents, model: ModelSpec, path: Path, folder: str = ""
) -> Answer:
    channels = packed.shape[-1] if model.takes_image else CHANNELS
    if math.prod(packed.shape) > CHANNELS * MOST_PIXELS or channels != CHANNELS:
        raise ReferencePackError(f"{path}: {packed.name} claims images of {packed.shape}; make the pack again")
    size = packed.shape[1:3] if model.takes_image else ()
    sample = draw_sample(packed.name, model, *size)
    if sample.shape != packed.shape or _sha256(sample.feed) != packed.images_sha256:
        raise ReferencePackError(
            f"{path}: {packed.name} was another image when the pack was made; make it again with this version"
        )
    outputs = {name: _array(archive.read(folder + _member(packed.name, name))) for name in contents.outputs}
    _check_detections(outputs, sample.image_size, packed, model, path)
    return Answer(sample, outputs, packed.exact)


def _array(data: bytes) -> Array:
    """Read a stored array. The size in its header is checked before memory is allocated."""
    header = _HEADER.match(data)
    if header is None or int.from_bytes(header[1], "little") != header.end() - 10:
        raise ValueError("an output is not float32 or an integer type in version 1.0 of NumPy's format")
    dtype = np.dtype(header[2].decode())
    shape = tuple(int(size) for size in header[3].split(b",") if size.strip())
    size = len(data) - header.end()
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an output claims {dtype.name} {shape} in {size} bytes")
    array = np.frombuffer(data, dtype, offset=header.end()).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("an output is not finite")
    return np.asarray(array, dtype.newbyteorder("="))


def _check_detections(outputs: Outputs, size: Size, packed: PackedSample, model: ModelSpec, path: Path) -> None:
    try:
        decoded = model.task.rows(outputs, size, None)
    except DetectionError as error:
        raise ReferencePackError(f"{path}: {packed.name}: {error}") from None
    for boxes, stored in zip(decoded, packed.detections, strict=True):
        lengths = [len(row) for row in boxes] == [len(row) for row in stored]
        if not lengths or np.abs(np.array(boxes) - np.array(stored)).max(initial=0) > SAME_DETECTION:
            raise ReferencePackError(
                f"{path}: {packed.name} decodes to other detections than when the pack was made; "
                "make it again with this version"
            )


def _member(sample: str, output: str) -> str:
    return f"{sample}/{output}.npy"


def _sha256(feed: Feed) -> str:
    """Return the hash of the images, or of all tensors in the model's order."""
    arrays = [feed] if isinstance(feed, np.ndarray) else feed.values()
    return bytes_sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def _is_other(answer: Answer) -> bool:
    return answer.sample.name == OTHER


def _sizes(sizes: Sequence[Size]) -> str:
    return ", ".join("x".join(map(str, size)) or "tensors" for size in sizes) or "no size"
