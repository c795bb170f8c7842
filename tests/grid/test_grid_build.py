"""Builders: the right weights from the right data, and nothing from the future."""

from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from kits.tiny_grid import BASELINES, Built, bytes_below, cells_of, mmgrid, named, write_raw_grid
from mmgrid.grid.builders.workplace import Workplace
from mmgrid.grid.cells.cell import with_upstream
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.file.spec import TrainingSpec
from mmgrid.merging.verify import verify
from mmgrid.runners import run_local

T1_MS, T2_MS = 1_664_582_400_000, 1_672_531_200_000  # 2022-10-01, 2023-01-01


def _build(built: Built, names: list[str], *settings: str) -> dict[str, Path]:
    """Build these cells, and what they need, of the grid with these settings; returns their folders."""
    grid = load_grid(built.file, settings)
    cells = [named(cells_of(grid), name) for name in names]
    outcome = run_local(with_upstream(cells), grid, built.store, jobs=1)
    assert outcome.complete, outcome
    return {cell.name: built.store.folder(cell.address) for cell in cells}


def test_a_checkpoint_does_not_depend_on_data_after_its_phase(built: Built, copied: Built) -> None:
    """Training phase1 again without any data from t1 on gives the same bytes."""
    names = [f"checkpoint/{paradigm}/garden/phase1" for paradigm in ("semb", "sasrec")]
    for name in names:
        copied.store.remove(named(copied.cells, name).address)
    interactions = copied.folder("corpus/garden") / "interactions.parquet"
    table = pl.read_parquet(interactions)
    earlier = table.filter(pl.col("timestamp") < T1_MS)
    assert len(earlier) < len(table)
    metadata = {key: value for key, value in pl.read_parquet_metadata(interactions).items() if key != "ARROW:schema"}
    earlier.write_parquet(interactions, metadata=metadata)
    for name, folder in _build(copied, names).items():
        assert (folder / "model.safetensors").read_bytes() == (built.folder(name) / "model.safetensors").read_bytes()


def test_weights_have_the_permissions_of_the_record(built: Built) -> None:
    weights = list(built.root.rglob("*.safetensors"))
    assert weights
    for path in weights:
        assert path.stat().st_mode == (path.parent / "record.json").stat().st_mode


def test_a_stored_merge_ranks_like_one_in_memory(built: Built, copied: Built) -> None:
    merge, evaluation = "merge/semb/linear=garden+kitchen", "evaluation/semb/kitchen/linear=garden+kitchen"
    folders = _build(copied, [merge, evaluation], 'merges=[{kind="cross_domain", keep=true}]')
    assert folders[evaluation] != built.folder(evaluation)
    for name in ("ranks.parquet", "rows.parquet"):
        assert (folders[evaluation] / name).read_bytes() == (built.folder(evaluation) / name).read_bytes()

    weights, first, second = (
        load_file(folder / "model.safetensors")
        for folder in (folders[merge], *(built.folder(f"checkpoint/semb/{d}/phase2") for d in ("garden", "kitchen")))
    )
    assert weights.keys() == first.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, (first[name] + second[name]) / 2)
    assert verify(folders[merge]).equal, "its record finds the sources from where the cell stands"

    kitchen = built.folder("corpus/kitchen")
    rows = mmgrid("evaluate", folders[merge], "--domain-dir", kitchen, "--grid", built.file, "--json").json
    known = pl.read_parquet(built.folder(evaluation) / "rows.parquet")
    assert [row["value"] for row in rows] == pytest.approx(known["value"].to_list())


def test_a_pretrained_backbone_is_copied_from_a_folder(built: Built, copied: Built, tmp_path: Path) -> None:
    """The tiny backbone, used as a pretrained one, gives the same Θ⁽⁰⁾, even after its folder is deleted."""
    (tmp_path / "llm").mkdir()
    for name, data in bytes_below(built.folder("backbone/tiny")).items():
        if name != "record.json":
            (tmp_path / "llm" / name).write_bytes(data)
    settings = ('backbone={kind="pretrained", path="llm"}', "paradigms.semb.text_tokens=32")
    folders = _build(copied, ["backbone/pretrained", "base/semb"], *settings)
    one, other = (
        load_file(folder / "model.safetensors") for folder in (folders["base/semb"], built.folder("base/semb"))
    )
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert (folders["backbone/pretrained"] / "tokenizer.json").is_file()


def test_tuning_on_phase2_ranks_the_open_catalogue_before_t2(copied: Built) -> None:
    settings = ('evaluation.target="phase2"', 'data.catalogue="open"')
    names = ["evaluation/sasrec/garden/all", "evaluation/sasrec/garden/phase1", "evaluation/baseline/garden/popularity"]
    folders = _build(copied, names, *settings)
    interactions = pl.read_parquet(copied.folder("corpus/garden") / "interactions.parquet")
    before = interactions.filter(pl.col("timestamp") < T2_MS)
    last = before.group_by("user_id").agg(pl.col("timestamp").max(), pl.len())
    tested = last.filter((pl.col("timestamp") >= T1_MS) & (pl.col("len") > 1))["user_id"]
    items = pl.read_parquet(copied.folder("corpus/garden") / "items.parquet").sort("item_id")["item_id"]
    seen = set(before.filter(pl.col("timestamp") < T1_MS)["item_id"])
    for folder in folders.values():
        ranks = pl.read_parquet(folder / "ranks.parquet")
        assert set(ranks["user_id"]) == set(tested)
        new = [items[row] not in seen for row in ranks["target"]]
        assert [rank == -1 for rank in ranks["rank"]] == new  # what nobody could know counts as a miss
        assert any(new)
        assert not all(new)


def test_seeds_share_a_sample_and_are_distinguished(tmp_path: Path) -> None:
    file, store = write_raw_grid(tmp_path), tmp_path / "runs"
    arguments = (file, "--store", store, "--set", "seeds=[3, 5]", "--set", "evaluation.max_users=11")
    first = mmgrid("run", *arguments, "--only", BASELINES, "--jobs", "1", "--json").outcome
    assert sorted(first["built"]) == sorted(
        ["corpus/garden", "corpus/kitchen"]
        + [
            f"evaluation/baseline/{domain}/{model}/seed={seed}"
            for domain in ("garden", "kitchen")
            for model in ("popularity", "random")
            for seed in (3, 5)
        ]
    )
    again = mmgrid("run", *arguments, "--only", BASELINES, "--json").outcome
    assert (again["built"], sorted(again["present"])) == ([], sorted(first["built"]))

    rows = mmgrid("results", *arguments, "--json").json
    assert {row["seed"] for row in rows} == {3, 5}
    assert {row["n_users"] for row in rows if row["group"] == "all"} == {11}
    text = mmgrid("results", *arguments).out
    for seed in (3, 5):
        assert text.count(f" popularity seed={seed} ") == 2
    sampled = {
        tuple(pl.read_parquet(path)["user_id"]) for path in store.glob("evaluation/baseline/garden/*/*/*/ranks.parquet")
    }
    assert len(sampled) == 1


def test_the_environment_sets_the_interval_of_step_checkpoints(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Workplace(tmp_path)
    for text, seconds in (("", 60.0), ("0", 0.0), ("2.5", 2.5)):
        monkeypatch.setenv("MMGRID_SAVE_SECONDS", text)
        assert job.save_seconds(60.0) == seconds
    for text in ("soon", "-1", "nan"):
        monkeypatch.setenv("MMGRID_SAVE_SECONDS", text)
        with pytest.raises(ValueError, match=f"MMGRID_SAVE_SECONDS is '{text}': must be a number of seconds"):
            job.save_seconds(60.0)
    monkeypatch.delenv("MMGRID_SAVE_SECONDS")
    assert Workplace(tmp_path, training=TrainingSpec(save_minutes=10)).save_seconds(60.0) == 600.0
