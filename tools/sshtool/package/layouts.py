"""The layouts of a package: Open Model Zoo's, a hub's, a model server's, or a page for browsers.

A layout is a subclass of `Layout` in this module. The rules come from each server's documentation.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Final

from sshconvert.errors import UsageError
from sshconvert.formats.registry import FORMATS
from sshconvert.models.spec import ModelSpec
from sshtool.package.manifest import PackagedModel, Role, Tensor
from sshtool.package.web import page
from sshtool.package.web.runtime import RUNTIME, Vendored

LFS: Final = "filter=lfs diff=lfs merge=lfs -text"


class Layout(ABC):
    """The paths of the models and the configuration of a server. All other files are at the top of the package."""

    key: ClassVar[str]
    role: ClassVar[Role] = Role.CONFIGURATION  # of its files
    vendored: ClassVar[Vendored | None] = None  # files that come from elsewhere
    largest: ClassVar[int | None] = None  # bytes of a model

    @abstractmethod
    def main_file(self, name: str, form: str, precision: str) -> str:
        """Path of the file to open, for the model `name` in the format `form` and that precision."""

    def files(self, main: str, form: str) -> tuple[str, ...]:
        """Paths of the main file and its companions."""
        path = PurePosixPath(main)
        return (main, *(str(path.with_name(name)) for name in FORMATS[form].companion_names(path.name)))

    def configuration(self, models: Sequence[PackagedModel], spec: ModelSpec) -> Mapping[str, bytes]:
        """The layout's own files by path, such as a server's configuration; by default none.

        Raises UsageError for models that the layout cannot hold.
        """
        return {}


class Flat(Layout):
    """Open Model Zoo's layout: a folder for each precision."""

    key = "flat"

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"{precision}/{name}{_suffix(form)}"


class HuggingFace(Layout):
    """A model repository on the Hugging Face Hub: `onnx/model.onnx` and `openvino/openvino_model.xml`, as in Optimum.

    Other precisions have a suffix. Git LFS holds the large files.
    """

    key = "huggingface"

    def main_file(self, name: str, form: str, precision: str) -> str:
        stem = "openvino/openvino_model" if form == "openvino" else f"{form}/model"
        return stem + ("" if precision == "FP32" else f"_{precision.lower()}") + _suffix(form)

    def configuration(self, models: Sequence[PackagedModel], spec: ModelSpec) -> Mapping[str, bytes]:
        texts = tuple(suffix for item in FORMATS.values() for suffix in item.text_suffixes())
        large = {PurePosixPath(path).suffix for model in models for path in model.files if not path.endswith(texts)}
        suffixes = sorted(large | {".npz"})
        return {".gitattributes": "".join(f"*{suffix} {LFS}\n" for suffix in suffixes).encode()}


class ModelServer(Layout):
    """OpenVINO Model Server: a folder for each model with a folder for each version, and `config.json` above them.

    Mount `models` as `/models`, as the server's documentation does, and pass `/models/config.json`.
    """

    key = "ovms"

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"models/{_served(name, form, precision)}/1/{name}{_suffix(form)}"

    def configuration(self, models: Sequence[PackagedModel], spec: ModelSpec) -> Mapping[str, bytes]:
        names = [PurePosixPath(model.path).parts[1] for model in models]
        configs = [{"config": {"name": name, "base_path": f"/models/{name}"}} for name in names]
        return {"models/config.json": (json.dumps({"model_config_list": configs}, indent=2) + "\n").encode()}


class Triton(Layout):
    """Triton Inference Server: a folder for each model with `config.pbtxt` and a folder for each version.

    The backends look for `model.onnx` or `model.xml`. With max_batch_size 0, the dimensions include the batch.
    """

    key = "triton"

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"model_repository/{_served(name, form, precision)}/1/model{_suffix(form)}"

    def configuration(self, models: Sequence[PackagedModel], spec: ModelSpec) -> Mapping[str, bytes]:
        folders = [(PurePosixPath(model.path).parent.parent, model) for model in models]
        return {f"{path}/config.pbtxt": _triton_config(path.name, model).encode() for path, model in folders}


class Web(Layout):
    """A static page that detects in a picture, on the device: any server of files serves the folder `web`."""

    key = "web"
    role = Role.PAGE
    vendored = RUNTIME
    largest = page.LARGEST

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"{page.FOLDER}/{page.MODELS}/{_served(name, form, precision)}{_suffix(form)}"

    def configuration(self, models: Sequence[PackagedModel], spec: ModelSpec) -> Mapping[str, bytes]:
        return page.page_files(models, spec)


LAYOUTS: Final[Mapping[str, Layout]] = {layout.key: layout() for layout in Layout.__subclasses__()}

_BACKENDS: Final = {"onnx": "onnxruntime", "openvino": "openvino"}
_TRITON_TYPES: Final = {
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}


def _suffix(form: str) -> str:
    return FORMATS[form].suffix


def _served(name: str, form: str, precision: str) -> str:
    return f"{name}-{precision.lower()}-{form}"


def _triton_config(name: str, model: PackagedModel) -> str:
    if model.format not in _BACKENDS:
        raise UsageError(f"--layout triton: Triton has no backend for {model.format}; choose another layout")
    tensors = [_triton_tensor("input", item) for item in (model.input, *model.other_inputs)]
    tensors += [_triton_tensor("output", item) for item in model.outputs]
    return f'name: "{name}"\nbackend: "{_BACKENDS[model.format]}"\nmax_batch_size: 0\n' + "".join(tensors)


def _triton_tensor(field: str, tensor: Tensor) -> str:
    dims = ", ".join(map(str, tensor.shape))
    return (
        f'{field} [\n  {{\n    name: "{tensor.name}"\n    data_type: {_TRITON_TYPES[tensor.dtype]}\n'
        f"    dims: [ {dims} ]\n  }}\n]\n"
    )
