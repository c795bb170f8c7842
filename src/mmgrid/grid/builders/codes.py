"""`codes/<domain>`: the semantic IDs of a domain's items."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.data import Corpus
from mmgrid.grid.builders.job import Job
from mmgrid.grid.builders.vectors import VECTORS_FILE
from mmgrid.grid.file.load import GridError
from mmgrid.seeds import derive
from mmgrid.semantic_ids.item_codes import assign_codes
from mmgrid.semantic_ids.quantiser import fit_codebook

REPORT_FILE = "codes_report.json"
KNOWN_BY = ("pretrain", "phase1", "phase2")  # phases at whose end an open catalogue grows


def build(job: Job) -> Mapping[str, Any]:
    vectors, groups = _items(job, "")
    others = sorted(job.roles("vectors"))
    if others:  # one codebook for all domains together
        known = [_items(job, f":{domain}") for domain in others]
        widths = {domain: theirs.shape[1] for domain, (theirs, _) in zip(others, known, strict=True)}
        if len(set(widths.values())) > 1:
            raise GridError(
                f"{job.grid.file}: semantic_ids.codebook = 'shared': the domains' vectors have different widths, {widths}; "
                "take tables of one model, or a codebook for each domain"
            )
        fitted = np.concatenate([theirs[rows[0]] for theirs, rows in known])
        seed = derive(job.recipe["seed"], "codes", "shared")
    else:
        fitted, seed = vectors[groups[0]], derive(job.recipe["seed"], "codes", job.recipe["domain"])
    codebook = fit_codebook(fitted, job.grid.spec.semantic_ids.quantiser, seed)
    codes, report = assign_codes(codebook, vectors, groups)
    codebook.save(job.folder)
    codes.save(job.folder)
    (job.folder / REPORT_FILE).write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return {"items": len(vectors), "work": len(fitted), **report.as_json()}


def _items(job: Job, role: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """A domain's item vectors, and its items in the groups in which they appeared; all at once if it is closed."""
    vectors = np.load(job.upstream(f"vectors{role}") / VECTORS_FILE)
    if job.recipe["catalogue"] == "closed":
        return vectors, [np.arange(len(vectors))]
    return vectors, _by_phase(job, job.upstream(f"corpus{role}"))


def _by_phase(job: Job, folder: Path) -> list[np.ndarray]:
    """Item rows by the phase at whose end they were first known."""
    calendar = job.calendar
    corpus = Corpus.load(folder, until=calendar.t2)
    known: np.ndarray = np.empty(0, np.int64)
    groups = []
    for phase in KNOWN_BY:
        seen = np.unique(corpus.items[corpus.timestamps < calendar.phase(phase).end])
        groups.append(np.setdiff1d(seen, known).astype(np.int64))
        known = seen
    return groups
