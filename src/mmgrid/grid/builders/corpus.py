"""`corpus/<domain>`: raw reviews, prepared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.data import READERS, RawDomain, interactions_by_month, prepare, statistics, test_set
from mmgrid.data.synthetic import write_world
from mmgrid.grid.builders.job import Job

RAW_FOLDER = "raw"  # the synthetic world's raw files stay beside what was made of them


def build(job: Job) -> Mapping[str, Any]:
    recipe = job.recipe
    prepared = prepare(
        _raw(job),
        job.calendar,
        min_interactions=recipe["min_interactions"],
        max_users=recipe["max_users"],
        seed=recipe.get("seed", 0),
        compat=recipe["compat"],
    )
    # A domain without test users is found out now, not after its models have been trained.
    test_set(prepared.corpus, job.calendar, job.grid.spec.evaluation.target)
    prepared.corpus.save(job.folder)
    interactions_by_month(prepared.corpus).write_parquet(job.folder / "months.parquet")
    return prepared.summary() | {"statistics": statistics(prepared.corpus, job.calendar).as_dict()}


def _raw(job: Job) -> RawDomain:
    data, domain = job.grid.spec.data, job.recipe["domain"]
    if data.format != "synthetic":
        return READERS[data.format].read(job.grid.path(str(data.root)), domain)
    folder: Path = job.folder / RAW_FOLDER
    folder.mkdir()
    write_world(job.grid.spec.world, domain, folder)
    return READERS["amazon2023"].read(folder, domain)
