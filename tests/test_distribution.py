from __future__ import annotations

import importlib.abc
import importlib.metadata
import shlex
import subprocess
import sys
import warnings
import zipfile
from importlib.metadata import metadata, requires
from itertools import product
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from project import ROOT
from sshconvert import libraries
from sshconvert.libraries import install_command

pytestmark = pytest.mark.independent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("sshtool-*.whl"))


def test_the_wheel_holds_both_packages_with_their_types_and_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert names >= {
        "sshconvert/py.typed",
        "sshconvert/models/ssh-mxnet.toml",
        "sshconvert/convert.py",
        "sshtool/py.typed",
        "sshtool/cli/app.py",
        "sshtool/demo/demo_heads.params",
    }
    sources = {
        str(path.relative_to(root)) for root in (ROOT / "convert", ROOT / "tools") for path in root.rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources
    assert all(name.split("/")[0] in ("sshconvert", "sshtool") or ".dist-info/" in name for name in names)


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked alone on the path, it converts: nothing is read from the source tree."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import sshconvert, sshtool; assert 'site' in sshconvert.__file__ and 'site' in sshtool.__file__\n"
        "import sshtool.__main__"
    )
    arguments = ["convert", "--format", "onnx", "--input-shape", "1,3,64,64", "--quiet", "-o", str(tmp_path)]
    for verb in (["download", "--demo", "--quiet", "-o", str(tmp_path)], arguments):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "site"), *verb], check=True, cwd=tmp_path)
    assert (tmp_path / "ssh-mxnet" / "FP32" / "ssh-mxnet.onnx").exists()


def test_the_base_install_is_lean() -> None:
    base = {item.split(">")[0].replace("_", "-") for item in requires("sshtool") or [] if "extra ==" not in item}
    downloads = {"filelock", "httpx", "platformdirs"}
    assert base == downloads | {"ml-dtypes", "numpy", "onnx", "openvino", "pydantic", "rich", "typer"}
    assert metadata("sshtool")["License-Expression"] == "MIT"


def pins_of(lock: str) -> list[str]:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return [line.removesuffix(" \\") for line in lines if line and not line.startswith((" ", "#", "\t"))]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-legacy.lock"])
def test_locks_pin_everything_with_hashes_and_name_no_address(lock: str) -> None:
    text, pins = (ROOT / lock).read_text(encoding="utf-8"), pins_of(lock)
    assert len(pins) >= 10
    assert all("==" in pin for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
    assert "index" not in text


def test_what_runs_is_locked_as_what_is_tested() -> None:
    for version, system, machine in product(
        ("3.11", "3.12", "3.13", "3.14"), ("linux", "darwin", "win32"), ("x86_64", "arm64")
    ):
        where = {
            "python_version": version,
            "python_full_version": f"{version}.0",
            "sys_platform": system,
            "platform_machine": machine,
            "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        }
        run, develop = installed("requirements.lock", where), installed("requirements-dev.lock", where)
        assert run <= develop
        assert "mypy" not in str(run)
        assert len(run) <= (60 if "mxnet==1.9.1" not in run else 61)


def installed(lock: str, where: dict[str, str]) -> set[str]:
    """The packages that a lock brings on a system."""
    pins = map(Requirement, pins_of(lock))
    return {f"{pin.name}{pin.specifier}" for pin in pins if not pin.marker or pin.marker.evaluate(where)}


def packages_of(extra: str) -> set[str]:
    """What the extra brings on one system or another, as `packaging` reads the metadata."""
    listed = [Requirement(line) for line in requires("sshtool") or []]
    systems = [
        {"python_version": version, "sys_platform": "linux", "platform_machine": "x86_64", "extra": name}
        for version in ("3.12", "3.13")
        for name in (extra, "")
    ]
    brought = [{item for item in listed if not item.marker or item.marker.evaluate(system)} for system in systems]
    return {f"{item.name}{item.specifier}" for item in (brought[0] - brought[1]) | (brought[2] - brought[3])}


@pytest.mark.parametrize("extra", ["runtime", "report", "evaluate", "int8", "reference", "run", "fuzz"])
def test_the_command_for_an_extra_installs_its_packages_into_this_environment(extra: str) -> None:
    command = shlex.split(install_command(extra))
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert {str(Requirement(item)) for item in command[4:]} == packages_of(extra) != set()


def test_pip_takes_the_commands() -> None:
    """All of these packages are here, so that it finds what it needs without asking anybody."""
    command = shlex.split(install_command(base="openvino"))
    for extra in ("runtime", "report", "evaluate", "int8"):
        command += shlex.split(install_command(extra))[4:]
    options = ["--dry-run", "--no-index", "--no-deps", "--disable-pip-version-check"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Would install" not in result.stdout


def test_a_search_for_pip_calls_no_hook_of_setuptools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [HookThatWarns(), *sys.meta_path])
    assert shlex.split(install_command("runtime"))[:4] == [sys.executable, "-m", "pip", "install"]


class HookThatWarns(importlib.abc.MetaPathFinder):
    """As setuptools' `_distutils_hack`: it answers a search for pip with a warning, an error in these tests."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pip":
            warnings.warn("distutils is replaced", stacklevel=1)


def test_the_command_is_one_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = shlex.split(install_command("int8", base="openvino", upgrade=True))
    assert upgrade[4] == "--upgrade"
    assert [Requirement(item).name for item in upgrade[5:]] == ["nncf", "onnxruntime", "openvino"]
    assert "'" in install_command("runtime")  # or a shell would take ">" for another thing
    found = importlib.metadata.distribution

    def without_pip(name: str) -> importlib.metadata.Distribution:  # as in environments that uv makes
        if name == "pip":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without_pip)
    assert install_command("runtime").startswith(f"uv pip install --python {shlex.quote(sys.executable)} 'onnxruntime")
    monkeypatch.setattr(libraries, "DISTRIBUTION", "sshtool-that-was-never-installed")
    assert "pip" not in install_command("runtime")


def test_no_message_names_a_way_of_its_own_to_install_something() -> None:
    texts = {
        path: path.read_text(encoding="utf-8") for part in ("convert", "tools") for path in (ROOT / part).rglob("*.py")
    }
    assert [path.name for path, text in texts.items() if "pip install" in text or "sshtool[" in text] == []


AGREED: Final = {
    ".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "LICENSE", "README.md", "artifacts",
    "convert", "pyproject.toml", "requirements-dev.lock", "requirements-legacy.lock", "requirements.lock", "tests",
    "tools",
}  # fmt: skip
LARGEST: Final = 2 << 20  # bytes; the demo's reference pack has almost as many


def test_the_repository_has_its_agreed_entries_and_no_weights() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert {path.relative_to(ROOT).parts[0] for path in files} == AGREED
    assert [path.name for path in files if path.is_file() and path.stat().st_size > LARGEST] == []
