"""Files outside the store that change during a run: what was made of them is not published as made of the old ones."""

from pathlib import Path

import pytest

from kits.tiny_grid import Built, cells_of, named, write_raw_grid
from mmgrid.grid.builders import build_cell
from mmgrid.grid.builders.outside import check_outside
from mmgrid.grid.cells.sources import Sources
from mmgrid.grid.file.load import GridError, load_grid
from mmgrid.store import Store


def test_a_corpus_of_raw_files_that_have_changed_is_not_published(tmp_path: Path) -> None:
    grid = load_grid(write_raw_grid(tmp_path))
    cells = cells_of(grid)
    (tmp_path / "raw" / "kitchen.csv.gz").write_bytes((tmp_path / "raw" / "garden.csv.gz").read_bytes())
    (tmp_path / "raw" / "meta_kitchen.jsonl.gz").write_bytes((tmp_path / "raw" / "meta_garden.jsonl.gz").read_bytes())
    store, kitchen = Store(tmp_path / "runs"), named(cells, "corpus/kitchen")
    with pytest.raises(GridError, match=r"^kitchen\.csv\.gz: changed since this run began"):
        build_cell(kitchen, grid, store)
    assert not store.has(kitchen.address)
    assert build_cell(named(cells, "corpus/garden"), grid, store) == "built"  # its files are as they were
    now = named(cells_of(grid), "corpus/kitchen")
    assert now.fingerprint != kitchen.fingerprint
    assert build_cell(now, grid, store) == "built"


def test_a_backbone_and_vectors_in_files_that_have_changed_are_not_published(built: Built, tmp_path: Path) -> None:
    model, tables = tmp_path / "model", tmp_path / "tables"
    for folder in (model, tables):
        folder.mkdir()
    (model / "config.json").write_text("{}")
    (tables / "garden.parquet").write_bytes(b"old")
    settings = (
        f'backbone={{kind="pretrained", path="{model}"}}',
        f'item_vectors={{source="table", path="{tables}"}}',
    )
    grid = load_grid(built.file, settings)
    digests = {file: file.name for file in (model / "config.json", tables / "garden.parquet")}

    def digest(file: Path) -> str:
        return digests.get(file, "")

    sources = Sources(grid, digest, 0)
    assert sources.backbone is not None
    for cell in (sources.backbone, sources.item_vectors("garden", "items")):
        check_outside(cell, grid, digest)
        with pytest.raises(GridError, match="changed since this run began"):
            check_outside(cell, grid, lambda file: digest(file) + " of another file")
