"""General merges of a grid file: their cells, and the weights of the models that are evaluated and kept."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kits.tiny_grid import SPOKEN, STUDIED, Built, mmgrid, named, planned
from mmgrid.evaluation import per_user
from mmgrid.grid.builders.models import evaluated_model
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.planned_merge import newest
from mmgrid.grid.file.load import GridError

pytestmark = pytest.mark.slow

ALONE = STUDIED[: STUDIED.index("[[studies]]")]
MERGES = """
[[merges]]
name   = "shared_users"
method = "linear"
towers = { item = "own", user = "merge" }

[[merges]]
name        = "left_out"
sources     = ["garden", "kitchen"]
towers      = { item = "own" }
evaluate_on = ["attic"]

[[merges]]
name        = "upon"
method      = "task_arithmetic"
base        = "half_way"
weights     = { own = 0.5, others = 0.25 }
scale       = 0.5
evaluate_on = ["garden"]
keep        = true

[[merges]]
name    = "half_way"
sources = ["garden/phase1", "kitchen"]
weights = { kitchen = 3 }

[[merges]]
kind   = "temporal"
scale  = 0.75
towers = { item = { scale = 0.25 } }

[[merges]]
name    = "in_parts"
method  = "ties"
base    = "neutral"
sources = ["attic", "garden"]
layers  = { "user/0" = "own", "item/0-1" = { scale = 0.5, options = { density = 0.5 } } }
rules   = [{ tensors = "*norm*", method = "linear", weights = { attic = 0 } }]

[[merges]]
name        = "drawn"
method      = "dare"
options     = { drop = 0.5 }
draws       = 3
evaluate_on = ["kitchen"]
"""
TEMPORAL = "temporal-scale0.75=phase1+phase2"


def _planned(folder: Path, merges: str) -> list[Cell]:
    return planned(folder, text=ALONE + merges)


@pytest.fixture(scope="module")
def merged(studied: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The three domains of `studied` with general merges, built upon a copy of its store."""
    return studied.grown(tmp_path_factory.mktemp("merged"), ALONE + MERGES, jobs=1)


def _weights(merged: Built, domain: str, phase: str = "phase2") -> dict[str, Tensor]:
    return load_file(merged.folder(f"checkpoint/semb/{domain}/{phase}") / "model.safetensors")


def _evaluated(merged: Built, domain: str, name: str) -> dict[str, Tensor]:
    """The weights of the model that an evaluation ranks with."""
    cell = named(merged.cells, f"evaluation/semb/{domain}/{name}")
    folders = {role: merged.store.folder(above.address) for role, above in cell.upstream.items()}
    _, model = evaluated_model(cell.recipe, folders)
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def _is_item(name: str) -> bool:
    return name.startswith("item_")


def test_own_item_towers_and_one_user_tower_of_all(merged: Built) -> None:
    models = {domain: _weights(merged, domain) for domain in ("attic", "garden", "kitchen")}
    for domain in models:
        for name, tensor in _evaluated(merged, domain, "shared_users").items():
            mean = sum(model[name] for model in models.values()) / 3
            expected = models[domain][name] if _is_item(name) else mean
            torch.testing.assert_close(tensor, expected, rtol=0, atol=0 if _is_item(name) else 1e-6)


def test_a_domain_outside_of_the_sources_is_served_with_its_own_item_tower(merged: Built) -> None:
    own, garden, kitchen = (_weights(merged, domain) for domain in ("attic", "garden", "kitchen"))
    for name, tensor in _evaluated(merged, "attic", "left_out").items():
        expected = own[name] if _is_item(name) else (garden[name] + kitchen[name]) / 2
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0 if _is_item(name) else 1e-6)


def test_a_merge_starts_from_another_merge(merged: Built) -> None:
    old, attic, garden, kitchen = (
        _weights(merged, domain, phase)
        for domain, phase in (("garden", "phase1"), ("attic", "phase2"), ("garden", "phase2"), ("kitchen", "phase2"))
    )
    kept = load_file(merged.folder("merge/semb/upon/garden") / "model.safetensors")
    for name, tensor in _evaluated(merged, "garden", "upon").items():
        base = (old[name] + 3 * kitchen[name]) / 4
        delta = 0.5 * (garden[name] - base) + 0.25 * (attic[name] - base) + 0.25 * (kitchen[name] - base)
        torch.testing.assert_close(tensor, base + 0.5 * delta, rtol=0, atol=1e-6)
        assert tensor.equal(kept[name])


def test_token_rows_by_other_names_are_a_merge_for_each_domain(tmp_path: Path) -> None:
    """Garden has the rows of the source `garden`, kitchen those of `kitchen/t1`; what is learned, is so for both."""
    spoken = SPOKEN[: SPOKEN.index("[[studies]]")]
    entry = 'sources = ["garden", "kitchen/phase1"]\nparadigms = ["semid"]\nkeep = true\n'
    text = f"{spoken}[[merges]]\nname = 'plain'\n{entry}[[merges]]\nname = 'learned'\n{entry}learn = {{ by = 'mergerec' }}\n"
    upon = '[[merges]]\nname = "upon"\nmethod = "task_arithmetic"\nbase = "plain"\nparadigms = ["semid"]\nkeep = true\n'
    names = {cell.name for cell in planned(tmp_path, text=text + upon) if cell.kind in ("merge", "learned")}
    kept = {f"merge/semid/{name}/{domain}" for name in ("plain", "learned", "upon") for domain in ("garden", "kitchen")}
    assert names == {*kept, "learned/semid/learned"}
    same = text.replace('"kitchen/phase1"', '"kitchen"')
    names = {cell.name for cell in planned(tmp_path, text=same) if cell.kind == "merge"}
    assert names == {"merge/semid/plain", "merge/semid/learned"}


def test_a_scale_for_each_tower_across_time(merged: Built) -> None:
    old, new = _weights(merged, "kitchen", "phase1"), _weights(merged, "kitchen")
    for name, tensor in _evaluated(merged, "kitchen", TEMPORAL).items():
        scale = 0.25 if _is_item(name) else 0.75
        torch.testing.assert_close(tensor, old[name] + scale * (new[name] - old[name]), rtol=0, atol=1e-6)


def test_rules_come_before_layers_and_layers_before_the_merge(merged: Built) -> None:
    attic, garden = _weights(merged, "attic"), _weights(merged, "garden")
    found = _evaluated(merged, "attic", "in_parts")
    norms = [name for name in found if "norm" in name]
    first = [name for name in found if name.startswith("user_tower.layers.0.") and name not in norms]
    assert norms
    assert first
    assert all(found[name].equal(garden[name]) for name in norms)
    assert all(found[name].equal(attic[name]) for name in first)
    rest = found.keys() - {*norms, *first}
    assert not any(
        found[name].equal(attic[name]) or found[name].equal(garden[name]) for name in rest if found[name].ndim > 1
    )


def test_draws_have_other_masks_and_the_first_has_the_seed_of_the_grid(merged: Built, tmp_path: Path) -> None:
    one, two = (_evaluated(merged, "kitchen", name)["item_token"] for name in ("drawn", "drawn-draw2"))
    assert not one.equal(two)
    alone = named(_planned(tmp_path, MERGES.replace("draws       = 3\n", "")), "evaluation/semb/kitchen/drawn")
    assert alone.fingerprint == named(merged.cells, "evaluation/semb/kitchen/drawn").fingerprint


def test_a_merge_is_stored_once_unless_it_differs_by_the_domain_that_it_serves(merged: Built) -> None:
    kept = [cell.name for cell in merged.cells if cell.kind == "merge"]
    assert kept == ["merge/semb/half_way", "merge/semb/upon/garden", "merge/semb/neutral=attic+garden"]


WRONG = {
    "a merge method": ('method = "tis"', "unknown merge method 'tis'; did you mean ties?"),
    "an option of a tower": (
        'towers = { item = { method = "ties", options = { densty = 1 } } }',
        "towers.item: ties: unknown option 'densty'; did you mean density?",
    ),
    "a tower": ('towers = { itm = "own" }', "towers: semb has no tower itm; it has item and user"),
    "a tower of a layer": ('layers = { "itm/0" = "own" }', "layers: semb has no tower itm; it has item and user"),
    "a layer": ('layers = { "0-2" = "own" }', "layers.0-2: the model has no layer 2; it has 0 to 1"),
    "a layer of a tower": (
        'layers = { "user/2" = "own" }',
        "layers.user/2: the tower user has no layer 2; it has 0 to 1",
    ),
    "a layer of another paradigm": (
        'sources = ["phase1"]\nparadigms = ["sasrec"]\nlayers = { "2" = "own" }',
        "layers.2: the model has no layer 2; it has 0 to 1",
    ),
    "an option of a stage": (
        'method = "ties"\noptions = { stages = [{ drop = { drp = 0.1 } }] }',
        "ties: stage drop: drp: unknown key; did you mean drop?",
    ),
    "a source of weights": (
        "weights = { gardn = 1 }",
        "weights: there is no source gardn; write attic, garden, kitchen, own or others",
    ),
    "a source of an option": (
        'method = "ties"\noptions = { density = { gardn = 0.1 } }',
        "ties: option density: there is no source 'gardn'; did you mean garden?",
    ),
    "a scale of an average": ("scale = 2", "linear: has no delta for scale = 2.0 to act on; use weights"),
    "a base of an average": ('base = "backbone"', "linear: has no base; leave it out"),
    "draws of nothing random": ("draws = 2", "draws: 2 draws would be alike, since nothing here is random; remove it"),
    "a paradigm without a base": (
        'paradigms = ["sasrec"]',
        "paradigms: sasrec has no base Θ⁽⁰⁾ and cannot be merged across domains",
    ),
    "a backbone for whom there is none": (
        'method = "task_arithmetic"\nsources = ["phase1", "phase2"]\nparadigms = ["sasrec"]',
        "base: sasrec has no base Θ⁽⁰⁾; write historical, or a checkpoint, such as pretrain",
    ),
    "one checkpoint twice": (
        'sources = ["garden", "garden/phase2"]',
        "sources: garden and garden/phase2 are the same checkpoint",
    ),
    "a checkpoint that no paradigm has": (
        'sources = ["garden/all"]\nparadigms = ["semb"]',
        "sources: semb has no checkpoint of garden at all; it has pretrain, phase1, phase2",
    ),
    "merges that start from each other": (
        'method = "task_arithmetic"\nbase = "y"\n[[merges]]\nname = "y"\nmethod = "task_arithmetic"\nbase = "x"',
        "base: x, y start from each other",
    ),
    "merges that start from each other by a rule": (
        'method = "task_arithmetic"\nbase = "y"\n[[merges]]\nname = "z"\n'
        '[[merges]]\nname = "y"\nmethod = "task_arithmetic"\nbase = "z"\n'
        'rules = [{ tensors = "*norm*", base = "x" }]',
        "base: x, y start from each other",
    ),
    "more sources than a method takes": ('method = "slerp"', "slerp: takes two sources, not 3; use multislerp"),
    "weights of nothing": (
        "weights = { garden = 1, kitchen = -1, attic = 0 }",
        "linear: the weights add up to zero, so the sum cannot be divided by them; set normalise = false",
    ),
    "weights of nothing in one domain": (
        'sources = ["garden", "kitchen"]\nweights = { others = 0 }\nevaluate_on = ["garden", "attic"]',
        "linear: the weights add up to zero, so the sum cannot be divided by them; set normalise = false (as it serves attic)",
    ),
    "weights that a tower does not take": (
        'towers = { item = { method = "ram", weights = { attic = 2 } } }',
        "towers.item: ram: takes no weights; leave them out",
    ),
    "statistics that nobody measures": (
        'method = "fisher"',
        'fisher: needs what was measured of its sources; write a merge with a name and learn = { by = "fisher" }',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_the_file_the_merge_and_the_key(case: str, tmp_path: Path) -> None:
    text, says = WRONG[case]
    with pytest.raises(GridError) as caught:
        _planned(tmp_path, f'[[merges]]\nname = "x"\n{text}\n')
    assert str(caught.value).startswith(f"{(tmp_path / 'tiny.toml').resolve()}: merges[0] (x): {says}"), caught.value


def test_pairs_name_what_their_method_refuses(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"merges\[0\]: acceleration: takes a chain of at least 3 checkpoints, not 2"):
        _planned(tmp_path, '[[merges]]\nkind = "cross_domain"\nmethod = "acceleration"\n')


def test_layers_are_those_of_the_paradigm_and_tower(tmp_path: Path) -> None:
    text = ALONE.replace("[paradigms.sasrec]", "[paradigms.sasrec]\nlayers = 4").replace("layers = 2", "layers = 1")
    merges = """
[[merges]]
name      = "deep"
sources   = ["phase1", "phase2"]
paradigms = ["sasrec"]
layers    = { "0-3" = { weights = { phase1 = 0.7 } } }

[[merges]]
name      = "users"
paradigms = ["semb"]
layers    = { "user/1" = "own", "1" = "merge", "item/0" = "merge" }
"""
    found = {cell.name for cell in planned(tmp_path, text=text + merges)}
    assert {"evaluation/sasrec/garden/deep", "evaluation/semb/garden/users"} <= found
    with pytest.raises(GridError, match=r"layers\.item/1: the tower item has no layer 1; it has 0 to 0"):
        planned(tmp_path, text=text + merges.replace("item/0", "item/1"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Books", "Books/all"], "Books"),
        (["garden/all", "garden"], "garden"),
        (["garden/all", "garden/t2"], "garden/all"),
        (["t1", "garden/t2", "t0"], "garden/t2"),
    ],
)
def test_the_newest_source_of_a_domain(names: list[str], expected: str) -> None:
    assert newest(names) == newest(names[::-1]) == expected


def test_paradigms_that_cannot_be_merged_so_are_left_out(tmp_path: Path) -> None:
    merges = '[[merges]]\nname = "x"\nsources = ["phase1", "phase2"]\n'
    found = [cell.name for cell in _planned(tmp_path, merges) if cell.name.endswith("/x")]
    assert found == [f"evaluation/semb/{domain}/x" for domain in ("attic", "garden", "kitchen")]
    found = [cell.name for cell in _planned(tmp_path, merges + 'paradigms = ["sasrec"]\n') if cell.name.endswith("/x")]
    assert found == [f"evaluation/sasrec/{domain}/x" for domain in ("attic", "garden", "kitchen")]


# ---- what results say of them --------------------------------------------------------------------------------------


def _ranks(merged: Built, name: str) -> np.ndarray:
    return pl.read_parquet(merged.folder(f"evaluation/semb/{name}") / "ranks.parquet")["rank"].to_numpy()


def test_results_have_the_mean_over_the_draws_of_a_merge(merged: Built) -> None:
    rows = pl.DataFrame(mmgrid("results", merged.file, "--store", merged.root, "--json").json).filter(group="all")
    drawn = [_ranks(merged, f"kitchen/{name}") for name in ("drawn", "drawn-draw1", "drawn-draw2")]
    (row,) = rows.filter(model="drawn", metric="ndcg@10").to_dicts()
    values = [100 * per_user(ranks, ("ndcg@10",))[:, 0] for ranks in drawn]
    assert row["value"] == pytest.approx(np.mean(values))
    assert row["low"] < row["value"] < row["high"]
    assert (row["merge"], row["sources"], row["parameter"]) == ("drawn", "attic+garden+kitchen", None)
    assert not rows.filter(pl.col("model").str.contains("draw[0-9]")).height


def test_what_merges_keep_is_shown_per_domain_and_over_all(merged: Built) -> None:
    arguments = ("results", merged.file, "--store", merged.root)
    found = mmgrid(*arguments, "--merges", "--json").json
    own, served = _ranks(merged, "garden/phase2"), _ranks(merged, "garden/shared_users")
    (row,) = (
        row
        for row in found["kept"]
        if (row["merge"], row["domain"], row["metric"]) == ("shared_users", "garden", "recall@20")
    )
    single, after = (100 * per_user(ranks, ("recall@20",)).mean() for ranks in (own, served))
    assert (row["single"], row["merged"]) == pytest.approx((single, after))
    assert row["kept"] == pytest.approx(100 * after / single)
    assert row["low"] <= row["kept"] <= row["high"]
    shares = [row["kept"] for row in found["kept"] if (row["merge"], row["metric"]) == ("shared_users", "recall@20")]
    (row,) = (row for row in found["served"] if (row["merge"], row["metric"]) == ("shared_users", "recall@20"))
    assert (row["domains"], row["least"], row["mean"]) == pytest.approx((3, min(shares), np.mean(shares)))
    assert {row["draws"] for row in found["served"] if row["merge"] == "drawn"} == {3}
    text = mmgrid(*arguments).out
    assert "shared_users" in text[text.index("percent of the own model's ndcg@10 that is kept") :]
    assert "recall@20 that is kept" in mmgrid(*arguments, "--merges", "--metric", "recall@20", "--group", "active").out


def test_the_report_shows_the_merges(merged: Built, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    mmgrid("report", merged.file, "--store", merged.root, "--out", out, "--no-figures")
    page = out.read_text()
    assert "Merges and families of this grid" in page
    table = page[page.index('id="table-kept"') :]
    assert all(name in table for name in ("shared_users", "left_out", "upon", "half_way", "in_parts", TEMPORAL))
    assert "by the domain that keeps least" in page
