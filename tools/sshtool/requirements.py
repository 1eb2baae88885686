"""What a verb needs beside the base install, asked for before it begins: not after minutes of work."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Final

from sshconvert.errors import RuntimeUnavailableError
from sshconvert.installation import install_command

PILLOW, JINJA, YAML, ONNXRUNTIME, NNCF = "Pillow", "Jinja", "PyYAML", "ONNX Runtime", "NNCF"

# The module of each, and the extra that brings it.
_LIBRARIES: Final[Mapping[str, tuple[str, str]]] = {
    PILLOW: ("PIL", "report"),
    JINJA: ("jinja2", "report"),
    YAML: ("yaml", "report"),
    ONNXRUNTIME: ("onnxruntime", "runtime"),
    NNCF: ("nncf", "int8"),
}


def require(*libraries: str) -> None:
    """Raises RuntimeUnavailableError that names all of these libraries that are not installed, and how to get them."""
    missing = [name for name in dict.fromkeys(libraries) if not is_installed(_LIBRARIES[name][0])]
    if missing:
        commands = "; ".join(dict.fromkeys(install_command(_LIBRARIES[name][1]) for name in missing))
        raise RuntimeUnavailableError(f"{', '.join(missing)}: cannot be imported (not installed); {commands}")


def is_installed(module: str) -> bool:
    """Whether a module can be found; importing it may take seconds."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the latter for a module of which the import system is told that there is none
        return False
