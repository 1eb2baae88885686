"""The layers of the code: an import leads down, or stays in its layer; there are no circles.

`python tests/test_layers.py` prints every folder of each layer and what it imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = (ROOT / "convert", ROOT / "tools")

# From the lowest to the highest: the folders, and the modules beside the folders, of each layer.
LAYERS: Final[Mapping[str, str]] = {
    "language": "errors messages numerals arrays graph registry threads",
    "files": "reading schema snapshot files digest finite recognition libraries",
    "formats of others": "mxnet onnx boxes validation editable",
    "meaning": "operators tasks network cutting rounding evaluation models cost",
    "checkpoint": "checkpoint export options undescribed",
    "artifact": "contract model_api passes formats ir editing nncf rounded",
    "conversion": "convert calibration __init__",
    "inputs": "progress limits memory interruption environment bilinear images image_claims selection config document"
    " archives sandbox wider_face framing picture results journal stores meter video",
    "computation": "runtimes checkpoint demo workspace candidates catalogue concurrency cluster detector predictor"
    " quantization",
    "evidence": "parity evaluate bench conversion report frame_detection detection detection_journal detection_run"
    " prediction package pipeline inspection",
    "command line": "cli main __main__ __init__",
}
LIBRARY: Final = tuple(LAYERS)[:7]  # the layers of sshconvert; the others are sshtool's

Graph = Mapping[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """The path of every module, by dotted name."""
    paths = {path: path.relative_to(source) for source in SOURCES for path in sorted(source.rglob("*.py"))}
    return {
        ".".join(relative.with_suffix("").parts).removesuffix(".__init__"): path for path, relative in paths.items()
    }


@cache
def module_imports() -> Graph:
    """For every module the modules of the project that it imports, also inside functions and for types alone."""
    return {name: set(_imported(path)) - {name} for name, path in modules().items()}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module in modules():
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from members & modules().keys()
            if members - modules().keys():
                yield node.module


def folder(name: str) -> str:
    """The folder of a module, or the module itself if it lies beside the folders: two parts of its name."""
    return ".".join(name.split(".")[:2])


@cache
def folder_imports() -> Graph:
    imports: dict[str, set[str]] = {folder(name): set() for name in modules()}
    for name, targets in module_imports().items():
        imports[folder(name)] |= {folder(target) for target in targets} - {folder(name)}
    # A package's version and public names are in its __init__, which imports what it offers when it is asked for.
    return {name: {target for target in targets if "." in target} for name, targets in imports.items()}


@cache
def layers() -> dict[str, int]:
    """The number of the layer of every folder."""
    numbers = {}
    for number, (layer, names) in enumerate(LAYERS.items(), 1):
        package = "sshconvert" if layer in LIBRARY else "sshtool"
        for name in names.split():
            numbers[package if name == "__init__" else f"{package}.{name}"] = number
    return numbers


def test_no_module_imports_itself_through_others() -> None:
    TopologicalSorter(
        {name: {item for item in targets if "." in item} for name, targets in module_imports().items()}
    ).prepare()


def test_no_folder_imports_itself_through_others() -> None:
    TopologicalSorter(folder_imports()).prepare()


def test_every_folder_has_its_layer_among_at_most_eleven() -> None:
    assert len(LAYERS) <= 11
    assert layers().keys() == folder_imports().keys()


def test_no_import_leads_up() -> None:
    upward = {
        f"{name} -> {target}"
        for name, targets in folder_imports().items()
        for target in targets
        if layers()[target] > layers()[name]
    }
    assert upward == set()


def main() -> None:
    for number, layer in enumerate(LAYERS, 1):
        sys.stdout.write(f"{number:2}  {layer}\n")
        for name in sorted(name for name, own in layers().items() if own == number):
            targets = ", ".join(sorted(folder_imports().get(name, ())))
            sys.stdout.write(f"      {name}{f' -> {targets}' if targets else ''}\n")


if __name__ == "__main__":
    main()
