"""Searches over the numbers of a merge: their halves, their trials, and what they find."""

from pathlib import Path

import numpy as np
import pytest

from kits.tiny_grid import Built, mmgrid
from mmgrid.grid.builders import evaluation as builder
from mmgrid.grid.file.load import GridError
from mmgrid.grid.search import MergeSearch, Range, SearchError
from mmgrid.grid.search import search as search_module
from mmgrid.grid.search.front import best, front
from mmgrid.grid.search.proposals import propose
from mmgrid.grid.search.ranges import changed, read
from mmgrid.grid.search.trials import TRIALS_FILE, Trial, TrialLog
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.merging import merge
from mmgrid.store.places import lock_of

MERGE = """
[[merges]]
name       = "shared"
method     = "task_arithmetic"
weights    = { garden = 0.4, kitchen = 0.4 }
towers     = { item = { scale = 0.5 } }
paradigms  = ["semb"]
"""
SCALE = Range("scale", 0.2, 1.5)


@pytest.fixture
def session(copied: Built) -> GridStore:
    """The tiny grid with a named merge, whose sources are built."""
    copied.file.write_text(copied.file.read_text() + MERGE)
    return GridStore.open(copied.file, copied.root)


def test_a_search_finds_resumes_and_judges(session: GridStore, tmp_path: Path) -> None:
    """Stopped after two trials and gone on with, it has the trials of one that was not stopped."""
    ranges = [SCALE, Range("weights.kitchen", 0.0, 1.0)]
    straight = MergeSearch(session, "shared", ranges)
    whole = straight.run(4)
    assert [trial.number for trial in whole.trials] == [0, 1, 2, 3]
    assert whole.trials[0].values == {"scale": 1.0, "weights.kitchen": 0.4}, "the numbers of the grid file come first"
    assert len({tuple(trial.values.values()) for trial in whole.trials}) == 4
    lines = (whole.folder / TRIALS_FILE).read_text().splitlines()
    (whole.folder / TRIALS_FILE).write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])  # killed while it wrote
    seen: list[int] = []
    resumed = MergeSearch(session, "shared", ranges).run(4, lambda trial, _: seen.append(trial.number))
    assert seen == [2, 3]
    assert (resumed.trials, resumed.judged) == (whole.trials, whole.judged)
    assert (whole.folder / TRIALS_FILE).read_text().splitlines() == lines
    assert whole.best in whole.front
    assert set(whole.judged) == {-1, *(trial.number for trial in whole.front)}
    assert whole.judged[-1]["garden"].kept == 100
    (recipe,) = straight.recipes(whole.best.values).values()
    assert {source.name: source.weight for source in recipe.sources}["kitchen"] == whole.best.values["weights.kitchen"]
    merge(recipe, tmp_path / "merged", digests=False)


def test_the_judging_half_is_not_read_while_numbers_are_chosen(
    session: GridStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets of the judging half are destroyed until the trials are over: nothing changes."""
    wanted = MergeSearch(session, "shared", [SCALE])
    expected = wanted.run(3)
    real, trying = builder.known_users, [True]

    def damaged(*arguments: object):
        from dataclasses import replace

        known = real(*arguments)  # type: ignore[arg-type]
        if not trying[0]:
            return known
        judging = set(search_module.half_of(known, "judging", 0).users.user_ids.tolist())
        ours = np.array([user in judging for user in known.users.user_ids.tolist()])
        assert ours.any()
        users = replace(known.users, targets=np.where(ours, -12345, known.users.targets))
        return replace(known, users=users)

    def judged(self: MergeSearch, trials: object):
        trying[0] = False
        return original(self, trials)  # type: ignore[arg-type]

    original = MergeSearch._judged
    monkeypatch.setattr(builder, "known_users", damaged)
    monkeypatch.setattr(MergeSearch, "_judged", judged)
    (expected.folder / TRIALS_FILE).unlink()
    again = wanted.run(3)
    assert (again.trials, again.judged) == (expected.trials, expected.judged)


def test_halves_share_no_user_and_do_not_depend_on_the_others(session: GridStore) -> None:
    wanted = MergeSearch(session, "shared", [SCALE])
    cell = wanted.own_cells["garden"][0]
    corpus = session.store.folder(cell.upstream["corpus"].address)
    known = builder.known_users(corpus, session.grid.spec.phases.calendar(), cell.recipe)
    one, other = (search_module.half_of(known, half, 0).users for half in ("choosing", "judging"))
    assert not set(one.user_ids) & set(other.user_ids)
    assert sorted([*one.user_ids, *other.user_ids]) == sorted(known.users.user_ids)
    assert abs(len(one) - len(other)) <= 1
    moved = search_module.half_of(known, "choosing", 1).users
    assert set(moved.user_ids) != set(one.user_ids), "another seed, other halves"


def test_what_cannot_be_searched_is_named(session: GridStore) -> None:
    def refused(
        message: str, *ranges: Range, name: str = "shared", error: type[Exception] = SearchError, **more
    ) -> None:
        with pytest.raises(error, match=message):
            MergeSearch(session, name, ranges, **more)

    refused("nothing to search", name="shared")
    refused("there is no merge called shard; did you mean shared", SCALE, name="shard")
    refused("sasrec is not merged by shared: it is one of semb", SCALE, paradigm="sasrec")
    refused("method: is 'task_arithmetic' and no number", Range("method", 0, 1))
    refused("rules.0: there is no entry 0|there is no entry 0", Range("rules.0.scale", 0, 1))
    refused("shared: scala: unknown key; did you mean scale?", Range("scala", 0, 1))
    refused("there is no source attic", Range("weights.attic", 0, 1), error=GridError)
    refused("unknown option 'density'", Range("options.density", 0.1, 1), error=GridError)
    refused("not a metric", SCALE, metric="accuracy", error=ValueError)
    refused("scale: has two ranges", SCALE, Range("weights.garden", 0, 1), Range("scale", 0, 1))
    refused("layers: semb has no tower usr; it has item and user", Range("layers.usr/0.scale", 0, 1), error=GridError)


def test_a_learned_merge_is_not_searched(session: GridStore) -> None:
    session = GridStore.open(session.grid.file, session.store.root, ["merges[1]={name='l', learn={by='mergerec'}}"])
    with pytest.raises(SearchError, match="l: its numbers are learned by mergerec; search a merge without `learn`"):
        MergeSearch(session, "l", [SCALE])


def test_ranges_may_come_in_any_order(session: GridStore) -> None:
    ranges = [SCALE, Range("weights.kitchen", 0.0, 1.0)]
    one, other = MergeSearch(session, "shared", ranges), MergeSearch(session, "shared", ranges[::-1])
    assert one.folder == other.folder


def test_who_was_suspended_leaves_the_search_to_who_went_on(
    session: GridStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = MergeSearch(session, "shared", [SCALE])
    lock = lock_of(wanted.folder)

    def asleep(values: object) -> dict[str, float]:
        lock.write_text(lock.read_text().replace('"token": "', '"token": "of another'))
        return {"garden": 1.0, "kitchen": 1.0}

    monkeypatch.setattr(wanted, "quality", asleep)
    with pytest.raises(SearchError, match="another process goes on with this search"):
        wanted.run(1)
    assert not (wanted.folder / TRIALS_FILE).exists()


def test_sources_must_be_built(session: GridStore) -> None:
    wanted = MergeSearch(session, "shared", [SCALE])
    victim = next(cell for cell in wanted.own_cells["garden"][0].upstream.values() if cell.kind == "checkpoint")
    session.store.remove(victim.address)
    with pytest.raises(SearchError, match="checkpoint/semb/garden/phase2: not built .* mmgrid run .* --only"):
        wanted.run(1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scale=0.2..1.5", Range("scale", 0.2, 1.5)),
        ("options.density=1e-2..1:log", Range("options.density", 0.01, 1.0, log=True)),
        ("options.window=1..5:int", Range("options.window", 1, 5, whole=True)),
        ("weights.a=-1..1", Range("weights.a", -1, 1)),
        (" rules[0].scale = 0..1", Range("rules.0.scale", 0, 1)),
        ("weights.'a.b=c'=0..1", Range('weights."a.b=c"', 0, 1)),
        ("weights.'a'=0..1", Range("weights.a", 0, 1)),
    ],
)
def test_ranges_are_read(text: str, expected: Range) -> None:
    assert Range.parse(text) == expected


@pytest.mark.parametrize("text", ["scale", "scale=1", "scale=a..b", "scale=0..inf", "x=1.5..2:int", "=0..1"])
def test_what_is_no_range_is_shown_one(text: str) -> None:
    with pytest.raises(SearchError, match="must be KEY=LOW..HIGH"):
        Range.parse(text)


@pytest.mark.parametrize("key", [".scale", "towers..scale", "scale.", "rules[0.scale"])
def test_what_is_no_key_is_named(key: str) -> None:
    with pytest.raises(SearchError, match="is no key; write it like scale"):
        Range.parse(f"{key}=0..1")


def test_ranges_that_are_empty_are_refused() -> None:
    with pytest.raises(SearchError, match="1 is not less than 1"):
        Range.parse("scale=1..1")
    with pytest.raises(SearchError, match="a logarithm needs values above 0"):
        Range.parse("scale=0..1:log")


def test_numbers_are_set_where_the_path_says() -> None:
    entry = {"scale": 1.0, "options": {"density": 0.2}, "rules": [{"scale": None}], "towers": {}, "base": "backbone"}
    found = changed(entry, {"scale": 2, "options.density": 0.5, "rules.0.weights.a": 0.1, "towers.item.scale": 0.3})
    assert found["scale"] == 2
    assert found["options"] == {"density": 0.5}
    assert found["rules"] == [{"scale": None, "weights": {"a": 0.1}}]
    assert found["towers"] == {"item": {"scale": 0.3}}
    assert entry["options"] == {"density": 0.2}, "the entry itself is left as it was"
    assert read(found, "rules.0.weights.a") == 0.1
    assert read(found, "base") is read(found, "rules.3.scale") is None
    found = changed({"weights": {"a.b": 1.0}}, {'weights."a.b"': 0.5})
    assert found == {"weights": {"a.b": 0.5}}
    assert read(found, 'weights."a.b"') == 0.5
    for key in ("base", "rules.5.scale", "scale.x"):
        with pytest.raises(SearchError, match=key):
            changed(entry, {key: 1.0})


def test_proposals_depend_on_seed_and_trials_alone() -> None:
    ranges = [Range("a", 0.01, 1.0, log=True), Range("b", 1, 9, whole=True)]
    trials: list[Trial] = []
    for number in range(12):
        values = propose(ranges, trials, ["x", "y"], seed=3)
        assert values == propose(ranges, trials, ["x", "y"], seed=3)
        assert 0.01 <= values["a"] <= 1.0
        assert values["b"] in range(1, 10)
        trials.append(Trial(number, values, {"x": values["a"], "y": -values["a"] * values["b"]}))
    assert propose(ranges, trials, ["x", "y"], seed=4) != propose(ranges, trials, ["x", "y"], seed=3)


def test_the_front_and_its_best() -> None:
    def trial(number: int, x: float, y: float) -> Trial:
        return Trial(number, {}, {"x": x, "y": y})

    trials = [trial(0, 1, 4), trial(1, 2, 3), trial(2, 2, 2), trial(3, 4, 1), trial(4, 2, 3)]
    assert [one.number for one in front(trials)] == [0, 1, 3]
    assert best(trials, {"x": 4.0, "y": 4.0}).number == 1
    assert best(trials, {"x": 1.0, "y": 4.0}).number == 0
    assert best(trials, {"x": 0.0, "y": 4.0}).number == 0, "a domain whose own model finds nothing loses nothing"


def test_trials_survive_a_kill(tmp_path: Path) -> None:
    log = TrialLog(tmp_path, {"merge": "shared"})
    log.add({"scale": 0.5}, {"garden": 1.0})
    log.add({"scale": 0.7}, {"garden": 2.0})
    with (tmp_path / TRIALS_FILE).open("a") as file:
        file.write('{"number": 2, "val')
    again = TrialLog(tmp_path, {"merge": "shared"})
    assert again.trials == log.trials
    assert again.add({"scale": 0.9}, {"garden": 3.0}).number == 2
    assert TrialLog(tmp_path, {"merge": "shared"}).trials == again.trials


def test_a_damaged_trial_costs_no_other_one(tmp_path: Path) -> None:
    log = TrialLog(tmp_path, {"merge": "shared"})
    for scale in (0.5, 0.7, 0.9):
        log.add({"scale": scale}, {"garden": 1.0})
    file = tmp_path / TRIALS_FILE
    damaged = file.read_text().replace("0.7", "0,7")
    file.write_text(damaged)
    with pytest.raises(SearchError, match=r"trials.jsonl: line 2 cannot be read; remove this line"):
        TrialLog(tmp_path, {"merge": "shared"})
    assert file.read_text() == damaged


@pytest.mark.parametrize(
    "line",
    [
        '{"number": 0, "values": {"scale": "0.5"}, "quality": {"garden": 1.0}}',
        '{"number": 0, "values": {"scale": 0.5}, "quality": {"garden": NaN}}',
        '{"number": 0, "values": {"scale": 0.5}, "quality": {"attic": 1.0}}',
        '{"number": 0, "values": {}, "quality": {"garden": 1.0}}',
    ],
)
def test_a_line_of_another_search_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / TRIALS_FILE).write_text(line + "\n")
    with pytest.raises(SearchError, match=r"trials.jsonl: line 1 cannot be read; remove this line"):
        TrialLog(tmp_path, {"merge": "shared"}, ["scale"], ["garden"])


@pytest.fixture
def switched(copied: Built) -> GridStore:
    """A merge whose sources are switched on and off, so that there is none without both."""
    entry = '[[merges]]\nname = "switched"\nweights = { garden = 0, kitchen = 1 }\nparadigms = ["semb"]\n'
    copied.file.write_text(copied.file.read_text() + entry)
    return GridStore.open(copied.file, copied.root)


def test_numbers_of_which_there_is_no_merge_are_a_trial_that_failed(switched: GridStore) -> None:
    ranges = [Range("weights.garden", 0, 1, whole=True), Range("weights.kitchen", 0, 1, whole=True)]
    found = MergeSearch(switched, "switched", ranges).run(6)
    failed = [trial for trial in found.trials if trial.problem]
    assert failed
    assert all(trial.values == {"weights.garden": 0, "weights.kitchen": 0} and not trial.quality for trial in failed)
    assert not set(found.judged) & {trial.number for trial in failed}
    again = MergeSearch(switched, "switched", ranges).run(6)
    assert again.trials == found.trials


def test_a_search_without_any_merge_says_why(switched: GridStore) -> None:
    settings = ["merges[1].weights={garden=0, kitchen=0}"]
    session = GridStore.open(switched.grid.file, switched.store.root, settings)
    wanted = MergeSearch(session, "switched", [Range("weights.garden", 0, 1)])
    with pytest.raises(
        SearchError, match=r"switched: none of 1 trials is a merge; .* zero.* \(with weights.garden = 0\)"
    ):
        wanted.run(1)


@pytest.fixture
def answers(session: GridStore, tmp_path: Path) -> tuple[str, dict]:
    arguments = ["search", session.grid.file, "shared", "--store", session.store.root, "--over", "scale=0.2..1.5"]
    told = mmgrid(*arguments, "--trials", 2, "-o", tmp_path / "best.yml")
    assert told.code == 0, told.err
    return told.out, mmgrid(*arguments, "--trials", 2, "--json").json


def test_the_command(answers: tuple[str, dict], tmp_path: Path) -> None:
    out, facts = answers
    assert out.startswith("shared of semb: the Pareto front of 2 trials\n")
    assert "own models" in out
    assert f"{tmp_path / 'best.yml'}: the best merge as a recipe" in out
    assert len(facts["trials"]) == 2
    assert facts["best"] in facts["front"]
    assert set(facts["judged"]) == {"own", *(str(number) for number in facts["front"])}
    assert mmgrid("merge", tmp_path / "best.yml", tmp_path / "merged").code == 0
