"""Reads and writes cell arrays in MATLAB's .mat files (version 5), the format of WIDER FACE's ground truth, by SciPy.

SciPy trusts the file: it allocates the sizes in its headers, and recurses into nested cells without a limit. Therefore
a child process with limits on memory and time reads the file.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from sshconvert.arrays import Array, Doubles
from sshconvert.errors import ArtifactError, DatasetError
from sshconvert.files import staged
from sshconvert.libraries import SCIPY, importing
from sshconvert.reading import read_small
from sshconvert.schema import one_line
from sshtool.sandbox import GIGABYTE, Limits, shared_child

# WIDER FACE's files have 0.4 MB, 3 MB unpacked, and take less than a second.
LARGEST_FILE: Final = 16 << 20
# On a machine with many cores, OpenBLAS reserves most of this memory for its threads.
LIMITS: Final = Limits(memory=4 * GIGABYTE, seconds=60)
VARIABLES: Final = ("event_list", "file_list", "face_bbx_list", "gt_list")
_TEXT: Final = 116

# A cell array, a text, a matrix of real numbers, or (None) any other value.
Cell: TypeAlias = "list[Cell] | str | Doubles | None"


def read_cells(path: Path, names: Sequence[str]) -> dict[str, list[Cell]]:
    """Read the cell arrays `names` of a .mat file.

    Raises DatasetError if the file is missing, malformed, exceeds `LIMITS`, or lacks one of `names`;
    RuntimeUnavailableError without SciPy.
    """
    try:
        variables = shared_child("", LIMITS).call(f"{__name__}:load_variables", path)
    except ArtifactError as error:
        raise _unreadable(path, str(error).removeprefix(f"{path}: ")) from None
    arrays: dict[str, list[Cell]] = {}
    for name in names:
        cells = _from_plain(variables.get(name))
        if not isinstance(cells, list):
            raise DatasetError(f"{path}: has no cell array {name}; name the ground truth of WIDER FACE")
        arrays[name] = cells
    return arrays


def load_variables(path: Path) -> dict[str, Any]:
    """Load those of `VARIABLES` that a file has, as values for JSON. Runs in the child process."""
    with importing(SCIPY):
        from scipy.io import loadmat
    data = _read(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            variables = loadmat(io.BytesIO(data), variable_names=list(VARIABLES))
        return {name: _plain(variables[name]) for name in VARIABLES if name in variables}
    except Exception as error:  # noqa: BLE001  # SciPy raises a dozen types, and documents none
        raise _unreadable(path, one_line(error)) from None


def _plain(value: Array) -> Any:
    if value.dtype == object:
        return [_plain(cell) for cell in value.ravel()]
    if value.dtype.kind == "U" and value.size == 1:
        return str(value.ravel()[0])
    if value.dtype.kind in "iuf":
        return {"shape": value.shape, "values": value.ravel().tolist()}
    return None


def _from_plain(value: Any) -> Cell:
    if isinstance(value, dict):
        return np.array(value["values"], np.float64).reshape(value["shape"])
    return [_from_plain(cell) for cell in value] if isinstance(value, list) else value


def write_cells(path: Path, variables: Mapping[str, Array]) -> None:
    """Write variables atomically as a compressed .mat file. The same variables give the same bytes.

    Raises OutputError if the file cannot be written, RuntimeUnavailableError without SciPy.
    """
    with importing(SCIPY):
        from scipy.io import savemat
    data = io.BytesIO()
    savemat(data, dict(variables), do_compression=True)
    text = b"MATLAB 5.0 MAT-file".ljust(_TEXT)  # without the date
    with staged(path) as part:
        part.write_bytes(text + data.getvalue()[_TEXT:])


def _unreadable(path: Path, reason: str) -> DatasetError:
    return DatasetError(f"{path}: is no .mat file that SciPy can read ({reason}); get it again")


def _read(path: Path) -> bytes:
    try:
        return read_small(path, LARGEST_FILE)
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); name a dataset in the layout of WIDER FACE"
        ) from None
