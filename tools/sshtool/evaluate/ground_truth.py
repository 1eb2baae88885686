"""The faces of a WIDER-format data set, and which of them count in which setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ImageTruth:
    """One image: its path below the folder of images ("0--Parade/0_Parade_marchingband_1_849.jpg") and its faces.

    `annotated` are the boxes of the annotation text, for `omz`; `boxes` those of the .mat files, for `wider`: float64
    [F, 4], x, y, w, h in pixels. Where only one source is there, both are its boxes. `counted[setting]` says which of
    `boxes` count, bool [F].
    """

    image: str
    annotated: Floats
    boxes: Floats
    counted: Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class GroundTruth:
    """Of a data set, in its own order: that of the .mat files, or of the annotation text where there are none."""

    images: tuple[ImageTruth, ...]
    settings: tuple[str, ...]  # "easy", "medium", "hard"; ("all",) from the annotation text alone
    digest: str  # SHA-256 of all of it: records belong together if this is the same
    sources: tuple[Path, ...]


def read_ground_truth(folder: Path) -> GroundTruth:
    """Read what a data set's folder has, in WIDER FACE's own layout: `wider_face_split/wider_face_val_bbx_gt.txt`,
    and `wider_face_val.mat`, `wider_easy_val.mat`, … in the folder, `ground_truth/` or `eval_tools/ground_truth/`.

    Raises DatasetError if there is neither or one is malformed, RuntimeUnavailableError without SciPy for .mat files.
    """
    raise NotImplementedError


def write_ground_truth(folder: Path, images: Sequence[ImageTruth]) -> tuple[Path, ...]:
    """Write `images` (their `boxes` and `counted`) as the official .mat files into `folder`. Raises OutputError.

    All images must have the same settings; the same images give the same bytes.
    """
    raise NotImplementedError
