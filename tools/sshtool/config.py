"""The user's config file, `config.toml` in the platform's folder for configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pydantic

from sshconvert.errors import ConfigError
from sshconvert.reading import read_small
from sshconvert.schema import LARGEST_TOML, Strict, parse_toml


class Config(Strict):
    """Mirrors of the archive (see `--source`) and the cache folder. Paths are relative to the config file's folder."""

    sources: tuple[str, ...] = ()
    cache_dir: Annotated[str, pydantic.StringConstraints(pattern=r"^[^\x00-\x1f]+$")] | None = None


def config_path() -> Path:
    """The path of the config file, which may be missing: on Linux `~/.config/sshtool/config.toml`."""
    import platformdirs

    return platformdirs.user_config_path("sshtool", appauthor=False) / "config.toml"


def read_config(path: Path) -> Config:
    """Read the file; a missing one is empty. Raises ConfigError, which lists every problem."""
    try:
        return parse_toml(Config, read_small(path, LARGEST_TOML))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); correct or remove it") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; correct it (it may set {', '.join(Config.model_fields)})") from None


def user_path(text: str, folder: Path = Path()) -> Path:
    """Expand `~` to the home folder and resolve a relative path against `folder`."""
    return folder / os.path.expanduser(text)  # noqa: PTH111  # Path.expanduser raises without a home
