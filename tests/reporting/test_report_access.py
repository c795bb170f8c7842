"""The report for everybody: axe-core finds nothing, explanations come by keyboard, and a narrow page says that it scrolls."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Of the rows that have the same elements with the same attributes that count, axe-core sees the first two: it takes long for all.
FEW_ROWS = """
for (const body of document.querySelectorAll('tbody')) {
    const seen = {};
    for (const row of [...body.rows].filter(row => row.offsetParent)) {
        const kind = [row, ...row.querySelectorAll('*')].map(one => [one.tagName, ...[...one.attributes].filter(a => /^(class|style|role|aria-.*)$/.test(a.name)).map(a => a.value)]).join();
        seen[kind] = (seen[kind] || 0) + 1;
        if (seen[kind] > 2) row.remove();
    }
}
"""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_core_finds_nothing(opened, studied, scheme, width):
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core comes with axe-playwright-python")
    page = opened(studied, width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.evaluate(FEW_ROWS)
    page.evaluate(Path(axe.__path__[0], "axe.min.js").read_text(encoding="utf-8") + "; null")
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []


def test_a_term_is_explained_on_hover_and_on_focus(looked_at, studied):
    page = looked_at(studied)
    tip, term = page.locator("#tip"), page.locator(".headlines a.term").first
    assert not tip.is_visible()
    term.hover()
    assert "bootstrap interval" in tip.inner_text()
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    term.focus()
    assert tip.is_visible()
    assert page.locator(f"{term.get_attribute('href')}").inner_text() == tip.inner_text()


def test_a_heading_is_explained_on_focus(looked_at, studied):
    page = looked_at(studied)
    page.locator("#table-best thead").get_by_text("p, Holm").focus()
    assert "Holm: a correction of p-values" in page.locator("#tip").inner_text()


@pytest.mark.parametrize(("width", "wide"), [(390, True), (1280, False)])
def test_a_table_that_is_wider_than_the_page_says_so(looked_at, studied, width, wide):
    page = looked_at(studied, width=width)
    box = page.locator("#table-findings .scroll")
    page.wait_for_function(
        "wide => document.querySelector('#table-findings .scroll').classList.contains('more') === wide", arg=wide
    )
    cue = box.evaluate("box => getComputedStyle(box, '::before').content")
    assert ("Scroll sideways" in cue) is wide


def test_nothing_is_wider_than_a_narrow_page(looked_at, studied):
    page = looked_at(studied, width=390)
    page.locator(".headlines a.term").first.focus()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
