"""Opening a checkpoint folder: a valid one, and each kind of invalid one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kits.small import sasrec_recipe
from mmgrid.data.calendar import PAPER_CALENDAR
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.facts import CheckpointError, CheckpointFacts, facts
from mmgrid.paradigms.sasrec.paradigm import Sasrec
from mmgrid.testing.data import make_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Sasrec(6).save(Sasrec.create(sasrec_recipe(), make_items(9), seed=0), tmp_path)
    return tmp_path


def test_a_checkpoint_declares_its_paradigm(folder: Path) -> None:
    paradigm, model = load_checkpoint(folder)
    assert (paradigm.name, paradigm.history_length, model.config.n_items) == ("sasrec", 6, 9)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_without_a_config_there_is_no_checkpoint(folder: Path, content: str | None) -> None:
    config = folder / "config.json"
    config.unlink() if content is None else config.write_text(content)
    with pytest.raises(CheckpointError, match=r"no checkpoint: its config.json cannot be read"):
        load_checkpoint(folder)


def test_another_kind_of_model_is_no_recommender(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with pytest.raises(
        CheckpointError,
        match="a 'qwen3' is no recommender: its config.json declares none of the paradigms text, semid, semb, sasrec",
    ):
        load_checkpoint(folder)


def test_a_missing_weight_is_not_drawn_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["blocks.1.out.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack blocks\.1\.out\.weight in the shape"):
        load_checkpoint(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{folder}: the checkpoint cannot be loaded"):
        load_checkpoint(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no file named model\.safetensors"):
        load_checkpoint(folder)


def test_facts_are_next_to_the_weights(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"mmgrid\.json cannot be read"):
        facts(folder)
    (folder / "mmgrid.json").write_text('{"domain": "books"}')
    assert facts(folder) == {"domain": "books"}


def test_the_end_of_a_checkpoints_training_data() -> None:
    def trained_until(**declared: object) -> int | None:
        return CheckpointFacts.of(declared).trained_until

    phases = PAPER_CALENDAR.as_dates()
    assert trained_until(phases=phases, phase="phase1") == PAPER_CALENDAR.t1
    assert trained_until(phases=phases, phase="all") == PAPER_CALENDAR.t2
    # The grid evaluates on phase2, so the model `all` is trained up to the end of phase1.
    assert trained_until(phases=phases, phase="all", recipe={"until": "phase1"}) == PAPER_CALENDAR.t1
    assert trained_until(phases=phases, phase=None) is None
    assert trained_until(format=1) is None


def test_a_merge_declares_what_its_sources_agree_on() -> None:
    phases = PAPER_CALENDAR.as_dates()
    books = {"paradigm": "semb", "domain": "books", "phase": "phase1", "phases": phases, "recipe": {"seed": 3}}
    toys = {**books, "domain": "toys", "phase": "phase2", "recipe": {"seed": 4}}
    found = CheckpointFacts.of({"recipe": {"method": "ties"}, "made_from": {"a": books, "b": toys}})
    assert (found.paradigm, found.domains, found.phase) == ("semb", ("books", "toys"), "")
    assert (found.calendar, found.trained_until, found.seed) == (PAPER_CALENDAR, PAPER_CALENDAR.t2, None)
