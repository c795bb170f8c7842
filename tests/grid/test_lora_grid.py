"""A grid that trains adapters: its checkpoints, and what is made from them."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

from kits.tiny_grid import SPOKEN, TEXT, Built, fingerprints, mmgrid, named, planned, write_grid
from mmgrid import open_checkpoint
from mmgrid.files import HubError
from mmgrid.grid.builders import build_cell
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.grid.file.load import GridError, load_grid
from mmgrid.hub import push
from mmgrid.merging import BlockTable, merge
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.sources import open_source
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.runners import run_local
from mmgrid.store import DamagedFilesError

pytestmark = pytest.mark.slow

SEMB = TEXT[TEXT.index("[paradigms.semb]") : TEXT.index("[paradigms.sasrec]")]
PLAIN = SPOKEN[: SPOKEN.index("[[studies]]")] + SEMB
LORA = "lora = { rank = 3, alpha = 6 }\n"
GRID = PLAIN
for _name in ("text", "semid", "semb"):
    GRID = GRID.replace(f"[paradigms.{_name}]\n", f"[paradigms.{_name}]\n{LORA}")
PARADIGMS = ("text", "semid", "semb")
PHASES = ("pretrain", "phase1")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The chains of one domain up to phase1, and their evaluations."""
    folder = tmp_path_factory.mktemp("adapted")
    found = Built(write_grid(folder, GRID), folder / "runs")
    wanted = [named(found.cells, f"evaluation/{paradigm}/garden/{phase}") for paradigm in PARADIGMS for phase in PHASES]
    outcome = run_local(with_upstream(wanted), found.grid, found.store, jobs=1)
    assert outcome.complete, outcome
    return found


def test_a_variant_goes_on_with_the_adapter_of_the_grid(tmp_path: Path) -> None:
    file = write_grid(tmp_path, GRID)
    with pytest.raises(
        GridError, match=r"variants\[0\].set.lora: the training goes on with .* rank 3, alpha 6 and targets"
    ):
        load_grid(file, ['variants=[{name="v", start="newest", set={lora={rank=4}}}]'])


def test_new_items_of_an_adapter(adapted: Built, tmp_path: Path) -> None:
    """The adapter names its base from its folder; the one with the new codes lies elsewhere."""
    (tmp_path / "new.csv").write_text("item_id,title\nx,A rake\n")
    checkpoint, corpus = adapted.folder("checkpoint/semid/garden/phase1"), adapted.folder("corpus/garden")
    out, domain = tmp_path / "deep/er/model", tmp_path / "garden"
    arguments = (checkpoint, "--domain-dir", corpus, "--items", tmp_path / "new.csv")
    answer = mmgrid("codes", "add", *arguments, "-o", out, "--domain-out", domain)
    assert answer.code == 0, answer.err
    declared = json.loads((out / "mmgrid.json").read_text())["adapter_of"]
    assert (out / declared).resolve() == adapted.folder("base/semid").resolve()
    answer = mmgrid("recommend", out, "--domain-dir", domain, "--history", "x", "-k", "3", "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["items"]) == 3


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_chain_is_one_adapter_upon_its_base(adapted: Built, paradigm: str) -> None:
    base, last = adapted.folder(f"base/{paradigm}"), None
    for phase in PHASES:
        folder = adapted.folder(f"checkpoint/{paradigm}/garden/{phase}")
        assert not list(folder.glob("model*"))
        declared = json.loads((folder / "mmgrid.json").read_text())["adapter_of"]
        assert (folder / declared).resolve() == base.resolve()
        stored = load_file(folder / "adapter_model.safetensors")
        summary = adapted.store.record(named(adapted.cells, f"checkpoint/{paradigm}/garden/{phase}").address).summary
        assert summary["trained_parameters"] == sum(tensor.numel() for tensor in stored.values())
        if last is not None:
            assert stored.keys() == last.keys()
            assert not all(stored[name].equal(tensor) for name, tensor in last.items()), "the phase went on"
        last = stored


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_grid_evaluates_what_python_opens(adapted: Built, paradigm: str) -> None:
    folder = adapted.folder(f"checkpoint/{paradigm}/garden/phase1")
    ranks = pl.read_parquet(adapted.folder(f"evaluation/{paradigm}/garden/phase1") / "ranks.parquet")
    found = open_checkpoint(folder).evaluate(
        adapted.folder("corpus/garden"), calendar=adapted.grid.spec.phases.calendar()
    )
    assert found.ranks["rank"].to_list() == ranks["rank"].to_list()


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_merge_of_one_adapter_is_its_plain_checkpoint(adapted: Built, tmp_path: Path, paradigm: str) -> None:
    folder = adapted.folder(f"checkpoint/{paradigm}/garden/phase1")
    recipe = {"method": "linear", "sources": [{"name": "garden", "path": str(folder)}]}
    if BlockTable.read(folder) is not None:
        recipe["blocks"] = {"backbone": "merge", "*": "keep_all"}
    merge(recipe, tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("adapter*"))
    _, plain = load_checkpoint(tmp_path / "plain")
    _, adapter = load_checkpoint(folder)
    assert all(adapter.state_dict()[name].equal(tensor) for name, tensor in plain.state_dict().items())


def test_a_store_may_be_moved(adapted: Built, tmp_path: Path) -> None:
    moved = adapted.copy(tmp_path)
    with open_source(moved.folder("checkpoint/text/garden/phase1")) as source:
        assert isinstance(source, LoraFolder)
        assert source.under.path.resolve() == moved.folder("base/text").resolve()


def test_nothing_is_built_from_an_adapter_whose_model_is_damaged(adapted: Built, tmp_path: Path) -> None:
    damaged = adapted.copy(tmp_path)
    weights = damaged.folder("base/semb") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    cell = named(damaged.cells, "evaluation/semb/garden/phase1")
    shutil.rmtree(damaged.store.folder(cell.address))
    with pytest.raises(DamagedFilesError, match=r"base/semb"):
        build_cell(cell, damaged.grid, damaged.store)


def test_only_checkpoints_and_what_comes_of_them_depend_on_it(tmp_path: Path) -> None:
    plain, adapters = fingerprints(planned(tmp_path, text=PLAIN)), fingerprints(planned(tmp_path, text=GRID))
    assert plain.keys() == adapters.keys()
    moved = {name for name in plain if plain[name] != adapters[name]}
    assert moved == {
        name for name in plain if name.startswith(("checkpoint/", "evaluation/")) and "/baseline/" not in name
    }


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "paradigms.sasrec={lora={rank=4}}",
            r"paradigms\.sasrec\.lora: sasrec starts from no backbone, so there are no weights",
        ),
        ("paradigms.text.lora={ranks=4}", r"paradigms\.text\.lora\.ranks: unknown key; did you mean rank\?"),
        ("paradigms.text={lora={}, base_decay=1}", r"paradigms\.text: base_decay goes without lora"),
        ("paradigms.text.lora={rank=0}", r"paradigms\.text\.lora\.rank: "),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(GridError, match=words):
        load_grid(write_grid(tmp_path, PLAIN), [setting])


def test_what_needs_a_whole_model_says_how_to_get_one(adapted: Built, tmp_path: Path) -> None:
    folder = adapted.folder("checkpoint/semb/garden/phase1")
    with pytest.raises(HubError, match=r"is a LoRA adapter on \.\./.*`mmgrid merge` with `method: linear`"):
        push(folder, "somebody/adapter")
    external = f'checkpoints=[{{paradigm="semb", domain="garden", phase="phase1", path="{folder}"}}]'
    with pytest.raises(GridError, match=r"is a LoRA adapter; merge it into its model first"):
        planned(tmp_path, external)


def test_adapters_are_kept_as_they_are_where_weights_are_kept_as_changes(tmp_path: Path) -> None:
    """They are small already. SASRec beside them has no adapter."""
    cells = planned(tmp_path, 'store.keep="delta"', "paradigms.sasrec={}", text=GRID)
    exact = {cell.name.split("/")[1] for cell in cells if cell.temporary}
    assert exact == {"sasrec"}
    kept = named(cells, "checkpoint/semb/garden/phase2")
    assert "exact" not in kept.upstream
    assert fingerprints(planned(tmp_path, text=GRID))[kept.name] == kept.fingerprint
