"""The page of the layout `web`, without a browser; `tests/consumers/test_browser.py` runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import Final

import pytest

from pages import Reader
from small_release import MODEL, Verified, described, make_workspace
from sshconvert.checkpoint import Checkpoint
from sshconvert.errors import UsageError
from sshconvert.models.registry import load_model
from sshconvert.tasks.inside import OutputForm
from sshtool.images import BACKGROUND
from sshtool.package.build import PackageOptions, package
from sshtool.package.manifest import PackagedModel, Tensor, Thresholds
from sshtool.package.packaged_model import read_contract
from sshtool.package.web.page import FILES, page_files
from sshtool.package.web.runtime import RUNTIME
from sshtool.workspace import Workspace

TEXTS: Final = {name: resources("sshtool.package.web").joinpath(name).read_text("utf-8") for name in FILES}
INSIDE: Final = Thresholds(score_threshold=0.05, iou_threshold=0.3, top_k=100)
READABLE: Final = 4.5  # WCAG's AA for text
VISIBLE: Final = 3.0  # for frames and marks


@pytest.fixture(scope="module")
def workspace(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    return make_workspace(tmp_path_factory.mktemp("workspace"), demo_checkpoint)


@pytest.fixture(scope="module")
def fit(workspace: Verified) -> PackagedModel:
    """A model as the page takes it."""
    model = described(read_contract(workspace.onnx), workspace.onnx)
    return model.model_copy(update={"postprocessing": INSIDE, "path": "web/models/small.onnx"})


def taking(model: PackagedModel, *shape: int) -> PackagedModel:
    return model.model_copy(update={"input": Tensor(name="data", dtype="float32", shape=shape)})


def test_only_models_that_the_page_can_run_are_taken(fit: PackagedModel) -> None:
    assert page_files([fit], MODEL).keys() == {f"web/{name}" for name in (*FILES, "models.json")}
    model_api = INSIDE.model_copy(update={"form": OutputForm.MODEL_API})
    assert page_files([taking(fit, -1, 3, 64, 64)], MODEL)
    for unfit, remedy in (
        (fit.model_copy(update={"format": "openvino"}), "choose ONNX files with --artifact"),
        (fit.model_copy(update={"postprocessing": None}), "convert with --postprocess"),
        (fit.model_copy(update={"postprocessing": model_api}), "--output-form plain"),
        (taking(fit, 8, 3, 64, 64), "convert without --batch"),
        (taking(fit, 1, 3, -1, -1), "with --dynamic batch at most"),
    ):
        with pytest.raises(UsageError, match=remedy):
            page_files([fit, unfit], MODEL)
    with pytest.raises(UsageError, match="use `sshtool predict`"):
        page_files([fit], load_model("octave-resnet-26-0.25"))


def test_a_package_without_a_page_is_refused_before_anything_is_written(workspace: Verified, tmp_path: Path) -> None:
    place = Workspace(MODEL, workspace.folder)
    for options, remedy in (
        (PackageOptions((workspace.ir,), layout="web"), "choose ONNX files"),
        (PackageOptions((workspace.onnx,), layout="web"), "convert with --postprocess"),
        (PackageOptions(runtime_files=tmp_path), "--runtime-files: the layout flat takes none"),
    ):
        with pytest.raises(UsageError, match=remedy):
            package(place, options, dry_run=True)


def test_only_the_runtime_of_the_tested_release_is_taken(tmp_path: Path) -> None:
    remedy = "npm install onnxruntime-web@"
    for folder, problem in ((None, "the page needs"), (tmp_path, "cannot be opened")):
        with pytest.raises(UsageError, match=f"{problem}.*{remedy}"):
            RUNTIME.sources(folder)
    for name in RUNTIME.sha256:
        (tmp_path / name).write_bytes(b"another")
    with pytest.raises(UsageError, match=f"is not of onnxruntime-web.*{remedy}"):
        RUNTIME.sources(tmp_path)


def test_the_pages_policy_forbids_every_other_server() -> None:
    (policy,) = (
        attributes["content"] for tag, attributes in Reader(TEXTS["index.html"]).tags if "http-equiv" in attributes
    )
    rules: Mapping[str, list[str]] = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert {source for sources in rules.values() for source in sources} == {
        "'none'", "'self'", "'wasm-unsafe-eval'", "blob:", "data:"
    }  # fmt: skip
    named = set(re.findall(r"https?:[^\s\"<]+", "".join(TEXTS.values())))
    assert named == {"http://www.w3.org/2000/svg", "http://localhost:8000"}  # a namespace, and advice


def test_every_control_of_the_page_has_a_label_and_every_element_that_it_uses_is_there() -> None:
    page = Reader(TEXTS["index.html"])
    names = page.values("id")
    assert len(names) == len(set(names))
    controls = {attributes["id"] for tag, attributes in page.tags if tag in ("input", "select")}
    assert controls == {attributes["for"] for tag, attributes in page.tags if tag == "label"}
    used = set(re.findall(r'element\("([a-z]+)"\)', TEXTS["app.js"]))
    assert used | controls <= set(names)
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")


def test_texts_and_marks_of_the_page_contrast_in_both_schemes() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", TEXTS["style.css"], re.DOTALL)
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", text)) for text in (light, dark)]
    for colours in schemes:
        for text, ground in (
            ("text", "page"), ("text", "ground"), ("soft", "page"), ("soft", "ground"), ("fail", "fail-ground")
        ):  # fmt: skip
            assert contrast(colours[text], colours[ground]) >= READABLE, (text, ground)
        for mark in ("line", "accent"):
            assert min(contrast(colours[mark], colours[ground]) for ground in ("page", "ground")) >= VISIBLE, mark
    assert schemes[0].keys() == schemes[1].keys()


def contrast(first: str, second: str) -> float:
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    levels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return sum(map(float.__mul__, linear, (0.2126, 0.7152, 0.0722)))


def test_the_page_blends_transparent_pixels_with_the_same_grey() -> None:
    assert f"rgb({' '.join(map(str, BACKGROUND))})" in TEXTS["app.js"]
