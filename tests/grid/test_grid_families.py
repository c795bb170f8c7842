"""Families of a grid file: their cells, what is evaluated of them, and what results and report say."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kits.tiny_grid import SPOKEN, STUDIED, Built, contents, fingerprints, mmgrid, named, planned, write_grid
from mmgrid import open_checkpoint
from mmgrid.evaluation import per_user
from mmgrid.families import expand
from mmgrid.grid.builders import build_cell
from mmgrid.grid.builders.models import evaluated_model
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.file.load import GridError
from mmgrid.merging import MergeError
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.runners import run_local
from reporting.page_data import data_set, plain, read_payload

pytestmark = pytest.mark.slow

ALONE = STUDIED[: STUDIED.index("[[studies]]")]
FAMILIES = """
[[merges]]
name    = "two"
sources = ["garden", "kitchen"]
weights = { kitchen = 3 }

[[merges]]
name   = "towers"
towers = { item = "own" }

[[families]]
name = "four_bits"
part = { kind = "delta", bits = 4 }

[[families]]
name   = "over_base"
shared = "backbone"
part   = { kind = "delta", bits = 8, group = 16 }

[[families]]
name        = "own_items"
shared      = "two"
part        = "shared"
towers      = { item = "own" }
evaluate_on = ["attic", "garden"]

[[families]]
name    = "masks"
sources = ["kitchen", "garden"]
part    = "mask"
rules   = [{ tensors = "*norm*", part = "exact" }]

[[families]]
name        = "time"
chain       = ["pretrain", "phase1", "phase2"]
part        = "exact"
paradigms   = ["semb", "sasrec"]
evaluate_on = ["garden"]
"""
SERVED = {
    "four_bits": ("attic", "garden", "kitchen"),
    "over_base": ("attic", "garden", "kitchen"),
    "own_items": ("attic", "garden"),
    "masks": ("garden", "kitchen"),
    "time": ("garden",),
}


@pytest.fixture(scope="module")
def grown(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Three domains with families, built upon a copy of a store with two of them."""
    return built.grown(tmp_path_factory.mktemp("grown"), ALONE + FAMILIES, jobs=1)


def _weights(grown: Built, name: str) -> dict[str, Tensor]:
    return load_file(grown.folder(name) / "model.safetensors")


def _evaluated(grown: Built, domain: str, name: str) -> dict[str, Tensor]:
    """The weights of the model that an evaluation ranks with."""
    cell = named(grown.cells, f"evaluation/semb/{domain}/{name}")
    folders = {role: grown.store.folder(above.address) for role, above in cell.upstream.items()}
    _, model = evaluated_model(cell.recipe, folders)
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def _summary(grown: Built, name: str) -> Any:
    return grown.store.record(named(grown.cells, name).address).summary


def test_a_family_is_one_cell_and_a_chain_one_for_each_domain(grown: Built) -> None:
    assert [cell.name for cell in grown.cells if cell.kind == "family"] == [
        "family/semb/four_bits",
        "family/semb/over_base",
        "family/semb/own_items",
        "family/semb/masks",
        "family/semb/time/garden",
        "family/sasrec/time/garden",
    ]
    evaluations = {cell.key[1:] for cell in grown.cells if "family" in cell.recipe and cell.key[0] == "semb"}
    assert evaluations == {(domain, name) for name, domains in SERVED.items() for domain in domains}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_evaluated_is_the_checkpoint_that_the_family_expands_to(
    name: str, grown: Built, tmp_path: Path
) -> None:
    whose = "/garden" if name == "time" else ""
    for domain in SERVED[name]:
        member = "phase2" if name == "time" else domain
        expand(grown.folder(f"family/semb/{name}{whose}"), tmp_path / domain, domain=member)
        _, model = load_checkpoint(tmp_path / domain)
        found = _evaluated(grown, domain, name)
        assert found.keys() == model.state_dict().keys()
        assert all(found[key].equal(tensor) for key, tensor in model.state_dict().items())


def test_an_exact_chain_ranks_as_the_checkpoints_do(grown: Built) -> None:
    for paradigm in ("semb", "sasrec"):
        one, other = (
            pl.read_parquet(grown.folder(f"evaluation/{paradigm}/garden/{name}") / "ranks.parquet")
            for name in ("time", "phase2")
        )
        assert one.equals(other)


def test_every_phase_of_a_chain_can_be_opened(grown: Built) -> None:
    name, ids = "family/semb/time/garden", pl.read_parquet(grown.folder("corpus/garden") / "items.parquet")["item_id"]

    def found(model: str, domain: str | None = None) -> Any:
        opened = open_checkpoint(model, domain=domain, grid=grown.file, store=grown.root)
        return opened.recommend([ids[:3].to_list()], grown.folder("corpus/garden"), 5)

    for phase in ("pretrain", "phase1", "phase2"):
        assert found(name, phase) == found(f"checkpoint/semb/garden/{phase}")
    assert found(name) == found(name, "garden") == found(name, "phase2")
    with pytest.raises(MergeError, match="has no domain 'kitchen'; it has pretrain, phase1, phase2"):
        found(name, "kitchen")
    options = ("--grid", grown.file, "--store", grown.root, "--json")
    answer = mmgrid("evaluate", name, "--domain", "phase1", *options)
    assert answer.json == mmgrid("evaluate", "checkpoint/semb/garden/phase1", *options).json


def test_a_cell_that_is_no_family_has_no_domain_to_choose(grown: Built) -> None:
    for name in ("checkpoint/semb/garden/phase2", "merge/semb/two"):
        with pytest.raises(GridError, match=f"{name}: is no family, so it has no domain to choose"):
            open_checkpoint(name, domain="kitchen", grid=grown.file, store=grown.root)


def test_the_average_is_shared_unless_something_else_is_named(grown: Built) -> None:
    models = [_weights(grown, f"checkpoint/semb/{domain}/phase2") for domain in ("attic", "garden", "kitchen")]
    shared = load_file(grown.folder("family/semb/four_bits") / "shared/model.safetensors")
    for name, tensor in shared.items():
        torch.testing.assert_close(tensor, sum(model[name] for model in models) / 3, rtol=0, atol=1e-6)
    file = grown.folder("family/semb/over_base") / "shared/model.safetensors"
    assert file.read_bytes() == (grown.folder("base/semb") / "model.safetensors").read_bytes()
    shared = load_file(grown.folder("family/semb/own_items") / "shared/model.safetensors")
    two = _weights(grown, "merge/semb/two")
    assert shared.keys() == {name for name in two if not name.startswith("item_")}, "which each domain has itself"
    assert all(tensor.equal(two[name]) for name, tensor in shared.items())


def test_a_tower_of_a_family_has_the_tensors_of_the_paradigms_tower(grown: Built) -> None:
    own, two = _weights(grown, "checkpoint/semb/attic/phase2"), _weights(grown, "merge/semb/two")
    for name, tensor in _evaluated(grown, "attic", "own_items").items():  # a domain that is not in the merge
        assert tensor.equal(own[name] if name.startswith("item_") else two[name])


def test_the_record_has_the_bytes_of_all_parts_and_their_errors(grown: Built) -> None:
    for name in ("four_bits", "masks", "own_items"):
        folder, found = grown.folder(f"family/semb/{name}"), _summary(grown, f"family/semb/{name}")
        told = json.loads((folder / "family.json").read_text())
        parts = {
            domain: sum(file.stat().st_size for file in folder.glob(f"parts/{domain}/*.safetensors"))
            for domain in told["domains"]
        }
        shared = sum(file.stat().st_size for part in ("shared", "base") for file in folder.glob(f"{part}/model*"))
        assert found["shared_bytes"] == shared
        assert found["bytes"] == shared + sum(parts.values())
        for domain, entry in told["domains"].items():
            assert found["members"][domain]["bytes"] == parts[domain]
            assert found["members"][domain]["parts"] == entry["parts"]
            assert found["members"][domain]["parameters"] == sum(
                np.prod(tensor["shape"]) for tensor in entry["tensors"].values()
            )
    (delta, *_) = _summary(grown, "family/semb/four_bits")["members"]["garden"]["parts"]
    assert delta["kind"] == "delta"
    assert 0 < delta["error"] < 0.2


def test_a_recipe_outside_of_the_grid_gives_the_same_family(grown: Built, tmp_path: Path) -> None:
    recipe = {
        "method": "linear",
        "sources": [
            {"name": domain, "path": str(grown.folder(f"checkpoint/semb/{domain}/phase2"))}
            for domain in ("attic", "garden", "kitchen")
        ],
        "family": {"part": {"kind": "delta", "bits": 4}},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    answer = mmgrid("merge", "--family", tmp_path / "recipe.json", tmp_path / "family")
    assert answer.code == 0, answer.err
    kept = grown.folder("family/semb/four_bits")
    for file in ("shared/model.safetensors", "parts/garden/delta.safetensors", "parts/kitchen/own.safetensors"):
        assert (tmp_path / "family" / file).read_bytes() == (kept / file).read_bytes()


def test_nothing_but_new_cells(tmp_path: Path) -> None:
    before = fingerprints(planned(tmp_path, text=ALONE))
    after = fingerprints(planned(tmp_path, text=ALONE + FAMILIES))
    assert before.items() <= after.items()
    short = '[[families]]\nname = "x"\n'
    full = short + 'sources = ["kitchen", "garden", "attic"]\npart = { kind = "delta", bits = 4, vectors = "own" }\n'
    assert fingerprints(planned(tmp_path, text=ALONE + short)) == fingerprints(planned(tmp_path, text=ALONE + full))
    other = fingerprints(planned(tmp_path, text=ALONE + short + 'part = { kind = "delta", bits = 3 }\n'))
    same = fingerprints(planned(tmp_path, text=ALONE + short))
    assert {name for name in same if same[name] != other[name]} == {
        "family/semb/x",
        *(f"evaluation/semb/{domain}/x" for domain in ("attic", "garden", "kitchen")),
    }


def test_a_family_that_was_cut_off_is_built_again(
    grown: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = grown.copy(tmp_path)
    wanted = contents(found.root, "family")
    cell = named(found.cells, "family/semb/four_bits")
    shutil.rmtree(whole := found.store.folder(cell.address))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr("mmgrid.families.domain.measured", fails)  # the parts of a domain are written by then
        with pytest.raises(RuntimeError, match="cut off"):
            build_cell(cell, found.grid, found.store)
    half = whole.with_name(f"{whole.name}.work")
    assert half.is_dir()
    assert not found.store.has(cell.address)
    # A process that is killed leaves more.
    for leftover in (half / "family.json", half / "family/parts/garden/own.safetensors"):
        leftover.parent.mkdir(parents=True, exist_ok=True)
        leftover.write_text("{")
    assert build_cell(cell, found.grid, found.store) == "built"
    assert contents(found.root, "family") == wanted


SPOKEN_FAMILIES = """
[[families]]
name      = "spoken"
paradigms = ["text", "semid"]
"""


def test_a_family_of_models_with_codes_of_their_own(tmp_path: Path) -> None:
    text = SPOKEN[: SPOKEN.index("[[studies]]")] + SPOKEN_FAMILIES
    cells = planned(tmp_path, text=text)
    family = named(cells, "family/semid/spoken")
    assert set(family.upstream) == {"source:garden", "source:kitchen"}
    assert named(cells, "evaluation/semid/kitchen/spoken").recipe["family"]["member"] == "kitchen"


WRONG = {
    "a kind of part": ('part = "detla"', ": part: must name a kind of part, not 'detla'; did you mean delta?"),
    "bits": ('part = { kind = "delta", bits = 5 }', ": part.bits: should be 2, 3, 4 or 8 (it is 5)"),
    "a part of a tower": ('towers = { item = { kind = "own", bits = 4 } }', ": towers.item.bits: unknown key"),
    "a rule without a part": ('rules = [{ tensors = "*" }]', ": rules[0].part: is missing"),
    "a key": ('parts = "delta"', ": parts: unknown key; did you mean part?"),
    "a tower": ('towers = { itm = "own" }', ": towers: semb has no tower itm; it has item and user"),
    "a source": (
        'sources = ["gardn"]',
        ": sources: gardn is not in the grid; did you mean garden?",
    ),
    "a domain without a part": (
        'sources = ["garden"]\nevaluate_on = ["attic"]',
        ": evaluate_on: attic has no part in this family; its sources are garden",
    ),
    "a shared model": (
        'shared = "average"',
        ": shared: average is no model to share; write backbone, m, or nothing for the average of the sources",
    ),
    "a shared model for one domain": (
        'shared = "m"',
        ": shared: the merge m differs by the domain that it serves, and all share one model",
    ),
    "masks over the backbone": (
        'shared = "backbone"\npart = "mask"',
        ": shared: masks choose from what the shared model has learned, and the backbone has learned nothing",
    ),
    "a chain with a shared model": (
        'chain = ["phase1", "phase2"]\nshared = "backbone"',
        ": shared: a chain starts from phase1, which is its shared model; remove this key",
    ),
    "masks along a chain": (
        'chain = ["phase1", "phase2"]\npart = "mask"',
        ": a chain has no part mask, which is a change of the shared model and not of the phase before",
    ),
    "a chain backwards": (
        'chain = ["phase2", "phase1"]',
        ": chain: must run from the oldest to the newest phase: phase1, phase2",
    ),
    "a chain that ends too early": (
        'chain = ["pretrain", "phase1"]',
        ": chain: must end with phase2, the phase of the newest checkpoint, which is evaluated",
    ),
    "no phase": ('chain = ["pretrain", "phase3"]', ": chain: phase3 is no phase; write pretrain, phase1, phase2"),
    "a paradigm without a base": (
        'paradigms = ["sasrec"]',
        ": paradigms: sasrec has no base Θ⁽⁰⁾, so its domains share nothing; a chain of phases does",
    ),
}


def _planned(folder: Path, families: str) -> list[Cell]:
    return planned(folder, text=f'{ALONE}\n[[merges]]\nname = "m"\ntowers = {{ item = "own" }}\n{families}')


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_the_file_the_family_and_the_key(case: str, tmp_path: Path) -> None:
    text, says = WRONG[case]
    with pytest.raises(GridError) as caught:
        _planned(tmp_path, f'[[families]]\nname = "x"\n{text}\n')
    assert f"tiny.toml: families[0] (x){says}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("garden", "garden is a domain; choose another name"),
        ("m", "merges[0] has the same name; choose another one"),
        ("phase1", "'phase1' has another meaning in a grid; choose another name"),
        ("a b", "'a b' cannot name a folder of the store; rename it to"),
    ],
)
def test_a_name_is_free(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(GridError) as caught:
        _planned(tmp_path, f'[[families]]\nname = "{name}"\n')
    assert f"families[0] ({name}): name: {says}" in str(caught.value)


def test_a_rule_for_no_tensor_fails_when_the_family_is_built(grown: Built, tmp_path: Path) -> None:
    found = grown.copy(tmp_path)
    write_grid(tmp_path, ALONE + '[[families]]\nname = "x"\nrules = [{ tensors = "*mlq*", part = "own" }]\n')
    cell = named(found.cells, "family/semb/x")
    run_local(with_upstream([cell]), found.grid, found.store, jobs=1)
    failure = found.store.failure(cell.address)
    assert failure is not None
    assert "rules[0]: no tensor is called *mlq*" in failure.message


# ---- what is shown of them -----------------------------------------------------------------------------------------


def _shown(grown: Built) -> dict[str, pl.DataFrame]:
    found = mmgrid("results", grown.file, "--store", grown.root, "--merges", "--json").json
    return {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in found.items()}


def test_results_show_what_families_keep(grown: Built) -> None:
    kept = _shown(grown)["kept"]
    for name in ("four_bits", "own_items"):
        (row,) = kept.filter(merge=name, domain="garden", metric="recall@20").to_dicts()
        own, after = (
            100
            * per_user(
                pl.read_parquet(grown.folder(f"evaluation/semb/garden/{of}") / "ranks.parquet")["rank"].to_numpy(),
                ("recall@20",),
            ).mean()
            for of in ("phase2", name)
        )
        assert (row["single"], row["merged"]) == pytest.approx((own, after))
    assert kept.filter(merge="time", metric="ndcg@20", paradigm="semb")["kept"].to_list() == [100]
    text = mmgrid("results", grown.file, "--store", grown.root).out
    assert "Merges and families, group all" in text
    assert "four_bits" in text
    rows = pl.DataFrame(mmgrid("results", grown.file, "--store", grown.root, "--json").json)
    assert set(rows.filter(model="masks")["merge"]) == {"family"}
    assert set(rows.filter(model="masks")["sources"]) == {"garden+kitchen"}


def test_bytes_are_those_of_all_that_serves_the_domains(grown: Built) -> None:
    served = _shown(grown)["served"].filter(metric="ndcg@20", paradigm="semb")
    rows = {row["merge"]: row for row in served.to_dicts()}
    sizes = {
        tensor: value.numel() * value.element_size()
        for tensor, value in _weights(grown, "checkpoint/semb/garden/phase2").items()
    }
    one = sum(sizes.values())
    items = sum(size for name, size in sizes.items() if name.startswith("item_"))
    for name, bytes_ in {
        "four_bits": _summary(grown, "family/semb/four_bits")["bytes"],
        "masks": _summary(grown, "family/semb/masks")["bytes"],
        "time": _summary(grown, "family/semb/time/garden")["bytes"],
        "two": one,  # one merge
        "towers": one + 2 * items,  # a merge whose item towers are those of three domains
    }.items():
        assert rows[name]["bytes"] == bytes_, name
        assert rows[name]["checkpoints"] == pytest.approx(bytes_ / one)
        assert rows[name]["bf16_checkpoints"] == pytest.approx(2 * bytes_ / one)
        assert rows[name]["own_bytes"] == one * rows[name]["domains"]
    found = _summary(grown, "family/semb/own_items")  # attic and garden are evaluated, and kitchen has a part too
    used = found["bytes"] - found["members"]["kitchen"]["bytes"]
    assert rows["own_items"]["bytes"] == used == pytest.approx(one + items, rel=0.05)
    assert {row["merge"]: row["way"] for row in rows.values()} == {
        "two": "merge",
        "towers": "merge per domain",
        "four_bits": "delta",
        "over_base": "delta over backbone",
        "own_items": "shared + own",
        "masks": "mask + exact",
        "time": "exact along a chain",
    }


def test_the_report_draws_kept_quality_against_bytes(grown: Built, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    answer = mmgrid("report", grown.file, "--store", grown.root, "--out", out, "--no-figures")
    assert answer.code == 0, answer.err
    page = out.read_text()
    assert "Merges and families of this grid" in page
    assert "of 2 families of 3 domains, the " in plain(page)
    points = data_set(read_payload(page), "served").filter(paradigm="semb", metric="ndcg@20", share="mean")
    assert set(points["merge"]) == {"own models", "two", "towers", *SERVED}
    own = points.filter(merge="own models").sort("domains").select("domains", "checkpoints", "value")
    assert own["checkpoints"].to_list() == pytest.approx(own["domains"].to_list()) == [1, 2, 3]
    assert set(own["value"]) == {100}
    assert points.filter(merge="two")["checkpoints"].to_list() == [1]
    assert set(data_set(read_payload(page), "pairs")["recipe"]) == {"two"}  # families are no merges of two domains


def test_a_family_recommends_for_each_of_its_domains(grown: Built) -> None:
    for cell, of in (("family/semb/four_bits", "four_bits"), ("family/semb/time/garden", "time")):
        opened = open_checkpoint(cell, domain="garden", grid=grown.file, store=grown.root)
        found = opened.evaluate(grown.folder("corpus/garden"))
        expected = pl.read_parquet(grown.folder(f"evaluation/semb/garden/{of}") / "ranks.parquet")
        assert found.ranks["rank"].equals(expected["rank"])
    answer = mmgrid("evaluate", "family/semb/four_bits", "--grid", grown.file, "--store", grown.root)
    assert answer.code == 1
    assert "is a family of attic, garden, kitchen; say which domain" in answer.err
