"""A model for a network without a description: its inputs are named by the caller, its outputs are plain tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pydantic

from sshconvert.checkpoint import CheckpointFiles, variable_names
from sshconvert.cutting import cut
from sshconvert.errors import ModelError
from sshconvert.graph import Graph, Shape
from sshconvert.messages import listed
from sshconvert.models.registry import model_names
from sshconvert.models.spec import ImageSpec, InputSpec, ModelSpec
from sshconvert.mxnet.attributes import Attributes
from sshconvert.mxnet.params import read_params
from sshconvert.network import output_names, read_symbol
from sshconvert.schema import problems
from sshconvert.tasks.tensors import Tensors

SHAPE: Final = "__shape__"  # MXNet's attribute of a variable
_ENDINGS: Final = ("-symbol", "_symbol", ".symbol")


def describe(
    files: CheckpointFiles,
    inputs: Sequence[InputSpec] = (),
    *,
    outputs: Sequence[str] = (),
    image: ImageSpec | None = None,
) -> ModelSpec:
    """Return a model whose task is `tensors`, with the name of the symbol's file.

    Args:
        files: the symbol, and the parameters, which are read only if `inputs` do not answer which variables are inputs.
        inputs: the inputs; if empty, the variables without parameters, with their shapes in the symbol.
        outputs: any inner tensors by MXNet's names; if empty, the symbol's own outputs.
        image: the preprocessing of the only input, [N, 3, H, W]; None feeds the inputs as they are.

    Raises:
        ModelError: An input is unknown, has no shape, or is no image, or a name suits no model.
        UnsupportedGraphError: No operator computes one of `outputs`.
        SymbolError, ParamsError: A file is malformed.

    """
    whole = read_symbol(files.symbol)
    graph = cut(whole, outputs)
    stated = {item.name for item in inputs}
    if unknown := sorted(stated - set(whole.variables)):
        raise ModelError(
            f"{files.symbol}: has no input {listed(unknown, ', ')}; its inputs are "
            f"{listed(_inputs_of(graph, files), ', ')}"
        )
    used = [item for item in inputs if item.name in graph.variables]  # labels of loss heads are not
    specs = used or _specs_of(graph, files)
    if image:
        specs = [_with_image(specs, image)]
    try:
        return ModelSpec(name=model_name(files.symbol), inputs=tuple(specs), task=Tensors(names=output_names(graph)))
    except pydantic.ValidationError as error:
        raise ModelError(f"{files.symbol}: {problems(error)}") from None


def stated_shape(attributes: Mapping[str, str]) -> Shape | None:
    """Return the shape that a variable states itself, if it is complete."""
    reader = Attributes({"shape": attributes.get(SHAPE, "None")})
    shape = reader.integers("shape", (), least=1)
    return shape if shape and not reader.finish() else None


def _inputs_of(graph: Graph, files: CheckpointFiles) -> list[str]:
    """Return the variables without parameters. Raises ModelError without a file of parameters."""
    if files.params is None:
        raise ModelError(f"{files.symbol}: which variables are inputs? give each with --input, or --params to tell")
    stored = set(variable_names(graph, read_params(files.params)).values())
    return [name for name in graph.variables if name not in stored]


def _specs_of(graph: Graph, files: CheckpointFiles) -> list[InputSpec]:
    names = _inputs_of(graph, files)
    shapes = {node.name: stated_shape(node.attributes) for node in graph.nodes if node.is_variable}
    if unknown := [name for name in names if shapes[name] is None]:
        example = f"--input {unknown[0]}=1,3,224,224"
        raise ModelError(
            f"{files.symbol}: the shapes of its inputs {listed(unknown, ', ')} are not known; give each, for example "
            f"{example}"
        )
    return [InputSpec(name=name, shape=shape) for name in names if (shape := shapes[name])]


def _with_image(specs: Sequence[InputSpec], image: ImageSpec) -> InputSpec:
    if len(specs) != 1:
        raise ModelError(
            f"--mean, --scale, --color: they describe one image, and the inputs are "
            f"{', '.join(item.name for item in specs)}; omit them"
        )
    try:
        return InputSpec(**specs[0].model_dump(exclude_defaults=True), image=image)
    except pydantic.ValidationError as error:
        raise ModelError(f"--mean, --scale, --color: {specs[0].name}: {problems(error)}; omit them") from None


def model_name(symbol: Path) -> str:
    """Return the name of a model for the symbol's file: MODEL for MODEL-symbol.json."""
    stem = symbol.name.removesuffix(".json")
    for ending in _ENDINGS:
        stem = stem.removesuffix(ending)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)[:90].strip(".-") or "network"
    return f"{name}-network" if name in model_names() else name
