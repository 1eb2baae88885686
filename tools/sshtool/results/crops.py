"""Cut-outs of the detections of an image.

A detection with five landmarks (eyes, nose, corners of the mouth) gives an aligned face of 112x112 pixels: the
rotation, scaling and shift that moves its landmarks as close as possible to those of InsightFace's ArcFace template
(least squares, Umeyama 1991). Networks for face recognition take such faces. Other detections give their box with a
margin.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from sshconvert.arrays import Doubles, Pixels
from sshconvert.files import staged
from sshconvert.libraries import PILLOW, importing
from sshtool.results.outcomes import Detected, Detection, ImageJob

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN: Final = 0.2  # the usual share of a box's longer side
SIZE: Final = 112  # pixels of a side of an aligned face
# The landmarks of an aligned face: x and y of pixel centres.
TEMPLATE: Final = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)


def save_crop(path: Path, image: Pixels, detection: Detection, *, margin: float, last_pixel: int) -> None:
    """Save the cut-out of a detection in an image, uint8 [H, W, 3], BGR, as PNG.

    `margin` is the share of the box's longer side that is added on each side, as far as the image reaches. `last_pixel`
    is 1 for boxes with their corner pixels included, otherwise 0. Raises OutputError if the file cannot be written, and
    RuntimeUnavailableError without Pillow.
    """
    if len(detection.landmarks) == len(TEMPLATE):
        crop = aligned(image, np.array(detection.landmarks))
    else:
        crop = _picture(_part(image, detection.box, margin, last_pixel))
    with staged(path) as part:
        crop.save(part, format="PNG")


def save_crops(job: ImageJob, image: Pixels, done: Detected, last_pixel: int) -> Detected:
    """Save the cut-outs of an image's detections, and return the same with their files."""
    if job.crops is None:
        return done
    files = tuple(job.crops / f"{done.name}-{number}.png" for number in range(1, len(done.detections) + 1))
    for file, detection in zip(files, done.detections, strict=True):
        save_crop(file, image, detection, margin=job.margin, last_pixel=last_pixel)
    return replace(done, crops=files)


def similarity(points: Doubles, targets: Doubles) -> Doubles:
    """Return [2, 3]: the rotation, scaling and shift of `points` [P, 2] that comes closest to `targets`.

    Equal points, which have no size, give a scaling of 0.
    """
    middle, target_middle = points.mean(axis=0), targets.mean(axis=0)
    centred, target_centred = points - middle, targets - target_middle
    # The plane as complex numbers: the best factor is the projection of the targets on the points.
    plane, target_plane = centred @ (1, 1j), target_centred @ (1, 1j)
    size = (np.abs(plane) ** 2).sum()
    factor = (plane.conj() @ target_plane) / size if size else 0
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, target_middle - turn @ middle])


def aligned(image: Pixels, landmarks: Doubles) -> Image:
    """Return the face with these landmarks, [5, 2] in pixels of the image, moved to those of the template.

    Pixels outside of the image are black.
    """
    with importing(PILLOW):
        from PIL import Image
    forward = similarity(landmarks, TEMPLATE)
    determinant = np.linalg.det(forward[:, :2])
    if determinant <= 0:
        return Image.new("RGB", (SIZE, SIZE))
    backward = np.linalg.inv(forward[:, :2])
    shift = backward @ (-forward[:, 2])
    # Pillow's coordinates begin at the corner of a pixel, those of landmarks at its centre.
    shift = shift + 0.5 - backward @ (0.5, 0.5)
    corners = np.array([(0, 0), (SIZE, 0), (0, SIZE), (SIZE, SIZE)]) @ backward.T + shift
    step = max(1, int(1 / np.sqrt(determinant)))  # pixels of the image in one of the face, which are averaged
    left, top = np.clip(np.floor(corners.min(axis=0)) - 2 * step, 0, image.shape[1::-1]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2 * step, 0, image.shape[1::-1]).astype(int)
    if left >= right or top >= bottom:
        return Image.new("RGB", (SIZE, SIZE))
    part = _picture(image[top:bottom, left:right]).reduce(step)
    (a, b), (d, e) = backward / step
    c, f = (shift - (left, top)) / step
    return part.transform((SIZE, SIZE), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC)


def _part(image: Pixels, box: tuple[float, float, float, float], margin: float, last_pixel: int) -> Pixels:
    """Return the pixels that the box with its margin touches, at least one."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    right, bottom = x2 + last_pixel, y2 + last_pixel
    added = margin * max(right - x1, bottom - y1)
    left, top = (int(np.clip(np.floor(low - added), 0, most - 1)) for low, most in ((x1, width), (y1, height)))
    right, bottom = (int(np.ceil(high + added)) for high in (right, bottom))
    return image[top : max(top + 1, bottom), left : max(left + 1, right)]


def _picture(image: Pixels) -> Image:
    with importing(PILLOW):
        from PIL import Image
    return Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
