"""MXNet on the CPU, as released: the original that the others are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from sshconvert.checkpoint import Checkpoint
from sshconvert.errors import RuntimeUnavailableError
from sshtool.runtimes import Images, Outputs, Runtime, prepare


def import_mxnet() -> Any:
    """The `mxnet` package. Raises RuntimeUnavailableError where it is not installed or cannot work."""
    vars(np).setdefault("bool", bool)  # MXNet 1.9.1 needs the alias that NumPy 1.24 removed
    try:
        import mxnet
    except Exception as error:  # on NumPy 2 its import fails in several ways of its own
        raise RuntimeUnavailableError(
            f"mxnet: cannot be imported ({error}); pip install 'sshtool[reference]' on Python 3.10 to 3.12"
        ) from error
    return mxnet


class Mxnet(Runtime):
    name = "MXNet"

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint's two files with MXNet's own readers. The input is RGB minus the mean."""
        self._mxnet = import_mxnet()
        self._model = checkpoint.model
        self._symbol = self._mxnet.sym.load(str(checkpoint.symbol_path))
        arrays = self._mxnet.nd.load(str(checkpoint.params_path))
        self._arguments = {name[4:]: array for name, array in arrays.items() if name.startswith("arg:")}
        self._auxiliaries = {name[4:]: array for name, array in arrays.items() if name.startswith("aux:")}

    @property
    def version(self) -> str:
        return str(self._mxnet.__version__)

    def run(self, images: Images) -> Outputs:
        data = prepare(images, color_order="RGB", mean_values=self._model.input.mean)
        arguments = self._arguments | {self._model.input.name: self._mxnet.nd.array(data)}
        executor = self._symbol.bind(self._mxnet.cpu(), arguments, aux_states=self._auxiliaries, grad_req="null")
        values = executor.forward(is_train=False)
        names = (name.removesuffix("_output") for name in self._symbol.list_outputs())
        return {name: value.asnumpy() for name, value in zip(names, values, strict=True)}
