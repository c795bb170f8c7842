"""Recommends with a checkpoint to users given by item ids, and evaluates it by the protocol of its grid.

Grids, the command line and Python use the same functions, so that their figures agree.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from mmgrid.backbone.device import autocast, check_precision, device
from mmgrid.backbone.text_embedder import TextEmbedder
from mmgrid.data import Calendar, Corpus, Histories, Known, format_time, held_out, known_now
from mmgrid.data.held_out import HeldOut, Target
from mmgrid.evaluation import result_rows
from mmgrid.files import on_hub
from mmgrid.merging.models.family.member import open_member
from mmgrid.merging.models.family.place import family_of
from mmgrid.merging.models.hub import downloaded
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.contract import Paradigm
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError, CheckpointFacts, source_folders
from mmgrid.paradigms.facts import facts as declared_by
from mmgrid.paradigms.registry import PARADIGMS
from mmgrid.paradigms.shared.item_texts import item_texts
from mmgrid.store.lineage import ancestor

_LOG = logging.getLogger(__name__)
Domain = Corpus | Path | str


@dataclass(frozen=True)
class Recommendation:
    """One recommended item; a higher score is better."""

    item_id: str
    title: str
    score: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The ranks of an evaluation, and the metrics computed from them.

    Attributes:
        rows: `RESULTS_SCHEMA`, percent with intervals, for every group and metric.
        ranks: user_id, target, active, rank; one row per evaluated user.
        sampled_from: the number of users with a held-out interaction; `ranks` has all of them, or a sample.
    """

    rows: pl.DataFrame
    ranks: pl.DataFrame
    sampled_from: int


@dataclass(frozen=True, eq=False)
class Ready:
    """A loaded model, its paradigm, prepared for a domain, and what is known of the domain."""

    known: Known
    paradigm: Paradigm
    model: nn.Module


class Recommender:
    """A checkpoint of any paradigm, a merge of several, or a domain of a family, ready to recommend."""

    def __init__(
        self,
        folder: str | Path,
        *,
        domain: str | None = None,
        paradigm: str | None = None,
        values: Mapping[str, Any] | None = None,
        embedder: TextEmbedder | None = None,
        facts: CheckpointFacts | None = None,
    ):
        """Reads only `mmgrid.json`; the model is loaded when it is needed.

        Args:
            folder: of the checkpoint or family; or its name on the Hub, `ORG/NAME[@REVISION]`.
            domain: of a family of several domains: the one whose checkpoint is put together, in memory.
            paradigm: use the folder's model in this paradigm; needed only for `pooled`.
            values: of the recipe's `EVALUATION`, instead of those that the checkpoint declares.
            embedder: embeds titles if the paradigm needs that; default: the backbone or embedding model of the
                checkpoint's grid.
            facts: replace the facts of `mmgrid.json`.

        Raises:
            CheckpointError: there is no such folder, or a domain is named and it is no family.
            HubError: the Hub has no such model.
            MergeError: the family has no such domain, or several and none is named.
        """
        name = on_hub(Path(folder))
        self.folder = Path(folder) if name is None else downloaded(name)
        if not self.folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder")
        near = self.folder
        if family_of(self.folder) is not None:
            member = open_member(self.folder, domain)
            weakref.finalize(self, member.close)
            self.folder = member.checkpoint()
        elif domain is not None:
            raise CheckpointError(f"{folder}: is one checkpoint and no family, so it has no domain to choose")
        self._called = folder
        self.facts = facts or CheckpointFacts.read(self.folder)
        self._paradigm = paradigm
        self._values = {**self.facts.evaluation.get("values", {}), **(values or {})}
        self.embedder = embedder or _embedder_of(self.folder, self.facts, near)
        self._loaded: tuple[str | None, Paradigm, nn.Module] | None = None

    def recommend(
        self, histories: Sequence[Sequence[str]], domain: Domain, k: int = 10, *, part: str | None = None
    ) -> list[list[Recommendation]]:
        """The k best items outside each history, over the domain's whole catalogue.

        Args:
            histories: item ids of each user, oldest first.
            domain: the prepared domain, or its folder. All of its interactions count for catalogue and popularity.
            k: items per user, if there are as many.
            part: which domain's part to use, if a merge keeps parts of several domains; default: the domain's name.

        Raises:
            ValueError: an id is not in the catalogue, or a history is empty.
            CheckpointError: the checkpoint cannot recommend in this domain.
        """
        ready = self.ready(domain, part=part)
        known, paradigm, model = ready.known, ready.paradigm, ready.model
        users = _histories(histories, known)
        with ranking(paradigm, model):
            best, scores = paradigm.recommend(model, users, known.items, k)
        ids, titles = known.items.ids, known.items.titles
        return [
            [
                Recommendation(str(ids[row]), titles[int(row)], float(score))
                for row, score in zip(own, own_scores, strict=True)
                if row >= 0
            ]
            for own, own_scores in zip(best.tolist(), scores.tolist(), strict=True)
        ]

    def ready(self, domain: Domain, *, part: str | None = None) -> Ready:
        """The loaded model, ready for recommendations after all interactions of the domain. Arguments as `recommend`.

        Raises CheckpointError if the checkpoint cannot recommend in this domain.
        """
        corpus = _corpus(domain)
        known = known_now(corpus, self.facts.catalogue or "closed")  # type: ignore[arg-type]
        return Ready(known, *self._prepared(known, part or corpus.name, part))

    def evaluate(
        self,
        domain: Domain,
        *,
        calendar: Calendar | None = None,
        target: Target | None = None,
        max_users: int | None = None,
        all_users: bool = False,
        sample_seed: int | None = None,
        seed: int | None = None,
        part: str | None = None,
    ) -> Evaluation:
        """Rank every held-out target over the whole catalogue. The defaults are the protocol of the checkpoint's grid.

        Args:
            domain: the prepared domain, or its folder.
            calendar: of the phases.
            target: the phase of the held-out interactions, `test` or `phase2`.
            max_users: evaluate a sample of at most this many users.
            all_users: evaluate all users, even if the grid takes a sample.
            sample_seed: of the sample.
            seed: of the intervals' resamples.
            part: see `recommend`.

        Raises:
            ValueError: no calendar is known, or the checkpoint was trained on the phase of the targets.
            NoTestUsersError: no user has a held-out interaction.
        """
        calendar = calendar or self.facts.calendar
        protocol = self.facts.evaluation
        if calendar is None:
            raise ValueError(f"{self._called}: {FACTS_FILE} declares no phases; name a grid file that does (--grid)")
        target = target or protocol.get("target") or "test"
        assert target is not None
        self._check_unseen(calendar, target)
        max_users = None if all_users else protocol.get("max_users") if max_users is None else max_users
        sample_seed = sample_seed if sample_seed is not None else protocol.get("sample_seed") or 0
        assert sample_seed is not None
        seed = seed if seed is not None else self.facts.seed or 0
        source = domain if isinstance(domain, Corpus) else Path(domain)
        catalogue: Any = self.facts.catalogue or "closed"
        known = held_out(source, calendar, target, catalogue=catalogue, max_users=max_users, seed=sample_seed)
        name = known.corpus.name
        paradigm, model = self._prepared(known, part or name, part, seed)
        ranks = ranks_of(paradigm, model, known)
        rows = result_rows(
            ranks,
            known.users.active,
            paradigm=paradigm.name,
            domain=name,
            model=self.facts.phase or Path(self._called).name,
            seed=seed,
        )
        return Evaluation(rows, known.users.ranks_table(ranks), len(known.everyone))

    def prepared(self, known: Known, *, seed: int | None = None) -> tuple[Paradigm, nn.Module]:
        """The paradigm and the loaded model, ready to recommend in a domain of which this is known.

        Raises:
            CheckpointError: the checkpoint cannot recommend in this domain.
        """
        return self._prepared(known, known.corpus.name, None, seed)

    def _prepared(
        self, known: Known, name: str, part: str | None, seed: int | None = None
    ) -> tuple[Paradigm, nn.Module]:
        """The paradigm and the model for a domain, prepared with what is known."""
        if self.facts.threads and device() == "cpu":
            torch.set_num_threads(self.facts.threads)  # bits differ between one thread and two
        wanted = part or (name if self._keeps_domains_apart else None)
        if self._loaded is None or self._loaded[0] != wanted:
            paradigm, model = load_checkpoint(self.folder, self._paradigm, self._values, wanted)
            self._loaded = wanted, paradigm, model.to(device())
        _, paradigm, model = self._loaded
        needs = {} if paradigm.own_embedder else evaluation_needs(paradigm.name, known, self.embedder)
        if PARADIGMS[paradigm.name].evaluation_needs and not needs and not paradigm.own_embedder:
            _LOG.warning(
                "%s: the backbone of its grid is not found, so the checkpoint embeds titles itself; "
                "figures may differ from the grid's. Name the backbone's folder as the embedder",
                self._called,
            )
        paradigm.prepare(known, needs, self.facts.seed or 0 if seed is None else seed)
        return paradigm, model

    @property
    def _keeps_domains_apart(self) -> bool:
        rows = (
            declared_by(self.folder).get("blocks", {}).get("rows", []) if (self.folder / FACTS_FILE).is_file() else []
        )
        return sum(bool(row.get("domain")) for row in rows) > 1

    def _check_unseen(self, calendar: Calendar, target: Target) -> None:
        """Raise ValueError if the checkpoint was trained beyond the start of the target phase."""
        phase, end = calendar.phase(target), self.facts.trained_until
        if end is not None and end > phase.start:
            instead = "evaluate it with --target test" if target == "phase2" else "name another grid file (--grid)"
            raise ValueError(
                f"{self._called}: was trained on interactions up to {format_time(end)}, and {phase} begins before that: "
                f"it would be evaluated on its training data. Use a checkpoint that was trained up to "
                f"{format_time(phase.start)} at most, or {instead}"
            )


def ranks_of(paradigm: Paradigm, model: nn.Module, known: HeldOut) -> np.ndarray:
    """int64 [users]: the rank of each held-out target; `paradigm` must be prepared with `known`."""
    with ranking(paradigm, model):
        return paradigm.rank(model, known.users.histories, known.items, known.users.targets)


def ranking(paradigm: Paradigm, model: nn.Module) -> AbstractContextManager[Any]:
    """Within it, the model computes in the `evaluation_precision` of the paradigm's recipe.

    Raises:
        DeviceError: the device has not this precision.
    """
    precision = getattr(paradigm.recipe, "evaluation_precision", "float32")
    check_precision(precision)
    return autocast(next(model.parameters()).device.type, precision)


def evaluation_needs(paradigm: str, known: Known, embedder: TextEmbedder | None) -> dict[str, Any]:
    """The `evaluation_needs` of a paradigm for a catalogue; empty without an embedder."""
    found: dict[str, Any] = {}
    for need in PARADIGMS[paradigm].evaluation_needs if embedder else ():
        assert embedder is not None
        if need == "embedder":
            found[need] = embedder
        elif need in ("title_vectors", "item_vectors"):
            found[need] = embedder(item_texts(known.items, with_descriptions=need == "item_vectors"))
    return found


def _embedder_of(folder: Path, about: CheckpointFacts, near: Path) -> TextEmbedder | None:
    """The embedder of a checkpoint's grid: the one that it declares, else the backbone that it was built from.

    near: where the checkpoint lies, which is another folder for a domain of a family.
    """
    if declared := about.evaluation.get("embedder"):
        asked: dict[str, Any] = {name: declared[name] for name in ("dtype", "prompt", "batch_size") if name in declared}
        return TextEmbedder(declared["model"], declared["source"], declared.get("revision"), **asked)
    sources = source_folders(declared_by(folder), folder) if (folder / FACTS_FILE).is_file() else {}
    for place in (near, *sources.values()):
        if backbone := ancestor(place, "backbone"):
            return TextEmbedder(backbone)
    return None


def _corpus(domain: Domain) -> Corpus:
    return domain if isinstance(domain, Corpus) else Corpus.load(Path(domain))


def _histories(histories: Sequence[Sequence[str]], known: Known) -> Histories:
    row_of = {item: row for row, item in enumerate(known.items.ids.tolist())}
    unknown = list(dict.fromkeys(item for history in histories for item in history if item not in row_of))
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown[:3]))}: not among the items of {known.corpus.name}")
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories], dtype=np.int64)])
    items = np.array([row_of[item] for history in histories for item in history], np.int32)
    times = np.arange(len(items), dtype=np.int64)
    return Histories(np.arange(len(histories)), offsets, items, times, len(items) + 1)
