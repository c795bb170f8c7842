"""From items to vectors and codes in a grid: catalogues that grow, both quantisers, and every source of vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kits.small import make_sentence_model
from kits.tiny_grid import SPOKEN, Built, cells_of, named, planned, write_grid
from mmgrid.backbone.sentence_vectors import sentence_vectors
from mmgrid.backbone.text_embedder import TEXT_TOKENS
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.grid.file.load import GridError, load_grid
from mmgrid.paradigms.facts import facts
from mmgrid.runners import run_local
from mmgrid.semantic_ids.item_codes import ItemCodes, assign_codes
from mmgrid.semantic_ids.quantiser import load_codebook

pytestmark = pytest.mark.slow

DOMAINS = ("garden", "kitchen")
RQVAE = 'semantic_ids.quantiser={kind="rqvae", levels=3, codes=8, steps=30, hidden=[16], width=8, batch_size=32}'


@pytest.fixture
def coded(copied: Built) -> Built:
    """A grid with semantic IDs, with only the cells built that it shares with any grid of these domains."""
    write_grid(copied.file.parent, SPOKEN)
    return copied


def _build(coded: Built, names: list[str], *settings: str) -> dict[str, Path]:
    """Build these cells, and what they need, with these settings; returns the folders of all of them."""
    grid = load_grid(coded.file, [*settings, "studies=[]"])
    cells = with_upstream([named(cells_of(grid), name) for name in names])
    outcome = run_local(cells, grid, coded.store, jobs=1)
    assert outcome.complete, outcome
    return {cell.name: coded.store.folder(cell.address) for cell in cells}


@pytest.mark.parametrize("codebook", ["domain", "shared"])
def test_in_an_open_catalogue_new_items_get_codes_and_old_codes_stay(coded: Built, codebook: str) -> None:
    """Codes of a catalogue that ended with pre-training are those of the whole one, and a model is trained on both."""
    last = "evaluation/semid/garden/phase2"
    folders = _build(coded, [last], 'data.catalogue="open"', f'semantic_ids.codebook="{codebook}"')
    folder = folders["codes/garden"]
    codes = ItemCodes.load(folder)
    vectors = np.load(next(path for name, path in folders.items() if name.startswith("vectors/garden")) / "vectors.npy")
    items = pl.read_parquet(folders["corpus/garden"] / "items.parquet").sort("item_id")["item_id"].to_list()
    seen = (
        pl.read_parquet(folders["corpus/garden"] / "interactions.parquet")
        .group_by("item_id")
        .agg(pl.col("timestamp").min())
    )
    first_seen = dict(seen.iter_rows())
    calendar = coded.grid.spec.phases.calendar()
    known = {
        phase: np.array([first_seen[item] < calendar.phase(phase).end for item in items])
        for phase in ("pretrain", "phase2")
    }
    assert known["pretrain"].sum() < known["phase2"].sum() < len(items)
    assert codes.has_code().tolist() == known["phase2"].tolist()
    old = np.flatnonzero(known["pretrain"])
    alone, _ = assign_codes(load_codebook(folder), vectors, [old])
    assert (alone.codes[old] == codes.codes[old]).all()
    for phase in ("pretrain", "phase1", "phase2"):
        assert (ItemCodes.load(folders[f"checkpoint/semid/garden/{phase}"]).codes == codes.codes).all()
    ranks = pl.read_parquet(folders[last] / "ranks.parquet")
    known_targets = known["phase2"][ranks["target"].to_numpy()]
    assert (~known_targets).any()
    assert (ranks["rank"].to_numpy()[~known_targets] == -1).all()


def test_codes_of_an_rqvae(coded: Built) -> None:
    folders = _build(coded, ["evaluation/semid/garden/pretrain"], RQVAE)
    codes = ItemCodes.load(folders["codes/garden"])
    assert codes.has_code().all()
    assert codes.codes.shape[1] == 3
    assert codes.codes_per_level == 8
    assert load_codebook(folders["codes/garden"]).levels == 3
    assert (ItemCodes.load(folders["checkpoint/semid/garden/pretrain"]).codes == codes.codes).all()


def test_an_embedding_model_makes_codes_and_grounds_titles(coded: Built, tmp_path: Path) -> None:
    model = make_sentence_model(tmp_path)
    asked = ["codes/garden", "evaluation/text/garden/pretrain"]
    settings = f'item_vectors={{source="sentence-transformers", path="{model}", prompt="item: ", batch_size=7}}'
    theirs = _build(coded, asked, settings)
    ours = _build(coded, asked)
    for name in asked:
        assert theirs[name] != ours[name], name
    (found,) = (path for name, path in theirs.items() if name.startswith("vectors/garden/sentence"))
    vectors = np.load(found / "vectors.npy")
    items = pl.read_parquet(theirs["corpus/garden"] / "items.parquet")
    texts = [f"{title} {text}".strip() for title, text in zip(items["title"], items["description"], strict=True)]
    expected = sentence_vectors(model, texts, most_tokens=TEXT_TOKENS, prompt="item: ")
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    declared = facts(theirs["checkpoint/text/garden/pretrain"])["evaluation"]["embedder"]
    assert (declared["prompt"], declared["batch_size"], "dtype" in declared) == ("item: ", 7, False)
    codes = [ItemCodes.load(built["codes/garden"]).codes for built in (ours, theirs)]
    assert (codes[0] != codes[1]).any()
    ranks = [
        pl.read_parquet(built["evaluation/text/garden/pretrain"] / "ranks.parquet")["rank"] for built in (ours, theirs)
    ]
    assert (ranks[0] != ranks[1]).any()


def test_how_an_embedding_model_reads_is_part_of_its_vectors_only_if_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    def recipe(more: str) -> Mapping[str, Any]:
        settings = f'item_vectors={{source="sentence-transformers", path="{tmp_path / "model"}"{more}}}'
        (found,) = (
            cell for cell in planned(tmp_path, settings, text=SPOKEN) if cell.name.startswith("vectors/garden/s")
        )
        return found.recipe

    plain = recipe("")
    assert not {"dtype", "prompt", "batch_size"} & plain.keys()
    assert recipe(', dtype="float32", batch_size=32') == plain
    assert recipe(', dtype="bfloat16"') == {**plain, "dtype": "bfloat16"}
    with pytest.raises(GridError, match='prompt: is for source = "sentence-transformers"; remove this key'):
        planned(tmp_path, 'item_vectors={source="backbone", prompt="item: "}', text=SPOKEN)


def test_a_shared_codebook_is_fitted_on_all_domains(tmp_path: Path) -> None:
    own, shared = (
        named(planned(tmp_path, f'semantic_ids.codebook="{kind}"', text=SPOKEN), "codes/garden")
        for kind in ("domain", "shared")
    )
    assert set(own.upstream) == {"corpus", "vectors"}
    assert {"vectors:garden", "vectors:kitchen"} <= set(shared.upstream)


def test_vectors_of_a_table_are_matched_by_item(coded: Built, tmp_path: Path) -> None:
    for domain in DOMAINS:
        ids = pl.read_parquet(coded.folder(f"corpus/{domain}") / "items.parquet")["item_id"]
        vectors = np.random.default_rng(0).normal(size=(len(ids), 5)).astype(np.float32)
        table = pl.DataFrame({"item_id": ids, "vector": vectors}).sample(fraction=1, shuffle=True, seed=0)
        (tmp_path / "tables").mkdir(exist_ok=True)
        table.write_parquet(tmp_path / "tables" / f"{domain}.parquet")
    grid = load_grid(coded.file, ['item_vectors={source="table", path="tables"}', "studies=[]"])
    cells = cells_of(grid)
    cell = named(cells, "vectors/garden/table")
    outcome = run_local([named(cells, "corpus/garden"), cell], grid, coded.store, jobs=1)
    assert outcome.complete, outcome
    read = np.load(coded.store.folder(cell.address) / "vectors.npy")
    ids = pl.read_parquet(coded.folder("corpus/garden") / "items.parquet")["item_id"]
    given = pl.read_parquet(tmp_path / "tables" / "garden.parquet")
    assert dict(zip(ids, read.tolist(), strict=True)) == dict(
        zip(given["item_id"], given["vector"].to_list(), strict=True)
    )


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"item_vectors: no file .*garden\.parquet"):
        planned(tmp_path, 'item_vectors={source="table", path="nowhere"}', text=SPOKEN)
