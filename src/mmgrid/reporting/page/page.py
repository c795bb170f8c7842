"""The page as a whole: the first screen says what came out and shows the one figure that matters most; then sections."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmgrid.reporting.figures.figure import Figure
from mmgrid.reporting.figures.merges import merges_figure
from mmgrid.reporting.figures.scores import scores_figure
from mmgrid.reporting.inputs import ReportTables
from mmgrid.reporting.page.sections import numbered, report_sections
from mmgrid.reporting.page.study_sections import lead_figure, study_headlines
from mmgrid.reporting.tables.comparison import scores
from mmgrid.reporting.tables.merges import pairs
from mmgrid.reporting.tables.strength import strongest_first
from mmgrid.reporting.text.headlines import MERGE, best_headline, merge_headline, unfinished_headline
from mmgrid.reporting.text.section import Headline, Section


@dataclass(frozen=True)
class FirstScreen:
    """The statements, and the figure if there is anything to draw."""

    headlines: tuple[Headline, ...]
    figure: Figure | None


@dataclass(frozen=True)
class Page:
    """The first screen and the sections of a report, with their figures numbered."""

    first: FirstScreen
    sections: list[Section]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in their order."""
        lead = [self.first.figure] if self.first.figure else []
        return [*lead, *(figure for section in self.sections for figure in section.figures)]


def report_page(tables: ReportTables) -> Page:
    """The page of checked tables (`inputs.checked`)."""
    domains = tables.statistics["domain"].to_list()
    strength = strongest_first(tables.results)
    first = first_screen(tables, domains, strength)
    return Page(first, numbered(report_sections(tables, strength), 2 if first.figure else 1))


def first_screen(tables: ReportTables, domains: Sequence[str], strength: Sequence[str]) -> FirstScreen:
    """The first screen of checked tables (`inputs.checked`).

    Args:
        domains: in the order to list them.
        strength: the paradigms, the strongest first.
    """
    scored = scores(tables.results, domains)
    merged = pairs(tables.results, tables.changes, domains)
    studied = study_headlines(tables, strength)
    found: list[Headline | None] = [best_headline(scored), *studied]
    if not any(headline.label == MERGE for headline in studied):
        found.insert(1, merge_headline(merged, strength))
    found.append(unfinished_headline(tables.cells))
    figure = lead_figure(tables, domains, strength) or merges_figure(merged, domains) or scores_figure(scored)
    return FirstScreen(
        tuple(headline for headline in found if headline is not None),
        # The figure is shown again in its section, where the reader chooses metric, paradigm and seed.
        None if figure is None else replace(figure, id="figure-lead", controls=(), title="Figure 1"),
    )
