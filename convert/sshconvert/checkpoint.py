"""A checkpoint: a graph, the parameters that belong to it, and where they come from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pydantic

from sshconvert.arrays import Array
from sshconvert.digest import file_sha256
from sshconvert.errors import CheckpointError
from sshconvert.files import staged
from sshconvert.finite import NonFinite, find_nonfinite, summary
from sshconvert.graph import Graph, Shape
from sshconvert.messages import listed
from sshconvert.models.spec import ModelSpec, Sha256
from sshconvert.mxnet.params import parse_params, snapshot_params
from sshconvert.mxnet.symbol import snapshot_symbol
from sshconvert.network import output_names, parse_symbol, resolve
from sshconvert.reading import is_file, is_folder, matching, read_small
from sshconvert.recognition import IR, ONNX, PARAMS, SYMBOL, mistaken
from sshconvert.schema import Strict, one_line, parse_json
from sshconvert.snapshot import Snapshot

RECORD_NAME: Final = "checkpoint.json"
MOST_LOOKED_AT: Final = 10_000  # of the files in a folder
LARGEST_RECORD: Final = 1 << 20
DEMO: Final = "demo"

Weights = Annotated[str, pydantic.StringConstraints(pattern=r"^(demo|(params-)?sha256:[0-9a-f]{64})$")]


class Record(Strict):
    """`checkpoint.json`: where the files beside it come from, and what they were when they were stored."""

    schema_version: Literal[1] = 1
    model: str
    weights: Weights  # "demo", or "sha256:" and the archive's hash
    source: str  # the path, URL or program that they came from
    verified: bool  # the archive is the one that the model's description pins
    files: Mapping[str, Sha256]


@dataclass(frozen=True)
class Checkpoint:
    """A graph and its parameters, complete and of the right shapes, by the names of the graph's variables.

    `parameters` are read-only float32 views of the file's bytes, in memory since it was opened. `weights` says what
    they are: "demo", "sha256:…" of the archive, or "params-sha256:…" of the parameter file when nothing says where it
    comes from. `sha256` are the hashes of the two files' bytes, by name, as they were read. `nonfinite` are the
    parameters with NaN or infinities, where they were allowed.
    """

    model: ModelSpec
    graph: Graph
    parameters: dict[str, Array]
    weights: str
    symbol_path: Path
    params_path: Path
    sha256: Mapping[str, str]
    nonfinite: tuple[NonFinite, ...] = ()

    @property
    def input_shape(self) -> Shape:
        """The shape of the input in the model's description."""
        return self.model.image_input.shape

    @property
    def is_demo(self) -> bool:
        return self.weights == DEMO

    def release(self) -> None:
        """Give the parameters' memory back: there are none any more. For whoever has no use for them after this."""
        self.parameters.clear()


def open_checkpoint(path: Path, model: ModelSpec, *, allow_nonfinite: bool = False) -> Checkpoint:
    """Open a folder with the model's two files, or a `.params` file that has its symbol beside it. Raises
    CheckpointError (files or parameters missing, unexpected, altered or misshapen: all are listed; another network; NaN
    or infinities, unless they are allowed) and the readers' ParamsError and SymbolError.
    """
    symbol_path, params_path = locate(path, model)
    symbol = snapshot_symbol(symbol_path)
    graph = parse_symbol(bytes(symbol.data), source=str(symbol_path))
    _check_ends(graph, model)
    params = snapshot_params(params_path)
    parameters = bind(graph, parse_params(params.data, source=str(params_path)), model, source=params_path)
    nonfinite = find_nonfinite(parameters)
    if nonfinite and not allow_nonfinite:
        raise CheckpointError(
            f"{params_path}: {summary(nonfinite)} ({listed(map(str, nonfinite))}); get the file again, "
            "or use --allow-nonfinite if they are meant"
        )
    weights = _identify(symbol, params, model)
    sha256 = {file.path.name: file.sha256 for file in (symbol, params)}
    return Checkpoint(model, graph, parameters, weights, symbol_path, params_path, sha256, nonfinite)


def locate(path: Path, model: ModelSpec) -> tuple[Path, Path]:
    """The paths of the symbol and the parameters. Raises CheckpointError if one is missing.

    In a folder, a model without names has the only `.params` file that has its symbol beside it.
    """
    if is_folder(path) and not model.checkpoint.symbol:
        return _only_pair(path)
    if is_folder(path):
        files = (path / model.checkpoint.symbol, path / model.checkpoint.params)
    elif path.suffix == ".params":
        files = (_symbol_of(path), path)
    else:
        raise CheckpointError(f"{path}: {_no_checkpoint(path)}")
    missing = [file.name for file in files if not is_file(file)]
    if missing:
        folder = path if is_folder(path) else path.parent
        raise CheckpointError(f"{path}: {' and '.join(missing)} not found there; {_there_instead(folder, path, model)}")
    return files


def _only_pair(folder: Path) -> tuple[Path, Path]:
    pairs = [(_symbol_of(path), path) for path in matching(folder, "*.params") if is_file(_symbol_of(path))]
    if len(pairs) != 1:
        names = listed([path.name for _, path in pairs], ", ") or "none"
        raise CheckpointError(
            f"{folder}: expected one .params file with its -symbol.json beside it, found {one_line(names)}; "
            "give the .params file itself"
        )
    return pairs[0]


def _symbol_of(params: Path) -> Path:
    return params.with_name(re.sub(r"(-\d{4})?\.params$", "-symbol.json", params.name))


# What to do with a file that is something else.
_WAYS: Final = {
    SYMBOL: "give the .params file that belongs to it, or the folder of both",
    ONNX: "it is converted already: --artifact takes it",
    IR: "it is converted already: --artifact takes it",
    PARAMS: "give it a name that ends in .params, beside its -symbol.json",
}


def _no_checkpoint(path: Path) -> str:
    """Why a path that is neither a folder nor called .params can be no checkpoint, and what to give."""
    found = "is neither a folder, a .params file nor an archive"
    if not os.path.lexists(path):
        return f"{found}: nothing is there; correct the path, or make the demo: sshtool download --demo"
    what = mistaken(path, "")
    if not what and path.suffix == ".bin" and is_file(path.with_suffix(".xml")):
        what = IR
    way = _WAYS.get(what, "give one, or make the demo: sshtool download --demo")
    return f"{found} but {what}; {way}" if what else f"{found}; {way}"


def _there_instead(folder: Path, path: Path, model: ModelSpec) -> str:
    """What else lies in a folder that has not what was looked for, and the way on."""
    try:
        names = sorted(entry.name for entry in islice(folder.iterdir(), MOST_LOOKED_AT))
    except OSError:
        names = []
    archives = [name for name in names if name.endswith(".zip")]
    others = [name for name in names if name.endswith((".params", "-symbol.json"))]
    converted = [name for name in names if name.endswith((".onnx", ".xml"))]
    if path != folder:
        symbols = [name for name in others if name.endswith(".json")]
        if symbols:
            return f"there is {one_line(listed(symbols, ', '))}: give the symbol the name of its parameters"
        return "put the symbol beside the parameters"
    if others:
        return (
            f"there is {one_line(listed(others, ', '))}: is it another model's checkpoint? {model.name} is "
            f"{model.checkpoint.symbol} and {model.checkpoint.params}; of other names, give the .params file itself"
        )
    if archives:
        return f"there is {one_line(listed(archives, ', '))}: give that"
    if converted:
        return f"there is {one_line(listed(converted, ', '))}: these are converted already, and --artifact takes them"
    return "`sshtool download` makes a complete checkpoint"


def bind(graph: Graph, arrays: Mapping[str, Array], model: ModelSpec, *, source: Path) -> dict[str, Array]:
    """Give each variable of the graph, apart from the inputs, its array.

    `arrays` carry MXNet's prefixes: `aux:` for auxiliary states, `arg:` for all else. Raises
    CheckpointError with all that is missing, unexpected, of another shape, or not float32.
    """
    network = resolve(graph, model.input_shapes)
    expected, auxiliaries = network.parameters(model.input_shapes), network.auxiliaries()
    found: dict[str, Array] = {}
    problems: list[str] = []
    for full_name, array in arrays.items():
        name = full_name[4:]
        if name not in expected or full_name[:4] != ("aux:" if name in auxiliaries else "arg:"):
            problems.append(f"unexpected {full_name}" + ("" if ":" in full_name else " (neither arg: nor aux:)"))
            continue
        found[name] = array
        if array.shape != expected[name] or array.dtype != np.float32:
            problems.append(f"{name} is {array.dtype} {array.shape}, expected float32 {expected[name]}")
    if arrays and not any(name.startswith(("arg:", "aux:")) for name in arrays):
        raise CheckpointError(
            f"{source}: no name begins with arg: or aux:, so Gluon's save_parameters wrote it, or another program; "
            "export the network with HybridBlock.export, which writes the symbol too"
        )
    problems += [f"missing {name}" for name in expected if name not in found]
    if problems:
        raise CheckpointError(f"{source}: does not fit {graph.source}: {listed(problems)}; use files of one checkpoint")
    return found


def _check_ends(graph: Graph, model: ModelSpec) -> None:
    """Another network with the same file names would otherwise be converted under this model's name."""
    outputs = output_names(graph)
    if not set(model.input_shapes) <= set(graph.variables) or outputs != model.output_names:
        raise CheckpointError(
            f"{graph.source}: is not {model.name}, whose inputs are {', '.join(model.input_shapes)} and whose outputs "
            f"are {', '.join(model.output_names)}; its outputs are {listed(outputs, ', ')}"
        )


def write_record(folder: Path, model: ModelSpec, *, weights: str, source: str, verified: bool) -> None:
    """Write `checkpoint.json` for the two files that are in `folder`."""
    hashes = {path.name: file_sha256(path) for path in locate(folder, model)}
    # A file's name need not be text.
    source = source.encode(errors="backslashreplace").decode()
    record = Record(model=model.name, weights=weights, source=source, verified=verified, files=hashes)
    with staged(folder / RECORD_NAME) as part:
        part.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, if there is one. Raises CheckpointError if it does not follow the schema."""
    path = folder / RECORD_NAME
    try:
        return parse_json(Record, read_small(path, LARGEST_RECORD))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); remove it, or change it") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; remove it or download the checkpoint again") from None


def _identify(symbol: Snapshot, params: Snapshot, model: ModelSpec) -> str:
    """What the weights are, by the bytes that were read. Raises CheckpointError if a record says otherwise."""
    params_path = params.path
    if model.demo and params.sha256 == model.demo.params_sha256:
        return DEMO  # wherever it was copied to
    record = read_record(params_path.parent)
    if record is None or params_path.name not in record.files:
        return f"params-sha256:{params.sha256}"
    hashes = {item.path.name: item.sha256 for item in (symbol, params)}
    altered = [name for name, sha256 in hashes.items() if record.files.get(name) != sha256]
    if altered or record.model != model.name:
        raise CheckpointError(
            f"{params_path.parent}: {' and '.join(altered) or record.model} is not what {RECORD_NAME} describes; "
            "download the checkpoint again, or remove that file if the change was meant"
        )
    return record.weights
