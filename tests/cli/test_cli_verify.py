"""Damage from outside is found: by `verify` in every file, by the other commands before they use or show it."""

from pathlib import Path

import pytest

from kits.tiny_grid import Built, mmgrid, named

CHECKPOINT, RANKED = "checkpoint/sasrec/garden/phase2", "evaluation/sasrec/garden/phase2"


def _flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


def _files(grid: Built) -> dict[Path, str]:
    """File → cell, for every file of every cell but the records."""
    return {folder / name: address.name for address, folder, record in grid.store.entries() for name in record.files}


def test_a_sound_store_is_verified(built: Built) -> None:
    answer = mmgrid("verify", "--store", built.root)
    assert answer.code == 0
    assert answer.out.startswith(f"{len(built.cells)} cells, ")
    assert answer.out.endswith(": every file is as it was recorded\n")
    facts = mmgrid("verify", built.file, "--store", built.root, "--json").json
    assert (facts["cells"], facts["damaged"]) == (len(built.cells), [])
    assert facts["bytes"] == sum(built.store.size(cell.address) for cell in built.cells)


def test_one_changed_bit_is_found_in_every_file_of_every_cell(copied: Built) -> None:
    files = _files(copied)
    assert {name.partition("/")[0] for name in files.values()} == {cell.kind for cell in copied.cells}
    for place, path in enumerate(files):
        if path.stat().st_size:
            _flip(path, (place % 10) / 10)
    answer = mmgrid("verify", "--store", copied.root)
    assert answer.code == 1
    for path, name in files.items():
        if path.stat().st_size:
            assert f"damaged {name}: {path}: its content differs from the record\n" in answer.out
    n = len(copied.cells)
    assert f"{n} of {n} cells are damaged; `mmgrid verify --repair` sets them aside, and" in answer.out


def test_damaged_cells_are_set_aside_and_built_again(copied: Built) -> None:
    ranks = (copied.folder(RANKED) / "ranks.parquet").read_bytes()
    _flip(copied.folder(RANKED) / "ranks.parquet")
    (copied.folder("evaluation/baseline/garden/random") / "record.json").write_bytes(b"{")
    (copied.folder("corpus/kitchen") / "extra.bin").write_bytes(b"")
    (copied.folder(CHECKPOINT) / "config.json").unlink()
    cells = {RANKED, "evaluation/baseline/garden/random", "corpus/kitchen", CHECKPOINT}
    only = mmgrid("verify", copied.file, "--store", copied.root, "--set", "paradigms.sasrec.epochs=3", "--json")
    assert {found["cell"] for found in only.json["damaged"]} == cells - {RANKED, CHECKPOINT}
    answer = mmgrid("verify", copied.file, "--store", copied.root, "--set-aside", "--json")
    assert answer.code == 1
    assert {found["cell"] for found in answer.json["damaged"]} == cells
    assert all(Path(found["set_aside"]).is_dir() for found in answer.json["damaged"])
    assert mmgrid("verify", "--store", copied.root).code == 0
    states = {
        cell["name"]: cell["state"] for cell in mmgrid("plan", copied.file, "--store", copied.root, "--json").json
    }
    assert {name for name, state in states.items() if state == "missing"} == cells
    assert mmgrid("run", copied.file, "--store", copied.root, "--only", RANKED).code == 0
    assert (copied.folder(RANKED) / "ranks.parquet").read_bytes() == ranks


def test_a_cell_a_folder_or_a_store_can_be_verified_alone(copied: Built, tmp_path: Path) -> None:
    _flip(copied.folder(RANKED) / "ranks.parquet")
    for what, cells in ((CHECKPOINT, 1), (copied.folder(CHECKPOINT), 1), ("checkpoint/sasrec/*", None)):
        sound = mmgrid("verify", what, "--store", copied.root, "--json")
        assert (sound.code, sound.json["damaged"]) == (0, [])
        assert cells is None or sound.json["cells"] == cells
    for what in (RANKED, copied.folder(RANKED), copied.root / "evaluation", copied.root):
        assert mmgrid("verify", what, "--store", copied.root).code == 1
    for what, says in (("corpus/attic", "no cell of the store"), (tmp_path, "neither a store")):
        answer = mmgrid("verify", what, "--store", copied.root)
        assert answer.code == 1
        assert says in answer.err


def test_a_deep_look_finds_changed_records_and_foreign_files(copied: Built) -> None:
    assert mmgrid("verify", copied.root, "--deep").code == 0
    record = copied.folder(RANKED) / "record.json"
    record.write_bytes(record.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    stranger = copied.root / "corpus" / "notes.txt"
    stranger.write_text("mine")
    assert mmgrid("verify", copied.root).code == 0
    found = mmgrid("verify", copied.root, "--deep", "--repair", "--json")
    assert found.code == 1
    assert [one["cell"] for one in found.json["damaged"]] == [RANKED]
    assert "are not those of its fingerprint" in found.json["damaged"][0]["problems"][0]
    assert found.json["foreign"] == [str(stranger)]
    assert not copied.folder(RANKED).exists()
    stranger.unlink()
    assert mmgrid("verify", copied.root, "--deep").code == 0


@pytest.mark.parametrize("damage", ["missing", "resized"])
def test_every_command_sees_missing_and_resized_files(copied: Built, damage: str) -> None:
    path = copied.folder(CHECKPOINT) / "model.safetensors"
    content = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(content[:-1])
    store, says = ("--store", copied.root), f"{CHECKPOINT} is damaged: {path}: "
    plan = {cell["name"]: cell for cell in mmgrid("plan", copied.file, *store, "--json").json}
    assert [name for name, cell in plan.items() if cell["state"] == "damaged"] == [CHECKPOINT]
    assert plan[CHECKPOINT]["problem"].startswith(says)
    assert mmgrid("plan", copied.file, *store).err.startswith(f"mmgrid: {says}")
    assert f"damaged: {path}: " in mmgrid("status", *store).out
    assert mmgrid("results", copied.file, *store).err.startswith(f"mmgrid: {says}")
    for command in (("path",), ("why",)):
        assert mmgrid(*command, copied.file, CHECKPOINT, *store).err.startswith(f"mmgrid: {says}")
    if damage == "resized":
        return  # a run takes both alike
    copied.store.remove(named(copied.cells, RANKED).address)
    assert mmgrid("plan", copied.file, *store, "--json").json[0]["state"] == "built"
    assert f"{RANKED.rpartition('/')[2]}  missing" in mmgrid("plan", copied.file, *store).out  # and not blocked
    run = mmgrid("run", copied.file, *store)
    assert run.code == 0
    assert f"damaged {says}" in run.out
    assert "it is set aside and built again\n" in run.out
    assert "2 built, " in run.out
    assert path.read_bytes() == content
    assert mmgrid("status", *store).out.count("left over: ") == 1


def test_a_damaged_table_is_one_line_and_never_a_wrong_number(copied: Built, tmp_path: Path) -> None:
    path = copied.folder(RANKED) / "rows.parquet"
    sound = path.read_bytes()
    for place in (0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999):
        _flip(path, place)
        answer = mmgrid("results", copied.file, "--store", copied.root)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith(f"mmgrid: {RANKED} is damaged: {path}: its content differs from the record; ")
        assert answer.err.count("\n") == 1
        path.write_bytes(sound)
    for name, file in (
        (CHECKPOINT, "training.json"),
        ("corpus/garden", "interactions.parquet"),
        ("evaluation/semb/garden/linear=garden+kitchen", "ranks.parquet"),
    ):
        torn = copied.folder(name) / file
        sound = torn.read_bytes()
        _flip(torn)
        answer = mmgrid("report", copied.file, "--store", copied.root, "-o", tmp_path / "r.html", "--no-figures")
        assert answer.code == 1
        assert answer.err.startswith(f"mmgrid: {name} is damaged: {torn}: ")
        assert answer.err.count("\n") == 1
        assert not (tmp_path / "r.html").exists()
        torn.write_bytes(sound)
    assert mmgrid("results", copied.file, "--store", copied.root).code == 0


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_no_recommendation_comes_from_damaged_weights(copied: Built, file: str) -> None:
    path = copied.folder(CHECKPOINT) / file
    _flip(path, 0.99)
    for command in (("evaluate",), ("recommend", "--history", "x")):
        words = (command[0], CHECKPOINT, "--grid", copied.file, *command[1:])
        answer = mmgrid(*words, "--store", copied.root)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith(f"mmgrid: {CHECKPOINT} is damaged: {path}: ")


def test_a_cell_of_a_newer_version_is_left_alone_and_said(copied: Built, tmp_path: Path) -> None:
    record = copied.folder(RANKED) / "record.json"
    newer = record.read_text().replace("{", '{"kept_for": "a later version", ', 1)
    record.write_text(newer)
    says = f"{record}: holds kept_for, which this version of mmgrid does not know; a newer one may have written it"
    answer = mmgrid("verify", copied.root, "--deep", "--repair")
    assert answer.code == 1
    assert f"newer {RANKED}: {says}" in answer.out
    assert "damaged" not in answer.out
    facts = mmgrid("verify", RANKED, "--store", copied.root, "--repair", "--json").json
    assert (facts["damaged"], [one["cell"] for one in facts["newer"]]) == ([], [RANKED])
    assert f"newer: {says}" in mmgrid("status", "--store", copied.root).out
    states = {one["name"]: one for one in mmgrid("plan", copied.file, "--store", copied.root, "--json").json}
    assert (states[RANKED]["state"], states[RANKED]["problem"].startswith(says)) == ("failed", True)
    assert mmgrid("run", copied.file, "--store", copied.root, "--only", RANKED).code == 1
    place = f"file://{tmp_path}/remote"
    pushed = mmgrid("store", "push", copied.root, place)
    assert (pushed.code, says in pushed.out) == (1, True)
    assert mmgrid("store", "verify", place, "--deep").code == 0
    assert mmgrid("gc", copied.file, "--store", copied.root, "--yes").code == 0
    assert record.read_text() == newer
    record.write_text(newer.replace('"seconds"', '"secunds"'))  # and a damaged key is no new one
    assert mmgrid("verify", RANKED, "--store", copied.root, "--json").json["damaged"]


def test_a_newer_cell_in_a_remote_store_is_no_damage(copied: Built, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/remote"
    assert mmgrid("store", "push", copied.root, place, "--only", "corpus/*").code == 0
    record = next(tmp_path.glob("remote/**/corpus/garden/**/record.json"))
    record.write_text(record.read_text().replace("{", '{"kept_for": "a later version", ', 1))
    answer = mmgrid("store", "verify", place, "--json")
    assert (answer.code, answer.json["damaged"], len(answer.json["newer"])) == (1, [], 1)
    assert "damaged" not in mmgrid("store", "verify", place).out
    pulled = mmgrid("store", "pull", tmp_path / "here", place)
    assert (pulled.code, "a newer one may have written it" in pulled.out) == (1, True)
