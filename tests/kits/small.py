"""Small real objects for training and ranking: items with texts, histories, a tokenizer, a backbone.

All are generated from a seed; nothing is downloaded or mocked.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3ForCausalLM, Qwen3Model

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.tiny import create, train_tokenizer
from mmgrid.data import Items
from mmgrid.paradigms import PhaseValues
from mmgrid.paradigms.sasrec.spec import SasrecRecipe
from mmgrid.paradigms.semb.spec import SembRecipe
from mmgrid.paradigms.semid.spec import SemidRecipe
from mmgrid.paradigms.text.spec import TextRecipe
from mmgrid.semantic_ids.item_codes import ItemCodes
from mmgrid.testing.data import make_items

torch.set_num_threads(1)  # models this small are slower with a second thread


def make_tokenizer(items: Items, vocabulary: int = 400) -> PreTrainedTokenizerFast:
    texts = [f"{title} {text}" for title, text in zip(items.titles, items.descriptions, strict=True)]
    return train_tokenizer(texts, vocabulary)


def make_backbone(
    tokenizer: PreTrainedTokenizerFast, layers: int = 3, seed: int = 0, head: bool = False, **options
) -> PreTrainedModel:
    """A Qwen3 of width 32, with or without its language-model head, as `load_model` returns it.

    Its random weights are ten times larger than usual: with the usual size, an untrained model gives all items nearly
    the same vector, and semb refuses to train on that.
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
    """Saves a tiny Qwen3 with mean pooling in the format of sentence-transformers; returns the folder."""
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
    """Unique codes for N items, in random order."""
    numbers = np.random.default_rng(0).choice(codes**levels, n, replace=False)
    table = np.stack(np.unravel_index(numbers, (codes,) * levels), axis=1)
    return ItemCodes(table.astype(np.int32), codes)


def untrained(
    recipe: SasrecRecipe | SembRecipe | TextRecipe | SemidRecipe,
    items: Items,
    tokenizer: PreTrainedTokenizerFast,
    *,
    block: str = "kitchen",
    codes: ItemCodes | None = None,
    **backbone: Any,
) -> tuple[Any, Any]:
    """The paradigm of a recipe, and an untrained model.

    Args:
        block, codes: the token rows of semid, and what they stand for.
        backbone: as for `make_backbone`.
    """
    from mmgrid.paradigms.sasrec.paradigm import Sasrec
    from mmgrid.paradigms.semb.paradigm import Semb
    from mmgrid.paradigms.semid.paradigm import Semid
    from mmgrid.paradigms.text.paradigm import Text

    if isinstance(recipe, SasrecRecipe):
        return Sasrec(recipe.history_length), Sasrec.create(recipe, items, seed=0)
    start = make_backbone(tokenizer, head=not isinstance(recipe, SembRecipe), **backbone)
    if isinstance(recipe, SembRecipe):
        return Semb.create(recipe, start, tokenizer, seed=0)
    if isinstance(recipe, TextRecipe):
        return Text.create(recipe, start, tokenizer)
    return Semid.create(recipe, start, tokenizer, codes or make_item_codes(len(items)), block, seed=0)


def child_environment(**values: str) -> dict[str, str]:
    """The environment of a process started by a test: one thread, no downloads, the test kits importable."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **values}
