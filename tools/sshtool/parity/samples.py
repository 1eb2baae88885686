"""The seeded images on which runtimes are compared, the same bytes on every machine.

They use only additions, multiplications and divisions of doubles, and NumPy's frozen random sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Doubles, Images
from sshconvert.models.spec import ModelSpec
from sshtool.bilinear import sample
from sshtool.demo.scenes import draw_scene

# A batch of another size than the model's own, at which pooling rounds down and the network's Crop crops.
OTHER_SHAPE: Final = (2, 3, 250, 333)
OTHER_SEEDS: Final = (1000, 1001)
OTHER: Final = "batch-of-2"
SCENE: Final = "scene-"
MEAN: Final = "mean"

NOISE_SEED: Final = 2000
NOISE: Final = "noise"
TEXTURE_SEED: Final = 3000
OCTAVES: Final = 8


@dataclass(frozen=True)
class Sample:
    """Images of one size, uint8 [N, H, W, 3], BGR, 0-255, and the purpose of the comparison on them."""

    name: str
    purpose: str
    images: Images

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1], self.images.shape[2]


def sample_names(scenes: int = 2) -> tuple[str, ...]:
    """Return the names of the samples: drawn scenes with the seeds 0, 1, …, and the images that are not scenes.

    No image is periodic. In a periodic image, cells have equal scores, and rounding decides which is suppressed.
    """
    return (*(f"{SCENE}{seed}" for seed in range(scenes)), *_DRAWN, MEAN)


def draw_sample(name: str, model: ModelSpec, height: int, width: int) -> Sample:
    """Draw the sample `name` as one image of this size. Raises KeyError for an unknown name."""
    if name == OTHER:
        return other_size()
    if name.startswith(SCENE):
        image = draw_scene(int(name.removeprefix(SCENE)), height, width).image
        return Sample(name, "drawn faces among clutter: detections", image[None])
    if name == MEAN:
        image = _constant(*model.image.mean_pixel)(height, width)
        return Sample(name, "nothing is left after the mean is subtracted: the biases", image[None])
    purpose, draw = _DRAWN[name]
    return Sample(name, purpose, np.ascontiguousarray(draw(height, width)[None]))


def other_size() -> Sample:
    """Draw two different scenes as one batch of `OTHER_SHAPE`."""
    _, _, height, width = OTHER_SHAPE
    images = np.stack([draw_scene(seed, height, width).image for seed in OTHER_SEEDS])
    return Sample(OTHER, "another size, odd on its way down, and two images at once", images)


def _constant(*colour: int) -> Callable[[int, int], Images]:
    def draw(height: int, width: int) -> Images:
        return np.full((height, width, 3), colour, np.uint8)

    return draw


def _noise(height: int, width: int) -> Images:
    # NumPy guarantees RandomState's sequence in all versions, but not that of newer generators.
    noise: Images = np.random.RandomState(NOISE_SEED).randint(0, 256, (height, width, 3)).astype(np.uint8)
    return noise


def _gradient_across(height: int, width: int) -> Images:
    """Draw a gradient from left to right: blue rises, green falls, and red rises and falls."""
    ramp = np.arange(width) * 255 // max(1, width - 1)
    row = np.stack([ramp, 255 - ramp, 255 - abs(2 * ramp - 255)], axis=-1).astype(np.uint8)
    return np.broadcast_to(row, (height, width, 3))


def _gradient_down(height: int, width: int) -> Images:
    return np.swapaxes(_gradient_across(width, height), 0, 1)


def _texture(height: int, width: int) -> Images:
    """Add random grids of ever smaller cells and amplitudes, similar to the detail of photos."""
    random: Any = np.random.RandomState(TEXTURE_SEED)
    canvas = np.full((height, width, 3), 128.0)
    for octave in range(OCTAVES):
        cells = 2 ** (octave + 1)
        grid = random.random_sample((cells + 2, cells + 2, 1)) - 0.5  # brightness, which dominates in photos
        grid = grid + (random.random_sample((cells + 2, cells + 2, 3)) - 0.5) * 0.4
        canvas += enlarge(grid, height, width) * (220 / 1.6**octave)
    image: Images = np.floor(np.clip(canvas, 0, 255)).astype(np.uint8)
    return image


def enlarge(grid: Doubles, height: int, width: int) -> Doubles:
    """Interpolate a grid [R, C, 3] to [height, width, 3]; its last row and column are margins."""
    rows, columns = (
        np.arange(size) * (cells - 2) / size for size, cells in ((height, grid.shape[0]), (width, grid.shape[1]))
    )
    return sample(grid, rows, columns)


_DRAWN: Final[dict[str, tuple[str, Callable[[int, int], Images]]]] = {
    "texture": ("as rough as a photo at every scale", _texture),
    NOISE: ("no structure: every weight takes part, and many boxes overlap", _noise),
    "gradient-across": ("smooth, and different in each channel: a shift to the side", _gradient_across),
    "gradient-down": ("smooth, and different in each channel: a shift up or down", _gradient_down),
    "red": ("one saturated channel: exchanged channels", _constant(0, 0, 255)),
    "green": ("one saturated channel: exchanged channels", _constant(0, 255, 0)),
    "blue": ("one saturated channel: exchanged channels", _constant(255, 0, 0)),
    "black": ("a constant: the mean, and the padding at the borders", _constant(0, 0, 0)),
    "white": ("a constant: the mean, and the padding at the borders", _constant(255, 255, 255)),
}
