"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias

import pytest

import environments
from guards import MUTANTS
from operator_suite import OperatorSuite
from pages import Browser, find_chromium
from project import SHARED
from scaled_checkpoint import SLIM, write_random_checkpoint
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.errors import RuntimeUnavailableError
from sshconvert.models.registry import load_model
from sshtool import sandbox
from sshtool.demo import checkpoint as demo
from sshtool.runtimes.mxnet import import_mxnet

Mxnet: TypeAlias = Any  # it ships no types

MODEL: Final = load_model("ssh-mxnet")

# `.ci/run` says which environment it made, so that its tests cannot all be skipped there without anybody noticing.
ENVIRONMENT: Final = os.environ.get("SSHTOOL_TEST_ENVIRONMENT", "")

# Processes of tests share the cores, where NumPy's threads would wait for each other. Workers and children inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Hundreds of children import the program: without bytecode, as a user's setting may want it, each compiles it anew.
if os.environ.get("PYTHONDONTWRITEBYTECODE") != MUTANTS:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False

# Tests that import ONNX Runtime themselves do not phone home either.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# It would hide what Python keeps back until it ends.
os.environ.pop("PYTHONUNBUFFERED", None)

# A shell starts what runs in its background with these ignored, and children inherit that: none could be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as `nohup` does


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long`, at their full dose")
    parser.addoption("--consumers", action="store_true", help="run the tests marked `consumer`")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the parameters of the suite of an operator."""
    if metafunc.cls is not None and issubclass(metafunc.cls, OperatorSuite):
        metafunc.cls.generate(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {
        "long": "takes long; run with --long",
        "consumer": "installs a consumer; run with --consumers",
        "independent": "depends on neither MXNet nor NumPy: the modern environment runs it",
    }
    if config.getoption("--long"):
        reasons.clear()
    if config.getoption("--consumers"):
        reasons.pop("consumer", None)
    if ENVIRONMENT != "reference":
        reasons.pop("independent", None)
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def unconfined() -> Iterator[None]:
    """A verb that a test runs in this process switches the sandbox on; the next test begins without it."""
    yield
    sandbox._confined.clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real checkpoints and reference figures, which lie beside the repository and are no part of it."""
    path = SHARED / "data"
    if not path.is_dir():
        pytest.skip(f"{path} does not exist: the real data files are not part of the repository")
    return path


@pytest.fixture(scope="session")
def official_predictions(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions over WIDER FACE's validation set which the official evaluators have scored."""
    folder = tmp_path_factory.mktemp("predictions")
    with tarfile.open(shared_data / "wider" / "predictions.tar.gz") as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                target = folder / PurePosixPath(member.name).parent.name / PurePosixPath(member.name).name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(file.read())
    return folder


@pytest.fixture(scope="session")
def environment() -> Callable[..., Path]:
    """The Python of a consumer's environment, by the name of its lock and the version of Python."""
    return _or_skip(environments.environment)


@pytest.fixture(scope="session")
def node_modules() -> Callable[..., Path]:
    """The packages of a consumer from npm, by the name of their folder."""
    return _or_skip(environments.node_modules)


def _or_skip(make: Callable[..., Path]) -> Callable[..., Path]:
    def made(*arguments: str) -> Path:
        try:
            return make(*arguments)
        except environments.EnvironmentUnavailableError as error:
            pytest.skip(str(error))

    return made


@pytest.fixture(scope="session")
def mxnet() -> Mxnet:
    """The original, as released."""
    try:
        return import_mxnet()
    except RuntimeUnavailableError as error:
        if ENVIRONMENT in ("reference", "legacy"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def demo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The demo checkpoint, in a folder without a record."""
    folder = tmp_path_factory.mktemp("demo")
    demo.write_checkpoint(folder, MODEL)
    return open_checkpoint(folder, MODEL)


@pytest.fixture(scope="session")
def plain_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """An eighth of the channels, with dense random weights and biases."""
    return random_checkpoint(tmp_path_factory, SLIM)


@pytest.fixture(scope="session")
def full_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The same with all channels, for what depends on the size of the weights."""
    return random_checkpoint(tmp_path_factory, Fraction(1))


def random_checkpoint(factory: pytest.TempPathFactory, width: Fraction) -> Checkpoint:
    folder = factory.mktemp("random")
    write_random_checkpoint(folder, width=width)
    return open_checkpoint(folder, MODEL)


@pytest.fixture(scope="session", params=["plain", pytest.param("demo", marks=pytest.mark.long)])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """Each model in turn, for suites that hold for all of them."""
    checkpoint: Checkpoint = request.getfixturevalue(f"{request.param}_checkpoint")
    return checkpoint


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        reason = "no Chromium: the page is not opened"
        if ENVIRONMENT:
            pytest.fail(reason)
        pytest.skip(reason)
    yield Browser(program, tmp_path)
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)
