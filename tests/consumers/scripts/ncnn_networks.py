"""Converts networks to ncnn, and gives what each verb says: FOLDER, with the detector `tiny` and the network `beyond`.

sshtool runs as its users run it, beside real pnnx and ncnn.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from sshconvert import Options, convert, load_model, open_checkpoint
from sshconvert.errors import SSHToolError
from sshconvert.formats import ncnn as ncnn_format
from sshconvert.options import Precision
from sshtool.demo.scenes import draw_scene

DETECTOR: Final = "tiny"
EMBEDDER: Final = "face-recognition-mobilefacenet-arcface"
SIZE: Final = 64


def sshtool(*arguments: object) -> dict[str, Any]:
    """Give the exit code and the last line of complaint, and the document of `--json`."""
    command = [sys.executable, "-m", "sshtool", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(result.stdout) if "--json" in arguments and result.stdout else {}
    lines = result.stderr.splitlines()
    return {"code": result.returncode, "error": lines[-1] if lines else "", "document": document}


def files(folder: Path) -> dict[str, str]:
    """Give the hashes of the files of a folder by their paths."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def detector(folder: Path) -> dict[str, Any]:
    """Take a detector through the verbs: its description and its checkpoint are there."""
    place = ("--model", folder / f"{DETECTOR}.toml", "-o", folder / "out")
    artifacts = folder / "out" / DETECTOR
    converting = ("convert", *place, "--checkpoint", folder, "--precision", "FP32,FP16")
    say: dict[str, Any] = {"files": []}
    for _ in range(2):
        say["convert"] = sshtool(*converting, "--format", "ncnn")
        say["files"].append(files(artifacts))
    say["other"] = sshtool(*converting, "--format", "onnx")
    param = artifacts / "FP32" / f"{DETECTOR}.ncnn.param"
    say["param"] = param.read_text()
    Image.fromarray(draw_scene(0, SIZE, SIZE).image[..., ::-1]).save(folder / "scene.png")
    say["detections"] = {}
    for name in (f"FP32/{DETECTOR}.ncnn.param", f"FP32/{DETECTOR}.onnx", f"FP16/{DETECTOR}.ncnn.param"):
        answer = sshtool("detect", folder / "scene.png", *place, "--artifact", artifacts / name, "--json")
        say["detections"][name] = answer["document"]["detections"]
    for path in artifacts.rglob("*.onnx"):
        path.unlink()
    say["verify"] = sshtool("verify", *place, "--checkpoint", folder, "--reference", folder / "reference.npz", "--json")
    dataset = folder / "drawn" / "datasets" / "wider-demo"
    say["evaluate"] = sshtool("evaluate", *place, "--dataset", dataset, "--protocol", "omz", "--json")
    say["bench"] = sshtool("bench", *place, "--runs", "1", "--rounds", "1", "--mode", "latency", "--json")
    say["package"] = sshtool("package", *place, "--layout", "huggingface", "--reference", folder / "reference.npz")
    package = next((folder / "out" / "releases").iterdir())
    say["packaged"] = sorted(files(package))
    say["attributes"] = (package / ".gitattributes").read_text()
    say["check"] = sshtool("check", package, "--rebuild", folder, "--json")
    say["card"] = card(package, folder / "scene.png")
    say["hostile"] = hostile(param, place, folder / "scene.png")
    return say


def card(package: Path, image: Path) -> list[list[int]]:
    """Run the model card's example, and give the shapes of its outputs."""
    (program, *_) = re.findall(r"```python\n(.*?)```", (package / "README.md").read_text(), re.DOTALL)
    (package / "photo.jpg").write_bytes(image.read_bytes())
    program += "\nimport json\nprint(json.dumps([output.shape for output in outputs]))\n"
    result = subprocess.run([sys.executable, "-c", program], cwd=package, capture_output=True, text=True, check=True)
    (package / "photo.jpg").unlink()
    shapes: list[list[int]] = json.loads(result.stdout.splitlines()[-1])
    return shapes


def hostile(path: Path, place: tuple[Any, ...], image: Path) -> dict[str, Any]:
    """Give what `detect` says of a file with a layer that no network has, and of one without half its weights."""
    text, weights = path.read_text(), ncnn_format.Ncnn.companions(path)[0]
    data = weights.read_bytes()
    say = {}
    for name, changed, cut in (
        ("layer", text.replace("Softmax ", "Softplus "), data),
        ("weights", text, data[: len(data) // 2]),
    ):
        path.write_text(changed)
        weights.write_bytes(cut)
        say[name] = sshtool("detect", image, *place, "--artifact", path)
    path.write_text(text)
    weights.write_bytes(data)
    return say


def embedder(folder: Path) -> dict[str, Any]:
    """Take an embedder, whose mean stays in front of it. Its conversion compares the answers."""
    place = ("--model", EMBEDDER, "-o", folder)
    sshtool("download", "--demo", *place)
    return sshtool("convert", *place, "--format", "ncnn", "--precision", "FP32,FP16")


def refused(folder: Path) -> dict[str, Any]:
    """Give the refusal of a network beyond pnnx, and of one whose weights something spoils on the way."""
    beyond = folder / "beyond"
    network = ("--symbol", beyond / "tiny-symbol.json", "--params", beyond / "tiny-0000.params", "--input", "data=1,12")
    operator = sshtool("convert", *network, "-o", beyond / "out", "--format", "ncnn")
    say = {"operator": operator, "left": sorted(files(beyond / "out"))}
    honest = ncnn_format._convert  # the fault is planted behind pnnx

    def spoiled(source: Path, folder: Path) -> None:
        honest(source, folder)
        data = bytearray((folder / "model.ncnn.bin").read_bytes())
        values = np.frombuffer(data, np.float32)
        values[len(values) // 2 :] *= 1.01
        (folder / "model.ncnn.bin").write_bytes(data)

    ncnn_format._convert = spoiled  # as above
    say["spoiled"] = failure(folder)
    ncnn_format._convert = honest
    vars(ncnn_format)["_ANSWERING"] = "import os; os.kill(os.getpid(), 11)"  # a crash of ncnn
    say["crashed"] = failure(folder)
    return {**say, "written": sorted(files(folder / "spoiled"))}


def failure(folder: Path) -> str:
    """Give the error of converting the embedder."""
    checkpoint = open_checkpoint(folder / "checkpoints" / EMBEDDER, load_model(EMBEDDER))
    try:
        convert(checkpoint, folder / "spoiled", Options(("ncnn",), (Precision.FP32,)))
    except SSHToolError as error:
        return str(error)
    return ""


def main(folder: Path) -> dict[str, Any]:
    return {"detector": detector(folder), "embedder": embedder(folder), "refused": refused(folder)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201  # the answer
