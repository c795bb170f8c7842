"""A made-up but plausible grid of three domains; its ranks are drawn at random."""

import os
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from made_studies import PHASES as DATES
from made_studies import made_months, made_studies
from page_data import wait_until_drawn

from mmgrid.evaluation import change_rows, result_rows
from mmgrid.reporting import ReportTables, write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",  # one process less to draw with
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# The grid is unfinished: these checkpoints are not evaluated.
ABSENT = {
    ("sasrec", "toys", model): state
    for model, state in [("phase1", "failed"), ("phase2", "blocked"), ("all", "missing")]
}
DOMAINS = ("beauty", "health", "toys")
PHASES = ("pretrain", "phase1", "phase2")
USERS = {"beauty": 1200, "health": 2000, "toys": 900}
# The expected logarithm of a target's rank; smaller is better.
CENTRE = {"pretrain": 5.6, "phase1": 5.2, "phase2": 4.9, "all": 4.8}


def drawn_ranks(draw, ease, centre):
    return np.floor(np.exp(centre + 0.9 * ease + 1.6 * draw.normal(size=len(ease)))).astype(np.int64)


def made_results():
    draw = np.random.default_rng(12)
    results, changes = [], []
    for domain in DOMAINS:
        ease = draw.normal(size=USERS[domain])
        active = draw.random(USERS[domain]) < {"beauty": 0.25, "health": 0.35, "toys": 0.42}[domain]
        own = {}
        for paradigm, shift in (("semb", -0.3), ("sasrec", 0.0)):
            models = [*PHASES, "all"] if paradigm == "sasrec" else PHASES
            for model in models:
                ranks = drawn_ranks(draw, ease, CENTRE[model] + shift)
                own[paradigm, model] = ranks
                if (paradigm, domain, model) in ABSENT:
                    continue
                results.append(result_rows(ranks, active, paradigm=paradigm, domain=domain, model=model, samples=200))
        for model, centre in (("popularity", 6.6), ("random", 9.0)):
            ranks = drawn_ranks(draw, ease, centre)
            results.append(result_rows(ranks, active, paradigm="baseline", domain=domain, model=model, samples=200))
        for partner in DOMAINS:
            if partner == domain:
                continue
            for paradigm in ("semb", "sasrec"):
                if {(paradigm, name, "phase2") for name in (domain, partner)} & set(ABSENT):
                    continue
                reference = own[paradigm, "phase2"]
                shift = draw.normal(0.05 if paradigm == "semb" else 1.0, 0.15)
                merged = np.floor(reference * np.exp(shift + 0.4 * draw.normal(size=len(ease)))).astype(np.int64)
                identity = {
                    "paradigm": paradigm,
                    "domain": domain,
                    "model": "+".join(sorted([domain, partner])),
                    "sources": [f"{paradigm}/{name}/phase2" for name in sorted([domain, partner])],
                    "merge": "linear",
                    "parameter": 0.5,
                    "samples": 200,
                }
                results.append(result_rows(merged, active, **identity))
                changes.append(change_rows(merged, reference, active, reference="phase2", **identity))
    return pl.concat(results), pl.concat(changes)


def made_cells():
    draw = np.random.default_rng(3)
    cells = []

    def add(kind, name, seconds, state="built", paradigm=None, domain=None, phase=None):
        built = state == "built"
        cells.append(
            {
                "kind": kind,
                "name": name,
                "paradigm": paradigm,
                "domain": domain,
                "phase": phase,
                "state": state,
                "problem": {"failed": "its data ran out", "blocked": "waits for another cell"}.get(state),
                "seconds": seconds * draw.uniform(0.7, 1.3) if built else None,
                "peak_bytes": int(draw.uniform(0.6, 2.4) * 1e9) if built else None,
                "fingerprint": f"{draw.integers(16**8):08x}",
                "finished": "2025-03-01T10:12:44Z" if built else None,
            }
        )

    add("backbone", "backbone", 620)
    for domain in DOMAINS:
        add("corpus", f"corpus/{domain}", 4, domain=domain)
    for paradigm, seconds in (("semb", 410), ("sasrec", 35)):
        add("base", f"base/{paradigm}", 2, paradigm=paradigm)
        for domain in DOMAINS:
            for phase in [*PHASES, "all"] if paradigm == "sasrec" else PHASES:
                name = f"checkpoint/{paradigm}/{domain}/{phase}"
                state = ABSENT.get((paradigm, domain, phase), "built")
                add("checkpoint", name, seconds, state, paradigm, domain, phase)
                add("evaluation", name.replace("checkpoint", "evaluation"), 9, state, paradigm, domain, phase)
    return pl.DataFrame(cells)


def made_statistics():
    return pl.DataFrame(
        [
            {
                "domain": domain,
                "users": 4000 + 900 * place,
                "items": 9000 + 2100 * place,
                "pretrain": 61000 + 17000 * place,
                "phase1": 9100 + 800 * place,
                "phase2": 8700 + 1500 * place,
                "test": 7100 + 900 * place,
                "items_test": 4100 + 300 * place,
                "test_users": USERS[domain],
                "active": (active := round(share * USERS[domain])),
                "non_active": USERS[domain] - active,
                "active_ratio": active / USERS[domain],
                "gap_days": gap,
            }
            for place, (domain, share, gap) in enumerate(
                zip(DOMAINS, (0.25, 0.35, 0.42), (402.4, 655.1, 518.9), strict=True)
            )
        ]
    )


def made_losses():
    draw = np.random.default_rng(8)
    curves = []
    for paradigm, top in (("semb", 6.2), ("sasrec", 8.1)):
        for place, domain in enumerate(DOMAINS):
            for later, (phase, epochs) in enumerate(zip(PHASES, (3, 2, 2), strict=True)):
                steps = 240 // (1 + later)
                epoch = np.linspace(epochs / steps, epochs, steps)
                loss = top - 0.8 * later - 1.1 * np.log1p(2 * epoch) + 0.1 * place + 0.12 * draw.normal(size=steps)
                curves.append(
                    pl.DataFrame({"step": np.arange(1, steps + 1), "epoch": epoch, "loss": loss}).with_columns(
                        paradigm=pl.lit(paradigm), domain=pl.lit(domain), phase=pl.lit(phase), seed=pl.lit(0)
                    )
                )
    return pl.concat(curves)


@pytest.fixture(scope="session")
def tables():
    results, changes = made_results()
    return ReportTables(
        name="three-domains",
        command="mmgrid run grids/three-domains.toml --jobs 2",
        facts={
            "Seed": "0",
            "Backbone": "tiny, 4 layers of 128",
            "Catalogue": "closed",
            "pretrain": "2008-07-01 to 2013-07-01",
            "phase1": "2013-07-01 to 2013-10-01",
            "phase2": "2013-10-01 to 2014-01-01",
            "test": "2014-01-01 to 2014-04-01",
            "Threads per cell": "1",
            "Total time": "1 h 12 min",
        },
        cells=made_cells(),
        statistics=made_statistics(),
        results=results,
        losses=made_losses(),
        changes=changes,
    )


@pytest.fixture(scope="session")
def studied(tables):
    """The same grid with all seven studies, its months and its phases."""
    return replace(
        tables,
        months=made_months(DOMAINS),
        phases=DATES,
        studies=made_studies(DOMAINS, ("semb", "sasrec")),
        grid="grids/three-domains.toml",
    )


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Writes the report of some tables, once for all tests that ask for the same object."""
    found = {}

    def write(tables):
        if id(tables) not in found:
            path = write_report(tables, tmp_path_factory.mktemp("report") / "report.html")
            found[id(tables)] = (tables, path)  # with the tables, so that no others get their id
        return found[id(tables)][1]

    return write


@pytest.fixture(scope="session")
def page_text(written, tables):
    """The report without studies as HTML."""
    return written(tables).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def studied_page(written, studied):
    """The report with all studies as HTML."""
    return written(studied).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the report's browser tests need playwright")
    program = os.environ.get("MMGRID_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium found (apt-get install chromium, or set MMGRID_CHROMIUM to its path)")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def open_tab(browser, path, width, scheme):
    """A tab with this report, drawn, and the list of what goes wrong in it: errors, dialogs, requests."""
    complaints = []
    tab = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()

    def requested(url):
        if url != path.as_uri() and not url.startswith(("data:", "blob:")):
            complaints.append(f"request: {url}")

    tab.on("console", lambda message: complaints.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    tab.on("dialog", lambda dialog: (complaints.append("a dialog opened"), dialog.dismiss()))
    tab.on("request", lambda request: requested(request.url))
    tab.goto(path.as_uri())
    wait_until_drawn(tab, 1)
    return tab, complaints


@pytest.fixture
def opened(browser, written):
    """Opens a report in a tab of its own; at the end, checks that the page logged no error and requested nothing."""
    found = []

    def open_report(tables, width=1280, scheme="light"):
        found.append(open_tab(browser, written(tables), width, scheme))
        return found[-1][0]

    yield open_report
    for tab, _ in found:
        tab.context.close()
    assert [complaint for _, complaints in found for complaint in complaints] == []


@pytest.fixture(scope="session")
def _shared_tabs():
    found = {}
    yield found
    for tab, _ in found.values():
        tab.context.close()


@pytest.fixture
def looked_at(browser, written, _shared_tabs):
    """Like `opened`, for tests that choose nothing: they share their tabs."""
    used = []

    def open_report(tables, width=1280, scheme="light"):
        path = written(tables)
        if (path, width, scheme) not in _shared_tabs:
            _shared_tabs[path, width, scheme] = open_tab(browser, path, width, scheme)
        used.append(_shared_tabs[path, width, scheme])
        return used[-1][0]

    yield open_report
    for tab, _ in used:
        tab.mouse.move(0, 0)
        tab.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    found = [complaint for _, complaints in used for complaint in complaints]
    for _, complaints in used:
        complaints.clear()  # the next test of the tab is not to answer for this one
    assert found == []
