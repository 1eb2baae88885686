"""Facts about a model and its checkpoint, or about a network without a description."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sshconvert.arrays import Array
from sshconvert.checkpoint import CheckpointFiles, variable_names
from sshconvert.contract import Contract, licence_of
from sshconvert.convert import plan
from sshconvert.cost import folded_cost, original_cost
from sshconvert.cutting import cut
from sshconvert.errors import ArtifactError, CheckpointError, ShapeError, UnsupportedGraphError
from sshconvert.finite import NonFinite, find_nonfinite
from sshconvert.formats.registry import format_of
from sshconvert.graph import Graph, Shape
from sshconvert.messages import name_text
from sshconvert.models.spec import InputSpec, ModelSpec
from sshconvert.mxnet.params import parse_params, snapshot_params
from sshconvert.network import Network, output_names, read_symbol, resolve, unsupported
from sshconvert.options import Options, Precision
from sshconvert.reading import is_file
from sshconvert.undescribed import model_name, stated_shape
from sshtool.checkpoint.archive import opened
from sshtool.workspace import Workspace


@dataclass(frozen=True)
class InfoResult:
    """Facts of the checkpoint, beside the published ones.

    `card_…` are the figures by the rule of the model card (`sshconvert.cost`).

    A network without a description need not be complete. Its cost and the shapes of its outputs are None if `problem`
    says why they are not known. Shapes of inputs are None if no option and no file gives them.
    """

    kind: Literal["checkpoint", "network"]  # with or without a description
    model: str
    title: str
    weights: str
    inputs: Mapping[str, Shape | None]
    outputs: Mapping[str, Shape | None]
    operators: Mapping[str, int]
    unsupported: Mapping[str, int]  # the number of nodes by operator, with the problem of its attributes if it has one
    mparams: float | None
    card_mparams: float | None
    published_mparams: float | None
    gflops: float | None
    card_gflops: float | None
    published_gflops: float | None
    published_at: Shape  # input shape of `published_gflops`
    original_input: str  # how the original takes its image, "" for tensors
    license_code: str
    license_weights: str
    license_note: str
    problem: str
    nonfinite: tuple[NonFinite, ...]  # weights that are NaN or infinite
    quantized: Mapping[str, Mapping[str, str]]  # for each INT8 file among the artifacts, how it was made


def info(
    workspace: Workspace,
    *,
    checkpoint: Path | CheckpointFiles | None = None,
    input_shape: Shape | None = None,
    allow_nonfinite: bool = False,
) -> InfoResult:
    """Describe a checkpoint (by default the downloaded one) at an input shape (by default the model's).

    Raises the errors of opening the checkpoint and of inferring its shapes.
    """
    model = workspace.model
    with opened(workspace.source(checkpoint), model, allow_nonfinite=allow_nonfinite) as loaded:
        shapes = model.input_shapes
        if model.takes_image:
            item = model.image_input
            shapes = {item.name: item.laid_out(input_shape or item.image_shape)}
        network = loaded.resolve(shapes)
        cost = original_cost(network, model, shapes)
        card = folded_cost(network, model, shapes) if model.published.rule == "folded" else cost
        return InfoResult(
            kind="checkpoint",
            model=model.name,
            title=model.title,
            weights=loaded.weights,
            inputs=shapes,
            outputs=network.output_shapes(),
            operators=_operators(loaded.graph),
            unsupported={},
            mparams=cost.parameters / 1e6,
            card_mparams=card.parameters / 1e6,
            published_mparams=model.published.mparams,
            gflops=cost.flops / 1e9,
            card_gflops=card.flops / 1e9,
            published_gflops=model.published.gflops,
            published_at=model.inputs[0].shape,
            original_input=f"{model.image.color.upper()} minus mean" if model.takes_image else "",
            license_code=model.licence.code,
            license_weights=licence_of(model, loaded.weights),
            license_note="" if loaded.is_demo else model.licence.note,
            problem="",
            nonfinite=loaded.nonfinite,
            quantized=_quantized(workspace),
        )


def info_of_network(
    files: CheckpointFiles, inputs: Sequence[InputSpec] = (), outputs: Sequence[str] = ()
) -> InfoResult:
    """Describe a network without a description, as far as it is known. Its weights may be missing.

    Raises SymbolError, ParamsError, and UnsupportedGraphError for `outputs` that no operator computes.
    """
    graph, problem = _cut(read_symbol(files.symbol), outputs)
    weights, parameters = _parameters(files, graph)
    shapes = _input_shapes(graph, inputs, parameters if files.params else None)
    known = {name: shape for name, shape in shapes.items() if shape}
    network = None
    try:
        stored = {name: array.shape for name, array in parameters.items()}
        network = resolve(graph, known, known=stored, dtypes={item.name: item.numpy for item in inputs})
    except UnsupportedGraphError:
        problem = problem or "the network has operators, attributes or outputs that are not supported"
    except ShapeError as error:
        unknown = ", ".join(name for name, shape in shapes.items() if not shape)
        problem = f"the shape of {unknown} is not known; give --input {unknown}=SHAPE" if unknown else str(error)
    return InfoResult(
        kind="network",
        model=model_name(files.symbol),
        title="",
        weights=weights,
        inputs=shapes,
        outputs=dict(network.output_shapes()) if network else dict.fromkeys(output_names(graph)),
        operators=_operators(graph),
        unsupported=unsupported(graph),
        mparams=_mparams(parameters, network, known),
        card_mparams=None,
        published_mparams=None,
        gflops=network.flops() / 1e9 if network else None,
        card_gflops=None,
        published_gflops=None,
        published_at=(),
        original_input="",
        license_code="",
        license_weights="",
        license_note="",
        problem=problem,
        nonfinite=find_nonfinite({name: array for name, array in parameters.items() if array.dtype.kind == "f"}),
        quantized={},
    )


def other_network(checkpoint: Path, model: ModelSpec) -> CheckpointFiles | None:
    """Return the files of a checkpoint whose network is another than the model's; None if it is the model's.

    Raises SymbolError.
    """
    try:
        files = CheckpointFiles.of(checkpoint)
    except CheckpointError:
        return None
    if not is_file(files.symbol) or output_names(read_symbol(files.symbol)) == model.tensors:
        return None
    return files


def _cut(graph: Graph, outputs: Sequence[str]) -> tuple[Graph, str]:
    """Return what computes the outputs. A network that ends in losses stays whole, and the text says how to cut it."""
    try:
        return cut(graph, outputs), ""
    except UnsupportedGraphError as error:
        if outputs:
            raise
        return graph, str(error)


def _operators(graph: Graph) -> dict[str, int]:
    return dict(sorted(Counter(node.operator for node in graph.nodes if not node.is_variable).items()))


def _parameters(files: CheckpointFiles, graph: Graph) -> tuple[str, dict[str, Array]]:
    """The identity of the weights, and the arrays that the graph reads, by variable."""
    if files.params is None:
        return "", {}
    snapshot = snapshot_params(files.params)
    arrays = parse_params(snapshot.data, source=str(files.params))
    names = variable_names(graph, arrays)
    variables = set(graph.variables)
    return f"params-sha256:{snapshot.sha256}", {
        names[name]: array for name, array in arrays.items() if names[name] in variables
    }


def _input_shapes(
    graph: Graph, inputs: Sequence[InputSpec], stored: Mapping[str, Array] | None
) -> dict[str, Shape | None]:
    """The given inputs, and the variables without parameters, with the shapes that they state themselves.

    Without a file of parameters, the given inputs are all, or else those that an operator reads first are inputs.
    """
    given: dict[str, Shape | None] = {item.name: item.shape for item in inputs if item.name in graph.variables}
    if stored is None:
        first = {node.inputs[0].node for node in graph.nodes if node.inputs}
        names = [node.name for number, node in enumerate(graph.nodes) if node.is_variable and number in first]
        names = [] if given else names
    else:
        names = [name for name in graph.variables if name not in stored and name not in given]
    attributes = {node.name: node.attributes for node in graph.nodes if node.is_variable}
    return given | {name: stated_shape(attributes[name]) for name in names}


def _mparams(parameters: Mapping[str, Array], network: Network | None, inputs: Mapping[str, Shape]) -> float | None:
    if parameters:
        return sum(array.size for array in parameters.values()) / 1e6
    return sum(map(math.prod, network.parameters(inputs).values())) / 1e6 if network else None


def _quantized(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The quantization record of each INT8 artifact, or the error of reading it, by path."""
    records: dict[str, dict[str, str]] = {}
    for artifact in plan(workspace.model.name, workspace.folder, Options(precisions=(Precision.INT8,))):
        if is_file(artifact.path):
            try:
                record = Contract(format_of(artifact.path).read_metadata(artifact.path)).quantization
            except ArtifactError as error:
                record = {"error": str(error)}
            records[name_text(artifact.path)] = record
    return records
