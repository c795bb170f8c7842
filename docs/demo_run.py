"""What README says about a run of the demo: records a run, and writes the record into README.

    python docs/demo_run.py record [STORE]  # from a built store to docs/demo_run.json
    python docs/demo_run.py write           # from docs/demo_run.json into README.md

The record holds the fingerprints of the cells that it was read from, so a test can tell, without running the demo,
whether a run of today's demo would give it (tests/pages/test_readme.py).
"""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl

import mmgrid

ROOT = Path(__file__).parents[1]
GRID = ROOT / "grids/demo.toml"
RECORD = ROOT / "docs/demo_run.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- demo -->\n", "<!-- /demo -->\n"
METRIC = "ndcg@20"  # that of the temporal study, whose best λ stands in the same table
STUDIES = ("study/temporal/semb", "study/cross_domain/semb")


def fingerprints() -> dict[str, str]:
    """Of the cells that README's figures come from, as the grid file defines them now."""
    from mmgrid.files import sha256_file
    from mmgrid.grid.cells.expand import expand
    from mmgrid.grid.file.load import load_grid

    return {cell.name: cell.fingerprint for cell in expand(load_grid(GRID), sha256_file) if cell.name in STUDIES}


def record(store: str | None = None) -> dict[str, Any]:
    """The figures of a built demo: per domain the best λ, and what merging costs, for semb."""
    best = mmgrid.results(GRID, "temporal", store=store)["best"]
    merges = mmgrid.results(GRID, "cross_domain", store=store)["merges"]
    semb = pl.col("paradigm") == "semb"
    lambdas = best.filter(semb, group="all").select(
        "domain", "best", "best_low", "best_high", "value_at_one", "n_users"
    )
    costs = merges.filter(semb, group="all", way="weight", metric=METRIC)
    costs = costs.select("domain", "partner", "change", "low", "high")
    return {"cells": fingerprints(), "temporal": _rounded(lambdas), "merges": _rounded(costs)}


def _rounded(table: pl.DataFrame) -> list[dict[str, Any]]:
    return table.with_columns(pl.col(pl.Float32, pl.Float64).cast(pl.Float64).round(3)).to_dicts()


def text_of(found: dict[str, Any]) -> str:
    """README's table of a record."""
    domains = [row["domain"] for row in found["temporal"]]
    costs = {(row["domain"], row["partner"]): row for row in found["merges"]}
    lines = [
        f"| | NDCG@20 | best λ | {' | '.join(f'merged with `{partner}`' for partner in domains)} |",
        "|---|--:|--:|" + "--:|" * len(domains),
    ]
    for row in found["temporal"]:
        cells = [
            f"`{row['domain']}`",
            f"{row['value_at_one']:.1f}",
            f"{row['best']:.2f} [{row['best_low']:.2f}, {row['best_high']:.2f}]",
        ]
        for partner in domains:
            cost = costs.get((row["domain"], partner))
            cells.append(f"{cost['change']:+.0f} % [{cost['low']:+.0f}, {cost['high']:+.0f}]" if cost else "")
        lines.append(f"| {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines) + "\n"


def written(readme: str, found: dict[str, Any]) -> str:
    """README with the table of the record between its two marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + text_of(found) + END + rest.split(END)[1]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", *store]:
            RECORD.write_text(json.dumps(record(*store), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        case ["write"]:
            found = json.loads(RECORD.read_text(encoding="utf-8"))
            README.write_text(written(README.read_text(encoding="utf-8"), found), encoding="utf-8")
        case _:
            sys.exit(__doc__)
