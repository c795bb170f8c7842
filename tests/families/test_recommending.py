"""A domain of a family recommends like the checkpoint that it expands to, in every paradigm, without being written."""

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmgrid
from kits.small import make_tokenizer, sasrec_recipe, semb_recipe, semid_recipe, text_recipe, untrained
from mmgrid.families import build, compress, expand
from mmgrid.merging import MergeError
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.testing.data import make_items

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
RECIPES = {"sasrec": sasrec_recipe(), "semb": semb_recipe(), "text": text_recipe(), "semid": semid_recipe()}


def saved(folder: Path, paradigm: str, domain: str, seed: int) -> Path:
    """A checkpoint whose weights are a little away from those that every domain starts from."""
    folder.mkdir()
    instance, model = untrained(RECIPES[paradigm], ITEMS, TOKENIZER, block=f"{domain}/12345678")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.01 * seed * torch.randn(weight.shape, generator=generator)
    instance.save(model, folder)
    about = {"paradigm": paradigm, "domain": domain, "phase": "phase2"} | instance.facts(model)
    (folder / "mmgrid.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(params=RECIPES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for number, name in enumerate(("base", "garden", "kitchen")):
        saved(tmp_path / name, request.param, name, number)
    return tmp_path


def _same(one: tuple[Any, torch.nn.Module], other: tuple[Any, torch.nn.Module]) -> None:
    assert type(one[0]) is type(other[0])
    assert type(one[1]) is type(other[1])
    mine, theirs = one[1].state_dict(), other[1].state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert one[1].training == other[1].training


def test_the_model_in_memory_is_that_of_the_expanded_checkpoint(place: Path) -> None:
    sources = [{"path": str(place / name)} for name in ("garden", "kitchen")]
    spec = {"part": {"kind": "delta", "bits": 4}, "rules": [{"tensors": "*.0.*", "part": "exact"}]}
    build({"method": "linear", "sources": sources, "family": spec}, place / "family")
    for domain in ("garden", "kitchen"):
        expand(place / "family", place / f"out-{domain}", domain=domain)
        _same(load_checkpoint(place / "family", domain=domain), load_checkpoint(place / f"out-{domain}"))
    files = {file.name for file in (place / "out-garden").iterdir()}
    assert files - {"expansion.json"} == {file.name for file in (place / "garden").iterdir()}
    for file in files - {"expansion.json", "model.safetensors"}:
        assert (place / "out-garden" / file).read_bytes() == (place / "garden" / file).read_bytes()


def test_a_compressed_checkpoint_loads_like_the_checkpoint(place: Path) -> None:
    compress(place / "garden", place / "base", place / "small", part="exact")
    _same(load_checkpoint(place / "small"), load_checkpoint(place / "garden"))
    recommender = mmgrid.open_checkpoint(place / "small")
    assert recommender.facts.domains == ("garden",)


@pytest.fixture
def family(tmp_path: Path) -> Path:
    for number, name in enumerate(("garden", "kitchen")):
        saved(tmp_path / name, "sasrec", name, number)
    sources = [{"path": str(tmp_path / name)} for name in ("garden", "kitchen")]
    build(
        {"method": "linear", "sources": sources, "family": {"part": {"kind": "delta", "bits": 8}}}, tmp_path / "family"
    )
    return tmp_path / "family"


def test_open_checkpoint_takes_a_domain(family: Path) -> None:
    opened = mmgrid.open_checkpoint(family, domain="kitchen")
    assert opened.facts.domains == ("kitchen",)
    temporary = opened.folder
    assert temporary.is_dir()
    assert not list(temporary.glob("*.safetensors")), "the weights are in no file"
    del opened
    gc.collect()
    assert not temporary.exists()
    assert mmgrid.open_checkpoint(family / "parts/garden").facts.domains == ("garden",)


def test_a_domain_must_be_known_and_named(family: Path) -> None:
    with pytest.raises(MergeError, match="has no domain 'attic'; it has garden, kitchen"):
        mmgrid.open_checkpoint(family, domain="attic")
    with pytest.raises(MergeError, match="is a family of garden, kitchen; say which domain"):
        mmgrid.open_checkpoint(family)
    with pytest.raises(CheckpointError, match="is one checkpoint and no family"):
        mmgrid.open_checkpoint(family.parent / "garden", domain="garden")


def test_a_family_of_masks_recommends_too(tmp_path: Path) -> None:
    for number, name in enumerate(("base", "garden", "kitchen")):
        saved(tmp_path / name, "semb", name, number)
    sources = [{"path": str(tmp_path / name)} for name in ("garden", "kitchen")]
    recipe = {"base": str(tmp_path / "base"), "method": "emr", "sources": sources, "family": {"part": "mask"}}
    build(recipe, tmp_path / "family")
    expand(tmp_path / "family", tmp_path / "out", domain="garden")
    _same(load_checkpoint(tmp_path / "family", domain="garden"), load_checkpoint(tmp_path / "out"))
    paradigm, model = load_checkpoint(tmp_path / "family", domain="garden")
    assert np.isfinite(paradigm.item_vectors(model, ITEMS).numpy()).all()
