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
    usage: ClassVar[tuple[str, str]] = ("", "")  # for the card: where the package goes, and the command for it

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
    usage = ("Upload to the Hugging Face Hub", "hf upload USER/NAME . .")

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

    Mount `models` as `/models`, as the server's documentation does, and pass `/models/config.json`. The server
    reads the layout of IR from the file. ONNX has no place for it, and the server resizes encoded photos only for a
    stated NHWC.
    """

    key = "ovms"
    usage = (
        "OpenVINO Model Server, with REST on port 8000",
        (
            'docker run --rm -v "$PWD/models:/models:ro" -p 8000:8000 openvino/model_server:latest '
            "--config_path /models/config.json --rest_port 8000"
        ),
    )

    def main_file(self, name: str, form: str, precision: str) -> str:
        return f"models/{_served(name, form, precision)}/1/{name}{_suffix(form)}"

    def configuration(self, models: Sequence[PackagedModel], spec: ModelSpec) -> Mapping[str, bytes]:
        configs = [{"config": _ovms_config(PurePosixPath(model.path).parts[1], model)} for model in models]
        return {"models/config.json": (json.dumps({"model_config_list": configs}, indent=2) + "\n").encode()}


class Triton(Layout):
    """Triton Inference Server: a folder for each model with `config.pbtxt` and a folder for each version.

    The backends look for `model.onnx` or `model.xml`. With max_batch_size 0, the dimensions include the batch.

    ONNX files of a free batch get dynamic batching, as Triton's guide to optimization advises. The OpenVINO backend
    would compute exactly max_batch_size images at a time, and refuse or pad fewer, so its models take the batches of
    single requests. It loads nothing on a GPU, where Triton would place it. Otherwise Triton's own choices hold: the
    latest version, and one instance on each GPU or its number of them on the CPU.
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
_LARGEST_BATCH: Final = 8  # as in the examples of Triton's documentation
_ON_CPU: Final = "instance_group [\n  {\n    kind: KIND_CPU\n  }\n]\n"
_IN_BATCHES: Final = "dynamic_batching { }\n"
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
    batched = model.batched and model.format == "onnx"
    tensors = [_triton_tensor("input", item, batched=batched) for item in (model.input, *model.other_inputs)]
    tensors += [_triton_tensor("output", item, batched=batched) for item in model.outputs]
    head = f'name: "{name}"\nbackend: "{_BACKENDS[model.format]}"\nmax_batch_size: {_LARGEST_BATCH if batched else 0}\n'
    return head + "".join(tensors) + _IN_BATCHES * batched + _ON_CPU * (model.format == "openvino")


def _triton_tensor(field: str, tensor: Tensor, *, batched: bool) -> str:
    shape = tensor.shape[batched:]
    # A tensor needs a dimension besides the batch. Where there is none, it has one that the backend never sees.
    dims = f"[ {', '.join(map(str, shape))} ]" if shape else "[ 1 ]\n    reshape: { shape: [ ] }"
    return (
        f'{field} [\n  {{\n    name: "{tensor.name}"\n    data_type: {_TRITON_TYPES[tensor.dtype]}\n'
        f"    dims: {dims}\n  }}\n]\n"
    )


def _ovms_config(name: str, model: PackagedModel) -> Mapping[str, str]:
    layout = {"layout": "NHWC"} if (model.format, model.input_layout) == ("onnx", "NHWC") else {}
    return {"name": name, "base_path": f"/models/{name}", **layout}
