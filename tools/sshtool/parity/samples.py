"""The seeded images and tensors on which runtimes are compared, the same bytes on every machine.

They use only additions, multiplications and divisions of doubles, and NumPy's frozen random sequence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array, Doubles, Images
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshtool.bilinear import sample
from sshtool.demo.scenes import draw_scene
from sshtool.runtimes.base import Feed

# A batch of another size than the model's own, at which pooling rounds down and the network's Crop crops.
OTHER_SHAPE: Final = (2, 3, 250, 333)
OTHER_SEEDS: Final = (1000, 1001)
OTHER: Final = "batch-of-2"
SCENE: Final = "scene-"
COLOURS: Final = "colours"

NORMAL: Final = "normal-"
TENSOR_SEED: Final = 5000
MOST_INDEX: Final = 8  # of the values of an integer input
OTHER_TENSORS: Final = "other-size"

NOISE_SEED: Final = 2000
NOISE: Final = "noise"
BLOCKS: Final = "blocks"
BLOCKS_SEED: Final = 2500
BLOCK_SIZES: Final = (1, 2, 4, 12)  # in pixels, a quarter of the image each
TEXTURE: Final = "texture"
TEXTURE_SEED: Final = 3000
OCTAVES: Final = 8


@dataclass(frozen=True)
class Sample:
    """The inputs of one comparison, and its purpose.

    `feed` are images of one size, uint8 [N, H, W, 3], BGR, 0-255, or the tensors of a network that takes no image.
    """

    name: str
    purpose: str
    feed: Feed

    @property
    def images(self) -> Images:
        """The images of a network that takes them."""
        assert isinstance(self.feed, np.ndarray)
        return self.feed

    @property
    def is_pictured(self) -> bool:
        """Whether the sample is images."""
        return isinstance(self.feed, np.ndarray)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the images, or of the first tensor."""
        return self.feed.shape if isinstance(self.feed, np.ndarray) else next(iter(self.feed.values())).shape

    @property
    def image_size(self) -> tuple[int, ...]:
        """Height and width; () for tensors."""
        return self.images.shape[1:3] if self.is_pictured else ()


def sample_names(scenes: int = 2, *, tensors: bool = False) -> tuple[str, ...]:
    """Return the names of the samples: drawn scenes with the seeds 0, 1, …, and the images that are not scenes.

    With `tensors`, the names for a network that takes no image.

    No image is periodic. In a periodic image, cells have equal scores, and rounding decides which is suppressed.
    """
    if tensors:
        return (*(f"{NORMAL}{seed}" for seed in range(scenes)), *_FILLED)
    return (*(f"{SCENE}{seed}" for seed in range(scenes)), *_DRAWN, COLOURS)


def exact_samples(names: Sequence[str]) -> tuple[str, ...]:
    """Return the samples whose exact answers every verification computes: the one that most weights show in.

    Of the 58 measured filters of the demo network in which 0.1 % moves an output by 8 times its rounding on some
    sample, blocks show 54, noise shows 44. Where neither proves anything, it takes two.
    """
    for name in (BLOCKS, NOISE):
        if name in names:
            return (name,)
    ranked = (f"{SCENE}0", TEXTURE, f"{NORMAL}0", "wide")
    return tuple([name for name in ranked if name in names][:2])


def draw_tensors(name: str, model: ModelSpec, shapes: Mapping[str, Shape]) -> Sample:
    """Draw the sample `name` as tensors of these shapes. Raises KeyError for an unknown name."""
    seed = int(name.removeprefix(NORMAL)) if name.startswith(NORMAL) else 0
    purpose, fill = ("values around 0, half of them negative", _normal) if name.startswith(NORMAL) else _FILLED[name]
    feed: dict[str, Array] = {}
    for number, item in enumerate(model.inputs):
        # NumPy guarantees RandomState's sequence in all versions, but not that of newer generators.
        values = fill(np.random.RandomState(TENSOR_SEED + 100 * seed + number), shapes[item.name])
        if np.dtype(item.dtype).kind != "f":  # indices and counts
            values = np.abs(np.floor(values)) % MOST_INDEX
        feed[item.name] = values.astype(item.dtype)
    return Sample(name, purpose, feed)


def draw_sample(name: str, model: ModelSpec, *size: int) -> Sample:
    """Draw the sample `name` as one image of this height and width, or as tensors of the model's shapes.

    Raises KeyError for an unknown name.
    """
    if not model.takes_image:
        return draw_tensors(name, model, model.input_shapes)
    height, width = size
    if name == OTHER:
        return other_size()
    if name.startswith(SCENE):
        image = draw_scene(int(name.removeprefix(SCENE)), height, width).image
        return Sample(name, "drawn faces among clutter: detections", image[None])
    if name == COLOURS:
        purpose = "areas of one colour: exchanged channels, the mean, the biases"
        return Sample(name, purpose, _colours(height, width, model.image.mean_pixel)[None])
    kind, _, seed = name.partition("-") if name not in _DRAWN else (name, "", "")
    purpose, draw = _DRAWN[kind]
    if seed:
        draw = partial(_SEEDED[kind], seed=int(seed))
    return Sample(name, purpose, np.ascontiguousarray(draw(height, width)[None]))


def other_size() -> Sample:
    """Draw two different scenes as one batch of `OTHER_SHAPE`."""
    _, _, height, width = OTHER_SHAPE
    images = np.stack([draw_scene(seed, height, width).image for seed in OTHER_SEEDS])
    return Sample(OTHER, "another size, odd on its way down, and two images at once", images)


def _colours(height: int, width: int, mean: Sequence[int]) -> Images:
    """Draw two rows of three areas: the channels alone, then black, white and the mean."""
    image = np.empty((height, width, 3), np.uint8)
    colours = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 0, 0), (255, 255, 255), mean)
    rows, columns = (
        [slice(size * at // n, size * (at + 1) // n) for at in range(n)] for size, n in ((height, 2), (width, 3))
    )
    for (row, column), colour in zip(itertools.product(rows, columns), colours, strict=True):
        image[row, column] = colour
    return image


def seeded(seed: int | None, model: ModelSpec) -> dict[str, Callable[..., Sample]]:
    """Return further samples by name that are drawn with a seed: a scene, noise and a texture, or tensors."""
    if seed is None:
        return {}
    if not model.takes_image:
        return {f"{NORMAL}{seed}": partial(draw_sample, f"{NORMAL}{seed}", model)}
    names = (f"{SCENE}{seed}", f"{NOISE}-{seed}", f"{TEXTURE}-{seed}")
    return {name: partial(draw_sample, name, model) for name in names}


def _noise(height: int, width: int, seed: int = NOISE_SEED) -> Images:
    # NumPy guarantees RandomState's sequence in all versions, but not that of newer generators.
    noise: Images = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    return noise


def _blocks(height: int, width: int) -> Images:
    """Draw blocks of the eight colours whose channels are 0 or 255.

    They excite filters more than noise does: of 76 filters of the demo network, a fault in 48 changes an output most
    on such an image, up to 29 times as much as on any other sample.
    """
    random: Any = np.random.RandomState(BLOCKS_SEED)
    image = np.empty((height, width, 3), np.uint8)
    halves = [(slice(0, size // 2), slice(size // 2, size)) for size in (height, width)]
    quarters = [image[rows, columns] for rows in halves[0] for columns in halves[1]]
    for quarter, size in zip(quarters, BLOCK_SIZES, strict=True):
        rows, columns = (-(-pixels // size) for pixels in quarter.shape[:2])
        bits = random.randint(0, 2, (rows, columns, 3)).repeat(size, axis=0).repeat(size, axis=1)
        quarter[:] = 255 * bits[: quarter.shape[0], : quarter.shape[1]]
    return image


def _gradient_across(height: int, width: int) -> Images:
    """Draw a gradient from left to right: blue rises, green falls, and red rises and falls."""
    ramp = np.arange(width) * 255 // max(1, width - 1)
    row = np.stack([ramp, 255 - ramp, 255 - abs(2 * ramp - 255)], axis=-1).astype(np.uint8)
    return np.broadcast_to(row, (height, width, 3))


def _gradients(height: int, width: int) -> Images:
    """Draw a gradient across the upper half, and one down the lower half."""
    upper = height // 2
    return np.concatenate([_gradient_across(upper, width), np.swapaxes(_gradient_across(width, height - upper), 0, 1)])


def _texture(height: int, width: int, seed: int = TEXTURE_SEED) -> Images:
    """Add random grids of ever smaller cells and amplitudes, similar to the detail of photos."""
    random: Any = np.random.RandomState(seed)
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
    TEXTURE: ("as rough as a photo at every scale", _texture),
    NOISE: ("no structure: every weight takes part, and many boxes overlap", _noise),
    BLOCKS: ("saturated colours in blocks of four sizes: the filters that noise hardly excites", _blocks),
    "gradients": ("smooth, and different in each channel: a shift to the side, up or down", _gradients),
}

_SEEDED: Final = {NOISE: _noise, TEXTURE: _texture}


def _normal(random: Any, shape: Shape) -> Doubles:
    values: Doubles = random.standard_normal(shape)
    return values


def _ramp(_: Any, shape: Shape) -> Doubles:
    """Rise from -1 to 1 in the order of the elements: exchanged axes and places show."""
    size = math.prod(shape)
    return (np.arange(size) * 2 / max(1, size - 1) - 1).reshape(shape)


_FILLED: Final[dict[str, tuple[str, Callable[[Any, Shape], Doubles]]]] = {
    "uniform": ("from 0 to 1, as an image after normalisation", lambda random, shape: random.random_sample(shape)),
    "wide": ("values far from 0: activations that saturate", lambda random, shape: 16 * random.standard_normal(shape)),
    "ramp": ("every element differs: exchanged axes and places", _ramp),
    "zeros": ("a constant: the biases, and the padding at the borders", lambda _, shape: np.zeros(shape)),
    "ones": ("a constant: the padding at the borders", lambda _, shape: np.ones(shape)),
}
