"""What INT8 needs beside the checkpoint: images to calibrate on, and a limit to what it may cost.

The images come from a folder, letterboxed as `detect` does it. For the demo, which finds drawn faces only, they are
drawn scenes. INT8 costs the change of the task's quality measure from FP32. On scenes, the drawn faces are the truth;
on images without annotations, the results of FP32 are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.calibration import CalibrationImages, calibrate, rank_layers
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import CALIBRATION, CALIBRATION_IMAGES, DROP
from sshconvert.convert import Artifact, convert
from sshconvert.digest import bytes_sha256, file_sha256
from sshconvert.errors import ImageError, PrecisionError, UsageError
from sshconvert.files import scratch_folder
from sshconvert.libraries import NNCF, ONNXRUNTIME, PILLOW, Library
from sshconvert.messages import name_text
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, Options, Precision
from sshconvert.passes.int8 import Quantization
from sshconvert.reading import is_folder
from sshtool.demo.scenes import draw_scene
from sshtool.images import Resize, fit, reading
from sshtool.progress import Progress, silent
from sshtool.runtimes.loading import load
from sshtool.selection import select_images

# Scenes that nothing was fitted to, and that no test looks at.
CALIBRATION_SEEDS: Final = range(300_000, 300_030)
DROP_SEEDS: Final = range(400_000, 400_050)

MOST_IMAGES: Final = 300  # more do not change what the levels are
FEWEST_IMAGES: Final = 30  # fewer do not show all that the network computes with
_BLANK: Final = 8  # between the least and the largest value of each colour: such an image shows nothing
RANKING_IMAGES: Final = 4

# How many layers --max-drop may leave in float, tried one after the other; more would leave little of INT8.
ATTEMPTS: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class QuantizationOptions:
    """`calibration_data` is a folder of images. `max_drop` is how many points of AP@0.5 INT8 may lose, None for any."""

    calibration_data: Path | None = None
    max_drop: float | None = None


def quantization_for(
    checkpoint: Checkpoint,
    options: Options,
    wanted: QuantizationOptions,
    *,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda _: None,
) -> Quantization | None:
    """The quantization for what `options` want; None if that is not INT8. `note` gets what to know about it.

    Raises UsageError, ImageError, PrecisionError if the drop cannot be kept, RuntimeUnavailableError.
    """
    if Precision.INT8 not in options.precisions:
        return None
    check(checkpoint, options, wanted)
    seen: dict[int, str] = {}
    images = calibration_images(checkpoint.model, options, wanted.calibration_data, seen)
    quantization = calibrate(checkpoint, options, images, progress=progress)
    different = len(set(seen.values()) - {""})
    if wanted.calibration_data and different < FEWEST_IMAGES:
        note(
            f"INT8 was calibrated on {images.count} images, of which {different} are different and not blank: it may "
            f"be poor on others; give at least {FEWEST_IMAGES} such as the detector will see"
        )
    if wanted.max_drop is None:
        return quantization
    measured = images if wanted.calibration_data else _scenes(options, checkpoint.model, DROP_SEEDS)
    return _Search(checkpoint, options, measured, wanted, progress).within(quantization, images)


def quantization_needs(options: Options, wanted: QuantizationOptions) -> tuple[Library, ...]:
    """The libraries that quantisation needs."""
    if Precision.INT8 not in options.precisions:
        return ()
    return (NNCF, ONNXRUNTIME, *((PILLOW,) if wanted.calibration_data else ()))


def check(checkpoint: Checkpoint, options: Options, wanted: QuantizationOptions) -> None:
    """Refuse what contradicts itself or is missing, before minutes of work. Raises UsageError."""
    if Precision.INT8 not in options.precisions:
        if wanted != QuantizationOptions():
            raise UsageError("--calibration-data and --max-drop are for INT8; add it to --precision")
        return
    if wanted.max_drop is not None and not 0 <= wanted.max_drop <= 100:
        raise UsageError(f"--max-drop: {wanted.max_drop:g} is not from 0 to 100 points of average precision")
    if wanted.max_drop is not None and not checkpoint.model.task.quality_measure:
        raise UsageError(f"--max-drop: the task {checkpoint.model.task.kind} has no measure of quality; leave it out")
    if wanted.calibration_data is None and not checkpoint.is_demo:
        raise UsageError(
            "--precision INT8: needs images such as the detector will see, some 30 to 300; "
            "name their folder with --calibration-data"
        )


def calibration_images(
    model: ModelSpec, options: Options, folder: Path | None, seen: dict[int, str] | None = None
) -> CalibrationImages:
    """Those of a folder, at most 300 of them, evenly over all; drawn scenes without one.

    `seen` gets a digest of each image of the folder that has been read, as the network sees it, "" for a blank one.

    Raises UsageError for a folder that is none or that holds no images.
    """
    if folder is None:
        return _scenes(options, model, CALIBRATION_SEEDS)
    if not is_folder(folder):
        raise UsageError(f"--calibration-data: {folder} is not a folder; name one that holds images")
    found = select_images([folder])
    count = min(len(found), MOST_IMAGES)
    paths = [found[number * len(found) // count] for number in range(count)]
    size = _size(options, model)

    def read(number: int) -> Pixels:
        with reading(paths[number]) as image:
            pixels = fit(image, *size, Resize.LETTERBOX, model.image.mean_pixel)[0]
            if seen is not None and number not in seen:
                blank = int(np.ptp(image, axis=(0, 1)).max()) <= _BLANK
                seen[number] = "" if blank else bytes_sha256(pixels.tobytes())
        return pixels

    hashes = ", ".join(f"{name_text(path.name)} sha256:{_hash(path)}" for path in paths)
    return CalibrationImages(len(paths), read, {CALIBRATION: f"{len(paths)} images", CALIBRATION_IMAGES: hashes})


def _scenes(options: Options, model: ModelSpec, seeds: range) -> CalibrationImages:
    size = _size(options, model)
    what = f"{len(seeds)} drawn scenes, seeds {seeds[0]} to {seeds[-1]}"
    return CalibrationImages(len(seeds), lambda number: draw_scene(seeds[number], *size).image, {CALIBRATION: what})


def _size(options: Options, model: ModelSpec) -> tuple[int, int]:
    _, _, height, width = options.input_shape or model.image_input.shape
    return height, width


def _hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); remove it, or change its permissions") from None


class _Search:
    """Measures what INT8 loses, and leaves layers in float until it is little enough."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: Options,
        images: CalibrationImages,
        wanted: QuantizationOptions,
        progress: Progress,
    ) -> None:
        self.checkpoint, self.images, self.progress = checkpoint, images, progress
        self.wanted, self.task = wanted, checkpoint.model.task
        _, channels, *size = options.input_shape or checkpoint.model.image_input.shape
        # One image at a time, and the bare outputs: post-processing inside does not change the results.
        self.options = replace(options, input_shape=(1, channels, *size), dynamic=Dynamic.NOTHING, postprocessing=None)
        self.truths, self.best = self.measure_float()

    def within(self, quantization: Quantization, ranked_on: CalibrationImages) -> Quantization:
        """The quantization, or one with as few layers in float as will do. Raises PrecisionError."""
        assert self.wanted.max_drop is not None  # otherwise there is nothing to search
        drops = [self.drop(quantization)]
        if drops[0] <= self.wanted.max_drop:
            return self.recorded(quantization, drops[0])
        few = replace(ranked_on, count=min(ranked_on.count, RANKING_IMAGES))
        self.progress("INT8: ranking the layers by their error")
        worst = rank_layers(self.checkpoint, self.options, quantization, few)
        for count in ATTEMPTS:
            tried = quantization.without(worst[:count])
            drops.append(self.drop(tried))
            if drops[-1] <= self.wanted.max_drop:
                return self.recorded(tried, drops[-1])
        raise PrecisionError(
            f"--max-drop: INT8 loses {drops[0]:.2f} points of {self.task.quality_measure}, and still {min(drops):.2f} "
            f"with up to {ATTEMPTS[-1]} layers in float, more than {self.wanted.max_drop:g}; allow more, give more and "
            "other images, or convert to FP16"
        )

    def recorded(self, quantization: Quantization, drop: float) -> Quantization:
        measured = f"{drop:.3f} points of {self.task.quality_measure} on {self.images.record[CALIBRATION]}"
        said = f"{measured}, {self.wanted.max_drop:g} allowed"
        return replace(quantization, record={**quantization.record, DROP: said})

    def measure_float(self) -> tuple[Sequence[Any], float]:
        """The truth for each image, and the quality of FP32."""
        options = replace(self.options, formats=self.options.formats[:1], precisions=(Precision.FP32,))
        with scratch_folder() as folder:
            (artifact,) = convert(self.checkpoint, folder, options)
            results = self.results(artifact)
        if self.wanted.calibration_data is None:
            size = _size(self.options, self.checkpoint.model)
            truths: Sequence[Any] = [draw_scene(seed, *size).faces for seed in DROP_SEEDS]
        else:
            truths = self.task.truths(results)
        if not any(map(len, truths)):
            raise PrecisionError("--max-drop: FP32 finds nothing in the images, so nothing can be lost; give others")
        return truths, self.task.quality(results, truths)

    def drop(self, quantization: Quantization) -> float:
        """What is lost, in points, by the format that loses more."""
        options = replace(self.options, precisions=(Precision.INT8,))
        with scratch_folder() as folder:
            made = convert(self.checkpoint, folder, options, quantization=quantization)
            found = [self.results(artifact) for artifact in made]
        return max(100 * (self.best - self.task.quality(results, self.truths)) for results in found)

    def results(self, artifact: Artifact) -> list[Any]:
        """The result of an artifact for each image."""
        model, size = self.checkpoint.model, _size(self.options, self.checkpoint.model)
        label = f"average precision, {artifact.format} {artifact.precision.value}"
        runtime = load(artifact.path, model)
        results = []
        for number in range(self.images.count):
            self.progress(label, number, self.images.count)
            results += self.task.decode(runtime.run(self.images.read(number)[None]), size)
        return results
