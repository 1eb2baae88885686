"""The way to NNCF, which measures ranges for INT8.

When it is imported it makes ready to report to its maker, unless `openvino_telemetry` cannot be imported: then it falls
back on a stub of its own. It also prints, on stdout, what it is doing. `import_nncf` and `silenced` see to both, and
this is the project's only way to the package.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final

from sshconvert.errors import RuntimeUnavailableError
from sshconvert.libraries import NNCF, import_onnxruntime, import_openvino, importing

TELEMETRY: Final = "openvino_telemetry"
SILENT: Final = logging.CRITICAL + 1
FATAL: Final = 4  # ONNX Runtime's number for it
WARNING: Final = 2


def import_nncf() -> Any:
    """The `nncf` package, its telemetry out of reach, and with it ONNX Runtime, which it computes with.

    Raises RuntimeUnavailableError if one of them is not installed, or if somebody else has imported NNCF before with
    its telemetry.
    """
    import_openvino()
    import_onnxruntime()
    with _unimportable(TELEMETRY), _logging_as_it_was(), importing(NNCF):
        import nncf
        from nncf.telemetry import wrapper
    if isinstance(wrapper.telemetry, wrapper.NNCFTelemetry):
        raise RuntimeUnavailableError(
            "NNCF: was imported before with its telemetry on, and cannot be used; quantise in a process of its own"
        )
    return nncf


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """NNCF, and ONNX Runtime inside of it, print and warn of nothing during the block; what goes wrong is raised."""
    import rich

    runtime, console, logger = import_onnxruntime(), rich.get_console(), logging.getLogger("nncf")
    quiet, level = console.quiet, logger.level
    console.quiet = True  # NNCF's bars are on it
    logger.setLevel(SILENT)
    runtime.set_default_logger_severity(FATAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        console.quiet = quiet
        logger.setLevel(level)
        runtime.set_default_logger_severity(WARNING)


@contextlib.contextmanager
def _unimportable(name: str) -> Iterator[None]:
    """During the block there is no such module, even if it has been imported."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # this is how the import system is told; stubs do not know
    try:
        yield
    finally:
        if before is not None:
            sys.modules[name] = before


@contextlib.contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """NNCF greets whoever imports it, and makes its own kind of logger everybody's."""
    kind, disabled = logging.getLoggerClass(), logging.root.manager.disable
    logging.disable(SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.setLoggerClass(kind)
        logging.disable(disabled)
