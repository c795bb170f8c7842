"""The studies in a real browser, light and dark, wide and narrow: every figure is drawn and its controls work."""

from dataclasses import replace

import pytest
from made_studies import made_studies

pytestmark = pytest.mark.slow

FIGURES = (
    "months",
    "baselines-comparisons",
    "vectors-norms",
    "vectors-layers",
    "vectors-cosines",
    "cross-domain-changes",
    "base-model-joint",
    "temporal-curves",
    "recency-recency",
    "advise-gains",
)


def shown(page, figure):
    return page.locator(f"#figure-{figure} svg").text_content()


def changed(page, figure, before):
    page.wait_for_function(
        "([figure, old]) => document.querySelector(`#figure-${figure} svg`).innerHTML !== old", arg=[figure, before]
    )


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_every_figure_is_drawn_within_the_page(looked_at, studied, scheme, width):
    page = looked_at(studied, width=width, scheme=scheme)
    for figure in FIGURES:
        assert page.locator(f"#figure-{figure} svg").count() == 1
        assert page.locator(f"#figure-{figure} svg [role='graphics-symbol']").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Charts whose panels share the width need no scrolling of their own.
    for figure in ("months", "temporal-curves", "base-model-joint", "vectors-norms", "advise-gains"):
        room, used = page.evaluate(
            "id => { const s = document.querySelector(`#${id} .scroll`); return [s.clientWidth, s.scrollWidth] }",
            f"figure-{figure}",
        )
        assert used <= room, figure


def test_controls_choose_metric_paradigm_and_part(opened, studied):
    page = opened(studied)
    for figure, parameter, value in (
        ("temporal-curves", "paradigm", "sasrec"),
        ("base-model-joint", "metric", "recall@10"),
        ("cross-domain-changes", "metric", "ndcg@10"),
        ("baselines-comparisons", "paradigm", "sasrec"),
        ("vectors-norms", "part", "tower"),
        ("vectors-cosines", "phase", "pretrain"),
    ):
        before = page.locator(f"#figure-{figure} svg").inner_html()
        page.locator(f"#figure-{figure} select[data-parameter={parameter}]").select_option(value)
        changed(page, figure, before)
    assert "item" in shown(page, "vectors-norms")
    assert "whole model" not in shown(page, "vectors-norms")


def test_the_choice_of_users_changes_heatmap_and_paragraphs_but_not_the_curves(opened, studied):
    page = opened(studied)
    heat, curves = (
        page.locator(f"#figure-{name} svg").inner_html() for name in ("cross-domain-changes", "temporal-curves")
    )
    page.get_by_text("Non-active", exact=True).first.click()
    changed(page, "cross-domain-changes", heat)
    assert page.locator("#figure-temporal-curves svg").inner_html() == curves
    for section in ("cross-domain", "temporal"):
        (paragraph,) = page.locator(f"#{section} .finding:visible").all()
        assert "over non-active users" in paragraph.inner_text()
    # λ* is shown for all groups side by side.
    assert {"all users", "active users", "non-active users"} <= set(
        page.locator("#table-best tbody td:nth-child(3):visible").all_inner_texts()
    )


def test_findings_are_in_one_table(looked_at, studied):
    page = looked_at(studied)
    rows = page.locator("#table-findings tbody tr:visible")
    assert rows.count() == 2  # one line per claim, with both paradigms beside each other
    assert rows.first.inner_text().count("undecided") == 2
    assert "tests of 2 claims" in page.locator("#findings .finding").inner_text()


def test_copies_the_studies_tables(opened, studied):
    page = opened(studied)
    page.evaluate("""() => {
        window.copied = [];
        const clipboard = {writeText: async (text) => window.copied.push(text)};
        Object.defineProperty(navigator, "clipboard", {value: clipboard});
    }""")
    page.get_by_label("Copy Best λ as CSV").click()
    page.get_by_label("Copy Best λ as LaTeX").click()
    page.wait_for_function("() => window.copied.length === 2")
    csv, latex = page.evaluate("() => window.copied")
    assert csv.splitlines()[0].startswith("metric,at_edge,p,seed,paradigm,domain,users,best")
    assert r"$\lambda$*" in latex


def test_long_names_stay_within_the_page(opened, studied):
    names = ("Cell_Phones_and_Accessories", "Health_and_Household", "Sports_and_Outdoors", "Books", "Movies_and_TV")
    page = opened(replace(studied, studies=made_studies(names)), width=1280)
    room, used = page.evaluate(
        "() => { const s = document.querySelector('#figure-base-model-joint .scroll'); return [s.clientWidth, s.scrollWidth] }"
    )
    assert used <= room
