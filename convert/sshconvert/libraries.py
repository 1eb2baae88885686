"""Optional libraries: how to import one, and the command that installs it where this program runs.

    with importing(PILLOW):
        from PIL import Image

OpenVINO and ONNX Runtime send telemetry when they are imported. `import_openvino` and `import_onnxruntime` prevent
that; the project imports the packages through them alone.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sshconvert.errors import RuntimeUnavailableError
from sshconvert.schema import one_line

DISTRIBUTION: Final = "sshtool"
NO_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"

# "onnxruntime>=1.19; extra == 'runtime'": the condition of the extra comes last, after any others.
_EXTRA: Final = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']\s*$""")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Library:
    """An optional library.

    `extra` is the extra of this distribution that installs the library, `base` a requirement of the base installation
    that has to be installed or upgraded with it. `condition` completes the command: "on Python 3.11".
    """

    name: str
    module: str
    extra: str = ""
    base: str = ""
    upgrade: bool = False
    condition: str = ""

    @property
    def remedy(self) -> str:
        """The command that installs the library."""
        command = install_command(self.extra, base=self.base, upgrade=self.upgrade)
        return f"{command} {self.condition}".rstrip()


PILLOW: Final = Library("Pillow", "PIL", "report")
JINJA: Final = Library("Jinja", "jinja2", "report")
YAML: Final = Library("PyYAML", "yaml", "report")
PYARROW: Final = Library("PyArrow", "pyarrow", "parquet")
DISTRIBUTED: Final = Library("Dask", "distributed", "cluster")
FSSPEC: Final = Library("fsspec", "fsspec", "cluster")  # Dask requires it
S3FS: Final = Library("s3fs", "s3fs", "s3")
GCSFS: Final = Library("gcsfs", "gcsfs", "gcs")
ADLFS: Final = Library("adlfs", "adlfs", "azure")
AV: Final = Library("PyAV", "av", "video")
SCIPY: Final = Library("SciPy", "scipy", "evaluate")
MODEL_SIGNING: Final = Library("Model Signing", "model_signing", "sign")
OPENVINO: Final = Library("OpenVINO", "openvino", base="openvino")
ONNXRUNTIME: Final = Library("ONNX Runtime", "onnxruntime", "runtime")
NCNN: Final = Library("ncnn", "ncnn", "ncnn")
PNNX: Final = Library("pnnx", "pnnx", "ncnn")
NNCF: Final = Library("NNCF", "nncf", "int8", base="openvino", upgrade=True)  # it needs a recent OpenVINO


@contextmanager
def importing(library: Library) -> Iterator[None]:
    """Import a library in the block. Raises RuntimeUnavailableError with the remedy if the block fails in any way."""
    try:
        yield
    except Exception as error:
        raise RuntimeUnavailableError(
            f"{library.name}: cannot be imported ({one_line(error)}); {library.remedy}"
        ) from error


def import_openvino() -> Any:
    """Import `openvino` without its telemetry. Raises RuntimeUnavailableError."""
    # None tells the import system that the module does not exist: `openvino.tools.ovc` then uses a stub of its own.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # stubs do not know
    with importing(OPENVINO):
        import openvino
    return openvino


def import_onnxruntime() -> Any:
    """Import `onnxruntime` without its telemetry, which exists since 1.29. Raises RuntimeUnavailableError."""
    os.environ[NO_TELEMETRY] = "1"  # the native library reads the variable when it is loaded
    with importing(ONNXRUNTIME):
        import onnxruntime
    return onnxruntime


def require(*libraries: Library) -> None:
    """Raise RuntimeUnavailableError if libraries are missing, with all of them and the commands that install them."""
    missing = [library for library in dict.fromkeys(libraries) if not is_installed(library.module)]
    if missing:
        names = ", ".join(library.name for library in missing)
        remedies = "; ".join(dict.fromkeys(library.remedy for library in missing))
        raise RuntimeUnavailableError(f"{names}: cannot be imported (not installed); {remedies}")


def is_installed(module: str) -> bool:
    """Return whether a module is installed, without importing it, which may take seconds."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: `sys.modules` holds None for the module
        return False


def install_command(extra: str = "", *, base: str = "", upgrade: bool = False) -> str:
    """Return the command that installs the packages of an extra, and the requirement `base` of the base installation.

    The command names the packages, because no registry has this distribution. It names the interpreter, because the
    shell's `pip` may belong to another environment.
    """
    requirements = sorted({*_requirements(extra, base)})
    if not requirements:
        return f"install {extra or base}, which its file pyproject.toml names"
    command = [sys.executable or "python", "-m", "pip", "install"]
    if not _has_pip():  # in environments that uv creates
        command = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*command, *(["--upgrade"] if upgrade else []), *requirements])


def _has_pip() -> bool:
    """Look at the metadata: looking for the module would call hooks of setuptools, which warn about distutils."""
    try:
        importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _requirements(extra: str, base: str) -> Iterator[str]:
    """Yield requirements without their markers."""
    try:
        listed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # the program runs from a folder and was never installed
        return
    for line in listed:
        requirement, _, condition = (part.strip() for part in line.partition(";"))
        name = _NAME.match(requirement)
        of_extra = _EXTRA.search(condition)
        if of_extra[1] == extra if of_extra else bool(base) and name is not None and name[0] == base:
            yield requirement
