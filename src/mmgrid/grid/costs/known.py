"""What is known of a grid's domains and models while it is planned: from built cells, else from the grid file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgrid.backbone.shape import Shape, shape_of
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.stored import exact_weights
from mmgrid.grid.file.load import Grid
from mmgrid.grid.file.spec import PretrainedBackbone
from mmgrid.paradigms.counts import Counts
from mmgrid.paradigms.work import Work
from mmgrid.store import Record


@dataclass(frozen=True)
class Known:
    """Sizes of domains and shapes of models.

    Attributes:
        records: of the built cells.
        grid: what its file expects of domains that are not prepared, and where its models are; None if only cells are
            known.
        guess: take the mean of the prepared domains for one that is not.
        works: what cells compute, as far as it has been asked and is not guessed.
    """

    records: Mapping[Cell, Record]
    grid: Grid | None = None
    guess: bool = False
    works: dict[Cell, Work] = field(default_factory=dict)
    _shapes: dict[str, Shape | None] = field(default_factory=dict)
    _sizes: dict[Cell, list[Counts]] = field(default_factory=dict)

    def counts(self, corpus: Cell) -> list[Counts]:
        """The size of a domain; of all prepared domains if it is guessed; empty if it is unknown."""
        if corpus in self._sizes:
            return self._sizes[corpus]
        found = self._counts_of(corpus)
        if self.is_sure(corpus) or not self.guess:  # a guess changes with the next domain that is prepared
            self._sizes[corpus] = found
        return found

    def _counts_of(self, corpus: Cell) -> list[Counts]:
        if corpus in self.records:
            return [_counts(self.records[corpus])]
        if "joint" in corpus.recipe:
            parts = [self.counts(above) for above in corpus.upstream.values()]
            return [_joined([part[0] for part in parts])] if all(parts) else []
        expected = self.grid.spec.data.expected.get(str(corpus.recipe.get("domain"))) if self.grid else None
        if expected is not None:
            return [expected.counts()]
        if not self.guess:
            return []
        return [_counts(record) for cell, record in self.records.items() if cell.kind == "corpus"]

    def is_sure(self, corpus: Cell) -> bool:
        """Whether the domain is prepared, so that its size will not change."""
        return corpus in self.records

    def shape(self, backbone: Cell) -> Shape | None:
        """The shape of a language model; None if it is unknown."""
        recipe = backbone.recipe
        if "hidden_size" in recipe:
            return Shape(
                layers=recipe["layers"],
                hidden=recipe["hidden_size"],
                intermediate=recipe["intermediate_size"],
                heads=recipe["heads"],
                key_value_heads=recipe["key_value_heads"],
                head_width=recipe["hidden_size"] // recipe["heads"],
                vocabulary=recipe["vocabulary"],
            )
        spec = self.grid.spec.backbone if self.grid else None
        if self.grid and isinstance(spec, PretrainedBackbone):
            return self._of_model(spec.path)
        return self._of_model(recipe["hub"]) if "hub" in recipe else None

    def embedder(self, vectors: Cell) -> Shape | None:
        """The shape of the model that makes item vectors; None if none does, or if it is unknown."""
        if "backbone" in vectors.upstream:
            return self.shape(vectors.upstream["backbone"])
        path = self.grid.spec.item_vectors.path if self.grid else None
        if self.grid and path and vectors.recipe.get("source"):
            return self._of_model(path)
        return self._of_model(vectors.recipe["hub"]) if "hub" in vectors.recipe else None

    @property
    def recomputed(self) -> bool:
        """Whether layers compute their activations again in the backward pass."""
        return self.grid is not None and self.grid.spec.training.recompute_activations

    def _of_model(self, model: str) -> Shape | None:
        """model: a folder, as the grid file writes it, or a name on the hub."""
        if model not in self._shapes:
            folder = self.grid.path(model) if self.grid else Path(model)
            self._shapes[model] = shape_of(folder if folder.is_dir() else model)
        return self._shapes[model]


def upstream_of(cell: Cell, fits: Callable[[Cell], bool]) -> Cell | None:
    """The nearest cell upstream of `cell` that fits."""
    seen: set[Cell] = set()
    wave: Collection[Cell] = cell.upstream.values()
    while wave:
        for one in wave:
            if fits(one):
                return one
        seen.update(wave)
        wave = dict.fromkeys(above for one in wave for above in one.upstream.values() if above not in seen)
    return None


def backbone_of(cell: Cell) -> Cell | None:
    """The language model that a cell's model was trained from."""
    return upstream_of(cell, lambda one: one.kind == "backbone")


def training_of(cell: Cell) -> Cell | None:
    """The training of a model that a cell is made from, whose recipe has its values; None if there is none."""

    def fits(one: Cell) -> bool:
        return one.kind == "checkpoint" and "corpus" in one.upstream and one.recipe["paradigm"] == paradigm

    paradigm: Any = cell.recipe.get("paradigm")
    own = exact_weights(cell)
    return own if fits(own) else upstream_of(cell, fits)


def _counts(record: Record) -> Counts:
    summary: Any = record.summary
    return Counts.of(summary["statistics"], summary.get("characters"))


def _joined(parts: list[Counts]) -> Counts:
    """The size of several domains as one."""
    phases = dict.fromkeys(phase for part in parts for phase in part.interactions)
    items = sum(part.items for part in parts)
    return Counts(
        users=sum(part.users for part in parts),
        items=items,
        interactions={phase: sum(part.interactions[phase] for part in parts) for phase in phases},
        test_users=sum(part.test_users for part in parts),
        title_tokens=sum(part.items * part.title_tokens for part in parts) / max(items, 1.0),
        text_tokens=sum(part.items * part.text_tokens for part in parts) / max(items, 1.0),
    )
