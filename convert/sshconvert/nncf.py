"""Importing NNCF, which measures ranges for INT8, without its telemetry and its output.

NNCF sends telemetry if it can import `openvino_telemetry`, and uses a stub of its own otherwise. It also prints to
stdout. `import_nncf` and `silenced` prevent both; the project imports the package through them alone.
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
FATAL, WARNING = 4, 2  # severities of ONNX Runtime


def import_nncf() -> Any:
    """Import `nncf` without its telemetry, and ONNX Runtime, which NNCF uses.

    Raises RuntimeUnavailableError if a library is missing, or if this process has imported NNCF with its telemetry.
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
    """Silence NNCF and ONNX Runtime during the block. Errors are still raised."""
    import rich

    runtime, console, logger = import_onnxruntime(), rich.get_console(), logging.getLogger("nncf")
    quiet, level = console.quiet, logger.level
    console.quiet = True  # NNCF draws progress bars on it
    logger.setLevel(SILENT)
    runtime.set_default_logger_severity(FATAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        console.quiet = quiet
        logger.setLevel(level)
        runtime.set_default_logger_severity(WARNING)


@contextlib.contextmanager
def _unimportable(name: str) -> Iterator[None]:
    """Hide a module from imports during the block, even if it has been imported."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # None makes the import fail; stubs do not know
    try:
        yield
    finally:
        if before is not None:
            sys.modules[name] = before


@contextlib.contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """Silence the greeting of NNCF's import, and restore the class of loggers, which the import changes."""
    logger_class, disabled = logging.getLoggerClass(), logging.root.manager.disable
    logging.disable(SILENT)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.setLoggerClass(logger_class)
        logging.disable(disabled)
