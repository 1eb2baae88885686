"""The user's config file, `config.toml` in the place where the platform keeps such files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pydantic

from sshconvert.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What a person writes is far smaller.
LARGEST: Final = 1 << 20


class Config(pydantic.BaseModel):
    """`sources`: mirrors of the archive, as `--source` takes them. `cache_dir`: as `--cache-dir`. Paths in it are
    relative to `folder`, where the file is.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    sources: tuple[str, ...] = ()
    cache_dir: Path | None = None


def config_path() -> Path:
    """Where the config file is, if there is one: on Linux `~/.config/sshtool/config.toml`."""
    import platformdirs

    return platformdirs.user_config_path("sshtool", appauthor=False) / "config.toml"


def read_config(path: Path) -> Config:
    """What the file says; nothing, if it is not there. Raises ConfigError with every problem."""
    if not path.exists():
        return Config()
    try:
        return Config.model_validate(tomllib.loads(_read(path)))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error}); correct it") from None
    except pydantic.ValidationError as error:
        known = ", ".join(Config.model_fields)
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{path}: {problems}; correct it (it may set {known})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); correct or remove it") from None


def _read(path: Path) -> str:
    if not path.is_file():  # a pipe would keep us waiting
        raise ConfigError(f"{path}: is no regular file; remove it")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: has more than {LARGEST} bytes, which no config needs; correct it")
    return data.decode("utf-8")
