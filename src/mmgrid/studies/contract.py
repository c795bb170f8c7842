"""What a study is: a question asked of a grid, answered by tidy tables, figures, and verdicts on claims.

A study declares what a grid file may say of it (`spec`), the cells that it reads (`needs`), and how it answers
(`answer`). `mmgrid.testing.StudyKit` checks what is promised here. Nothing here imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import polars as pl
from pydantic import Field, field_validator, model_validator

from mmgrid.data import Calendar
from mmgrid.data.held_out import Target
from mmgrid.frozen import Frozen
from mmgrid.studies.plot import Plot

MOST_POINTS = 1001
RANKS_FILE = "ranks.parquet"  # of an evaluation, one row per user: user_id, target, active, rank
ROWS_FILE = "rows.parquet"  # of an evaluation: results rows
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
        """The numbers, without the dust of binary fractions: 0.3, not 0.30000000000000004."""
        n = int((self.last - self.first) / self.step + 1e-9) + 1
        return [round(self.first + place * self.step, 9) + 0.0 for place in range(n)]


class StudySpec(Frozen):
    """What a grid file says of a study. A study adds `kind: Literal["its name"]` and values of its own."""

    domains: tuple[str, ...] | None = Field(default=None, min_length=1, description="default: all of the grid")
    paradigms: tuple[str, ...] | None = Field(default=None, min_length=1, description="default: all that can be asked")
    max_users: int | None = Field(
        default=None, ge=1, description="a sample of the test users, the same for every model"
    )

    @field_validator("domains", "paradigms")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = sorted({name for name in names or () if (names or ()).count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is named twice")
        return names


class Ask(Protocol):
    """What a study may ask of a grid while it is planned: cells of one paradigm and seed, to be read when it answers.

    `domains` are those of the study, `phases` those that are trained, of which the last two end at t1 and t2 (with
    `target = "phase2"` one phase earlier). `max_users` is the study's sample; None asks for the grid's own users.
    """

    paradigm: str
    seed: int
    domains: Sequence[str]
    phases: Sequence[str]

    def corpus(self, domain: str) -> Any:
        """The prepared domain."""
        ...

    def item_vectors(self, domain: str) -> Any:
        """The domain's item vectors; None where the grid has none."""
        ...

    def base(self) -> Any:
        """Θ⁽⁰⁾ of the paradigm; an error where it has none."""
        ...

    def checkpoint(self, domain: str, phase: str) -> Any:
        """A checkpoint; an error where the grid has none of that phase."""
        ...

    def evaluation(self, domain: str, phase: str, max_users: int | None = None) -> Any:
        """The evaluation of a checkpoint."""
        ...

    def references(self, domain: str, max_users: int | None = None) -> Mapping[str, Any]:
        """The evaluations of what every paradigm is compared with: popularity, and the baselines that the grid trains."""
        ...

    def pair(
        self, domain: str, partner: str, method: str, called: str, options: Mapping[str, Any], max_users: int | None
    ) -> Any:
        """The evaluation on `domain` of its newest model, merged half and half with that of `partner`."""
        ...

    def between_phases(self, domain: str, scale: float, max_users: int | None = None) -> Any:
        """The evaluation of Θ(t1) + λ (Θ(t2) − Θ(t1)), eq. 10, at λ = `scale`."""
        ...

    def over_base(
        self, domain: str, first: str, second: str, base: str, alpha: float, max_users: int | None = None
    ) -> Any:
        """The evaluation on `domain` of two domains' newest models over another base, eq. 7.

        base: `backbone`; `historical: DOMAIN`, its model at t1; or `neutral`, the mean of both models at t1 (eq. 8).
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
    ) -> Any:
        """The evaluation on `domain` of any merge: checkpoints of this grid by name, by any installed method.

        name: of the merge in results, unique among the domain's models. weights: by source; default: equal shares.
        """
        ...

    def spec_of(self, study: str) -> Any:
        """What this grid's file says of another study of the paradigm; None where it has none."""
        ...

    def wrong(self, problem: str) -> ValueError:
        """An error that names the grid file and the study."""
        ...


@dataclass(frozen=True)
class Part:
    """A built cell that a study reads. `summary`: small facts that its builder returned."""

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    summary: Mapping[str, Any]

    def ranks(self) -> pl.DataFrame:
        """Of an evaluation, one row per user: user_id, target, active, rank."""
        return pl.read_parquet(self.folder / RANKS_FILE)

    def rows(self) -> pl.DataFrame:
        """Of an evaluation, its results rows."""
        return pl.read_parquet(self.folder / ROWS_FILE)


@dataclass(frozen=True)
class Context:
    """What a study answers for, next to the parts that it needs.

    values: the study's own part of its identity (see `Study.values`). ranks_at: the ranks at another place of the line
    on which the evaluation of a part lies.
    """

    paradigm: str
    seed: int
    target: Target
    calendar: Calendar
    phases: Sequence[str]
    values: Mapping[str, Any] = field(default_factory=dict)
    ranks_at: Callable[[Part, float], pl.DataFrame] | None = None


class Study(ABC):
    """One study. Subclass it, and name an instance as an entry point of `mmgrid.studies`.

    Attributes:
        name: what grid files and commands call it; the `kind` of its spec.
        title: its heading. source: the table or figure of the paper that it answers, or empty.
        spec: what a grid file says of it.
        tables: name of each of its tables → columns and types. A table called `findings` has `FINDINGS_SCHEMA`.
        plots: its figures, declared.
        view: `module:OBJECT` of its view in the report; empty for the generic one.
        version: raised when it makes something else of the same parts.
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
        """The paradigms that are asked where the grid file names none, of those that have checkpoints or a base."""
        return trained

    def values(self, spec: Any) -> dict[str, Any]:
        """Values of the spec that change the answer but not the needed cells; part of the identity."""
        return {}

    @abstractmethod
    def needs(self, spec: Any, ask: Ask) -> Any:
        """The cells that the study reads, as any nesting of dataclasses, dicts, lists and tuples.

        None where there is nothing to ask of the paradigm.
        """

    @abstractmethod
    def answer(self, parts: Any, context: Context) -> Mapping[str, pl.DataFrame]:
        """The study's tables. `parts`: what `needs` returned, with a `Part` in the place of each cell."""


def replaced(needs: Any, leaf: type, function: Callable[[Any], Any]) -> Any:
    """`needs` with `function` applied to every leaf of that type, in a fixed order."""
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
