"""The commands and examples of the guides run: on small networks here, and with --long as they stand."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

from environments import CACHE
from guides import BLOCKS, GUIDES, README, TESTING, TEXT, TOOLS, Block, commands
from project import ROOT
from sshconvert.checkpoint import Checkpoint
from sshtool.cli.app import VERBS
from sshtool.demo.scenes import draw_scene

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

SIDE: Final = 64
SHAPE: Final = ("--input-shape", f"1,3,{SIDE},{SIDE}")
STORED: Final = Path("artifacts", "checkpoints", "ssh-mxnet")
FACES: Final = "face-recognition-mobilefacenet-arcface"
AS_IT_STANDS: Final = pytest.param(False, marks=pytest.mark.long, id="as it stands")
SMALL: Final = pytest.param(True, id="small")


def program(*words: str, folder: Path, code: int = 0) -> str:
    """Run `sshtool` in the folder, and give what it prints."""
    command = [sys.executable, "-m", "sshtool", *words]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == code, f"{words}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


def replaced(words: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """The words with places in place of the names that stand for them."""
    return [names.get(word, word) for word in words]


def made_small(words: Sequence[str], checkpoint: Path) -> list[str]:
    """The command with a small input, a short measurement, and a network of an eighth of the channels."""
    small = list(words)
    if words[0] in ("convert", "run", "reference"):
        small += SHAPE
    if words[0] == "run":
        place = small.index("--demo")
        small[place : place + 1] = ["--checkpoint", str(checkpoint)]
    if "--duration" in small:
        small[small.index("--duration") + 1] = "0.1"
    return small


def shown(block: Block) -> list[str]:
    """The lines of a block with output, without figures."""
    return without_figures(block.text)


def without_figures(text: str) -> list[str]:
    return [re.sub(r"\d+(\.\d+)*", "N", " ".join(line.split())) for line in text.splitlines()]


def draw(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(draw_scene(seed, 112, 112).image[..., ::-1]).save(folder / name)


@pytest.fixture(scope="module")
def slim(plain_checkpoint: Checkpoint) -> Path:
    return plain_checkpoint.params_path.parent


@pytest.fixture(scope="module")
def release(slim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `sshtool run` has converted, verified and packaged a small network, with a data set."""
    folder = tmp_path_factory.mktemp("release")
    program("run", "--checkpoint", str(slim), *SHAPE, folder=folder)
    shutil.copytree(slim, folder / STORED)
    draw(folder / "photos", "a.jpg", "b.jpg")
    return folder


@pytest.mark.parametrize("small", [SMALL, AS_IT_STANDS])
def test_the_verbs_of_the_readme_work_in_their_order(small: bool, slim: Path, release: Path, tmp_path: Path) -> None:
    (table,) = re.findall(r"^## Verbs$(.*?)^## ", GUIDES[README], re.MULTILINE | re.DOTALL)
    rows = [command for line in table.splitlines() if line.startswith("| `") for command in commands(line)]
    assert sorted(words[0] for words in rows) == sorted(VERBS)
    assert rows[-1] == ["run", "--demo"]
    if small:
        del rows[-1]  # `.ci/run` runs it: README's first command
    draw(tmp_path, "a.jpg", "b.jpg")
    for words in rows:
        if words[0] == "predict":
            program("download", "--demo", "--model", FACES, folder=tmp_path)
            program("convert", "--model", FACES, folder=tmp_path)
        printed = program(*(made_small(words, slim) if small else words), folder=tmp_path)
        if small and words[0] == "download":
            shutil.rmtree(tmp_path / STORED)
            shutil.copytree(slim, tmp_path / STORED)
    if not small:
        lines = without_figures(printed)
        assert [line for line in shown(BLOCKS[f"{README}#two-commands:3"]) if line not in lines] == []
    described = [path for path in artifact_paths() if not any(any(place.glob(path)) for place in (tmp_path, release))]
    assert described == []


def artifact_paths() -> list[str]:
    """Patterns of the paths that `artifacts/README.md` describes."""
    names = {"<model>": "ssh-mxnet", "<PRECISION>": "FP16", "<layout>": "flat"}
    paths = []
    for line in (ROOT / "artifacts" / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            first, *others = re.findall(r"`([^`]+)`", line.split("|")[1])
            for name, value in names.items():
                first = first.replace(name, value)
            paths += [first, *(str(Path(first).with_suffix(other)) for other in others if other == ".bin")]
    return [f"artifacts/{path}" for path in paths]


@pytest.fixture(scope="module")
def det1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MTCNN's first network, as people have it."""
    folder = tmp_path_factory.mktemp("det1")
    program("download", "--demo", "--model", "mtcnn-det1", folder=folder)
    for path in (folder / "artifacts" / "checkpoints" / "mtcnn-det1").iterdir():
        if path.suffix == ".params":
            path.rename(folder / "det1-0001.params")
        elif path.name.endswith("-symbol.json"):
            path.rename(folder / "det1-symbol.json")
    return folder


@pytest.mark.parametrize("name", [f"{README}#your-own-old-checkpoint", f"{TOOLS}#networks-without-a-description"])
def test_two_files_are_converted_and_verified(name: str, det1: Path) -> None:
    steps = BLOCKS[name].commands
    assert [words[0] for words in steps] == ["info", "convert", "verify"]
    *_, verified = (program(*words, folder=det1) for words in steps)
    assert "passed: " in verified


@pytest.mark.parametrize("command", TEXT)
def test_a_command_of_the_text_works(command: str, release: Path) -> None:
    program(*replaced(command.split(), TEXT[command]), folder=release)


def test_a_folder_of_images_is_predicted(tmp_path: Path) -> None:
    program("download", "--demo", "--model", FACES, folder=tmp_path)
    program("convert", "--model", FACES, folder=tmp_path)
    draw(tmp_path / "photos", "a.jpg", "b.jpg")
    words = replaced(["predict", "photos/", "--model", "M"], {"M": FACES})
    assert "cosine" in program(*words, folder=tmp_path)


def test_model_api_opens_the_file_of_the_guide(environment: Callable[..., Path], slim: Path, tmp_path: Path) -> None:
    shutil.copytree(slim, tmp_path / STORED)
    program(*["convert", "--postprocess", "--output-form", "model-api"], *SHAPE, folder=tmp_path)
    draw(tmp_path, "photo.png")
    example = BLOCKS[f"{TOOLS}#model-api-and-dl-streamer"].text
    photo = f"import cv2\nimage = cv2.imread({str(tmp_path / 'photo.png')!r})\n"
    command = [str(environment("model-api")), "-c", photo + example]
    place = tmp_path / "artifacts" / "ssh-mxnet" / "FP32"
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\d+, \d+, \d+, \d+, 0 \(face\): 0\.\d+", result.stdout)


def test_a_package_is_signed_and_checked_as_the_guide_says(
    environment: Callable[..., Path], release: Path, tmp_path: Path
) -> None:
    """The commands of the text, with the model's files and the key in place of their names."""
    for name in ("openssl", "ssh-keygen", "sha256sum"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    python = environment("sign")
    folder = tmp_path / "artifacts" / "releases" / "ssh-mxnet-flat"
    shutil.copytree(release / "artifacts", tmp_path / "artifacts")
    shutil.rmtree(folder)
    sources = os.pathsep.join(str(ROOT / source) for source in ("convert", "tools"))
    paths = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    variables = {**os.environ, "PYTHONPATH": sources, "PATH": paths, "HOME": str(tmp_path)}
    sshtool = f"{python} -m sshtool"
    # Of the guide's commands, each is in the text as it stands here; the others give their input.
    steps = [
        ("openssl ecparam -name prime256v1 -genkey -noout -out KEY", ""),
        ("openssl ec -in KEY -pubout", " -out KEY.pub"),
        ("sshtool package --sign KEY", ""),
        ("sha256sum KEY.pub", ""),
        ("model_signing verify key FOLDER --signature FOLDER/model.sig --public_key KEY.pub", ""),
    ]
    printed = []
    for command, more in steps:
        assert f"`{command}`" in GUIDES[TOOLS]
        line = (command + more).replace("FOLDER", str(folder))
        line = f"{sshtool}{line.removeprefix('sshtool')}" if line.startswith("sshtool") else line
        result = subprocess.run(line.split(), cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        printed.append(result.stdout)
    assert printed[3].split()[0] in printed[2]  # signed by the hash of the key's file
    check = [*sshtool.split(), "check", str(folder), "--signers", "KEY.pub"]
    subprocess.run(check, cwd=tmp_path, env=variables, check=True, capture_output=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "KEY2"], cwd=tmp_path, check=True)
    command = "ssh-keygen -Y sign -n file -f KEY SHA256SUMS"
    assert f"`{command}`" in GUIDES[TOOLS]
    words = replaced(command.split(), {"KEY": str(tmp_path / "KEY2")})
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    signers = tmp_path / "signers"
    signers.write_text(f"us {(tmp_path / 'KEY2.pub').read_text()}")
    program("check", str(folder), "--signers", str(signers), folder=tmp_path)


@pytest.fixture
def serving() -> Iterator[list[subprocess.Popen[str]]]:
    servers: list[subprocess.Popen[str]] = []
    yield servers
    for server in servers:
        with server:  # waits, and closes its pipe
            server.terminate()


@pytest.mark.parametrize("small", [SMALL, AS_IT_STANDS])
def test_the_commands_of_the_page_make_and_serve_it(
    small: bool,
    slim: Path,
    node_modules: Callable[..., Path],
    serving: list[subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    block = BLOCKS[f"{TOOLS}#a-page-for-browsers"]
    install, *_, serve = (line.split() for line in block.text.splitlines())
    modules = node_modules("onnxruntime")
    name, _, version = install[-1].partition("@")
    assert install[:2] == ["npm", "install"]
    assert json.loads((modules / name / "package.json").read_text(encoding="utf-8"))["version"] == version
    (tmp_path / "node_modules").symlink_to(modules)
    steps = block.commands
    if small:
        steps = [replaced(made_small(words, slim), {"retinaface-mnet25": "ssh-mxnet"}) for words in steps]
        serve = [word.replace("retinaface-mnet25", "ssh-mxnet") for word in serve]
    for words in steps:
        program(*words, folder=tmp_path)
    assert serve[0] == "python3"
    command = [sys.executable, "-u", *serve[1:], "--bind", "127.0.0.1", "0"]
    serving.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True))
    assert serving[0].stdout is not None
    port = re.search(r"port (\d+)", serving[0].stdout.readline())
    assert port
    connection = http.client.HTTPConnection("127.0.0.1", int(port[1]))  # past any proxy
    with contextlib.closing(connection):
        connection.request("GET", "/")
        assert b"<html" in connection.getresponse().read()


def test_the_commands_of_the_locks_are_ones_that_uv_takes(environment: Callable[..., Path]) -> None:
    uv = environment("installers").with_name("uv")
    lines = [line for line in BLOCKS[f"{TESTING}#development"].text.splitlines() if "uv pip" in line]
    assert len(lines) == 3
    for line in lines:
        words = line[line.index("uv pip") :].split()
        assert [word for word in words if word.endswith(".toml") and not (ROOT / word).exists()] == []
        for more, code in (([], 0), (["--no-such-option"], 2)):
            command = [str(uv), *words[1:], *more, "--help"]
            result = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, check=False)
            assert result.returncode == code, result.stderr
