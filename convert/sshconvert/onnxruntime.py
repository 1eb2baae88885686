"""The way to ONNX Runtime, which since 1.29 reports to its maker on Linux too, unless a variable forbids it."""

from __future__ import annotations

import os
from typing import Any, Final

from sshconvert.errors import RuntimeUnavailableError
from sshconvert.installation import install_command
from sshconvert.schema import one_line

NO_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """The `onnxruntime` package, its telemetry switched off: this project's only way to it.

    The native library reads the variable when it is loaded. Raises RuntimeUnavailableError if it is not installed.
    """
    os.environ[NO_TELEMETRY] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"onnxruntime: cannot be imported ({one_line(error)}); {install_command('runtime')}"
        ) from error
    return onnxruntime
