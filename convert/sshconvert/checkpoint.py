"""A checkpoint: a graph, its parameters, and their origin."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pydantic

from sshconvert.arrays import Array
from sshconvert.cutting import cut
from sshconvert.digest import file_sha256
from sshconvert.errors import CheckpointError
from sshconvert.files import staged
from sshconvert.finite import NonFinite, find_nonfinite, summary
from sshconvert.graph import Graph, Shape
from sshconvert.messages import listed
from sshconvert.models.spec import ModelSpec, Sha256
from sshconvert.mxnet.params import parse_params, snapshot_params
from sshconvert.mxnet.symbol import snapshot_symbol
from sshconvert.network import Network, output_names, parse_symbol, resolve
from sshconvert.reading import is_file, is_folder, matching, read_small
from sshconvert.recognition import IR, ONNX, PARAMS, SYMBOL, mistaken
from sshconvert.schema import Strict, one_line, parse_json
from sshconvert.snapshot import Snapshot
from sshconvert.tasks.tensors import Tensors

RECORD_NAME: Final = "checkpoint.json"
MOST_FILES: Final = 10_000  # of a folder, for a hint in a message
LARGEST_RECORD: Final = 1 << 20
DEMO: Final = "demo"
PREFIXES: Final = ("arg:", "aux:")
STATISTICS: Final = (("running_", "moving_"), ("moving_", "running_"))  # Gluon's and MXNet's words for one state

Weights = Annotated[str, pydantic.StringConstraints(pattern=r"^(demo|(params-)?sha256:[0-9a-f]{64})$")]


class CheckpointRecord(Strict):
    """`checkpoint.json`: the origin and the hashes of the files beside it."""

    schema_version: Literal[1] = 1
    model: str
    weights: Weights  # "demo", or "sha256:" and the archive's hash
    source: str  # a path, a URL or a program
    verified: bool  # the archive is the one that the model's description pins
    files: Mapping[str, Sha256]


@dataclass(frozen=True)
class Checkpoint:
    """A graph and its complete parameters, by the names of the graph's variables.

    `parameters` are read-only float32 views of the file's bytes in memory. `weights` identifies them: "demo",
    "sha256:…" of the archive, or "params-sha256:…" of a parameter file without a record. `sha256` are the hashes of
    the two files by name. `names` are the variables of the file's names. `unused` are the file's names that no node
    reads. `nonfinite` are the parameters with NaN or infinities, if the caller allowed them.
    """

    model: ModelSpec
    graph: Graph
    parameters: dict[str, Array]
    weights: str
    symbol_path: Path
    params_path: Path
    sha256: Mapping[str, str]
    nonfinite: tuple[NonFinite, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def resolve(self, inputs: Mapping[str, Shape]) -> Network:
        """Return the network at the shapes of its inputs. Raises UnsupportedGraphError and ShapeError."""
        known = {name: array.shape for name, array in self.parameters.items()}
        return resolve(self.graph, inputs, known=known, dtypes=self.model.input_dtypes)

    @property
    def is_demo(self) -> bool:
        return self.weights == DEMO

    def release(self) -> None:
        """Free the memory of the parameters. The checkpoint has none afterwards."""
        self.parameters.clear()


@dataclass(frozen=True)
class CheckpointFiles:
    """The paths of a checkpoint's two files, which need not lie in one folder. `params` is None if it is not needed."""

    symbol: Path
    params: Path | None

    @classmethod
    def of(cls, path: Path, epoch: int | None = None) -> CheckpointFiles:
        """Return the files of a folder with one pair, of a `.params` file, or of a prefix and an epoch, as MXNet does.

        Raises CheckpointError.
        """
        if epoch is not None:
            return cls(path.with_name(f"{path.name}-symbol.json"), path.with_name(f"{path.name}-{epoch:04d}.params"))
        if is_folder(path):
            return cls(*_only_pair(path))
        if path.suffix != ".params":
            raise CheckpointError(f"{path}: {_refusal(path)}")
        return cls(symbol_beside(path), path)


def open_checkpoint(path: Path | CheckpointFiles, model: ModelSpec, *, allow_nonfinite: bool = False) -> Checkpoint:
    """Open a folder with the model's two files, a `.params` file with its symbol beside it, or two files.

    Raises:
        CheckpointError: Files or parameters are missing, unexpected, altered or misshapen, the network is another
            model's, or parameters hold NaN or infinities that `allow_nonfinite` does not allow.
        ParamsError: The `.params` file is malformed.
        SymbolError: The symbol is malformed.

    """
    symbol_path, params_path = locate(path, model)
    symbol = snapshot_symbol(symbol_path)
    whole = parse_symbol(bytes(symbol.data), source=str(symbol_path))
    is_raw = isinstance(model.task, Tensors)
    inner = is_raw or bool(model.outputs)  # the outputs may be any tensors of the network
    _check_ends(whole, model, inner=inner)
    graph = cut(whole, model.tensors if inner else (), model.output_names if model.outputs else ())
    if taken := sorted(set(graph.names) & set(graph.variables)):
        raise CheckpointError(
            f"{symbol_path}: {listed(taken, ', ')}: inputs or parameters have these names; give the outputs others"
        )
    params = snapshot_params(params_path)
    arrays = parse_params(params.data, source=str(params_path))
    names = variable_names(whole, arrays)
    unused = _unused(whole, graph, names, extra=inner)
    used = {name: array for name, array in arrays.items() if name not in unused}
    parameters = bind(graph, used, model, source=params_path)
    nonfinite = find_nonfinite(parameters)
    if nonfinite and not allow_nonfinite:
        raise CheckpointError(
            f"{params_path}: {summary(nonfinite)} ({listed(map(str, nonfinite))}); get the file again, "
            "or allow them with --allow-nonfinite"
        )
    weights = _identify(symbol, params, model)
    sha256 = {file.path.name: file.sha256 for file in (symbol, params)}
    return Checkpoint(model, graph, parameters, weights, symbol_path, params_path, sha256, nonfinite, names, unused)


def locate(path: Path | CheckpointFiles, model: ModelSpec) -> tuple[Path, Path]:
    """Return the paths of the symbol and the parameters. Raises CheckpointError if one is missing.

    If the model names no files, the folder's only pair of a symbol and a `.params` file is the checkpoint.
    """
    if isinstance(path, CheckpointFiles):
        if path.params is None:
            raise CheckpointError(f"{path.symbol}: this needs its weights; give them with --params")
        for file in (path.symbol, path.params):
            if not is_file(file):
                raise CheckpointError(f"{file}: no such file; give the paths of the symbol and of its .params file")
        return path.symbol, path.params
    if is_folder(path) and not model.checkpoint.symbol:
        return _only_pair(path)
    if is_folder(path):
        files = (path / model.checkpoint.symbol, path / model.checkpoint.params)
    elif path.suffix == ".params":
        files = (symbol_beside(path), path)
    else:
        raise CheckpointError(f"{path}: {_refusal(path)}")
    missing = [file.name for file in files if not is_file(file)]
    if missing:
        folder = path if is_folder(path) else path.parent
        raise CheckpointError(f"{path}: {' and '.join(missing)} not found; {_remedy(folder, path, model)}")
    return files


def _only_pair(folder: Path) -> tuple[Path, Path]:
    pairs = [(symbol_beside(path), path) for path in matching(folder, "*.params") if is_file(symbol_beside(path))]
    if len(pairs) != 1:
        names = listed([path.name for _, path in pairs], ", ") or "none"
        raise CheckpointError(
            f"{folder}: expected one .params file with its -symbol.json beside it, found {one_line(names)}; "
            "give the .params file itself"
        )
    return pairs[0]


def symbol_beside(params: Path) -> Path:
    """Return the path of the symbol of a `.params` file by MXNet's habit: NAME-symbol.json for NAME-0000.params."""
    return params.with_name(re.sub(r"(-\d{4})?\.params$", "-symbol.json", params.name))


# Remedies for a file of another kind.
_REMEDIES: Final = {
    SYMBOL: "give the .params file that belongs to it, or the folder of both",
    ONNX: "it is converted already: --artifact takes it",
    IR: "it is converted already: --artifact takes it",
    PARAMS: "give it a name that ends in .params, beside its -symbol.json",
}


def _refusal(path: Path) -> str:
    """Describe a path that is neither a folder nor named .params, and a remedy."""
    reason = "is neither a folder, a .params file nor an archive"
    if not os.path.lexists(path):
        return f"{reason}: nothing is there; correct the path, or make the demo: sshtool download --demo"
    description = mistaken(path, "")
    if not description and path.suffix == ".bin" and is_file(path.with_suffix(".xml")):
        description = IR
    remedy = _REMEDIES.get(description, "give one, or make the demo: sshtool download --demo")
    return f"{reason} but {description}; {remedy}" if description else f"{reason}; {remedy}"


def _remedy(folder: Path, path: Path, model: ModelSpec) -> str:
    """Suggest a remedy from the other files in a folder without the checkpoint."""
    try:
        names = sorted(entry.name for entry in islice(folder.iterdir(), MOST_FILES))
    except OSError:
        names = []

    def ending(*suffixes: str) -> str:
        return one_line(listed((name for name in names if name.endswith(suffixes)), ", "))

    if path != folder:
        if symbols := ending("-symbol.json"):
            return f"the folder has {symbols}: give the symbol the name of its parameters"
        return "put the symbol beside the parameters"
    if others := ending(".params", "-symbol.json"):
        return (
            f"the folder has {others}: is it another model's checkpoint? {model.name} is {model.checkpoint.symbol} and "
            f"{model.checkpoint.params}; for other names, give the .params file itself"
        )
    if archives := ending(".zip"):
        return f"the folder has {archives}: give that"
    if artifacts := ending(".onnx", ".xml"):
        return f"the folder has {artifacts}: these are converted already, and --artifact takes them"
    return "`sshtool download` makes a complete checkpoint"


def bind(graph: Graph, arrays: Mapping[str, Array], model: ModelSpec, *, source: Path) -> dict[str, Array]:
    """Return the array of each variable of the graph except the inputs.

    `arrays` are by the file's names (`variable_names`): `aux:…` for auxiliary states, `arg:…` for other parameters, or
    none of them with a prefix. Raises CheckpointError with all parameters that are missing, unexpected, of another
    shape, or not float32.
    """
    names = variable_names(graph, arrays)
    known = {names[name]: array.shape for name, array in arrays.items() if array.size}
    network = resolve(graph, model.input_shapes, known=known, dtypes=model.input_dtypes)
    expected, auxiliaries = network.parameters(model.input_shapes), network.auxiliaries()
    with_prefix = any(name.startswith(PREFIXES) for name in arrays)
    parameters: dict[str, Array] = {}
    problems: list[str] = []
    for full_name, array in arrays.items():
        name = names[full_name]
        prefix = ("aux:" if name in auxiliaries else "arg:") if with_prefix else ""
        if name not in expected or name in parameters or not full_name.startswith(prefix):
            problems.append(f"unexpected {full_name}" + ("" if ":" in full_name else " (neither arg: nor aux:)"))
            continue
        parameters[name] = array
        if array.shape != expected[name] or array.dtype != np.float32:
            problems.append(f"{name} is {array.dtype} {array.shape}, expected float32 {expected[name]}")
    missing = [f"missing {name}" for name in expected if name not in parameters]
    if arrays and not with_prefix and (problems or missing):
        raise CheckpointError(
            f"{source}: no name begins with arg: or aux:, so Gluon's save_parameters wrote it, or another program; "
            "export the network with HybridBlock.export, which writes the symbol too"
        )
    if problems or missing:
        raise CheckpointError(
            f"{source}: does not fit {graph.source}: {listed(problems + missing)}; use files of one checkpoint"
        )
    return parameters


def variable_names(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    """Return the variable of the graph for each name of a parameter file.

    The prefixes `arg:` and `aux:` fall away. MXNet's symbols say `moving_mean` where Gluon says `running_mean`; either
    stands for the other if the graph has no variable of that name.
    """
    variables = set(graph.variables)
    return {name: _variable(name[4:] if name.startswith(PREFIXES) else name, variables) for name in names}


def _variable(name: str, variables: Collection[str]) -> str:
    if name in variables:
        return name
    for one, other in STATISTICS:
        head, _, tail = name.rpartition(one)
        if name.endswith(f"{one}{tail}") and tail in ("mean", "var") and f"{head}{other}{tail}" in variables:
            return f"{head}{other}{tail}"
    return name


def _unused(whole: Graph, graph: Graph, names: Mapping[str, str], *, extra: bool) -> tuple[str, ...]:
    """Return the names of a file that only removed nodes read, and with `extra` those that no node ever read."""
    needed, removed = set(graph.variables), set(whole.variables)
    return tuple(
        name
        for name, variable in names.items()
        if variable not in needed and (variable in removed or (extra and name.startswith(PREFIXES)))
    )


def _check_ends(graph: Graph, model: ModelSpec, *, inner: bool) -> None:
    """Raise CheckpointError for another model's network, which may have files of the same names.

    With `inner`, the model's outputs may be any tensors of the network, and `cut` finds them.
    """
    outputs = output_names(graph)
    if not set(model.input_shapes) <= set(graph.variables) or not (inner or outputs == model.output_names):
        raise CheckpointError(
            f"{graph.source}: is not {model.name}, whose inputs are {', '.join(model.input_shapes)} and whose outputs "
            f"are {', '.join(model.output_names)}; its outputs are {listed(outputs, ', ')}"
        )


def write_record(folder: Path, model: ModelSpec, *, weights: str, source: str, verified: bool) -> None:
    """Write `checkpoint.json` for the two files in `folder`."""
    hashes = {path.name: file_sha256(path) for path in locate(folder, model)}
    source = source.encode(errors="backslashreplace").decode()  # a path may have bytes that UTF-8 cannot encode
    record = CheckpointRecord(model=model.name, weights=weights, source=source, verified=verified, files=hashes)
    with staged(folder / RECORD_NAME) as part:
        part.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> CheckpointRecord | None:
    """Read the record in `folder`, None if it has none. Raises CheckpointError for an invalid record."""
    path = folder / RECORD_NAME
    try:
        return parse_json(CheckpointRecord, read_small(path, LARGEST_RECORD))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); remove it, or change it") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; remove it or download the checkpoint again") from None


def _identify(symbol: Snapshot, params: Snapshot, model: ModelSpec) -> str:
    """Return `Checkpoint.weights`. Raises CheckpointError if the record describes other files."""
    params_path = params.path
    if model.demo and params.sha256 == model.demo.params_sha256:
        return DEMO  # in any folder
    record = read_record(params_path.parent)
    if record is None or params_path.name not in record.files:
        return f"params-sha256:{params.sha256}"
    hashes = {item.path.name: item.sha256 for item in (symbol, params)}
    altered = [name for name, sha256 in hashes.items() if record.files.get(name) != sha256]
    # A network without a description has the name of its file.
    if altered or (model.checkpoint.symbol and record.model != model.name):
        raise CheckpointError(
            f"{params_path.parent}: {' and '.join(altered) or record.model} does not match {RECORD_NAME}; "
            "download the checkpoint again, or remove that file if the change is intended"
        )
    return record.weights
