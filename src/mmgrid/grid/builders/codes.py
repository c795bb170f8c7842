"""`codes/<domain>`: the semantic IDs of a domain's items."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.data import Calendar, Corpus
from mmgrid.grid.builders.vectors import load_vectors
from mmgrid.grid.file.load import GridError
from mmgrid.seeds import derive
from mmgrid.semantic_ids import item_codes
from mmgrid.semantic_ids.quantiser import fit_codebook
from mmgrid.semantic_ids.recipes import QuantiserRecipe

REPORT_FILE = "codes_report.json"
GROWS_AT = ("pretrain", "phase1", "phase2")  # phases at whose end an open catalogue grows


@dataclass(frozen=True)
class DomainVectors:
    """The folder of a domain's item vectors, and of its corpus if the catalogue is open."""

    vectors: Path
    corpus: Path | None

    def read(self, calendar: Calendar) -> tuple[np.ndarray, list[np.ndarray]]:
        """The vectors, and the item rows grouped by their first phase; one group for a closed catalogue."""
        vectors = load_vectors(self.vectors)
        if self.corpus is None:
            return vectors, [np.arange(len(vectors))]
        return vectors, _by_phase(self.corpus, calendar)


def assign_codes(
    own: DomainVectors,
    shared_by: Mapping[str, DomainVectors],
    quantiser: QuantiserRecipe,
    folder: Path,
    *,
    calendar: Calendar,
    domain: str,
    seed: int,
    where: str,
) -> Mapping[str, Any]:
    """Fit a codebook, give each item its code, and write both.

    Args:
        shared_by: the domains on which a shared codebook is fitted; empty for a codebook of this domain only.
        where: the grid file, for errors.
    """
    vectors, groups = own.read(calendar)
    if shared_by:
        known = {name: one.read(calendar) for name, one in shared_by.items()}
        widths = {name: theirs.shape[1] for name, (theirs, _) in known.items()}
        if len(set(widths.values())) > 1:
            raise GridError(
                f"{where}: semantic_ids.codebook = 'shared': the domains' vectors have different widths, {widths}; "
                "use vectors of the same model, or codebook = 'domain'"
            )
        fitted = np.concatenate([theirs[rows[0]] for theirs, rows in known.values()])
        seed = derive(seed, "codes", "shared")
    else:
        fitted, seed = vectors[groups[0]], derive(seed, "codes", domain)
    codebook = fit_codebook(fitted, quantiser, seed)
    codes, report = item_codes.assign_codes(codebook, vectors, groups)
    codebook.save(folder)
    codes.save(folder)
    (folder / REPORT_FILE).write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    return {"items": len(vectors), "work": len(fitted), **report.as_json()}


def _by_phase(folder: Path, calendar: Calendar) -> list[np.ndarray]:
    """Item rows, grouped by the phase at whose end they are known for the first time."""
    corpus = Corpus.load(folder, until=calendar.t2)
    known: np.ndarray = np.empty(0, np.int64)
    groups = []
    for phase in GROWS_AT:
        seen = np.unique(corpus.items[corpus.timestamps < calendar.phase(phase).end])
        groups.append(np.setdiff1d(seen, known).astype(np.int64))
        known = seen
    return groups
