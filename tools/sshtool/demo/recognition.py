"""Demo checkpoints of embeddings and classifications: a small real architecture with seeded weights.

MobileFaceNet stands for every embedder, and a small octave ResNet for every classifier, with the model's input and the
size of its output. A program writes them, bit for bit the same on every platform. They are no trained networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sshconvert.arrays import Floats
from sshconvert.cutting import SUFFIX, cut
from sshconvert.errors import ModelError
from sshconvert.graph import Shape
from sshconvert.models.spec import ModelSpec
from sshconvert.mxnet.params import write_params
from sshconvert.network import parse_symbol, resolve
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.embedding import Embedding
from sshtool.demo.classifier import octave_parameters, octave_symbol
from sshtool.demo.embedder import mobilefacenet_symbol, seeded_parameters

# The sizes of an output whose task names none.
VECTOR: Final = 128
CLASSES: Final = 1000

AUXILIARY: Final = ("_moving_mean", "_moving_var")


def write_recognition_checkpoint(folder: Path, model: ModelSpec) -> None:
    """Write symbol and parameters of a demo into `folder`, under the model's file names.

    Raises ModelError for a model of another task, of another input, or whose output the architecture does not have.
    """
    symbol, parameters = recognition_demo(model)
    names = model.file_names
    (folder / names[0]).write_text(symbol, encoding="utf-8")
    stored = {f"{'aux' if name.endswith(AUXILIARY) else 'arg'}:{name}": array for name, array in parameters.items()}
    write_params(folder / names[1], stored)


def recognition_demo(model: ModelSpec) -> tuple[str, dict[str, Floats]]:
    """The symbol's text, and the parameters by name. Raises what `write_recognition_checkpoint` raises."""
    task = model.task
    if not isinstance(task, Embedding | Classification):
        raise ModelError(
            f"{model.name}: has the task {task.kind}, and this demo is of an embedding or a classification"
        )
    data = model.image_input.name
    output = model.outputs.get(task.output, task.output).removesuffix(SUFFIX)
    if isinstance(task, Embedding):
        symbol = mobilefacenet_symbol(task.size or VECTOR, data=data, output=output, normalized=task.normalized)
        return symbol, dict(seeded_parameters(_shapes(symbol, model)))
    classes = task.classes or len(task.labels) or CLASSES
    symbol = octave_symbol(classes, data=data, output=output, probabilities=task.probabilities)
    return symbol, octave_parameters(_shapes(symbol, model), model.image)


def _shapes(symbol: str, model: ModelSpec) -> dict[str, Shape]:
    """Name and shape of every parameter, in the graph's order."""
    inputs = {model.image_input.name: model.image_input.shape}
    return resolve(cut(parse_symbol(symbol)), inputs).parameters(inputs)
