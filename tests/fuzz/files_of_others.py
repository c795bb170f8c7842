"""The readers of files that strangers wrote, each with a sound file to begin from."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from kits.tiny_grid import TEXT
from mmgrid.cards import checkpoint_card, licence_in
from mmgrid.grid.cells.expand import expand
from mmgrid.grid.file.load import load_grid
from mmgrid.merging.mergekit.file import parse_all
from mmgrid.merging.mergekit.read import read_mergekit
from mmgrid.merging.models.adapter_model import model_under
from mmgrid.merging.models.family.file import SCHEMA, VERSION, FamilyFile
from mmgrid.merging.models.family.place import POINTER_FILE, family_of
from mmgrid.merging.models.lora import LoraFolder
from mmgrid.merging.models.tensors import TensorFolder
from mmgrid.merging.models.tokens import Vocabulary
from mmgrid.merging.plan.prepare import prepare_merge
from mmgrid.merging.plan.recipe import MergeRecipe
from mmgrid.paradigms.facts import CheckpointFacts
from mmgrid.semantic_ids.codebook_files import read_head
from mmgrid.store import Address, Store


@dataclass(frozen=True)
class Reader:
    """A file, what it holds when it is sound, and what reads it.

    means: whether errors may also be of what the file asks for, without its name.
    """

    name: str
    file: Path
    content: bytes
    read: Callable[[], object]
    means: bool = False


def readers(folder: Path) -> Iterator[Reader]:
    """All readers; what they need is written into `folder`, which is empty."""
    yield from _of_models(folder)
    yield from _of_recipes(folder)
    yield from _of_stores(folder)
    yield from _of_checkpoints(folder)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _model(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": np.ones((8, 4), np.float32)}
    tensors |= {f"model.layers.0.{name}.weight": np.ones((4, 4), np.float32) for name in ("q_proj", "v_proj")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 1, **more}))
    return folder


def _merge(*folders: Path) -> object:
    recipe = {"method": "linear", "sources": [{"path": str(folder), "name": folder.name} for folder in folders]}
    with prepare_merge(MergeRecipe.model_validate(recipe), workers=1, digests=False) as prepared:
        return prepared.plan


def _of_models(folder: Path) -> Iterator[Reader]:
    scaling = {"type": "linear", "factor": 2.0}
    a, b = (_model(folder / name, rope_scaling=scaling) for name in "ab")
    config = a / "config.json"
    yield Reader("config.json", config, config.read_bytes(), lambda: _merge(a, b))
    adapter = folder / "adapter"
    adapter.mkdir()
    factors = {
        f"base_model.model.model.layers.0.q_proj.lora_{kind}.weight": np.ones((4, 4), np.float32) for kind in "AB"
    }
    save_file(factors, adapter / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "base_model_name_or_path": str(b),
        "alpha_pattern": {"q": 4},
    }
    settings |= {
        "rank_pattern": {},
        "use_rslora": False,
        "bias": "none",
        "trainable_token_indices": None,
        "revision": None,
    }

    def lora() -> None:
        with LoraFolder(adapter, model_under(adapter, None, b)) as opened:
            opened.read("model.layers.0.q_proj.weight", 0, 16)

    yield Reader("adapter_config.json", adapter / "adapter_config.json", _text(settings), lora, means=True)
    words = folder / "words"
    words.mkdir()
    added = {"id": 3, "content": "<s>", "special": True, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}, "added_tokens": [added]}

    def vocabulary() -> None:
        found = Vocabulary.read(words)
        assert found is not None
        found.within(4).with_tokens({"d": None})

    yield Reader("tokenizer.json", words / "tokenizer.json", _text(tokenizer), vocabulary)
    shards = _model(folder / "shards")
    (shards / "model.safetensors").rename(shards / "one.safetensors")
    names = ("model.embed_tokens.weight", "model.layers.0.q_proj.weight", "model.layers.0.v_proj.weight")
    places = dict.fromkeys(names, "one.safetensors")
    index = {"metadata": {"total_size": 256}, "weight_map": places}

    def sharded() -> None:
        with TensorFolder(shards) as opened:
            list(opened)

    yield Reader("index of shards", shards / "model.safetensors.index.json", _text(index), sharded)
    family = folder / "family"
    family.mkdir()
    yield Reader(
        "family.json",
        family / "family.json",
        _text({"schema": SCHEMA, "version": VERSION, "domains": {"books": {}}, "shared": {}}),
        lambda: FamilyFile.read(family),
    )
    note = folder / "note"
    note.mkdir()
    told = {"family": str(family), "domain": "books", "shared": str(a)}
    yield Reader("note of a family", note / POINTER_FILE, _text(told), lambda: family_of(note))


RECIPE = {
    "method": "ties",
    "base": "d",
    "options": {"density": 0.5},
    "scale": 0.5,
    "rules": [{"tensors": "*q_proj*", "method": "linear", "weights": {"c": 1.0}}],
    "sources": [{"path": "c", "name": "c", "weight": 0.5}, {"path": "d", "name": "d", "weight": 0.25}],
}
MERGEKIT = {
    "merge_method": "ties",
    "base_model": "b",
    "models": [
        {"model": "a", "parameters": {"weight": [{"filter": "q_proj", "value": 0.5}, {"value": 1}], "density": 0.5}},
        {"model": {"model": {"path": "b"}, "lora": None}, "parameters": {"weight": 0.5}},
    ],
    "parameters": {"normalize": True, "int8_mask": False},
    "dtype": "float32",
    "tokenizer_source": "base",
}
SLICES = {
    "merge_method": "slerp",
    "base_model": "a",
    "slices": [{"sources": [{"model": "a", "layer_range": [0, 1]}, {"model": "b", "layer_range": [0, 1]}]}],
    "parameters": {"t": [0.0, 0.5, 1.0]},
    "chat_template": "auto",
}


def _of_recipes(folder: Path) -> Iterator[Reader]:
    for name in ("c", "d"):
        _model(folder / name)
    recipe, kit, slices = (folder / name for name in ("recipe.yml", "mergekit.yml", "slices.yml"))

    def planned() -> object:
        with prepare_merge(MergeRecipe.load(recipe), workers=1, digests=False) as prepared:
            return prepared.plan

    yield Reader("recipe", recipe, _text(RECIPE), planned, means=True)
    yield Reader("mergekit file", kit, _text(MERGEKIT), lambda: read_mergekit(kit))
    yield Reader(
        "mergekit file with slices",
        slices,
        _text(SLICES),
        lambda: (parse_all(slices), read_mergekit(slices)),
        means=True,
    )
    grid = folder / "grid.toml"
    yield Reader("grid file", grid, TEXT.encode(), lambda: expand(load_grid(grid), lambda *_: "0" * 64))


def _of_stores(folder: Path) -> Iterator[Reader]:
    store = Store(folder / "runs")
    address = Address("corpus", ("books",), "ab" * 32)
    record = store.build(address, {"seed": 0}, {"base": {"name": "backbone", "fingerprint": "cd" * 32}}, _made)
    assert record is not None
    file = store.folder(address) / "record.json"

    def looked_at() -> None:
        fresh = Store(store.root)
        for look in (fresh.entries, fresh.damaged, fresh.leftovers):
            list(look())
        fresh.versions_of("corpus/books")
        fresh.sound(address)

    yield Reader("record.json", file, file.read_bytes(), looked_at)
    mark = store.root / "store.json"
    yield Reader("store.json", mark, mark.read_bytes(), lambda: Store(store.root))
    other = Address("corpus", ("toys",), "ef" * 32)
    store.note_failure(other, "wrong", [address])
    failed = store.root / "corpus" / "toys" / "failed.json"
    yield Reader("failed.json", failed, failed.read_bytes(), lambda: (store.failures(), store.failure(other)))
    lock = store.root / "corpus" / "toys" / "efefefef.lock"
    held = {"host": "here", "machine": "boot", "pid": 1, "start": "1", "token": "0" * 32, "since": ""}
    yield Reader("lock", lock, _text(held), lambda: (store.leftovers(), Store(store.root).build(other, {}, {}, _made)))


def _made(work: Path) -> dict[str, Any]:
    (work / "a.bin").write_bytes(b"a")
    return {}


def _of_checkpoints(folder: Path) -> Iterator[Reader]:
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    phases = {
        name: [f"{year}-01-01", f"{year + 1}-01-01"] for year, name in enumerate(("pretrain", "phase1", "phase2"), 2020)
    }
    phases["test"] = ["2023-01-01", "2024-01-01"]
    one = {
        "paradigm": "semb",
        "domain": "books",
        "phase": "phase1",
        "phases": phases,
        "recipe": {"seed": 0, "threads": 1},
    }
    one |= {"evaluation": {"target": "test"}, "origin": {"base_model": "a/b", "license": "mit", "datasets": ["c/d"]}}
    facts = one | {"made_from": {"x": one, "y": one}, "report": {"merged": []}}
    file = checkpoint / "mmgrid.json"
    yield Reader("mmgrid.json", file, _text(facts), lambda: CheckpointFacts.read(checkpoint))
    yield Reader("card of mmgrid.json", file, _text(facts), lambda: checkpoint_card(checkpoint))
    card = checkpoint / "README.md"
    yield Reader(
        "card", card, b"---\nlicense: mit\ntags: [a, b]\nlanguage: en\n---\n# Title\n", lambda: licence_in(checkpoint)
    )
    codebook = folder / "codebook"
    codebook.mkdir()
    head = {"format": 1, "kind": "residual_kmeans", "recipe": {"levels": 2, "codes": 4}}
    yield Reader("codebook.json", codebook / "codebook.json", _text(head), lambda: read_head(codebook))
