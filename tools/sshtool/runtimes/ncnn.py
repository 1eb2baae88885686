"""ncnn, which computes one image at a time, on phones and ARM boards above all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import ArtifactError, RuntimeUnavailableError
from sshconvert.formats.ncnn import Ncnn, infer, open_net
from sshconvert.libraries import NCNN, importing
from sshconvert.models.spec import ModelSpec
from sshconvert.threads import usable_cores
from sshconvert.validation import check_ncnn
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, Settings, prepared, shown
from sshtool.runtimes.registry import RUNTIMES

CPU: Final = "CPU"


@RUNTIMES.register("ncnn")
class NcnnRuntime(Runtime):
    """Computes in float32, whatever the type of the stored weights. The device is the CPU."""

    key = "ncnn"
    module = "ncnn"
    name = "ncnn"
    formats = ("ncnn",)
    usage = (
        "import ncnn",
        """\
net = ncnn.Net()
net.load_param("{path}")
net.load_model("{path}".replace(".param", ".bin"))
extractor = net.create_extractor()
extractor.input({name}, ncnn.Mat(data[0]).clone())  # layers compute in place
outputs = [np.array(extractor.extract(name)[1])[None] for name in {outputs}]""",
    )

    def __init__(self, path: Path, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        with importing(NCNN):
            import ncnn
        if settings.device.upper() != CPU:
            raise RuntimeUnavailableError(f"ncnn: device {settings.device} is missing; use {CPU}")
        self.version, self.settings, self._path = str(ncnn.__version__), settings, path
        contract = Ncnn.read_contract(path)
        self.declaration = contract.declaration(path)
        self._inputs = {tensor.name: tensor.shape for tensor in contract.inputs}
        self._outputs = {tensor.name: tensor.shape for tensor in contract.outputs}
        self._net = open_net(path, threads=settings.threads or usable_cores())

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        return cls(path, settings)

    @classmethod
    def default_requests(cls, threads: int) -> int:
        return 1  # its binding holds Python's lock while it computes

    def run(self, feed: Feed) -> Outputs:
        inputs = self._checked(feed)
        return infer(self._net, inputs, self._outputs, self._path)

    def layers(self, feed: Feed) -> Outputs:
        """Compute all blobs. pnnx fuses layers and numbers blobs: only the outputs have the network's names."""
        layers = check_ncnn(self._path).layers
        shapes: dict[str, tuple[int, ...] | None] = {
            blob: self._outputs.get(blob) for layer in layers if layer.reads for blob in layer.writes
        }
        return infer(self._net, self._checked(feed), shapes, self._path)

    def inferences(self, feed: Feed) -> list[Inference]:
        inputs = self._checked(feed)
        return [lambda: infer(self._net, inputs, self._outputs, self._path)]

    def _checked(self, feed: Feed) -> dict[str, Array]:
        """Return the inputs, whose shapes ncnn would not check. Raises ArtifactError."""
        (first, *_) = self._inputs
        inputs = prepared(feed, self.declaration, first)
        if {name: array.shape for name, array in inputs.items()} != self._inputs:
            raise ArtifactError(f"{self._path}: ncnn cannot run it on {shown(feed)} (it takes {self._inputs})")
        return {name: np.asarray(array, np.float32) for name, array in inputs.items()}
