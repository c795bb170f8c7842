"""A study without a view: its figures, one readable table per table, and its findings."""

import io
import re
from dataclasses import replace
from importlib.metadata import EntryPoint

import polars as pl
import pytest
import vl_convert
from odd_study import FIELDS, odd_tables
from page_data import figure, read_payload

from mmgrid.reporting.figures.figure import vegalite_version
from mmgrid.reporting.inputs import checked
from mmgrid.reporting.page.figure_files import sized_spec
from mmgrid.reporting.page.html import report_html
from mmgrid.reporting.page.study_sections import study_sections
from mmgrid.reporting.studies.registry import view
from mmgrid.reporting.tables.export import to_csv, to_latex
from mmgrid.studies.plot import Axis, Plot
from mmgrid.studies.registry import STUDIES


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The odd study is an installed plug-in."""
    assert list(STUDIES)
    monkeypatch.setitem(STUDIES._entries, "odd", EntryPoint("odd", "odd_study:STUDY", STUDIES.group))
    yield
    STUDIES._loaded.pop("odd", None)


@pytest.fixture
def odd(tables):
    return replace(tables, studies={"odd": odd_tables()}, grid="field.toml")


def section_of(tables):
    *_, section = study_sections(checked(tables), [])
    return section


def test_it_has_a_section_with_its_findings_and_all_its_tables(odd):
    section = section_of(odd)
    assert (section.id, section.name, section.title) == ("odd", "Yields of a field", "Yields of a field")
    assert [paragraph.text for paragraph in section.paragraphs] == [
        "Mean difference is +1.50 [+0.20, +2.80]: reproduced."
    ]
    assert [table.title for table in section.tables] == ["Yields"]
    assert [table.title for table in section.details] == ["Growth"]
    assert [one.id for one in section.figures] == [
        f"figure-odd-{name}" for name in ("heights", "crops", "bars", "growth", "paths")
    ]


def test_tables_have_readable_labels_and_intervals_below_their_values(odd):
    (table,) = section_of(odd).tables
    assert [column.label for column in table.columns] == [
        "Crop.name",
        "It's ripe",
        "Sown on",
        "Tags",
        "Height [cm]",
        "Plots",
    ]
    first, second, _ = table.rows()
    assert [cell.text for cell in first.cells] == ["barley", "yes", "2024-04-01", "", "12.2", "2"]
    assert first.cells[4].interval == "[10.8, 13.8]"
    assert second.cells[4].text == "–"
    read = pl.read_csv(io.StringIO(to_csv(table)))
    assert read["height [cm]"].to_list() == [12.25, None, 2250.0]
    assert r"\toprule" in to_latex(table)


def test_long_tables_are_cut_on_the_page_and_whole_in_the_csv(odd):
    (table,) = section_of(odd).details
    assert [column.label for column in table.columns] == ["Group", "Wet", "Field number", "Week", "Growth"]
    assert table.groups == []  # its groups are not groups of users
    assert table.frame.height == 200
    assert "The CSV has all its rows." in table.caption
    assert pl.read_csv(io.StringIO(to_csv(table))).height == 2 * len(FIELDS) * 2 * 39


@pytest.mark.smoke
def test_every_figure_compiles_and_draws(odd):
    for one in section_of(odd).figures:
        svg = vl_convert.vegalite_to_svg(sized_spec(one), vl_version=vegalite_version())
        assert svg.count("graphics-symbol") > 1, one.id
        assert ">undefined<" not in svg
        assert ">null<" not in svg


def test_choices_of_numbers_and_truth_values_are_controls(odd):
    growth, paths = section_of(odd).figures[-2:]
    assert [(control.label, control.options) for control in growth.controls] == [
        ("Wet", (("false", "no"), ("true", "yes")))
    ]
    assert [(control.name, control.options) for control in paths.controls] == [
        ("field_number", (("3", "3"), ("12", "12"))),
        ("choice1", (("control", "control"), ("treated", "treated"))),
    ]
    assert "toNumber(field_number)" in str(paths.spec["transform"])


def test_without_findings_and_rows_it_says_that_there_is_nothing(odd):
    assert section_of(replace(odd, studies={"odd": odd_tables(findings=False)})).paragraphs == ()
    section = section_of(replace(odd, studies={"odd": {}}))
    assert [paragraph.text for paragraph in section.paragraphs] == ["This study has no results yet."]
    assert section.figures == section.tables == section.details == ()


def test_the_page_holds_it_between_the_others(odd, studied):
    text = report_html(replace(odd, studies={**studied.studies, **odd.studies}))
    assert re.findall(r'<section id="([^"]+)"', text)[-7:-4] == ["advise", "odd", "data"]
    payload = read_payload(text)
    assert figure(payload, "figure-odd-growth")["data"] == ["odd/growth"]
    assert "rain" in payload["exports"]["table-findings"]["csv"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_in_a_browser(opened, odd, scheme):
    tab = opened(odd, width=400, scheme=scheme)
    for name in ("heights", "crops", "bars", "growth", "paths"):
        assert tab.locator(f"#figure-odd-{name} svg [role='graphics-symbol']").count() > 0
    before = tab.locator("#figure-odd-paths svg").inner_html()
    tab.locator("#figure-odd-paths select[data-parameter=choice1]").select_option("treated")
    tab.wait_for_timeout(200)
    assert tab.locator("#figure-odd-paths svg [role='graphics-symbol']").count() > 0
    tab.locator("#figure-odd-growth select[data-parameter=wet]").select_option("true")
    tab.wait_for_timeout(200)
    assert tab.locator("#figure-odd-growth svg [role='graphics-symbol']").count() > 0
    assert before
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_figure_of_a_missing_column_names_study_and_column(odd, monkeypatch):
    broken = Plot("p", "growth", "line", Axis("week", "week"), Axis("grwth", "growth"), Axis("wet", "wet"), "")
    monkeypatch.setattr(type(STUDIES["odd"]), "plots", (broken,))
    with pytest.raises(ValueError, match="study 'odd': figure 'p': table 'growth' has no column grwth"):
        section_of(odd)


@pytest.mark.parametrize("path", ["odd_study:NO_VIEW", "odd_study:STUDY", "no_such_module:VIEW"])
def test_a_view_that_cannot_be_used_names_the_study(odd, monkeypatch, path):
    monkeypatch.setattr(type(STUDIES["odd"]), "view", path)
    with pytest.raises(ValueError, match=f"study 'odd': .*'{path}'"):
        view("odd")
