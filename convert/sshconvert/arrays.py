"""Names of array types."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DType = np.dtype[Any]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]  # of one image, [H, W, C], 0-255
Images = npt.NDArray[np.uint8]  # of several images, [N, H, W, C], 0-255
