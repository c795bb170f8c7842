"""The engine that a beam search of codes runs on: the model in memory, or vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from transformers import PreTrainedModel

from mmgrid.decoding import BeamResult, ItemTrie, beam_search
from mmgrid.decoding.tree_search import search
from mmgrid.paradigms.semid.vllm_branches import ENGINE_OPTIONS, VllmBranches
from mmgrid.paradigms.shared.padding import pad_left
from mmgrid.paradigms.shared.vllm_engine import start_engine, stop_engine, written

if TYPE_CHECKING:
    from mmgrid.paradigms.semid.paradigm import Semid


class Search(Protocol):
    """A beam search behind prompts, int64 [P] each; `options` are those of `mmgrid.decoding.beam_search`."""

    def __call__(self, prompts: Sequence[np.ndarray], trie: ItemTrie, **options: Any) -> BeamResult: ...


@contextmanager
def searching(semid: Semid, model: PreTrainedModel) -> Iterator[Search]:
    """The beam search of the recipe's engine; one of vLLM runs within, on what is written of the model."""

    def in_memory(prompts: Sequence[np.ndarray], trie: ItemTrie, **options: Any) -> BeamResult:
        input_ids, mask = (table.to(model.device) for table in pad_left(prompts))
        return beam_search(model, input_ids, None if mask.all() else mask, trie, **options)

    if semid.recipe.engine == "huggingface":
        yield in_memory
        return
    with written(semid.save_model, model) as folder:
        most = semid.codes.codes_per_level
        engine = start_engine(folder, max_logprobs=most, **ENGINE_OPTIONS, **semid.recipe.engine_options)

        def by_vllm(prompts: Sequence[np.ndarray], trie: ItemTrie, **options: Any) -> BeamResult:
            return search(VllmBranches(engine, prompts, trie.first_item.device), trie, **options)

        try:
            yield by_vllm
        finally:
            stop_engine(engine)
