"""Drawn scenes with drawn faces: seeded images for the demo, the tests and the benchmarks.

A seed gives the same image on every platform. A scene uses only additions, multiplications, divisions and square roots
of doubles, which IEEE 754 defines exactly, and random numbers whose sequence NumPy guarantees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Doubles, Floats, Pixels
from sshtool.bilinear import sample

Colour = Doubles  # B, G, R, 0-255

SMALLEST_FACE: Final = 24  # pixels in height
MOST_FACES: Final = 8


@dataclass(frozen=True)
class Scene:
    """An image, uint8 [H, W, 3], BGR, and its faces, float32 [K, 4]: x1, y1, x2, y2 in pixels, corners included."""

    image: Pixels
    faces: Floats


def draw_scene(seed: int, height: int = 640, width: int = 640) -> Scene:
    """Draw the scene of a seed: a background, shapes other than faces, and one to eight faces."""
    return _Painter(seed, height, width).scene()


def draw_portrait(identity: int, shot: int, size: int = 112) -> Pixels:
    """Draw the face of a seed on a background of another: an aligned crop, uint8 [size, size, 3], BGR.

    `identity` decides the features, `shot` the place, the light, the background and the grain.
    """
    painter = _Painter(shot, size, size)
    painter.background()
    middle = (size - 1) / 2
    x, y = (middle + painter.uniform(-0.02, 0.02) * size for _ in range(2))
    height, light = 0.46 * size * painter.uniform(0.97, 1.03), painter.uniform(0.9, 1.1)
    own, painter.random = painter.random, np.random.RandomState(identity)
    painter.face(x, y, height * painter.uniform(0.78, 0.92), height)
    painter.random = own
    painter.canvas *= light
    painter.grain()
    return painter.image()


def draw_coloured(colour: tuple[int, ...], seed: int, height: int, width: int) -> Pixels:
    """Draw an image of one colour, B, G, R, 0-255, with shapes of other colours on it: uint8 [height, width, 3]."""
    painter = _Painter(seed, height, width)
    painter.canvas[:] = colour
    painter.canvas += [painter.uniform(-24, 24) for _ in range(3)]
    for _ in range(painter.random.randint(2, 16)):
        painter.clutter()
    painter.grain()
    return painter.image()


class _Painter:
    def __init__(self, seed: int, height: int, width: int) -> None:
        self.random: Any = np.random.RandomState(seed)  # NumPy guarantees the sequence of this generator only
        self.height, self.width = height, width
        self.canvas = np.zeros((height, width, 3))

    def scene(self) -> Scene:
        self.background()
        for _ in range(self.random.randint(8, 25)):
            self.clutter()
        faces: list[tuple[float, float, float, float]] = []
        for _ in range(self.random.randint(1, MOST_FACES + 1)):
            face = self.place(faces)
            if face is not None:
                self.face(*face)
                faces.append(face)
        self.grain()
        return Scene(self.image(), np.array([_bounds(*face) for face in faces], np.float32).reshape(-1, 4))

    def image(self) -> Pixels:
        """The canvas in whole numbers."""
        image: Pixels = np.floor(np.clip(self.canvas, 0, 255) + 0.5).astype(np.uint8)
        return image

    def uniform(self, low: float, high: float) -> float:
        return float(low + (high - low) * self.random.random_sample())

    def colour(self) -> Colour:
        colour: Colour = self.random.random_sample(3) * 255
        return colour

    def skin(self) -> Colour:
        light = self.uniform(0.45, 1.0)
        return np.array([self.uniform(120, 160), self.uniform(160, 190), self.uniform(215, 245)]) * light

    def background(self) -> None:
        """A smooth field of colours, interpolated from a coarse random grid."""
        grid = self.random.random_sample((5, 5, 3)) * 200 + 20
        rows, columns = np.linspace(0, 3.999, self.height), np.linspace(0, 3.999, self.width)
        self.canvas[:] = sample(grid, rows, columns)

    def clutter(self) -> None:
        """A rectangle, a line or an ellipse, sometimes skin-coloured, which a detector must not detect."""
        shape = self.random.randint(4)
        x, y = self.uniform(0, self.width), self.uniform(0, self.height)
        size = self.uniform(10, 180)
        if shape == 0:
            self.box(x, y, size, self.uniform(10, 180), self.colour())
        elif shape == 1:
            self.box(x, y, self.uniform(150, 500), self.uniform(2, 10), self.colour())
        elif shape == 2:
            self.box(x, y, self.uniform(2, 10), self.uniform(150, 500), self.colour())
        else:
            colour = self.skin() if self.random.randint(3) == 0 else self.colour()
            self.ellipse(x, y, size / 2, size / 2 * self.uniform(0.5, 1.6), colour)

    def place(self, faces: list[tuple[float, float, float, float]]) -> tuple[float, float, float, float] | None:
        """Centre and radii of a face inside the image that overlaps no other; None after 20 attempts."""
        for _ in range(20):
            octave = self.random.randint(7) // 2  # 24-48, 48-96, 96-192 pixels equally often, 192-384 half as often
            height = min(SMALLEST_FACE * 2**octave * self.uniform(1, 2), 0.8 * min(self.height, self.width))
            radius_y, radius_x = height / 2, height / 2 * self.uniform(0.78, 0.92)
            x = self.uniform(radius_x + 2, self.width - radius_x - 3)
            y = self.uniform(radius_y + 2, self.height - radius_y - 3)
            if all(abs(x - a) > radius_x + c + 3 or abs(y - b) > radius_y + d + 3 for a, b, c, d in faces):
                return x, y, radius_x, radius_y
        return None

    def face(self, x: float, y: float, radius_x: float, radius_y: float) -> None:
        """Hair, skin, eyes with pupils, brows, a nose and a mouth, all relative to the outline."""
        skin, dark = self.skin(), np.array([1.0, 1.0, 1.0]) * self.uniform(10, 60)
        self.ellipse(x, y, radius_x, radius_y, dark)
        self.ellipse(x, y + 0.06 * radius_y, 0.93 * radius_x, 0.94 * radius_y, skin)
        eye_y, eye_x = y - self.uniform(0.12, 0.22) * radius_y, self.uniform(0.36, 0.44) * radius_x
        for side in (-1, 1):
            self.ellipse(x + side * eye_x, eye_y, 0.2 * radius_x, 0.13 * radius_y, np.array([245.0, 245.0, 245.0]))
            self.ellipse(x + side * eye_x, eye_y, 0.1 * radius_x, 0.11 * radius_y, dark * 0.5)
            self.box(x + side * eye_x, eye_y - 0.22 * radius_y, 0.42 * radius_x, 0.07 * radius_y, dark)
        self.ellipse(x, y + 0.18 * radius_y, 0.09 * radius_x, 0.18 * radius_y, skin * 0.75)
        mouth = np.array([self.uniform(50, 90), self.uniform(40, 80), self.uniform(140, 200)])
        self.ellipse(
            x, y + 0.55 * radius_y, self.uniform(0.3, 0.42) * radius_x, self.uniform(0.07, 0.14) * radius_y, mouth
        )

    def grain(self) -> None:
        """Fine noise like a camera's."""
        self.canvas += (self.random.random_sample(self.canvas.shape) - 0.5) * self.uniform(0, 16)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        rows, columns = self.window(x, y, radius_x, radius_y)
        across, down = (columns - x)[None, :] / radius_x, (rows - y)[:, None] / radius_y
        distance = (np.sqrt(across * across + down * down) - 1) * min(radius_x, radius_y)
        self.blend(rows, columns, np.clip(0.5 - distance, 0, 1), colour)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        rows, columns = self.window(x, y, width / 2, height / 2)
        across = np.clip(width / 2 + 0.5 - np.abs(columns - x), 0, 1)
        down = np.clip(height / 2 + 0.5 - np.abs(rows - y), 0, 1)
        self.blend(rows, columns, across[None, :] * down[:, None], colour)

    def window(self, x: float, y: float, reach_x: float, reach_y: float) -> tuple[Colour, Colour]:
        """Rows and columns of the pixels that a shape around (x, y) may cover."""
        top, left = max(0, int(y - reach_y) - 2), max(0, int(x - reach_x) - 2)
        bottom, right = min(self.height, int(y + reach_y) + 3), min(self.width, int(x + reach_x) + 3)
        return np.arange(top, bottom, dtype=np.float64), np.arange(left, right, dtype=np.float64)

    def blend(self, rows: Colour, columns: Colour, coverage: Colour, colour: Colour) -> None:
        if rows.size and columns.size:
            part = self.canvas[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
            part += (colour - part) * coverage[:, :, None]


def _bounds(x: float, y: float, radius_x: float, radius_y: float) -> tuple[float, float, float, float]:
    return x - radius_x, y - radius_y, x + radius_x, y + radius_y
