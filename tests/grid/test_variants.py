"""`[[variants]]`: the newest phase, trained in another way; and examples of earlier phases mixed into a later one."""

from pathlib import Path
from typing import Any

import pytest

from kits.tiny_grid import Built, fingerprints, mmgrid, named, planned
from mmgrid.grid.file.load import GridError

FURTHER = "{name='further', start='newest', set={epochs=1}, domains=['garden'], paradigms=['semb']}"
REHEARSED = "{name='rehearsed', set={rehearsal=0.5}}"
ASKED = ("further", "semb")


def _is_kept(row: dict[str, Any]) -> bool:
    return (row["paradigm"], row["domain"], row["group"], row["metric"]) == ("semb", "garden", "all", "ndcg@10")


def test_variants_add_cells_and_change_none(tmp_path: Path) -> None:
    alone = fingerprints(planned(tmp_path))
    more = fingerprints(planned(tmp_path, f"variants=[{FURTHER}, {REHEARSED}]"))
    assert {name: more[name] for name in alone} == alone
    assert more.keys() - alone.keys() == {
        *(f"{kind}/semb/garden/further" for kind in ("checkpoint", "evaluation")),
        *(
            f"{kind}/{paradigm}/{domain}/rehearsed"
            for kind in ("checkpoint", "evaluation")
            for paradigm in ("semb", "sasrec")
            for domain in ("garden", "kitchen")
        ),
    }


def test_a_variant_goes_on_from_the_newest_checkpoint_or_from_the_one_before(tmp_path: Path) -> None:
    cells = planned(tmp_path, f"variants=[{FURTHER}, {REHEARSED}]")
    further, anew = (named(cells, f"checkpoint/semb/garden/{name}") for name in ("further", "rehearsed"))
    assert further.upstream["start"].name == "checkpoint/semb/garden/phase2"
    assert anew.upstream["start"].name == "checkpoint/semb/garden/phase1"
    assert (further.recipe["phase"], further.recipe["epochs"]) == ("phase2", 1)
    assert anew.recipe["rehearsal"] == 0.5
    own = named(cells, "checkpoint/semb/garden/phase2").recipe
    assert {key: value for key, value in anew.recipe.items() if key != "rehearsal"} == own


def test_rehearsal_enters_later_phases_only(tmp_path: Path) -> None:
    cells = planned(tmp_path, "paradigms.semb.rehearsal=0.25")
    has = {
        phase: "rehearsal" in named(cells, f"checkpoint/semb/garden/{phase}").recipe
        for phase in ("pretrain", "phase1", "phase2")
    }
    assert has == {"pretrain": False, "phase1": True, "phase2": True}


def test_variants_are_trained_and_shown_beside_the_grids_own(copied: Built) -> None:
    settings = ("--set", f"variants=[{FURTHER}, {REHEARSED}]")
    run = mmgrid("run", copied.file, "--store", copied.root, *settings, "--only", "evaluation/*/garden/*e*r*", "--json")
    assert run.code == 0, run.err
    cells = planned(copied.file.parent, settings[1])

    def told(model: str, what: str) -> int:
        value = copied.store.record(named(cells, f"checkpoint/semb/garden/{model}").address).summary[what]
        assert isinstance(value, int)
        return value

    own = told("phase2", "examples")
    assert told("rehearsed", "examples") == own + round(0.5 * own)
    assert told("further", "steps") <= told("phase2", "steps")
    rows = mmgrid("results", copied.file, "--store", copied.root, *settings, "--json").json
    shown = {(row["paradigm"], row["model"]) for row in rows if row["domain"] == "garden"}
    assert {("semb", "further"), ("semb", "rehearsed"), ("sasrec", "rehearsed")} <= shown
    compared = mmgrid("results", copied.file, "--store", copied.root, *settings, "--merges", "--json").json
    (row,) = (
        row for row in compared["served"] if (row["merge"], row["paradigm"], row["metric"]) == (*ASKED, "ndcg@10")
    )
    seconds = copied.store.record(named(cells, "checkpoint/semb/garden/further").address).seconds
    assert (row["way"], row["domains"], row["checkpoints"]) == ("other training", 1, pytest.approx(1.0, abs=0.01))
    assert row["minutes"] == pytest.approx(seconds / 60)
    (kept,) = (row for row in compared["kept"] if (row["merge"], row["paradigm"], row["metric"]) == (*ASKED, "ndcg@10"))
    values = {row["model"]: row["value"] for row in rows if _is_kept(row)}
    assert kept["kept"] == pytest.approx(100 * values["further"] / values["phase2"])


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ("{name='phase1', set={epochs=1}}", "variants[0].name: phase1 is taken"),
        ("{name='a/b', set={epochs=1}}", "must not contain"),
        ("{name='v', set={epochs=1}, domains=['cellar']}", "variants[0].domains: cellar is not in the grid"),
        ("{name='v', set={epochs=1}, paradigms=['text']}", "variants[0].paradigms: text is not in the grid"),
        ("{name='v', set={negatives=8}}", "variants[0].set: negatives is no value of sasrec"),
        ("{name='v', set={epoch=8}}", "variants[0].set: epoch is no value of semb; did you mean epochs?"),
        ("{name='v', set={epochs='many'}}", "variants[0].set.epochs"),
        ("{name='v'}", "variants[0]: is the grid's own training"),
    ],
)
def test_errors_name_the_entry(tmp_path: Path, variant: str, says: str) -> None:
    with pytest.raises(GridError) as raised:
        planned(tmp_path, f"variants=[{variant}]")
    assert says in str(raised.value)


def test_later_phases_that_decay_towards_the_base_read_it(tmp_path: Path) -> None:
    plain = fingerprints(planned(tmp_path))
    cells = planned(tmp_path, "paradigms.semb.base_decay=1")
    assert fingerprints(planned(tmp_path, "paradigms.semb.base_decay=0")) == plain
    chain = {phase: named(cells, f"checkpoint/semb/garden/{phase}") for phase in ("pretrain", "phase1", "phase2")}
    assert all(cell.recipe["base_decay"] == 1 for cell in chain.values())
    assert "base" not in chain["pretrain"].upstream, "it starts from it"
    assert chain["phase1"].upstream["base"] == chain["phase2"].upstream["base"] == chain["pretrain"].upstream["start"]
    assert fingerprints(cells)["checkpoint/sasrec/garden/phase2"] == plain["checkpoint/sasrec/garden/phase2"]


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("paradigms.sasrec.base_decay=1", "paradigms.sasrec.base_decay"),
        ("variants=[{name='nearer', set={base_decay=1}}]", "variants[0].set.base_decay"),
    ],
)
def test_without_a_backbone_there_is_no_base_to_decay_towards(tmp_path: Path, setting: str, place: str) -> None:
    with pytest.raises(GridError) as refused:
        planned(tmp_path, setting)
    assert f"{place}: sasrec starts from no backbone, so there is no base to decay towards" in str(refused.value)
