"""The pages that sshtool writes, in Chromium: axe-core finds no fault in them, and everybody can read and reach all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from accessibility import NARROW, PAPER, WIDE, pale_texts, show, small_texts, violations
from command_line import sshtool
from live_pages import LivePage, live_page, served
from pages import find_chromium
from small_release import make_workspace
from sshconvert.checkpoint import Checkpoint

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

PAGES: Final = ("verify", "bench", "evaluate")
TABLES: Final = """Array.from(document.querySelectorAll('.scroll'), table => [
    table.scrollWidth > table.clientWidth + 1,
    ...['::before', '::after'].map(edge => Number(getComputedStyle(table, edge).opacity)),
])"""
FOCUSED: Final = """(() => {
    const element = document.activeElement, style = getComputedStyle(element)
    return [Array.from(document.querySelectorAll('*')).indexOf(element), parseFloat(style.outlineWidth)]
})()"""
FOCUSABLE: Final = """(() => {
    const all = Array.from(document.querySelectorAll('*'))
    return all.filter(element => element.matches('a[href], input, summary, [tabindex="0"]'))
        .filter(element => element.checkVisibility()).map(element => all.indexOf(element))
})()"""


@dataclass(frozen=True)
class Site:
    """A folder with the pages, and a browser of its own that opens them."""

    folder: Path
    axe: Path
    program: str

    @contextmanager
    def opened(self, name: str, *faults: tuple[str, str]) -> Iterator[LivePage]:
        """Open a page; each fault replaces one text by another."""
        text = (self.folder / f"{name}.html").read_text(encoding="utf-8")
        for before, after in faults:
            assert before in text, before
            text = text.replace(before, after)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        (folder / "page.html").write_text(text, encoding="utf-8")
        with served(folder) as url, live_page(self.program, folder, f"{url}page.html") as page:
            yield page


@pytest.fixture(scope="module")
def site(
    node_modules: Callable[..., Path], demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    if (program := find_chromium()) is None:
        pytest.skip("Chromium is not installed")
    axe = node_modules("axe")
    folder = tmp_path_factory.mktemp("pages")
    made = make_workspace(folder, demo_checkpoint)
    faulty = altered(made.onnx, folder / "faulty.onnx")
    out = ("-o", folder, "--quiet")
    artifacts = [word for path in (made.ir, made.onnx, faulty) for word in ("--artifact", path)]
    sshtool("verify", *out, *artifacts, "--reference", made.pack, "--html", folder / "verify.html", code=3)
    sshtool("bench", *out, "--runs", "1", "--rounds", "1", "--html", folder / "bench.html")
    sshtool("demo-dataset", *out)
    dataset = folder / "datasets" / "wider-demo"
    sshtool("evaluate", *out, "--dataset", dataset, "--limit", "2", "--html", folder / "evaluate.html")
    return Site(folder, axe, program)


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, site: Site) -> Iterator[LivePage]:
    with site.opened(request.param) as page:
        yield page


def altered(source: Path, target: Path) -> Path:
    """A model with one filter too strong."""
    model = onnx.load(source)
    weights = next(item for item in model.graph.initializer if len(item.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.5), weights.name))
    onnx.save(model, target)
    return target


def test_axe_finds_nothing_and_labels_are_large_enough(site: Site, page: LivePage) -> None:
    for scheme, width in (("light", NARROW), ("dark", NARROW), ("dark", WIDE)):
        show(page, scheme, width)
        assert violations(page, site.axe) == [], (scheme, width)
        assert pale_texts(page) == [], (scheme, width)
        assert small_texts(page) == [], (scheme, width)


def test_a_table_that_goes_on_behind_an_edge_has_a_stripe_there(page: LivePage) -> None:
    show(page, "light", NARROW)
    tables = page.evaluate(TABLES)
    assert any(goes_on for goes_on, _, _ in tables)
    assert all(edges == ([0, 1] if goes_on else [0, 0]) for goes_on, *edges in tables)
    page.evaluate("document.querySelectorAll('.scroll').forEach(table => table.scrollLeft = 1e6)")
    show(page, "light", NARROW)
    assert all(edges == ([1, 0] if goes_on else [0, 0]) for goes_on, *edges in page.evaluate(TABLES))
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW


def test_the_keyboard_reaches_everything_and_scrolls_tables(page: LivePage) -> None:
    show(page, "dark", NARROW)
    focusable = page.evaluate(FOCUSABLE)
    reached = []
    for _ in focusable:
        page.press("Tab")
        number, outline = page.evaluate(FOCUSED)
        reached.append(number)
        assert outline >= 2, number
    assert reached == focusable
    page.evaluate("""Array.from(document.querySelectorAll('.scroll'))
        .find(table => table.scrollWidth > table.clientWidth + 1).focus()""")
    page.press("ArrowRight")
    assert page.wait("document.activeElement.scrollLeft > 0")


def test_on_paper_a_page_is_light_and_nothing_is_cut_off(page: LivePage) -> None:
    show(page, "dark", PAPER, "print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll'), '::after').display") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_planted_faults_are_found(site: Site) -> None:
    pale = (
        ("--soft: #52606d", "--soft: #a0a8b0"),
        (".bars text { fill: var(--text)", ".bars text { fill: var(--soft)"),
    )
    with site.opened("bench", *pale) as page:
        show(page, "light", WIDE)
        assert "color-contrast" in rules(violations(page, site.axe))
        assert pale_texts(page)
        show(page, "dark", WIDE)
        assert violations(page, site.axe) == []
        assert not pale_texts(page)
    with site.opened("bench", (' tabindex="0"', ""), ("font-size: 19px", "font-size: 17px")) as page:
        show(page, "light", NARROW)
        assert "scrollable-region-focusable" in rules(violations(page, site.axe))
        assert small_texts(page)
    with site.opened("evaluate", ("@media screen and (prefers", "@media (prefers")) as page:
        show(page, "dark", PAPER, "print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def rules(violations: list[str]) -> set[str]:
    return {line.partition(":")[0] for line in violations}
