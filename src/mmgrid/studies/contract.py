"""The contract of a study: a question about a grid, answered with tidy tables, figures and verdicts on claims.

A study declares the keys of its entry in a grid file (`spec`), requests the cells that it reads (`needs`), and turns
them into tables (`answer`). `mmgrid.testing.StudyKit` checks an implementation. Nothing here imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import polars as pl
from pydantic import Field, model_validator

from mmgrid.data import Calendar
from mmgrid.data.held_out import Target
from mmgrid.frozen import Frozen, Names
from mmgrid.studies.plot import Plot

MOST_POINTS = 1001
Draws = Annotated[int, Field(ge=1, le=64, description="how often random masks are drawn")]
RANKS_FILE = "ranks.parquet"  # in an evaluation, one row per user: user_id, target, active, rank
ROWS_FILE = "rows.parquet"  # in an evaluation: its results rows
BACKBONE, NEUTRAL, HISTORICAL = "backbone", "neutral", "historical: "  # bases, see `StudyGrid.over_base`
VECTORS_FILE = "vectors.npy"  # float32 [items, width]; rows as in the corpus


class Steps(Frozen):
    """Evenly spaced numbers, both ends included."""

    first: float = Field(alias="from", allow_inf_nan=False)
    last: float = Field(alias="to", allow_inf_nan=False)
    step: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _rising(self) -> Steps:
        if self.last < self.first:
            raise ValueError(f"to = {self.last:g} lies below from = {self.first:g}")
        if (self.last - self.first) / self.step >= MOST_POINTS:
            raise ValueError(f"more than {MOST_POINTS} points from {self.first:g} to {self.last:g}; take larger steps")
        return self

    def values(self) -> list[float]:
        """The numbers, rounded to nine decimals: 0.3, not 0.30000000000000004."""
        n = int((self.last - self.first) / self.step + 1e-9) + 1
        return [round(self.first + place * self.step, 9) + 0.0 for place in range(n)]


class StudySpec(Frozen):
    """The keys that every study takes in a grid file. A study adds `kind: Literal["its name"]` and its own keys."""

    domains: Names | None = Field(default=None, description="default: all domains of the grid")
    paradigms: Names | None = Field(default=None, description="default: all paradigms that the study applies to")
    max_users: int | None = Field(
        default=None, ge=1, description="a sample of this many test users, the same for every model"
    )


class StudyGrid(Protocol):
    """A grid as a study sees it in `Study.needs`: one paradigm, one seed, and the cells that it can request.

    Every method returns a cell that may not be built yet. Request cells here, put them into the result of `needs`, and
    read them in `Study.answer`, where each has become a `Part`. A requested cell is built before the study; cells that
    the grid or another study also needs are built once.

    Attributes:
        paradigm: the paradigm that the study is planned for.
        seed: the seed of this run of the grid.
        domains: the domains of the study.
        phases: the training phases, oldest first. The last one ends at t2, the one before at t1; with
            `target = "phase2"` both end one phase earlier.

    `max_users` limits the test users of an evaluation to a sample; None takes the users of the grid.
    """

    paradigm: str
    seed: int
    domains: Sequence[str]
    phases: Sequence[str]

    def corpus(self, domain: str) -> Any:
        """The prepared data of a domain."""
        ...

    def item_vectors(self, domain: str) -> Any:
        """The item vectors of a domain; None if the grid has no backbone to make them."""
        ...

    def base(self) -> Any:
        """Θ⁽⁰⁾, the model before training. ValueError if the paradigm has none."""
        ...

    def checkpoint(self, domain: str, phase: str) -> Any:
        """The model of a domain at the end of a phase. ValueError if the grid has none."""
        ...

    def evaluation(self, domain: str, phase: str, max_users: int | None = None) -> Any:
        """The evaluation of a checkpoint on its own domain. ValueError if the grid has no such checkpoint."""
        ...

    def references(self, domain: str, max_users: int | None = None) -> Mapping[str, Any]:
        """The evaluations of the baselines by label: `popularity`, `sasrec`, `sasrec (in one go)`."""
        ...

    def pair(
        self,
        domain: str,
        partner: str,
        method: str,
        called: str,
        options: Mapping[str, Any],
        max_users: int | None,
        draw: int = 0,
    ) -> Any:
        """The evaluation on `domain` of its newest model merged with that of `partner`, with equal weights.

        Args:
            method, options: the merge.
            called: the name of the merge in results, such as `subspace`.
            draw: which of several draws of random masks; 0 has the seed of the grid.
        """
        ...

    def together(
        self,
        domain: str,
        domains: Sequence[str],
        method: str,
        called: str,
        options: Mapping[str, Any],
        max_users: int | None,
        draw: int = 0,
    ) -> Any:
        """The evaluation on `domain` of the newest models of several domains, merged with equal weights; as `pair`."""
        ...

    def between_phases(self, domain: str, scale: float, max_users: int | None = None) -> Any:
        """The evaluation of Θ(t1) + λ (Θ(t2) − Θ(t1)), eq. 10, at λ = `scale`."""
        ...

    def over_base(
        self,
        domain: str,
        first: str,
        second: str,
        base: str,
        alpha: float,
        max_users: int | None = None,
        draw: int = 0,
    ) -> Any:
        """The evaluation on `domain` of the newest models of two domains, merged over another base, eq. 7.

        base: `backbone`; `historical: DOMAIN`, the model of that domain at t1; or `neutral`, the mean of both models at
            t1 (eq. 8).
        alpha: the weight of `first`; `second` has the rest.
        draw: as for `pair`.
        """
        ...

    def evaluate_merge(
        self,
        domain: str,
        name: str,
        method: str,
        sources: Mapping[str, Any],
        *,
        weights: Mapping[str, float] | None = None,
        base: Any = None,
        scale: float = 1.0,
        options: Mapping[str, Any] | None = None,
        max_users: int | None = None,
        draw: int = 0,
    ) -> Any:
        """The evaluation on `domain` of a merge of this grid's checkpoints by any installed method.

        Args:
            name: the name of the merge in results, unique among the models of the domain.
            sources: name → checkpoint; at least one is a checkpoint of `domain`.
            weights: source → weight; default: 1, or what a preset of the method sets, as in `mmgrid merge`.
            base: the checkpoint or base that task vectors start from; ignored by a method that takes none.
            scale: factor on the merged task vector.
            options: the options of the method.
            draw: as for `pair`; draws other than 0 have `-draw1`, … behind their name.

        Raises:
            ValueError: no source is a checkpoint of `domain`, the method or an option is unknown, or a base is missing.
        """
        ...

    def beside(self, paradigm: str) -> Self | None:
        """The same grid as seen for another paradigm, to compare with; None if the grid has no checkpoint of it."""
        ...

    def spec_of(self, study: str) -> Any:
        """The entry of another study for this paradigm in the grid file; None if there is none."""
        ...

    def wrong(self, problem: str) -> ValueError:
        """An error to raise for a value of the grid file; the message names the file and the study."""
        ...


@dataclass(frozen=True)
class Part:
    """A built cell, as `Study.answer` reads it.

    Attributes:
        name: the name of the cell, such as `evaluation/semb/books/phase2`.
        folder: its files.
        recipe: the values that determined its content.
        summary: small facts that its builder recorded.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    summary: Mapping[str, Any]

    def ranks(self) -> pl.DataFrame:
        """The ranks of an evaluation, one row per user: user_id, target, active, rank."""
        return pl.read_parquet(self.folder / RANKS_FILE, glob=False)

    def rows(self) -> pl.DataFrame:
        """The results rows of an evaluation: its metrics with intervals."""
        return pl.read_parquet(self.folder / ROWS_FILE, glob=False)


@dataclass(frozen=True)
class PartScales:
    """A λ for each part of a model, in place of one for all.

    per: `tower`, or `third` of the layers (see `mmgrid.merging.arrays.names.thirds`). scales: part → λ, for all parts.
    """

    per: Literal["tower", "third"]
    scales: Mapping[str, float]


@dataclass(frozen=True)
class Context:
    """The run that a study answers for.

    Attributes:
        target: the phase whose interactions are ranked, `test` or `phase2`.
        calendar: the phases of the grid.
        phases: the training phases, oldest first (see `StudyGrid`).
        values: the result of `Study.values`.
        ranks_at: evaluates another point of a line: takes the part of a point from `between_phases` or `over_base` and
            a λ or α (or a λ for each part of the model), and returns the table of ranks there. None outside of a grid.
    """

    paradigm: str
    seed: int
    target: Target
    calendar: Calendar
    phases: Sequence[str]
    values: Mapping[str, Any] = field(default_factory=dict)
    ranks_at: Callable[[Part, float | PartScales], pl.DataFrame] | None = None


class Study(ABC):
    """One study. Subclass it, and register an instance as an entry point of `mmgrid.studies`.

    A study is planned and answered once for each paradigm and seed: `needs` requests cells, the grid builds them, and
    `answer` turns them into tables.

    Attributes:
        name: the name in grid files and commands; also the `kind` of its spec.
        title: its heading in the report.
        source: the table or figure of the paper that it reproduces, or empty.
        spec: the keys of its entry in a grid file.
        tables: table → columns and types. A table called `findings` has `FINDINGS_SCHEMA`.
        plots: its figures.
        view: `module:OBJECT` of its view in the report; empty for the generic view.
        version: raise it when the same parts give different tables; the study is then answered again.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str] = ""
    spec: ClassVar[type[StudySpec]]
    tables: ClassVar[Mapping[str, pl.Schema]]
    plots: ClassVar[tuple[Plot, ...]] = ()
    view: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def paradigms(self, trained: Sequence[str], with_base: Sequence[str]) -> Sequence[str]:
        """The paradigms that are studied if the grid file names none.

        trained: the paradigms with checkpoints. with_base: those with a base Θ⁽⁰⁾.
        """
        return trained

    def values(self, spec: Any) -> dict[str, Any]:
        """The values of the spec that change the answer but not the needed cells; part of the study's fingerprint."""
        return {}

    @abstractmethod
    def needs(self, spec: Any, grid: StudyGrid) -> Any:
        """The cells that the study reads, as any nesting of dataclasses, dicts, lists and tuples.

        None if the study has nothing to do for this paradigm, for example because there is only one domain.
        """

    @abstractmethod
    def answer(self, parts: Any, context: Context) -> Mapping[str, pl.DataFrame]:
        """All tables of the study. `parts`: the result of `needs`, with a `Part` in place of each cell."""


def replaced(needs: Any, leaf: type, function: Callable[[Any], Any]) -> Any:
    """`needs` with `function` applied to every leaf of type `leaf`, in a fixed order."""
    if isinstance(needs, leaf):
        return function(needs)
    if is_dataclass(needs) and not isinstance(needs, type):
        changes = {one.name: replaced(getattr(needs, one.name), leaf, function) for one in fields(needs) if one.init}
        return replace(needs, **changes)
    if isinstance(needs, Mapping):
        return {key: replaced(value, leaf, function) for key, value in needs.items()}
    if isinstance(needs, list | tuple):
        return type(needs)(replaced(value, leaf, function) for value in needs)
    return needs
