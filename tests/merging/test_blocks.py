"""Blocks of token rows: rows of two models are merged only if their blocks have the same name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmgrid.merging import Blocks, MergeError, TensorFolder, merge, merge_state_dicts
from mmgrid.merging.models.token_blocks import BlockTable, TokenBlock
from mmgrid.merging.plan.block_layout import lay_out, rows_of

EMBED, HEAD, OTHER = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.weight"
WIDTH = 6
BACKBONE = 10


def table(*blocks: tuple[str, int]) -> dict[str, Any]:
    """The JSON of consecutive blocks."""
    rows, end = [], 0
    for name, size in blocks:
        rows.append({"name": name, "start": end, "stop": end + size})
        end += size
    return {"tensors": [EMBED, HEAD], "rows": rows}


def write(folder: Path, seed: int, *blocks: tuple[str, int], named: bool = True, **facts: Any) -> dict[str, Tensor]:
    """A model whose token tables have these blocks."""
    draw = torch.Generator().manual_seed(seed)
    rows = sum(size for _, size in blocks)
    shapes = {EMBED: (rows, WIDTH), HEAD: (rows, WIDTH), OTHER: (5, 4)}
    tensors = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"vocab_size": rows, "model_type": "qwen3"}))
    if named:
        (folder / "mmgrid.json").write_text(json.dumps({"blocks": {**table(*blocks), **facts}}))
    return tensors


class Models:
    """A backbone, and two models with different codebooks after it; both have the token `<a_0>`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = write(root / "base", 0, ("backbone", BACKBONE), named=False)
        self.books = write(root / "books", 1, ("backbone", BACKBONE), ("books", 4))
        self.toys = write(root / "toys", 2, ("backbone", BACKBONE), ("toys", 3))

    def recipe(self, **changes: Any) -> dict[str, Any]:
        sources = [{"name": name, "path": str(self.root / name)} for name in ("books", "toys")]
        return {"method": "task_arithmetic", "base": str(self.root / "base"), "sources": sources, **changes}

    def merged(self, out: str = "out", **changes: Any) -> dict[str, Tensor]:
        merge(self.recipe(**changes), self.root / out)
        return load_file(self.root / out / "model.safetensors")

    def record(self, out: str = "out") -> dict[str, Any]:
        return json.loads((self.root / out / "mmgrid.json").read_text())


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path)


def test_backbone_rows_are_merged_and_codebook_rows_kept_or_appended(models: Models) -> None:
    merged = models.merged(scale=0.5)
    for name in (EMBED, HEAD):
        start = models.base[name]
        backbone = start + 0.5 * (models.books[name][:BACKBONE] - start + models.toys[name][:BACKBONE] - start)
        torch.testing.assert_close(merged[name][:BACKBONE], backbone)
        assert merged[name][BACKBONE : BACKBONE + 4].equal(models.books[name][BACKBONE:]), "unchanged"
        assert merged[name][BACKBONE + 4 :].equal(models.toys[name][BACKBONE:])
    record = models.record()
    assert record["blocks"] == {
        "tensors": [HEAD, EMBED],
        "rows": [
            {"name": "backbone", "start": 0, "stop": 10, "from": ["books", "toys"]},
            {"name": "books", "start": 10, "stop": 14, "from": ["books"]},
            {"name": "toys", "start": 14, "stop": 17, "from": ["toys"]},
        ],
    }
    assert json.loads((models.root / "out" / "config.json").read_text())["vocab_size"] == 17


def test_blocks_are_in_the_order_of_the_first_source(models: Models) -> None:
    recipe = models.recipe()
    merge({**recipe, "sources": recipe["sources"][::-1]}, models.root / "out")
    assert [row["name"] for row in models.record()["blocks"]["rows"]] == ["backbone", "toys", "books"]
    merged = load_file(models.root / "out" / "model.safetensors")[EMBED]
    assert merged[BACKBONE : BACKBONE + 3].equal(models.toys[EMBED][BACKBONE:])


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        ({"toys": "drop"}, ["backbone", "books"]),
        ({"books": "drop", "toys": "drop"}, ["backbone"]),
        ({"t*": "drop", "toys": "append"}, ["backbone", "books"]),
        ({"toys": "append", "t*": "drop"}, ["backbone", "books", "toys"]),
        ({"toys": "keep", "backbone": "keep"}, ["backbone", "books", "toys"]),
        ({"backbone": "drop"}, ["books", "toys"]),
    ],
)
def test_block_rules(models: Models, rules: dict[str, str], names: list[str]) -> None:
    merged = models.merged(blocks=rules)
    rows = models.record()["blocks"]["rows"]
    assert [row["name"] for row in rows] == names
    assert models.record()["blocks"]["tensors"] == [HEAD, EMBED]
    assert json.loads((models.root / "out" / "config.json").read_text())["vocab_size"] == len(merged[EMBED])
    for row in rows:
        found = merged[EMBED][row["start"] : row["stop"]]
        if row["name"] == "books":
            assert found.equal(models.books[EMBED][BACKBONE:])
        elif row["name"] == "toys":
            assert found.equal(models.toys[EMBED][BACKBONE:])
        elif rules.get("backbone") == "keep":
            assert found.equal(models.books[EMBED][:BACKBONE])
    again = models.root / "again"
    merge({"method": "linear", "sources": [{"name": "x", "path": str(models.root / "out")}]}, again)
    assert load_file(again / "model.safetensors")[EMBED].equal(merged[EMBED]), "the result can be merged again"


def test_equal_strings_of_different_codebooks_are_never_averaged(models: Models, tmp_path: Path) -> None:
    """Two codebooks of the same size have the same strings; without block names their rows would be averaged."""
    write(tmp_path / "games", 3, ("backbone", BACKBONE), ("games", 4))
    recipe = models.recipe()
    recipe["sources"][1] = {"name": "games", "path": str(tmp_path / "games")}
    with pytest.raises(MergeError, match=r"block 'games': cannot be merged, books lacks it; keep, append or drop it"):
        merge({**recipe, "blocks": {"games": "merge"}}, tmp_path / "out")
    merge(recipe, tmp_path / "out")
    games = load_file(tmp_path / "games" / "model.safetensors")[EMBED][BACKBONE:]
    merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    assert len(merged) == BACKBONE + 8
    assert merged[BACKBONE + 4 :].equal(games)
    assert not (merged[:, None] == ((games + models.books[EMBED][BACKBONE:]) / 2)).all(-1).any()


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_codebook_shared_by_two_models_can_be_merged(tmp_path: Path, method: str) -> None:
    """Both models have the block, at different rows. If the base lacks these rows, task vectors do not exist."""
    base = write(tmp_path / "base", 0, ("backbone", BACKBONE))
    one = write(tmp_path / "one", 1, ("backbone", BACKBONE), ("books", 4))
    two = write(tmp_path / "two", 2, ("books", 4), ("backbone", BACKBONE))
    recipe: dict[str, Any] = {
        "method": method,
        "sources": [{"name": name, "path": str(tmp_path / name), "weight": 0.5} for name in ("one", "two")],
        "blocks": {"books": "merge"},
    }
    if method == "task_arithmetic":
        recipe["base"] = str(tmp_path / "base")
        with pytest.raises(MergeError, match=r"the base lacks rows that are to be merged; keep, append or drop"):
            merge(recipe, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        merge({**recipe, "blocks": {}}, tmp_path / "out")
        merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
        expected = base[EMBED] + 0.5 * (one[EMBED][:BACKBONE] - base[EMBED] + two[EMBED][4:] - base[EMBED])
        torch.testing.assert_close(merged[:BACKBONE], expected)
        assert merged[BACKBONE:].equal(one[EMBED][BACKBONE:])
        return
    merge(recipe, tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    torch.testing.assert_close(merged[:BACKBONE], (one[EMBED][:BACKBONE] + two[EMBED][4:]) / 2)
    torch.testing.assert_close(merged[BACKBONE:], (one[EMBED][BACKBONE:] + two[EMBED][:4]) / 2)


def test_a_base_may_have_the_block_at_other_rows(tmp_path: Path) -> None:
    base = write(tmp_path / "base", 0, ("books", 4), ("toys", 2), ("backbone", BACKBONE))
    one = write(tmp_path / "one", 1, ("backbone", BACKBONE), ("books", 4))
    recipe = {
        "method": "task_arithmetic",
        "base": str(tmp_path / "base"),
        "sources": [{"name": "one", "path": str(tmp_path / "one")}],
        "scale": 0.25,
        "blocks": {"books": "merge"},
    }
    merge(recipe, tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    start = torch.cat([base[EMBED][6:], base[EMBED][:4]])
    torch.testing.assert_close(merged, start + 0.25 * (one[EMBED] - start))


def test_appended_rows_do_not_affect_a_trim(models: Models, tmp_path: Path) -> None:
    """One threshold covers all merged elements; large rows of a codebook must not raise it."""
    tensors = load_file(tmp_path / "toys" / "model.safetensors")
    for name in (EMBED, HEAD):
        tensors[name][BACKBONE:] *= 1000
    save_file(tensors, tmp_path / "toys" / "model.safetensors")
    merged = models.merged(method="ties", options={"density": 0.5, "normalise": False})
    start = models.base
    kept = {name: merged[name][: len(start[name])] != start[name] for name in start}
    n = sum(tensor.numel() for tensor in start.values())
    for source in (models.books, tensors):
        sizes = np.sort(np.concatenate([(source[k][: len(start[k])] - start[k]).abs().ravel() for k in start]))
        threshold = sizes[n - n // 2]
        for name, moved in kept.items():
            large = (source[name][: len(start[name])] - start[name]).abs() >= threshold
            assert moved[large].float().mean() > 0.8, "kept, except for elements that lost the vote"
    shares = models.record()["report"]["kept_share"]
    counted = {source: shares[source]["model"] for source in ("books", "toys")}
    sizes = {"0": 20, "outside": 2 * BACKBONE * WIDTH}
    for source in counted:
        assert sum(counted[source][layer] * size for layer, size in sizes.items()) == pytest.approx(n // 2)


@pytest.mark.parametrize("workers", [1, 5])
def test_row_and_tensor_methods_see_only_merged_rows(models: Models, workers: int) -> None:
    for number, method in enumerate(("della", "dare", "model_stock", "breadcrumbs")):
        recipe = models.recipe(method=method)
        merge(recipe, models.root / f"out{number}", workers=workers)
        merged = load_file(models.root / f"out{number}" / "model.safetensors")
        assert merged[EMBED][BACKBONE:].equal(
            torch.cat([models.books[EMBED][BACKBONE:], models.toys[EMBED][BACKBONE:]])
        )


def test_different_shapes_without_blocks_get_a_hint(models: Models) -> None:
    for name in ("books", "toys"):
        (models.root / name / "mmgrid.json").unlink()
    with pytest.raises(
        MergeError, match=r"lm_head\.weight: shapes differ: .*if these are token rows, choose one vocabulary"
    ):
        models.merged()
    with pytest.raises(
        MergeError, match=r"blocks: no source declares any; a model declares its blocks in mmgrid\.json"
    ):
        models.merged(blocks={"toys": "drop"})


# ---- wrong blocks


@pytest.mark.parametrize(
    ("name", "facts", "says"),
    [
        ("toys", {"rows": table(("backbone", 10), ("toys", 4))["rows"]}, r"toys.*14 rows.*has 13"),
        ("toys", {"rows": table(("backbone", 10))["rows"]}, r"toys.*10 rows.*has 13"),
        ("toys", {"tensors": ["nowhere"]}, r"toys.*nowhere"),
        ("toys", {"tensors": [EMBED]}, r"toys.*embed_tokens.*lm_head"),
        ("toys", {"tensors": []}, r"blocks need .*tensors"),
        (
            "toys",
            {"rows": table(("backbone", 11), ("toys", 2))["rows"]},
            r"'backbone': has 10 and 11 rows in different",
        ),
        ("base", {"rows": table(("backbone", 9), ("x", 1))["rows"]}, r"'backbone': has 9 rows in the base.*10"),
        ("base", {"rows": table(("backbone", 11))["rows"]}, r"base.*11 rows.*has 10"),
    ],
)
def test_blocks_that_contradict_the_weights_are_refused(
    models: Models, name: str, facts: dict[str, Any], says: str
) -> None:
    """Recorded rows are checked against the tensors; a wrong number would read the bytes of other rows."""
    given_facts = {**table(("backbone", 10), ("toys", 3)), **facts}
    (models.root / name / "mmgrid.json").write_text(json.dumps({"blocks": given_facts}))
    with pytest.raises(MergeError, match=says):
        models.merged()
    assert not (models.root / "out").exists()


def test_a_source_without_blocks_counts_as_backbone(models: Models) -> None:
    recipe = models.recipe()
    recipe["sources"].append({"name": "plain", "path": str(models.root / "base")})
    merge(recipe, models.root / "out")
    rows = models.record()["blocks"]["rows"]
    assert rows[0] == {"name": "backbone", "start": 0, "stop": 10, "from": ["books", "plain", "toys"]}
    write(models.root / "longer", 5, ("backbone", 12), named=False)
    recipe["sources"][2]["path"] = str(models.root / "longer")
    with pytest.raises(MergeError, match="'backbone': has 10 and 12 rows in different sources"):
        merge(recipe, models.root / "other")


ROWS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "", None, 3]),
        "start": st.sampled_from([0, 1, 2, -1, 1e999, "0", "x", None, 2**70]),
        "stop": st.sampled_from([0, 1, 2, 5, -1, float("nan"), "2", [], 2**70]),
    },
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tensors": st.sampled_from([[], ["e"], "e", None, 3, [1]]),
            "rows": st.lists(ROWS | st.none(), max_size=3) | st.none(),
        },
    )
    | st.sampled_from([3, "x", [], [[]]])
)
def test_any_table_is_read_or_refused(given_table: Any) -> None:
    try:
        read = BlockTable.of(json.loads(json.dumps(given_table)), "here")
    except MergeError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert refused.startswith("here: ")
        return
    ends = [0, *(block.stop for block in read.blocks)]
    assert [block.start for block in read.blocks] == ends[:-1]
    assert ends == sorted(ends)
    assert BlockTable.of(read.as_json(), "there") == read


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\ud800", '{"blocks": 1e999}'])
def test_unreadable_records_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mmgrid.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(MergeError, match=f"{tmp_path / 'mmgrid.json'}: "):
        BlockTable.read(tmp_path)
    (tmp_path / "mmgrid.json").write_text("[]")
    assert BlockTable.read(tmp_path) is None


@given(
    sizes=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    first=st.permutations(["backbone", "x", "y"]),
    second=st.permutations(["backbone", "x", "z"]),
)
def test_blocks_are_laid_out_without_gaps(sizes: list[int], first: list[str], second: list[str]) -> None:
    by_name = dict(zip(["backbone", "x", "y"], sizes, strict=True)) | {"z": 2}
    tables = {
        name: BlockTable.of({**table(*((block, by_name[block]) for block in blocks)), "tensors": ["e"]}, name)
        for name, blocks in (("b", first), ("a", second))
    }
    laid = lay_out(tables, None, "b", {"x": "merge"})
    assert [block.block.name for block in laid] == [*first, "z"]
    ends = [0]
    for block in laid:
        assert block.block == TokenBlock(block.block.name, ends[-1], ends[-1] + by_name[block.block.name])
        ends.append(block.block.stop)
        for source, start in block.sources.items():
            assert TokenBlock(block.block.name, start, start + by_name[block.block.name]) in tables[source].blocks
        assert set(block.sources) == ({"a", "b"} if block.block.name in ("backbone", "x") else set(block.sources))
        assert block.action == ("merge" if block.block.name in ("backbone", "x") else "keep")
    assert rows_of(laid) == ends[-1]


def test_a_killed_merge_is_not_resumed_with_other_blocks(models: Models) -> None:
    """The weight files and all shapes of the result are the same; only the assignment of rows differs."""

    def interrupt(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    def resumed() -> list[str]:
        written: list[str] = []
        merge(models.recipe(), models.root / "out", progress=lambda done, total, name: written.append(name))
        return written

    with pytest.raises(KeyboardInterrupt):
        merge(models.recipe(), models.root / "out", workers=1, progress=interrupt)
    record = models.root / "toys" / "mmgrid.json"
    record.write_text(json.dumps({"blocks": table(("toys", 3), ("backbone", BACKBONE))}))
    assert len(resumed()) == 3
    merged = load_file(models.root / "out" / "model.safetensors")
    for name in (EMBED, HEAD):
        assert merged[name][BACKBONE + 4 :].equal(models.toys[name][:3])


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_merging_in_memory_equals_merging_on_disk(tmp_path: Path, method: str) -> None:
    models = Models(tmp_path)
    rules = {"backbone": "merge", "toys": "keep", "*": "drop"}
    base = {} if method == "linear" else {"base": str(tmp_path / "base")}
    sources = [{"name": name, "path": str(tmp_path / name)} for name in ("toys", "books")]
    merge({"method": method, "sources": sources, **base, "blocks": rules}, tmp_path / "out")
    tables = {name: BlockTable.read(tmp_path / name) for name in ("toys", "books")}
    with TensorFolder(tmp_path / "base") as below, TensorFolder(tmp_path / "books") as books:
        found = merge_state_dicts(
            method,
            {"toys": models.toys, "books": books},
            base=below if base else None,
            blocks=Blocks(tables, "toys", rules),
        )
    expected = load_file(tmp_path / "out" / "model.safetensors")
    assert found[EMBED].shape == (BACKBONE + 3, WIDTH)
    assert found[EMBED][BACKBONE:].equal(models.toys[EMBED][BACKBONE:])
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)
