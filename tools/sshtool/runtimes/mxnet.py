"""MXNet on the CPU: the reference of all comparisons."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Floats
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.digest import file_sha256
from sshconvert.errors import ArtifactError, RuntimeUnavailableError
from sshconvert.libraries import Library, importing
from sshconvert.models.spec import ModelSpec
from sshconvert.threads import usable_cores
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, Settings, reason, shown
from sshtool.runtimes.original import original_declaration, original_inputs
from sshtool.runtimes.registry import RUNTIMES
from sshtool.runtimes.symbol_cut import cut_symbol

MXNET: Final = Library("MXNet", "mxnet", "reference", condition="on Python 3.11 or 3.12")


def import_mxnet(threads: int = 0) -> Any:
    """Import `mxnet`. The first import in a process fixes the number of threads, by default one for each core.

    Raises RuntimeUnavailableError if it is not installed or cannot be imported.
    """
    vars(np).setdefault("bool", bool)  # MXNet 1.9.1 needs the alias that NumPy 1.24 removed
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    else:  # by itself, MXNet uses half of the cores, as if two were one core's threads
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    with importing(MXNET):
        import mxnet
    return mxnet


@contextlib.contextmanager
def _without_fusion() -> Iterator[None]:
    """Disable fusion. In MXNet 1.9.1 it gives a convolution that is an output the values of the layers behind it."""
    name = "MXNET_SUBGRAPH_BACKEND"
    before = os.environ.get(name)
    os.environ[name] = "NONE"
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})


@RUNTIMES.register("mxnet")
class Mxnet(Runtime):
    key = "mxnet"
    module = "mxnet"
    name = "MXNet"
    formats = ()
    needs_sandbox = False  # sshconvert has checked the checkpoint

    def __init__(self, checkpoint: Checkpoint, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        """Load a checkpoint's two files with MXNet's own readers. The model takes any input size."""
        if settings.device != "CPU":
            raise RuntimeUnavailableError(f"mxnet: the released package has no device {settings.device}; use CPU")
        self._mxnet = import_mxnet(settings.threads)
        self._model = checkpoint.model
        symbol, arrays = self._read(checkpoint)
        self._symbol = self._cut(symbol, checkpoint)
        self._arrays = {checkpoint.names[name]: array for name, array in arrays.items()}
        self.version = str(self._mxnet.__version__)
        self.settings = settings
        self.declaration = original_declaration(checkpoint)

    def _cut(self, symbol: Any, checkpoint: Checkpoint) -> Any:
        """Return the symbol of the checkpoint's outputs, which may be inner tensors."""
        names = [f"{name.removesuffix('_output')}_output" for name in checkpoint.model.tensors]
        if symbol.list_outputs() == names:
            return symbol
        internals = symbol.get_internals()
        known = internals.list_outputs()
        chosen = [
            name if name in known else name.removesuffix("_output") for name in names
        ]  # a name such as `head_output0` has no suffix
        return self._mxnet.sym.Group([internals[name] for name in chosen])

    def _read(self, checkpoint: Checkpoint) -> tuple[Any, Any]:
        """Read the symbol and the arrays with MXNet. Raises ArtifactError if the files have changed since opening."""
        symbol, params = checkpoint.symbol_path, checkpoint.params_path
        try:
            contents = self._load(checkpoint), self._mxnet.nd.load(str(params))
            sha256 = {path.name: file_sha256(path) for path in (symbol, params)}
        # MXNet raises UnicodeDecodeError for its own messages that are not UTF-8.
        except (self._mxnet.MXNetError, OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{params}: MXNet cannot read the checkpoint ({reason(error)})") from None
        if sha256 != checkpoint.sha256:
            raise ArtifactError(f"{params.parent}: the checkpoint changed after it was opened; verify it again")
        return contents

    def _load(self, checkpoint: Checkpoint) -> Any:
        """Load the symbol, or only the part that computes the outputs if MXNet lacks an operator. Raises MXNetError."""
        path = checkpoint.symbol_path
        try:
            return self._mxnet.sym.load(str(path))
        except self._mxnet.MXNetError:
            text = path.read_text(encoding="utf-8")
            try:
                return self._mxnet.sym.load_json(cut_symbol(text, checkpoint.model.tensors))
            except (ValueError, KeyError, IndexError, TypeError):  # not the reason of the first error
                pass
            raise

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        return (".params",)

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        try:
            import_mxnet(settings.threads)
        except RuntimeUnavailableError as error:
            raise RuntimeUnavailableError(
                f"{path}: is a checkpoint, which only MXNet runs; convert it with `sshtool convert` ({error})"
            ) from None
        return cls(open_checkpoint(path, model, allow_nonfinite=settings.allow_nonfinite), settings)

    def run(self, feed: Feed) -> Outputs:
        return dict(zip(self._model.output_names, self._run(self._symbol, feed), strict=True))

    def layers(self, feed: Feed) -> Outputs:
        internals = self._symbol.get_internals()
        names = uniquely_named(internals.list_outputs(), set(internals.list_inputs()))
        values = self._run(self._mxnet.sym.Group([internals[name] for name in names]), feed)
        tensors = dict(zip((name.removesuffix("_output") for name in names), values, strict=True))
        return self._renamed(tensors)

    def _renamed(self, tensors: Outputs) -> Outputs:
        """Return the tensors with the model's names of its outputs, without inner tensors of the same names."""
        renames = self._model.outputs
        news = {tensor.removesuffix("_output"): name for name, tensor in renames.items()}
        return {news.get(name, name): array for name, array in tensors.items() if name in news or name not in renames}

    def inferences(self, feed: Feed) -> list[Inference]:
        """Return one computation, which uses all cores. MXNet does not guarantee concurrent computations.

        Some networks with fused operators, such as MobileFaceNet, run once only: MXNet finds weights in another order
        the second time. They continue without the fusion.
        """
        with self._errors(feed):
            bound = [self._bind(self._symbol, feed)]

        def compute() -> None:
            for value in bound[0].forward(is_train=False):
                value.wait_to_read()

        def infer() -> None:
            with self._errors(feed):
                try:
                    compute()
                except self._mxnet.MXNetError:
                    with _without_fusion():
                        bound[0] = self._bind(self._symbol, feed)
                    compute()

        return [infer]

    @classmethod
    def default_requests(cls, threads: int) -> int:
        return 1

    def _bind(self, symbol: Any, feed: Feed) -> Any:
        inputs = {
            name: self._mxnet.nd.array(array, dtype=array.dtype)
            for name, array in original_inputs(self._model, feed).items()
        }
        arrays = self._arrays | inputs
        arguments, auxiliaries = symbol.list_arguments(), symbol.list_auxiliary_states()
        # Labels of loss heads have no effect at inference, but MXNet wants a value.
        if missing := [name for name in arguments if name not in arrays]:
            known = {name: arrays[name].shape for name in arguments if name in arrays}
            shapes = dict(zip(arguments, symbol.infer_shape_partial(**known)[0], strict=True))
            arrays |= {name: self._mxnet.nd.zeros(shapes[name]) for name in missing}
        with _without_fusion() if _has_inner_outputs(symbol) else contextlib.nullcontext():
            return symbol.bind(
                self._mxnet.cpu(),
                {name: arrays[name] for name in arguments},
                aux_states={name: arrays[name] for name in auxiliaries},
                grad_req="null",
            )

    @contextlib.contextmanager
    def _errors(self, feed: Feed) -> Iterator[None]:
        try:
            yield
        except self._mxnet.MXNetError as error:
            raise ArtifactError(f"the checkpoint: MXNet cannot run it on {shown(feed)} ({reason(error)})") from None

    def _run(self, symbol: Any, feed: Feed) -> list[Floats]:
        with self._errors(feed):
            return [value.asnumpy() for value in self._bind(symbol, feed).forward(is_train=False)]


def _has_inner_outputs(symbol: Any) -> bool:
    """Return whether a node of the symbol reads one of its outputs."""
    document = json.loads(symbol.tojson())
    read = {tuple(entry[:2]) for node in document["nodes"] for entry in node["inputs"]}
    return any(tuple(head[:2]) in read for head in document["heads"])


def uniquely_named(names: Sequence[str], variables: Collection[str]) -> list[str]:
    """Return the computed tensors with unique names. MXNet cannot distinguish operators of the same name."""
    return [name for name, count in Counter(names).items() if count == 1 and name not in variables]
