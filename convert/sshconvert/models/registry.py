"""Loading models: the models of this folder by name, a user's own by the path of a TOML file."""

from __future__ import annotations

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from sshconvert.errors import ModelError
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import read_small
from sshconvert.schema import LARGEST_TOML, parse_toml

SUFFIX: Final = ".toml"


def model_names() -> tuple[str, ...]:
    """Return the names of the models in this folder."""
    names = (path.name for path in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def load_model(name_or_path: str) -> ModelSpec:
    """Return the model of a name or a TOML file. A path ends in `.toml` or has a separator.

    Raises ModelError for an unknown name, and for a file that cannot be read or breaks the schema.
    """
    if name_or_path.endswith(SUFFIX) or os.sep in name_or_path or "/" in name_or_path:
        return read_model(Path(name_or_path))
    if name_or_path not in model_names():
        raise ModelError(
            f"{name_or_path}: no such model; choose {', '.join(model_names())}, or give the path of a .toml file"
        )
    name = f"{name_or_path}{SUFFIX}"
    return parse_model(files(__package__).joinpath(name).read_bytes(), source=name)


def read_model(path: Path, *, follow: bool = True) -> ModelSpec:
    """Read a user's own description. `open_regular` describes `follow`. Raises ModelError."""
    try:
        data = read_small(path, LARGEST_TOML, follow=follow)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); correct the path") from None
    model = parse_model(data, source=str(path))
    if model.name in model_names():
        raise ModelError(f"{path}: name: {model.name} is the name of a model that ships; choose another")
    return model


def parse_model(data: bytes, *, source: str) -> ModelSpec:
    """Parse a description. `source` names it in messages. Raises ModelError with all problems."""
    try:
        return parse_toml(ModelSpec, data)
    except ValueError as error:
        raise ModelError(f"{source}: {error}; correct it") from None


def dump_model(model: ModelSpec) -> bytes:
    """Return the TOML file of a model, with the same bytes for the same model."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in model.described().items()).encode()


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)


def _value(value: Any) -> str:
    """Return a value in TOML. Each table of a list has its own line, because `parse_toml` limits the dots in a line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        between = ",\n" if value and isinstance(value[0], dict) else ", "
        return f"[{between.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
