"""The models that are shipped: one TOML file in this folder for each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import pydantic

from sshconvert.errors import ModelError
from sshconvert.models.spec import ModelSpec
from sshconvert.schema import one_line, parse_toml, problems

# Ten times what a description has. Long dotted keys take the parser quadratic time.
LARGEST_TOML: Final = 24 << 10


def model_names() -> tuple[str, ...]:
    """Names of all the models there are."""
    return tuple(
        sorted(path.name.removesuffix(".toml") for path in files(__package__).iterdir() if path.name.endswith(".toml"))
    )


@cache
def load_model(name: str) -> ModelSpec:
    """The model of that name. Raises ModelError for an unknown name or a file that does not follow the schema."""
    if name not in model_names():
        raise ModelError(f"{name}: no such model; there is {', '.join(model_names())}")
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return parse_model(text, source=f"{name}.toml")


def parse_model(text: str, *, source: str) -> ModelSpec:
    """Parse a model's TOML. `source` names it in messages. Raises ModelError with every problem."""
    if len(text) > LARGEST_TOML:
        raise ModelError(f"{source}: more than {LARGEST_TOML} characters; shorten it")
    try:
        return ModelSpec.model_validate(parse_toml(text))
    except pydantic.ValidationError as error:
        raise ModelError(f"{source}: {problems(error)}; correct it") from None
    except ValueError as error:  # TOMLDecodeError, and what Python says of a number with thousands of digits
        raise ModelError(f"{source}: not valid TOML ({one_line(error)}); correct it") from None
