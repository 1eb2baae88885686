"""The page of `package --layout web` in a real browser: what it shows is what `detect` finds."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import jsonschema
import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from PIL import Image

from accessibility import NARROW, PAPER, WIDE, show, small_texts, violations
from command_line import sshtool
from live_pages import LivePage, live_page, served
from mask_detector import masked_checkpoint, trained_checkpoint
from pages import find_chromium
from sshconvert.arrays import Pixels
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import Artifact, convert
from sshconvert.digest import bytes_sha256
from sshconvert.models.registry import dump_model, load_model
from sshconvert.options import Color, InputType, Layout, Options, Postprocessing, Precision
from sshtool.demo.network import write_demo
from sshtool.demo.scenes import draw_scene
from sshtool.images import Resize, fit
from sshtool.package.manifest import MANIFEST, SUMS, dump_sums, parse_sums
from sshtool.package.web.runtime import RUNTIME
from sshtool.quantization import QuantizationOptions, quantization_for
from sshtool.report.schema import shipped_schema

pytestmark = pytest.mark.independent

MODEL: Final = load_model("retinaface-mnet25")
SIDE: Final = 256
READY: Final = "document.getElementById('status').textContent === 'Ready.'"
SHOWN: Final = "!document.getElementById('result').hidden"
FAILED: Final = "!document.getElementById('error').hidden"
ERROR: Final = "document.getElementById('error').textContent"
TABLE: Final = (
    "Array.from(document.querySelectorAll('#rows tr'), row => Array.from(row.cells, cell => cell.textContent))"
)
FRAMES: Final = """Array.from(document.querySelectorAll('#boxes .box'), box =>
    ['x', 'y', 'width', 'height'].map(name => Number(box.getAttribute(name))))"""
POINTS: Final = """Array.from(document.querySelectorAll('#boxes circle'), point =>
    ['cx', 'cy'].map(name => Number(point.getAttribute(name))))"""


@dataclass(frozen=True)
class Site:
    """A package with a page, and the artifact in it."""

    package: Path
    artifact: Path
    model: str
    folder: Path

    @property
    def pages(self) -> Path:
        return self.package / "web"

    @contextmanager
    def opened(self, tmp_path: Path) -> Iterator[LivePage]:
        """Open the page, and require that it ends without a message in the console and without other servers."""
        program = find_chromium()
        if program is None:
            pytest.skip("no Chromium: the page is not opened")
        with served(self.pages) as url, live_page(program, tmp_path, url) as page:
            page.wait(f"{READY} || {FAILED}")
            yield page
            assert page.messages == []
            assert all(request.startswith((url, f"blob:{url}", "data:,")) for request in page.requests), page.requests
        shutil.rmtree(tmp_path / "profile", ignore_errors=True)

    def detected(self, image: Path, *options: str) -> list[dict[str, Any]]:
        arguments: tuple[str | Path, ...] = (
            "--model",
            self.model,
            "--artifact",
            self.artifact,
            "-o",
            self.folder,
            *options,
            "--json",
        )
        found: list[dict[str, Any]] = json.loads(sshtool("detect", image, *arguments).stdout)["detections"]
        return found


def built(checkpoint: Checkpoint, folder: Path, options: Options, modules: Path, model: str) -> Site:
    return packaged(convert(checkpoint, folder, options), folder, modules, model)


def packaged(artifacts: Sequence[Artifact], folder: Path, modules: Path, model: str) -> Site:
    """A site of artifacts; `detect` uses the first."""
    arguments: list[str | Path] = ["--model", model, "-o", folder, "--allow-unverified"]
    arguments += [word for artifact in artifacts for word in ("--artifact", artifact.path)]
    arguments += ["--layout", "web", "--runtime-files", modules / "onnxruntime-web" / "dist", "--json"]
    package = json.loads(sshtool("package", *arguments).stdout)["result"]["folder"]
    return Site(Path(package), artifacts[0].path, model, folder)


@pytest.fixture(scope="module")
def demo(node_modules: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The demo of RetinaFace, which finds drawn faces, for small pictures."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, MODEL)
    options = Options(("onnx",), (Precision.FP16,), (1, 3, SIDE, SIDE), postprocessing=Postprocessing())
    return built(open_checkpoint(folder, MODEL), folder / "out", options, node_modules("onnxruntime"), MODEL.name)


@pytest.fixture(scope="module")
def trained(shared_data: Path, node_modules: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("trained")
    options = Options(("onnx",), (Precision.FP32,), postprocessing=Postprocessing())
    checkpoint = trained_checkpoint(folder, shared_data)
    return built(checkpoint, folder / "out", options, node_modules("onnxruntime"), MODEL.name)


@pytest.fixture(scope="module")
def photo() -> Path:
    """NASA's photograph of Eileen Collins, as the package scikit-image brings it."""
    found = find_spec("skimage")
    if found is None or found.origin is None:
        pytest.skip("scikit-image, which brings the photograph, is not installed")
    return Path(found.origin).parent / "data" / "astronaut.png"


def drawn(path: Path, height: int, width: int, **options: Any) -> Path:
    Image.fromarray(draw_scene(14, height, width).image[..., ::-1]).save(path, **options)
    return path


def dropped(page: LivePage, image: Path) -> list[list[str]]:
    page.evaluate("document.getElementById('result').hidden = true")
    page.drop(image)
    page.wait(f"{SHOWN} || {FAILED}")
    assert not page.evaluate(FAILED), page.evaluate(ERROR)
    rows: list[list[str]] = page.evaluate(TABLE)
    return rows


def largest_difference(page: LivePage, expected: Sequence[dict[str, Any]], last_pixel: int = 1) -> float:
    """The largest difference in pixels of a shown frame or point from what `detect` says."""
    frames, points = np.array(page.evaluate(FRAMES)), np.array(page.evaluate(POINTS))
    boxes = np.array([item["box"] for item in expected])
    assert len(frames) == len(boxes) > 0
    corners = np.concatenate([frames[:, :2], frames[:, :2] + frames[:, 2:] - last_pixel], axis=1)
    marks = np.array([point for item in expected for point in item.get("landmarks", ())])
    differences = [np.abs(corners - boxes).max()]
    if len(marks):
        differences.append(np.abs(points - last_pixel / 2 - marks).max())
    return float(max(differences))


@pytest.mark.consumer
def test_a_dropped_picture_shows_what_detect_finds(demo: Site, tmp_path: Path) -> None:
    picture = drawn(tmp_path / "drawn scene.png", 480, 640)
    expected = demo.detected(picture)
    with demo.opened(tmp_path) as page:
        rows = dropped(page, picture)
        assert largest_difference(page, expected) <= 0.002
        assert [row[1] for row in rows] == [f"{item['score']:.3f}" for item in expected]
        assert [float(cell) for cell in rows[0][2:6]] == pytest.approx(expected[0]["box"], abs=0.051)
        heading, alt = page.evaluate("[document.querySelector('h2').textContent, document.getElementById('photo').alt]")
        assert heading == f"{len(expected)} faces in drawn scene.png"
        assert f"with {len(expected)} faces marked" in alt
        assert "network took" in page.evaluate("document.getElementById('timing').textContent")
        # The keyboard reaches the slider, and it hides what has a lower score.
        page.evaluate("document.getElementById('file').focus()")
        page.press("Tab")
        assert page.evaluate("document.activeElement.id") == "score"
        for _ in range(30):
            page.press("ArrowRight")
        least = float(page.evaluate("document.getElementById('score').value"))
        assert least > 0.5
        assert len(page.evaluate(TABLE)) == sum(item["score"] >= least for item in expected)


@pytest.mark.consumer
def test_axe_finds_nothing_in_the_page_and_its_table_shows_that_it_goes_on(
    demo: Site, node_modules: Callable[..., Path], tmp_path: Path
) -> None:
    with demo.opened(tmp_path) as page:
        dropped(page, drawn(tmp_path / "scene.png", 480, 640))
        for scheme, width in (("light", NARROW), ("dark", NARROW), ("light", WIDE)):
            show(page, scheme, width)
            assert violations(page, node_modules("axe")) == []
            assert small_texts(page) == []
        show(page, "light", NARROW)
        edge = "Number(getComputedStyle(document.querySelector('.scroll'), '::after').opacity)"
        assert page.evaluate(f"document.querySelector('.scroll').scrollLeft = 0; {edge}") == 1
        show(page, "dark", PAPER, "print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth") <= PAPER


@pytest.mark.consumer
def test_a_broken_picture_gives_an_error_and_the_next_one_is_shown(demo: Site, tmp_path: Path) -> None:
    whole = drawn(tmp_path / "whole.png", 480, 640)
    broken = tmp_path / "broken.png"
    broken.write_bytes(whole.read_bytes()[:300])
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    with demo.opened(tmp_path) as page:
        dropped(page, whole)
        for file in (broken, text):
            page.drop(file)
            page.wait(FAILED)
            assert page.evaluate(ERROR) == (
                f"{file.name}: is no picture that this browser can decode; save it as PNG or JPEG"
            )
            assert not page.evaluate(SHOWN)
        page.drop(whole, whole)
        page.wait("document.getElementById('error').textContent.includes('2 files')")
        page.choose("#file", whole)
        page.wait(SHOWN)
        assert not page.evaluate(FAILED)
        assert largest_difference(page, demo.detected(whole)) <= 0.002


@pytest.mark.consumer
def test_the_page_resamples_as_detect_does(demo: Site, tmp_path: Path) -> None:
    """Byte for byte, in both directions and to sizes that round."""
    random: Any = np.random.RandomState(0)
    with demo.opened(tmp_path) as page:
        for height, width in ((480, 640), (97, 31), (64, SIDE), (1, 500), (385, 384), (SIDE, SIDE)):
            image = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
            expected, placement = fit(image, SIDE, SIDE, Resize.LETTERBOX, (1, 2, 3))
            pixels = np.dstack([image, np.full((height, width), 255, np.uint8)])
            script = f"""import('./resampling.js').then(({{letterbox}}) => {{
                const {{pixels, scaleX, scaleY}} = letterbox(
                    new Uint8ClampedArray({pixels.ravel().tolist()}), {width}, {height}, {SIDE}, {SIDE}, [1, 2, 3]);
                return [Array.from(pixels), scaleX, scaleY];
            }})"""
            found, scale_x, scale_y = page.evaluate(script)
            shown: Pixels = np.array(found, np.uint8).reshape(SIDE, SIDE, 4)[..., :3]
            np.testing.assert_array_equal(shown, expected)
            assert (scale_x, scale_y) == (placement.scale_x, placement.scale_y)


ORIENTATION: Final = 274  # EXIF's tag
TURNED: Final = Image.Exif()
TURNED[ORIENTATION] = 6  # the stored picture is turned to the right for viewing

# How a photograph is saved, and by how many pixels a box may differ. Browsers round transparent pixels otherwise.
KINDS: Final[dict[str, tuple[Callable[[Image.Image, Path], None], float]]] = {
    "PNG": (lambda image, path: image.save(path, "PNG"), 0.002),
    "grey PNG": (lambda image, path: image.convert("L").save(path, "PNG"), 0.002),
    "PNG of 200 colours": (lambda image, path: image.quantize(200).save(path, "PNG"), 0.002),
    "transparent PNG": (lambda image, path: with_transparency(image).save(path, "PNG"), 0.2),
    "JPEG": (lambda image, path: image.save(path, "JPEG", quality=90), 0.02),
    "turned JPEG": (lambda image, path: turned(image).save(path, "JPEG", quality=90, exif=TURNED), 0.02),
    "large JPEG": (lambda image, path: image.resize((4000, 3000)).save(path, "JPEG", quality=92), 0.02),
    "WebP": (lambda image, path: image.save(path, "WEBP", quality=90), 0.02),
}


def turned(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_90)


def with_transparency(image: Image.Image) -> Image.Image:
    """Let the right half fade out."""
    levels = np.linspace(400, 0, image.width).clip(0, 255).astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(levels, (image.height, 1))))
    return image


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_photograph_of_any_kind_shows_what_detect_finds(
    kind: str, trained: Site, photo: Path, tmp_path: Path
) -> None:
    save, close = KINDS[kind]
    picture = tmp_path / "photo"
    with Image.open(photo) as image:
        save(image.convert("RGB"), picture)
    expected = trained.detected(picture)
    with trained.opened(tmp_path) as page:
        dropped(page, picture)
        difference = largest_difference(page, expected)
    print(f"{kind}: {difference:.4f} pixels")  # noqa: T201  # the figures of the guide
    assert difference <= close


FAULTS: Final = {
    "another filter": ("resampling.js", "SHARPNESS = -0.5", "SHARPNESS = -0.75"),
    "no averaging": ("resampling.js", "Math.max(scale, 1)", "1"),
    "exchanged channels": ("models.json", '"order": "BGR"', '"order": "RGB"'),
    "half a pixel": ("detector.js", "/ scaleX - half", "/ scaleX"),
    "a frame without its last pixel": ("app.js", "right - left + last", "right - left"),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_sees_a_fault_of_the_page(fault: str, trained: Site, photo: Path, tmp_path: Path) -> None:
    changed = Site(tmp_path / "site", trained.artifact, trained.model, trained.folder)
    shutil.copytree(trained.package, changed.package)
    name, text, other = FAULTS[fault]
    script = changed.pages / name
    assert text in script.read_text(encoding="utf-8")
    script.write_text(script.read_text(encoding="utf-8").replace(text, other), encoding="utf-8")
    picture = tmp_path / "photo.png"
    with Image.open(photo) as image:  # larger than the input, so that it is resized
        image.resize((1000, 900)).save(picture)
    expected = trained.detected(picture)
    with changed.opened(tmp_path) as page:
        dropped(page, picture)
        assert len(page.evaluate(FRAMES)) != len(expected) or largest_difference(page, expected) > 0.02


@pytest.mark.long
def test_every_form_of_the_input_shows_the_same(
    shared_data: Path, node_modules: Callable[..., Path], photo: Path, tmp_path: Path
) -> None:
    """Frames as uint8 in NHWC and RGB, the original's input, and attributes."""
    model = tmp_path / "masked.toml"
    checkpoint = masked_checkpoint(tmp_path / "checkpoint", shared_data)
    model.write_bytes(dump_model(checkpoint.model))
    frames = Options(
        ("onnx",), layout=Layout.NHWC, input_type=InputType.UINT8, color=Color.RGB, postprocessing=Postprocessing()
    )
    for number, options in enumerate(
        (frames, Options(("onnx",), preprocessing=False, postprocessing=Postprocessing()))
    ):
        folder = tmp_path / str(number)
        site = built(checkpoint, folder, options, node_modules("onnxruntime"), str(model))
        expected = site.detected(photo)
        with site.opened(folder) as page:
            (row,) = dropped(page, photo)
            assert largest_difference(page, expected) <= 0.002
            assert float(row[-1]) == pytest.approx(expected[0]["attributes"]["mask"], abs=0.006)


@pytest.mark.consumer
def test_the_bill_and_the_licences_name_the_runtime(demo: Site) -> None:
    bill = (demo.package / "bom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    (component,) = (item for item in json.loads(bill)["components"] if item["name"] == RUNTIME.name)
    assert (component["version"], component["licenses"]) == (RUNTIME.version, [{"license": {"id": "MIT"}}])
    assert RUNTIME.copyright in (demo.package / "LICENSES" / f"{RUNTIME.name}.txt").read_text(encoding="utf-8")
    manifest = json.loads((demo.package / MANIFEST).read_bytes())
    jsonschema.validate(manifest, json.loads(shipped_schema("manifest")))
    assert {file["path"] for file in manifest["files"] if file["role"] == "page"} == {
        f"web/{path.relative_to(demo.pages).as_posix()}" for path in demo.pages.rglob("*.*") if path.suffix != ".onnx"
    }
    assert "python3 -m http.server --directory web" in (demo.package / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_another_model_computes_the_shown_picture_again(
    shared_data: Path, node_modules: Callable[..., Path], photo: Path, tmp_path: Path
) -> None:
    """FP32 and INT8, whose boxes differ by more than that of INT8 from one runtime to the other."""
    checkpoint = trained_checkpoint(tmp_path / "checkpoint", shared_data)
    precisions = (Precision.FP32, Precision.INT8)
    options = Options(("onnx",), precisions, postprocessing=Postprocessing(score_threshold=0.02))
    (tmp_path / "images").mkdir()
    shutil.copy(photo, tmp_path / "images")
    levels = quantization_for(checkpoint, options, QuantizationOptions(tmp_path / "images"))
    artifacts = convert(checkpoint, tmp_path / "out", options, quantization=levels)
    site = packaged(artifacts, tmp_path / "out", node_modules("onnxruntime"), MODEL.name)
    with site.opened(tmp_path) as page:
        assert page.evaluate("document.getElementById('score').min") == "0.02"
        dropped(page, photo)
        for number, close in ((1, 0.2), (0, 0.002)):
            page.evaluate(f"""(model => {{ model.value = {number}; model.dispatchEvent(new Event("change")); }})
                (document.getElementById("model"))""")
            page.wait("document.getElementById('status').textContent.startsWith('Found')")
            own, other = (
                replace(site, artifact=artifacts[place].path).detected(photo) for place in (number, 1 - number)
            )
            assert largest_difference(page, own) <= close
            assert largest_difference(page, other) > close


@pytest.mark.long
def test_a_page_opened_as_a_file_says_how_to_serve_it(demo: Site, tmp_path: Path) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: the page is not opened")
    with live_page(program, tmp_path, (demo.pages / "index.html").as_uri()) as page:
        status = page.evaluate("document.getElementById('status').textContent")
        assert "python3 -m http.server" in status
        assert page.evaluate("document.getElementById('file').disabled")


@pytest.mark.long
def test_boxes_without_their_corner_pixels_are_shown_as_detect_gives_them(
    node_modules: Callable[..., Path], tmp_path: Path
) -> None:
    """YOLOv3's, at a low score, since the weights are seeded."""
    shipped = load_model("mobilefacedet-v1-mxnet")
    model = shipped.model_copy(update={"name": "objects", "task": shipped.task.with_thresholds(0.1)})
    (tmp_path / "objects.toml").write_bytes(dump_model(model))
    write_demo(tmp_path, model)
    checkpoint, options = open_checkpoint(tmp_path, model), Options(("onnx",), postprocessing=Postprocessing())
    site = built(checkpoint, tmp_path / "out", options, node_modules("onnxruntime"), str(tmp_path / "objects.toml"))
    picture = drawn(tmp_path / "scene.png", 480, 640)
    expected = site.detected(picture, "--threshold", "0.1")
    with site.opened(tmp_path) as page:
        assert dropped(page, picture) == []
        page.evaluate("""(score => { score.value = 0.1; score.dispatchEvent(new Event("input")); })
            (document.getElementById("score"))""")
        assert largest_difference(page, expected, last_pixel=0) <= 0.002


@pytest.mark.long
def test_the_page_connects_to_no_other_server(trained: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.txt").write_text("a file of another server")
    with served(tmp_path / "other") as other, served(trained.pages) as url:
        program = find_chromium()
        if program is None:
            pytest.skip("no Chromium: the page is not opened")
        with live_page(program, tmp_path, url) as page:
            page.wait(READY)
            fetched = "fetch({!r}, {{mode: 'no-cors'}}).then(() => 'connected', () => 'refused')"
            assert page.evaluate(fetched.format(f"{url}models.json")) == "connected"
            assert page.evaluate(fetched.format(f"{other}secret.txt")) == "refused"
            assert any("Content Security Policy" in message for message in page.messages)


@pytest.mark.long
def test_check_accepts_the_package_and_sees_a_changed_page(node_modules: Callable[..., Path], tmp_path: Path) -> None:
    place = ("--model", MODEL.name, "-o", str(tmp_path / "out"))
    shape = ("--input-shape", f"1,3,{SIDE},{SIDE}", "--postprocess")
    sshtool("run", *place, "--demo", "--format", "onnx", "--precision", "FP16", *shape)
    runtime = ("--runtime-files", node_modules("onnxruntime") / "onnxruntime-web" / "dist")
    sshtool("package", *place, "--layout", "web", *runtime)
    package = tmp_path / "out" / "releases" / f"{MODEL.name}-web"
    assert ": passed;" in sshtool("check", package).stdout
    for name in ("app.js", "runtime/ort.wasm.bundle.min.mjs", "models.json"):
        changed = tmp_path / name.replace("/", "-")
        shutil.copytree(package, changed)
        file = changed / "web" / name
        file.write_bytes(file.read_bytes() + b"\n")
        reseal(changed, f"web/{name}", file.read_bytes())
        result = sshtool("check", changed, code=3)
        assert re.search(rf"web/{re.escape(name)}.*is not the page of the layout web", result.stdout), result.stdout


def reseal(package: Path, path: str, data: bytes) -> None:
    """Make the manifest and SHA256SUMS agree with a changed file, as a forger does."""
    manifest = json.loads((package / MANIFEST).read_bytes())
    (entry,) = (entry for entry in manifest["files"] if entry["path"] == path)
    entry |= {"bytes": len(data), "sha256": bytes_sha256(data)}
    (package / MANIFEST).write_text(json.dumps(manifest))
    sums = parse_sums((package / SUMS).read_bytes())
    sums |= {path: entry["sha256"], MANIFEST: bytes_sha256((package / MANIFEST).read_bytes())}
    (package / SUMS).write_bytes(dump_sums(sums))


@pytest.mark.long
def test_a_package_for_browsers_takes_no_model_that_is_too_large(tmp_path: Path) -> None:
    write_demo(tmp_path, MODEL)
    options = Options(("onnx",), postprocessing=Postprocessing())
    (artifact,) = convert(open_checkpoint(tmp_path, MODEL), tmp_path / "out", options)
    arguments = ("--model", MODEL.name, "-o", tmp_path / "out", "--artifact", artifact.path, "--layout", "web")
    message = sshtool("package", *arguments, code=2).stderr
    assert "has 79.2 MB, at most 40 MB are taken; choose a smaller one with --artifact, such as FP16 or INT8" in message
