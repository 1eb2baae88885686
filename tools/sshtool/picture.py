"""A picture of an image with its detections."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Pixels
from sshconvert.files import staged
from sshconvert.libraries import PILLOW, importing
from sshconvert.tasks.results import Box, landmarks_of, score_of

if TYPE_CHECKING:
    from PIL import Image as PillowImage

BOX: Final = (0, 230, 60)
LANDMARK: Final = (255, 90, 60)
TEXT: Final = (0, 0, 0)


def save_picture(path: Path, image: Pixels, boxes: Iterable[Box], *, least: float = 0) -> None:
    """Save an image (uint8 [H, W, 3], BGR) as PNG, with the boxes, scores and landmarks from the score `least` on.

    Raises RuntimeUnavailableError without Pillow, OutputError if the file cannot be written.
    """
    picture = drawn(image, boxes, least=least)
    with staged(path) as part:
        picture.save(part, format="PNG")


def drawn(image: Pixels, boxes: Iterable[Box], *, least: float = 0) -> PillowImage.Image:
    """Return the picture that `save_picture` saves. Raises RuntimeUnavailableError without Pillow."""
    with importing(PILLOW):
        from PIL import Image, ImageDraw, ImageFont
    picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for box in boxes:
        if score_of(box) < least:
            continue
        x1, y1, x2, y2, score, *_ = box
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=BOX, width=2)
        reach = max(2, (x2 - x1) / 40)  # of a landmark's dot
        for x, y in landmarks_of(box):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=LANDMARK, outline=TEXT)
        label = f"{score:.2f}"
        left, top, right, bottom = draw.textbbox((x1, max(0, y1 - 18)), label, font=font)
        draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=BOX)
        draw.text((x1, max(0, y1 - 18)), label, fill=TEXT, font=font)
    return picture
