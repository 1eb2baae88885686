"""Where the files of a package lie: as Open Model Zoo had them, on a hub, or as a server wants its models.

A new layout is a subclass of `Layout` here. Sources of the rules: the documentation of each server.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import ClassVar, Final

from sshconvert.errors import UsageError
from sshconvert.formats.registry import FORMATS
from sshtool.package.manifest import PackagedModel, Tensor

LFS: Final = "filter=lfs diff=lfs merge=lfs -text"


class Layout(ABC):
    """Where the models go, and what a server has to be told. Everything else lies at the top of the package."""

    key: ClassVar[str]

    @abstractmethod
    def main_file(self, name: str, form: str, precision: str) -> str:
        """Path of the file to open, for the model `name` in that format and precision."""

    def files(self, main: str, form: str) -> tuple[str, ...]:
        """Paths of the main file and of those that always lie beside it."""
        return (main, *(str(PurePosixPath(main).with_suffix(item)) for item in FORMATS[form].companion_suffixes))

    def configuration(self, models: Iterable[PackagedModel]) -> Mapping[str, bytes]:  # most want none
        """The files that the server reads beside the models, by path."""
        return {}


class Flat(Layout):
    """Open Model Zoo's: a folder for each precision."""

    key = "flat"

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"{precision}/{name}{_suffix(form)}"


class HuggingFace(Layout):
    """A model repository on the Hugging Face Hub: `onnx/model.onnx` and `openvino/openvino_model.xml` as Optimum has
    them, other precisions with their name behind; large files in Git LFS.
    """

    key = "huggingface"

    def main_file(self, name: str, form: str, precision: str) -> str:
        stem = "openvino/openvino_model" if form == "openvino" else f"{form}/model"
        return stem + ("" if precision == "FP32" else f"_{precision.lower()}") + _suffix(form)

    def configuration(self, models: Iterable[PackagedModel]) -> Mapping[str, bytes]:
        texts = {kind.suffix for kind in FORMATS.values() if kind.is_text}
        kinds = sorted({PurePosixPath(path).suffix for model in models for path in model.files} - texts | {".npz"})
        return {".gitattributes": "".join(f"*{kind} {LFS}\n" for kind in kinds).encode()}


class ModelServer(Layout):
    """OpenVINO Model Server: a folder for each model, in it one for each version, and `config.json` above them.

    Mount `models` as `/models`, as the server's documentation does, and name `/models/config.json`.
    """

    key = "ovms"

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"models/{_served(name, form, precision)}/1/{name}{_suffix(form)}"

    def configuration(self, models: Iterable[PackagedModel]) -> Mapping[str, bytes]:
        names = [PurePosixPath(model.path).parts[1] for model in models]
        listed = [{"config": {"name": name, "base_path": f"/models/{name}"}} for name in names]
        return {"models/config.json": (json.dumps({"model_config_list": listed}, indent=2) + "\n").encode()}


class Triton(Layout):
    """Triton Inference Server: a folder for each model with `config.pbtxt`, in it one for each version.

    The file is called `model.onnx` or `model.xml`, as the backends look for it. max_batch_size is 0: the dimensions
    are all of them, the batch included.
    """

    key = "triton"

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"model_repository/{_served(name, form, precision)}/1/model{_suffix(form)}"

    def configuration(self, models: Iterable[PackagedModel]) -> Mapping[str, bytes]:
        made = {}
        for model in models:
            folder = PurePosixPath(model.path).parent.parent
            made[f"{folder}/config.pbtxt"] = _triton_config(folder.name, model).encode()
        return made


LAYOUTS: Final[Mapping[str, Layout]] = {kind.key: kind() for kind in Layout.__subclasses__()}

_BACKENDS: Final = {"onnx": "onnxruntime", "openvino": "openvino"}
_TRITON_TYPES: Final = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8", "int32": "TYPE_INT32"}


def _suffix(form: str) -> str:
    return FORMATS[form].suffix


def _served(name: str, form: str, precision: str) -> str:
    return f"{name}-{precision.lower()}-{form}"


def _triton_config(name: str, model: PackagedModel) -> str:
    if model.format not in _BACKENDS:
        raise UsageError(f"--layout triton: Triton has no backend for {model.format}; choose another layout")
    tensors = [_triton_tensor("input", model.input), *(_triton_tensor("output", item) for item in model.outputs)]
    return f'name: "{name}"\nbackend: "{_BACKENDS[model.format]}"\nmax_batch_size: 0\n' + "".join(tensors)


def _triton_tensor(field: str, tensor: Tensor) -> str:
    dims = ", ".join(map(str, tensor.shape))
    return (
        f'{field} [\n  {{\n    name: "{tensor.name}"\n    data_type: {_TRITON_TYPES[tensor.dtype]}\n'
        f"    dims: [ {dims} ]\n  }}\n]\n"
    )
