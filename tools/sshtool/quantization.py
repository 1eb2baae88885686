"""Calibration images for INT8, and the search for a quantization within `--max-drop`.

Calibration images come from a folder, framed as `detect` and `predict` do it. The demo checkpoint, which finds drawn
faces only, is calibrated on drawn scenes. The drop is the difference between FP32 and INT8 in the task's quality
measure. On scenes, the drawn faces are the ground truth; on images without annotations, the results of FP32 are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sshconvert.arrays import Pixels
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
from sshconvert.reading import is_folder
from sshtool.progress import Progress, silent

if TYPE_CHECKING:
    from sshconvert.calibration import CalibrationImages
    from sshconvert.passes.int8 import Quantization

# Neither the demo checkpoint's fitting nor a test uses these scenes.
CALIBRATION_SEEDS: Final = range(300_000, 300_030)
DROP_SEEDS: Final = range(400_000, 400_050)

MOST_IMAGES: Final = 300  # more do not change the quantization levels
FEWEST_IMAGES: Final = 30  # fewer do not cover the range of activations
_BLANK: Final = 8  # the largest range of values in each colour of a blank image
RANKING_IMAGES: Final = 4

# The numbers of layers that --max-drop tries in float, in order. More layers in float would gain little over FP32.
ATTEMPTS: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class QuantizationOptions:
    """`calibration_data` is a folder of images. `max_drop` is the allowed loss in points of quality, None for any."""

    calibration_data: Path | None = None
    max_drop: float | None = None


def quantization_for(
    checkpoint: Checkpoint,
    options: Options,
    int8: QuantizationOptions,
    *,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda _: None,
) -> Quantization | None:
    """Calibrate, and keep to `int8.max_drop`. Returns None unless `options` ask for INT8. `note` receives warnings.

    Raises UsageError, ImageError, RuntimeUnavailableError, and PrecisionError if INT8 loses more than `max_drop`.
    """
    if Precision.INT8 not in options.precisions:
        return None
    from sshconvert.calibration import calibrate

    check(checkpoint, options, int8)
    digests: dict[int, str] = {}
    images = calibration_images(checkpoint.model, options, int8.calibration_data, digests)
    quantization = calibrate(checkpoint, options, images, progress=progress)
    different = len(set(digests.values()) - {""})
    if int8.calibration_data and different < FEWEST_IMAGES:
        note(
            f"INT8 was calibrated on {images.count} images, of which {different} are different and not blank: it may "
            f"be poor on others; give at least {FEWEST_IMAGES} such as the detector will see"
        )
    if int8.max_drop is None:
        return quantization
    measured = images if int8.calibration_data else _scenes(options, checkpoint.model, DROP_SEEDS)
    return _LayerSearch(checkpoint, options, measured, int8, progress).within(quantization, images)


def quantization_needs(options: Options, int8: QuantizationOptions) -> tuple[Library, ...]:
    """The libraries that quantization needs."""
    if Precision.INT8 not in options.precisions:
        return ()
    return (NNCF, ONNXRUNTIME, *((PILLOW,) if int8.calibration_data else ()))


def check(checkpoint: Checkpoint, options: Options, int8: QuantizationOptions) -> None:
    """Refuse contradictory or missing options before minutes of work. Raises UsageError."""
    if Precision.INT8 not in options.precisions:
        if int8 != QuantizationOptions():
            raise UsageError("--calibration-data and --max-drop are for INT8; add it to --precision")
        return
    if not checkpoint.model.takes_image:
        raise UsageError(
            f"--precision INT8: calibration needs a network that takes an image, and {checkpoint.model.name} takes "
            "tensors; convert to FP16, or describe the input with --color"
        )
    if int8.max_drop is not None and not 0 <= int8.max_drop <= 100:
        raise UsageError(f"--max-drop: {int8.max_drop:g} is not from 0 to 100 points")
    if int8.max_drop is not None and not checkpoint.model.task.quality_measure:
        raise UsageError(f"--max-drop: the task {checkpoint.model.task.kind} has no measure of quality; leave it out")
    if int8.calibration_data is None and not checkpoint.is_demo:
        raise UsageError(
            "--precision INT8: needs images such as the detector will see, some 30 to 300; "
            "name their folder with --calibration-data"
        )


def calibration_images(
    model: ModelSpec, options: Options, folder: Path | None, digests: dict[int, str] | None = None
) -> CalibrationImages:
    """At most `MOST_IMAGES` images of a folder, spread evenly over it; drawn scenes without a folder.

    `digests` receives the SHA-256 of each image of the folder as the network reads it, "" for a blank image.

    Raises UsageError if `folder` is no folder or holds no images.
    """
    from sshconvert.calibration import CalibrationImages
    from sshtool.framing import framed
    from sshtool.images import reading
    from sshtool.selection import select_images

    if folder is None:
        return _scenes(options, model, CALIBRATION_SEEDS)
    if not is_folder(folder):
        raise UsageError(f"--calibration-data: {folder} is not a folder; name one that holds images")
    available = [image for image in select_images([folder]) if isinstance(image, Path)]  # a folder gives no URLs
    count = min(len(available), MOST_IMAGES)
    paths = [available[number * len(available) // count] for number in range(count)]
    size = _size(options, model)

    def read(number: int) -> Pixels:
        with reading(paths[number]) as image:
            pixels = framed(image, *size, model.task, model.image.mean_pixel)
            if digests is not None and number not in digests:
                blank = int(np.ptp(image, axis=(0, 1)).max()) <= _BLANK
                digests[number] = "" if blank else bytes_sha256(pixels.tobytes())
        return pixels

    hashes = ", ".join(f"{name_text(path.name)} sha256:{_hash(path)}" for path in paths)
    return CalibrationImages(len(paths), read, {CALIBRATION: f"{len(paths)} images", CALIBRATION_IMAGES: hashes})


def _scenes(options: Options, model: ModelSpec, seeds: range) -> CalibrationImages:
    from sshconvert.calibration import CalibrationImages
    from sshtool.demo.scenes import draw_scene

    size = _size(options, model)
    text = f"{len(seeds)} drawn scenes, seeds {seeds[0]} to {seeds[-1]}"
    return CalibrationImages(len(seeds), lambda number: draw_scene(seeds[number], *size).image, {CALIBRATION: text})


def _size(options: Options, model: ModelSpec) -> tuple[int, int]:
    _, _, height, width = options.input_shape or model.image_shape
    return height, width


def _hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); remove it, or change its permissions") from None


class _LayerSearch:
    """Measures the drop of INT8, and keeps more and more layers in float until the drop is within `max_drop`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: Options,
        images: CalibrationImages,
        int8: QuantizationOptions,
        progress: Progress,
    ) -> None:
        self.checkpoint, self.images, self.progress = checkpoint, images, progress
        self.int8, self.task = int8, checkpoint.model.task.for_quality()
        _, channels, *size = options.input_shape or checkpoint.model.image_shape
        # A batch of one, without post-processing inside: neither changes the results.
        self.options = replace(options, input_shape=(1, channels, *size), dynamic=Dynamic.NOTHING, postprocessing=None)
        self.truths, self.best = self.measure_float()

    def within(self, quantization: Quantization, ranked_on: CalibrationImages) -> Quantization:
        """The quantization, or the first of `ATTEMPTS` that keeps to `max_drop`. Raises PrecisionError."""
        from sshconvert.calibration import rank_layers

        assert self.int8.max_drop is not None  # the caller checks it
        drops = [self.drop(quantization)]
        if drops[0] <= self.int8.max_drop:
            return self.recorded(quantization, drops[0])
        few = replace(ranked_on, count=min(ranked_on.count, RANKING_IMAGES))
        self.progress("INT8: ranking the layers by their error")
        worst = rank_layers(self.checkpoint, self.options, quantization, few)
        for count in ATTEMPTS:
            attempt = quantization.without(worst[:count])
            drops.append(self.drop(attempt))
            if drops[-1] <= self.int8.max_drop:
                return self.recorded(attempt, drops[-1])
        raise PrecisionError(
            f"--max-drop: INT8 loses {drops[0]:.2f} points of {self.task.quality_measure}, and still {min(drops):.2f} "
            f"with up to {ATTEMPTS[-1]} layers in float, more than {self.int8.max_drop:g}; allow more, give more and "
            "other images, or convert to FP16"
        )

    def recorded(self, quantization: Quantization, drop: float) -> Quantization:
        measured = f"{drop:.3f} points of {self.task.quality_measure} on {self.images.record[CALIBRATION]}"
        text = f"{measured}, {self.int8.max_drop:g} allowed"
        return replace(quantization, record={**quantization.record, DROP: text})

    def measure_float(self) -> tuple[Sequence[Any], float]:
        """The ground truth of each image, and the quality of FP32."""
        options = replace(self.options, formats=self.options.formats[:1], precisions=(Precision.FP32,))
        with scratch_folder() as folder:
            (artifact,) = convert(self.checkpoint, folder, options)
            results = self.results(artifact)
        from sshtool.demo.network import detects_faces

        if self.int8.calibration_data is None and detects_faces(self.checkpoint.model):
            size = _size(self.options, self.checkpoint.model)
            from sshtool.demo.scenes import draw_scene

            truths: Sequence[Any] = [draw_scene(seed, *size).faces for seed in DROP_SEEDS]
        else:
            truths = self.task.truths(results)
        if not any(map(len, truths)):
            raise PrecisionError("--max-drop: FP32 finds nothing in the images, so nothing can be lost; give others")
        return truths, self.task.quality(results, truths)

    def drop(self, quantization: Quantization) -> float:
        """The drop in points, of the format that loses more."""
        options = replace(self.options, precisions=(Precision.INT8,))
        with scratch_folder() as folder:
            artifacts = convert(self.checkpoint, folder, options, quantization=quantization)
            qualities = [self.task.quality(self.results(artifact), self.truths) for artifact in artifacts]
        # Rounded, because 1 - 0.98 is more than 0.02.
        return round(max(100 * (self.best - quality) for quality in qualities), 9)

    def results(self, artifact: Artifact) -> list[Any]:
        size = _size(self.options, self.checkpoint.model)
        label = f"{self.task.quality_measure}, {artifact.format} {artifact.precision.value}"
        from sshtool.runtimes.loading import load

        runtime = load(artifact.path, self.checkpoint.model)
        results = []
        for number in range(self.images.count):
            self.progress(label, number, self.images.count)
            results += self.task.decode(runtime.run(self.images.read(number)[None]), size)
        return results
