"""The demo of any model: a network with the model's inputs and outputs, and weights that a program makes, bit for bit.

ssh-mxnet has its real architecture. For another model a small network of its task stands in, with outputs of the same
names and meanings: it proves the path from a checkpoint to a package, and says nothing about the model's own network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshconvert.arrays import Floats
from sshconvert.digest import bytes_sha256, file_sha256
from sshconvert.errors import ModelError
from sshconvert.files import scratch_folder
from sshconvert.models.spec import ModelSpec
from sshconvert.mxnet.params import write_params
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.embedding import Embedding
from sshconvert.tasks.tensors import Tensors
from sshconvert.tasks.yolo_detection import YoloDetection
from sshtool.demo import checkpoint as ssh
from sshtool.demo.landmarks import landmark_network
from sshtool.demo.plain import plain_symbol
from sshtool.demo.recognition import recognition_demo
from sshtool.demo.seeding import parameter_shapes, seeded
from sshtool.demo.symbol import ssh_vgg16_symbol
from sshtool.demo.yolo import yolo_network

AUXILIARY: Final = ("_mean", "_var")


@dataclass(frozen=True)
class DemoNetwork:
    """The text of the symbol, and the parameters by the names of the parameter file."""

    symbol: str
    parameters: Mapping[str, Floats]


def demo_checkpoint(model: ModelSpec) -> DemoNetwork:
    """Return the demo of a model. Raises ModelError for a model that no demo fits."""
    symbol, parameters = _network(model)
    files = {f"{'aux' if name.endswith(AUXILIARY) else 'arg'}:{name}": array for name, array in parameters.items()}
    return DemoNetwork(symbol, files)


def detects_faces(model: ModelSpec) -> bool:
    """Return whether the demo of a model detects drawn faces: that of anchors. Others know nothing about faces."""
    return isinstance(model.task, AnchorDetection)


def check_demo(model: ModelSpec) -> None:
    """Raise ModelError for a model that no demo fits, before anything is written."""
    if not ssh.has_its_outputs(model):
        demo_checkpoint(model)


def write_demo(folder: Path, model: ModelSpec) -> None:
    """Write the demo's symbol and parameters into `folder`, under the model's file names. Raises ModelError."""
    network = demo_checkpoint(model)
    symbol, params = model.file_names
    (folder / symbol).write_text(network.symbol, encoding="utf-8")
    write_params(folder / params, network.parameters)


def demo_hashes(model: ModelSpec) -> dict[str, str]:
    """The SHA-256 of the demo's two files, by name. Raises ModelError."""
    symbol, params = model.file_names
    if model.demo:
        text = demo_checkpoint(model).symbol
        return {symbol: bytes_sha256(text.encode()), params: model.demo.params_sha256}
    with scratch_folder() as folder:
        write_demo(folder, model)
        return {name: file_sha256(folder / name) for name in (symbol, params)}


def _network(model: ModelSpec) -> tuple[str, Mapping[str, Floats]]:
    """The symbol's text, and the parameters by the names of the graph."""
    if ssh.has_its_outputs(model):
        return ssh_vgg16_symbol(), ssh.parameters(model)
    task = model.task
    if isinstance(task, AnchorDetection):
        return landmark_network(model)
    if isinstance(task, YoloDetection):
        return yolo_network(model)
    if isinstance(task, Embedding | Classification):
        return recognition_demo(model)
    if isinstance(task, Tensors):
        symbol = plain_symbol(model)
        return symbol, seeded(parameter_shapes(symbol, model))
    raise ModelError(
        f"{model.name}: --demo makes no checkpoint of the task {task.kind}; give one of this model with --checkpoint "
        "or --from-archive"
    )
