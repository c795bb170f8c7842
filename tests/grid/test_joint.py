"""`[[joint]]`: one model for several domains."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kits.tiny_grid import Built, fingerprints, mmgrid, named, planned
from mmgrid.data import PHASES, Corpus, joined
from mmgrid.grid.file.load import GridError
from mmgrid.grid.standing.making_time import seconds_to_make

BOTH = ("joint=[{name='both', domains=['garden', 'kitchen']}]",)


def test_a_joint_training_adds_cells_and_changes_none(tmp_path: Path) -> None:
    alone, more = fingerprints(planned(tmp_path)), fingerprints(planned(tmp_path, *BOTH))
    assert {name: more[name] for name in alone} == alone
    assert more.keys() - alone.keys() == {
        "corpus/both",
        *(f"checkpoint/semb/both/{phase}" for phase in ("pretrain", "phase1", "phase2")),
        "evaluation/semb/garden/both-phase2",
        "evaluation/semb/kitchen/both-phase2",
    }


def test_its_corpus_holds_the_histories_of_all_domains(built: Built) -> None:
    corpora = {name: Corpus.load(built.folder(f"corpus/{name}")) for name in ("garden", "kitchen")}
    both = joined(corpora, "both")
    assert len(both) == sum(map(len, corpora.values()))
    assert len(both.catalogue) == sum(len(corpus.catalogue) for corpus in corpora.values())
    for name, corpus in corpora.items():
        for user in (0, corpus.n_users - 1):
            row = int(np.flatnonzero(both.user_ids == f"{name}/{corpus.user_ids[user]}")[0])
            items = both.items[both.offsets[row] : both.offsets[row + 1]]
            own = corpus.items[corpus.offsets[user] : corpus.offsets[user + 1]]
            assert both.catalogue.ids[items].tolist() == [f"{name}/{item}" for item in corpus.catalogue.ids[own]]
            assert [both.catalogue.titles[item] for item in items] == [corpus.catalogue.titles[item] for item in own]


def test_it_is_trained_once_and_asked_about_each_domain(copied: Built) -> None:
    settings = ("--set", BOTH[0], "--set", "paradigms.semb.learning_rate=1e-4")  # so few texts collapse at a higher one
    run = mmgrid("run", copied.file, "--store", copied.root, *settings, "--only", "evaluation/semb/*/both-*")
    assert run.code == 0, run.err
    rows = mmgrid("results", copied.file, "--store", copied.root, *settings, "--json").json
    found = {row["domain"] for row in rows if row["model"] == "both-phase2" and row["metric"] == "ndcg@10"}
    assert found == {"garden", "kitchen"}


def test_it_took_the_time_of_its_own_trainings(tmp_path: Path) -> None:
    cells = planned(tmp_path, *BOTH)
    asked = [named(cells, f"evaluation/semb/{domain}/both-phase2") for domain in ("garden", "kitchen")]
    records: Any = {cell: SimpleNamespace(seconds=10.0**place, summary={}) for place, cell in enumerate(cells)}
    chain = [named(cells, f"checkpoint/semb/both/{phase}") for phase in PHASES[:-1]]
    assert seconds_to_make(asked, records) == sum(records[cell].seconds for cell in chain)
    assert seconds_to_make([named(cells, "evaluation/semb/garden/phase2")], records) == 0, "nothing beyond its own"
    del records[chain[1]]
    assert seconds_to_make(asked, records) is None


@pytest.mark.parametrize(
    ("joint", "says"),
    [
        ("{name='garden', domains=['garden', 'kitchen']}", "joint[0].name: garden is taken"),
        ("{name='both', domains=['garden', 'cellar']}", "joint[0].domains: cellar is not in the grid"),
        ("{name='a/b', domains=['garden', 'kitchen']}", "must not contain"),
        (
            "{name='both', domains=['garden', 'kitchen'], paradigms=['sasrec']}",
            "a model of sasrec knows the items of its",
        ),
    ],
)
def test_errors_name_the_entry(tmp_path: Path, joint: str, says: str) -> None:
    with pytest.raises(GridError) as raised:
        planned(tmp_path, f"joint=[{joint}]")
    assert says in str(raised.value)
