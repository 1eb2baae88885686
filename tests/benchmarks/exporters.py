"""Every network of the zoo through MXNet's exporter to ONNX, the last `mo` that reads MXNet, and sshtool:

    PYTHONPATH=tests/support python tests/benchmarks/exporters.py --cache-dir DIR [--network PATTERN ...]

converts each network with each program from the same files, runs what comes out, and compares it with MXNet 1.9.1's own
outputs. DIR keeps the peers' environment (`peers`), MXNet's answers, and a line of JSON for each run in results.jsonl:
what is there is not run again. `exporters_table.py`
prints the tables.

CPU seconds and peak memory are those of the whole process of a conversion. A difference is the largest one relative to
the largest absolute value of the output.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

import peers
import zoo
from benchmark import COST, ROOT, find_python
from project import SHARED
from sshconvert.arrays import Array
from sshconvert.cutting import cut
from sshconvert.errors import ShapeError, SymbolError, UnsupportedGraphError
from sshconvert.mxnet.params import write_params
from sshconvert.network import read_symbol, resolve
from sshtool.runtimes.symbol_cut import cut_symbol

WORKER: Final = Path(__file__).with_name("exporters_worker.py")
RESULTS: Final = "results.jsonl"
LIMIT: Final = 300  # seconds of CPU for a conversion
CPU_EXCEEDED: Final = (-9, -24, 137, 152)  # SIGKILL and SIGXCPU, as a process and as a shell report them
MXNET: Final = "mxnet"  # the original, whose outputs the others have to match
CAUSE: Final = "Original exception message: "
PROGRAMS: Final = (MXNET, "mx2onnx", "mo", "sshtool-onnx", "sshtool-openvino")


ParameterShapes = tuple[Mapping[str, tuple[int, ...]], Sequence[str]]


class StepError(Exception):
    """A process failed; the last line that it printed."""


@dataclass(frozen=True)
class Result:
    """One program on one network. `difference` is the worst of all outputs; None if there is nothing to compare."""

    network: str
    program: str
    converted: bool
    reason: str = ""
    cpu: float | None = None
    wall: float | None = None
    memory: float | None = None
    difference: float | None = None
    mismatch: str = ""
    date: str = ""

    def matches(self, limit: float) -> bool:
        return self.difference is not None and self.difference <= limit


class Exporters:
    """The zoo, the programs, and the results so far."""

    def __init__(self, cache: Path, python: str, networks: Sequence[zoo.ZooNetwork]) -> None:
        self.cache, self.networks = cache, networks
        self.answers = cache / "answers"
        self.answers.mkdir(parents=True, exist_ok=True)
        self.programs = peers.make_environment(cache / "peers", python)
        paths = os.pathsep.join([str(ROOT / "convert"), str(ROOT / "tools")])
        ours = {"PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": str(cache / "pycache")}
        self.environment = {**peers.environment(), **ours}

    def add(self, result: Result) -> None:
        with (self.cache / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")

    def run(self, programs: Sequence[str]) -> Iterator[Result]:
        """Run what has no result yet."""
        for network in self.networks:
            missing = [program for program in programs if (network.name, program) not in read_results(self.cache)]
            if missing:
                yield from self._run(network, missing)

    def _run(self, network: zoo.ZooNetwork, programs: Sequence[str]) -> Iterator[Result]:
        with self._files(network) as files:
            for program in programs:
                result = self._reference(files) if program == MXNET else self._convert(files, program)
                self.add(result)
                yield result

    @contextmanager
    def _files(self, network: zoo.ZooNetwork) -> Iterator[Files]:
        """The files that all programs get: those of the zoo, cut where MXNet cannot compute the network's own heads."""
        with tempfile.TemporaryDirectory(dir=self.cache) as name:
            files = Files(network, Path(name), self.answers)
            inputs: dict[str, Any] = zoo.inputs(network)  # numpy 2 types its flag among them
            np.savez(files.inputs, **inputs)
            self._write(files)
            yield files

    def _write(self, files: Files) -> None:
        network = files.network
        text = network.symbol.read_text("utf-8")
        files.symbol.write_text(cut_symbol(text, network.cuts) if network.cuts else text, encoding="utf-8")
        try:
            shapes = self._shapes(files)
        except StepError as error:
            files.error = str(error)
            shapes = own_shapes(network)
        write_params(files.params, zoo.parameters(network, *shapes))

    def _shapes(self, files: Files) -> ParameterShapes:
        """Return the shapes that MXNet infers. They are kept, because a start of MXNet takes seconds."""
        network = files.network
        shapes = self.cache / "shapes" / f"{network.name}.json"
        if not shapes.exists():
            shapes.parent.mkdir(exist_ok=True)
            given = json.dumps({**network.inputs, **network.labels})
            shapes.write_text(self._worker("shapes", files.symbol, given), encoding="utf-8")
        return parameter_shapes(network, json.loads(shapes.read_text("utf-8")))

    def _worker(self, kind: str, *arguments: str | Path) -> str:
        return run_step([self.programs / "python", WORKER, kind, *arguments], peers.environment())

    def _reference(self, files: Files) -> Result:
        if not files.error:
            labels = json.dumps(dict(files.network.labels))
            try:
                self._worker("answers", files.symbol, files.params, files.inputs, labels, files.answers)
            except StepError as error:
                files.error = str(error)
        return Result(files.network.name, MXNET, not files.error, files.error, date=today())

    def _convert(self, files: Files, program: str) -> Result:
        if files.error and not program.startswith("sshtool"):
            return Result(files.network.name, program, converted=False, reason=files.error, date=today())
        command, environment, model = self._command(files, program)
        try:
            cost = json.loads(run_step([sys.executable, COST, "prlimit", f"--cpu={LIMIT}", *command], environment))
        except StepError as error:
            return Result(files.network.name, program, converted=False, reason=str(error), date=today())
        try:
            difference, mismatch = self._compare(files, program, model), files.network.undefined
        except (StepError, FileNotFoundError) as error:
            difference, mismatch = None, str(error)
        return Result(
            files.network.name, program, converted=True, **cost, difference=difference, mismatch=mismatch, date=today()
        )

    def _command(self, files: Files, program: str) -> tuple[list[str | Path], Mapping[str, str], Path]:
        """Return a program's command, its environment, and the model that it writes."""
        ((name, shape),) = files.network.inputs.items()
        sizes = ",".join(map(str, shape))
        if program == "mx2onnx":
            model = files.folder / "model.onnx"
            given = json.dumps(dict(files.network.inputs))
            command: list[str | Path] = [
                self.programs / "python",
                WORKER,
                program,
                files.symbol,
                files.params,
                given,
                model,
            ]
            return command, peers.environment(), model
        if program == "mo":
            arguments: list[str | Path] = ["--framework", "mxnet", "--input_symbol", files.symbol]
            arguments += ["--input_model", files.params, "--input", name, "--input_shape", f"[{sizes}]"]
            arguments += ["--output_dir", files.folder, "--model_name", "mo", "--compress_to_fp16=False"]
            return [self.programs / "mo", *arguments], peers.environment(), files.folder / "mo.xml"
        kind = program.removeprefix("sshtool-")
        out = files.folder / program
        command = [sys.executable, "-m", "sshtool", "convert", "--quiet", "--symbol", files.symbol]
        command += ["--params", files.params, "--input", f"{name}={sizes}", "--format", kind, "--output-dir", out]
        return command, self.environment, out

    def _compare(self, files: Files, program: str, model: Path) -> float | None:
        if files.network.undefined or not (files.answers.exists() or self._reference(files).converted):
            return None
        outputs = files.folder / "outputs.npz"
        if model.is_dir():
            model = next(path for path in sorted(model.rglob("*")) if path.suffix in (".onnx", ".xml"))
        kind = "onnx" if model.suffix == ".onnx" else "openvino"
        if program == "mo":
            self._worker(kind, model, files.inputs, outputs)
        else:
            run_step([sys.executable, WORKER, kind, model, files.inputs, outputs], self.environment)
        return zoo.difference(read(files.answers), read(outputs), ordered=program != "mo")


def parameter_shapes(network: zoo.ZooNetwork, shapes: Mapping[str, Mapping[str, Sequence[int]]]) -> ParameterShapes:
    """Return the shapes of parameters and the names of auxiliary states, without inputs and labels."""
    heads = {*network.inputs, *network.labels} | {name for name in shapes["arguments"] if name.endswith("label")}
    both = {**shapes["arguments"], **shapes["auxiliaries"]}
    return {name: tuple(shape) for name, shape in both.items() if name not in heads}, list(shapes["auxiliaries"])


def own_shapes(network: zoo.ZooNetwork) -> ParameterShapes:
    """Return what sshconvert infers for a network that MXNet cannot load; nothing for one that it refuses too."""
    try:
        graph = cut(read_symbol(network.symbol), network.cuts)
        resolved = resolve(graph, network.inputs, known=network.noted_shapes)
    except (SymbolError, UnsupportedGraphError, ShapeError):
        return {}, []
    return resolved.parameters(network.inputs), sorted(resolved.auxiliaries())


@dataclass
class Files:
    """A network's files for the programs, in a folder that is removed. `error` says why there are none."""

    network: zoo.ZooNetwork
    folder: Path
    answer_folder: Path
    error: str = ""

    @property
    def symbol(self) -> Path:
        return self.folder / "model-symbol.json"

    @property
    def params(self) -> Path:
        return self.folder / "model-0000.params"

    @cached_property
    def answers(self) -> Path:
        """MXNet's outputs; the name has the hash of the files, so they are never those of other files."""
        digest = hashlib.sha256()
        for path in (self.symbol, self.params, self.inputs):
            digest.update(path.read_bytes())
        return self.answer_folder / f"{self.network.name}-{digest.hexdigest()[:16]}.npz"

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs.npz"


def run_step(command: Sequence[str | Path], environment: Mapping[str, str]) -> str:
    """Run a process. Returns what it prints; raises StepError with the last line of what it complains about."""
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return result.stdout
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    code = lines[0].rpartition("exit code ")[2] if lines else ""
    if result.returncode in CPU_EXCEEDED or code in map(str, CPU_EXCEEDED):
        raise StepError(f"more than {LIMIT} s of CPU")
    raise StepError(complaint(lines) or f"exit code {result.returncode}")


def complaint(lines: Sequence[str]) -> str:
    """Return the line that says what went wrong: the cause that `mo` names, else the last that names an error."""
    causes = [line.removeprefix(CAUSE) for line in lines if line.startswith(CAUSE)]
    errors = [line for line in lines if "Error" in line or "ERROR" in line]
    return (causes or errors or list(lines) or [""])[-1][:300]


def read_results(cache: Path) -> dict[tuple[str, str], Result]:
    """Return the results so far, by network and program."""
    path = cache / RESULTS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    found = [Result(**json.loads(line)) for line in lines]
    return {(result.network, result.program): result for result in found}


def read(path: Path) -> list[Array]:
    with np.load(path) as data:
        return [data[name] for name in sorted(data.files)]


def today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache-dir", type=Path, required=True, help="the peers' environment, answers and results")
    parser.add_argument("--zoo", type=Path, default=SHARED / "data" / "zoo")
    parser.add_argument("--network", action="append", help="a pattern of names; repeatable")
    parser.add_argument("--program", action="append", choices=PROGRAMS, help="only this one; repeatable")
    parser.add_argument("--python", default=find_python(), help="Python 3.10 for the peers")
    options = parser.parse_args()
    patterns = options.network or ["*"]
    networks = [
        each for each in zoo.by_size(zoo.read_zoo(options.zoo)) if any(fnmatchcase(each.name, p) for p in patterns)
    ]
    exporters = Exporters(options.cache_dir.resolve(), options.python, networks)
    for result in exporters.run(options.program or PROGRAMS):
        sys.stdout.write(json.dumps({k: v for k, v in asdict(result).items() if v not in (None, "")}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
