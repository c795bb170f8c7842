"""Small real things to train and rank with: items with texts, histories, a tokenizer, a backbone.

All are built on the spot from a seed; nothing is downloaded and nothing is a mock.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3ForCausalLM, Qwen3Model

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.tiny import create, train_tokenizer
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms import PhaseValues, SasrecRecipe, SembRecipe, SemidRecipe, TextRecipe
from mmgrid.semantic_ids.item_codes import ItemCodes

torch.set_num_threads(1)  # models this small lose more by a second thread than they gain

COLOURS = ["red", "green", "blue", "black", "white", "silver"]
SYLLABLES = ["ba", "ke", "li", "mo", "nu", "pa", "re", "so"]
THINGS = ["lamp", "chair", "kettle", "robot", "drum", "puzzle", "scarf"]
PHASE = Phase("pretrain", 0, 1_000_000)


def make_items(n: int, described: bool = True) -> Items:
    """N items, each of a name of its own, every second one with a description."""
    titles = [f"{COLOURS[i % 6]} {THINGS[i % 7]} {_name(i)}" for i in range(n)]
    descriptions = [f"a {THINGS[(i + 3) % 7]} of {i * 7} parts" if described and i % 2 else "" for i in range(n)]
    return Items(np.array([f"item{i:04d}" for i in range(n)]), titles, descriptions, np.arange(n, dtype=np.int64))


def _name(number: int) -> str:
    return "".join(SYLLABLES[number // 8**place % 8] for place in range(3))


def make_histories(
    sequences: Sequence[Sequence[int]], times: Sequence[Sequence[int]] | None = None, end: int = PHASE.end
) -> Histories:
    """Histories of these item rows; without `times`, a user's interactions lie at 0, 1, 2, …"""
    if times is None:
        times = [range(len(sequence)) for sequence in sequences]
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)])
    return Histories(
        users=np.arange(len(sequences), dtype=np.int64),
        offsets=offsets.astype(np.int64),
        items=np.array([row for sequence in sequences for row in sequence], np.int32),
        timestamps=np.array([time for row in times for time in row], np.int64),
        end=end,
    )


def random_histories(n_users: int, n_items: int, seed: int = 0, longest: int = 12) -> Histories:
    """Users with 2 to `longest` distinct random items."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, n_users)
    return make_histories([rng.choice(n_items, length, replace=False).tolist() for length in lengths])


def make_tokenizer(items: Items, vocabulary: int = 400) -> PreTrainedTokenizerFast:
    texts = [f"{title} {text}" for title, text in zip(items.titles, items.descriptions, strict=True)]
    return train_tokenizer(texts, vocabulary)


def make_backbone(
    tokenizer: PreTrainedTokenizerFast, layers: int = 3, seed: int = 0, head: bool = False, **options
) -> PreTrainedModel:
    """A Qwen3 of width 32, with its language-model head or without, as `load_model` gives one.

    Its random weights are ten times larger than usual: with the usual ones all items get nearly the same
    vector until the model is trained, and semb refuses to train on that.
    """
    recipe = TinyRecipe(
        hidden_size=32, layers=layers, heads=2, key_value_heads=1, intermediate_size=64, vocabulary=len(tokenizer)
    )
    config = create(recipe, tokenizer, seed).config
    for name, value in {"initializer_range": 0.2, **options}.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config) if head else Qwen3Model(config)


def make_sentence_model(folder: Path) -> Path:
    """A tiny Qwen3 with mean pooling, as sentence-transformers saves one; returns where."""
    import sentence_transformers
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tokenizer = make_tokenizer(make_items(30))
    make_backbone(tokenizer).save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    modules = [Transformer(str(folder / "plain")), Pooling(32, pooling_mode="mean")]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def semb_recipe(**values) -> SembRecipe:
    few = {"negatives": 24, "batch_size": 8, "history_length": 6, "text_tokens": 12, "title_tokens": 8}
    return SembRecipe(**{**few, "precision": "float32", **values})


def text_recipe(**values) -> TextRecipe:
    few = {"batch_size": 8, "history_length": 6, "text_tokens": 12, "title_tokens": 10, "titles": 3, "warmup_steps": 5}
    return TextRecipe(**{**few, "precision": "float32", **values})


def sasrec_recipe(**values) -> SasrecRecipe:
    few = {"hidden_size": 16, "intermediate_size": 32, "history_length": 6, "batch_size": 8}
    return SasrecRecipe(**{**few, **values})


def semid_recipe(**values) -> SemidRecipe:
    few = {"batch_size": 8, "history_length": 6, "text_tokens": 8, "title_tokens": 8, "earlier_items": 1}
    lists = {"beam_width": 40, "warmup_steps": 0, "learning_rate": PhaseValues(pretrain=1e-3, phase1=1e-3, phase2=1e-3)}
    return SemidRecipe(**{**few, **lists, "precision": "float32", **values})


def make_item_codes(n: int, levels: int = 3, codes: int = 8) -> ItemCodes:
    """Codes for N items, all different, in no order."""
    numbers = np.random.default_rng(0).choice(codes**levels, n, replace=False)
    table = np.stack(np.unravel_index(numbers, (codes,) * levels), axis=1)
    return ItemCodes(table.astype(np.int32), codes)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two models are equal bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def child_environment(**values: str) -> dict[str, str]:
    """The environment of a process that a test starts: one thread, no downloads, the test kits at hand."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **values}
