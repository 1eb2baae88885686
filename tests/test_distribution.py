from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
        "sshtool/cli.py",
        "sshtool/checkpoint/demo_heads.params",
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


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-legacy.lock"])
def test_locks_pin_everything_with_hashes_and_name_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#", "\t"))]
    assert len(pins) >= 10
    assert all("==" in pin for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
    assert "index" not in text
