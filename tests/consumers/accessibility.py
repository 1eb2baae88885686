"""What makes a page in the browser hard to read: axe-core's rules, and what it cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from live_pages import LivePage

WIDE, NARROW = 1280, 400  # pixels
PAPER: Final = 718  # pixels: A4 without its margins
SMALLEST: Final = 11  # pixels of a label
CONTRAST: Final = 4.5  # WCAG 2.2 AA

RUN_AXE: Final = """axe.run(document, {resultTypes: ['violations']}).then(result =>
    result.violations.flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.target.join(' ')}`)))"""
# Sizes of all texts in pixels of the screen; those in an SVG grow and shrink with it.
SIZES: Final = """(() => {
    const sizes = []
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
        const text = texts.currentNode, element = text.parentElement
        if (!text.data.trim() || element.closest('title, style, .hidden')) continue
        const range = document.createRange()
        range.selectNodeContents(text)
        if (!range.getClientRects().length) continue
        const matrix = element.getScreenCTM ? element.getScreenCTM() : {a: 1, b: 0}
        const size = parseFloat(getComputedStyle(element).fontSize) * Math.hypot(matrix.a, matrix.b)
        sizes.push([size, text.data.trim().slice(0, 40)])
    }
    return sizes
})()"""
# Contrasts of the texts in drawings with the page below them, which axe-core cannot tell.
CONTRASTS: Final = """(() => {
    const light = color => {
        const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const page = light(getComputedStyle(document.body).backgroundColor)
    // Texts on images have an edge of their own.
    return Array.from(document.querySelectorAll('main svg text:not(.pictures *, #picture *)'), text => {
        const own = light(getComputedStyle(text).fill)
        return [(Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05), text.textContent]
    })
})()"""


def show(page: LivePage, scheme: str, width: int, media: str = "screen") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=features, media=media)
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def violations(page: LivePage, modules: Path) -> list[str]:
    """The rules of axe-core that the page breaks, and where. `modules` has the package `axe-core`."""
    page.evaluate(f"{(modules / 'axe-core' / 'axe.min.js').read_text(encoding='utf-8')}; 0")
    found: list[str] = page.evaluate(RUN_AXE)
    return found


def pale_texts(page: LivePage) -> list[str]:
    """The texts in drawings whose contrast is too low."""
    return [text for contrast, text in page.evaluate(CONTRASTS) if contrast < CONTRAST]


def small_texts(page: LivePage) -> list[str]:
    return [text for size, text in page.evaluate(SIZES) if size < SMALLEST]
