"""The user's config file, `config.toml` in the place where the platform keeps such files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pydantic

from sshconvert.errors import ConfigError
from sshconvert.reading import read_small
from sshconvert.schema import LARGEST_TOML, Strict, parse_toml


class Config(Strict):
    """`sources`: mirrors of the archive, as `--source` takes them. `cache_dir`: as `--cache-dir`. Paths are relative to
    the folder of the file.
    """

    sources: tuple[str, ...] = ()
    cache_dir: Annotated[str, pydantic.StringConstraints(pattern=r"^[^\x00-\x1f]+$")] | None = None


def config_path() -> Path:
    """Where the config file is, if there is one: on Linux `~/.config/sshtool/config.toml`."""
    import platformdirs

    return platformdirs.user_config_path("sshtool", appauthor=False) / "config.toml"


def read_config(path: Path) -> Config:
    """The settings of the file; none if there is no file. Raises ConfigError with every problem."""
    try:
        return parse_toml(Config, read_small(path, LARGEST_TOML))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); correct or remove it") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; correct it (it may set {', '.join(Config.model_fields)})") from None


def user_path(text: str, folder: Path = Path()) -> Path:
    """A path as a person writes it: `~` is the home, and what is relative is relative to `folder`."""
    return folder / os.path.expanduser(text)  # noqa: PTH111  # Path's raises where there is no home
