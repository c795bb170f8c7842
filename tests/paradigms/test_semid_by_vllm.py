"""Codes whose next tokens another engine scores: the search around it, with an engine that stands for vLLM.

vLLM itself is asked in test_vllm_semid.py.
"""

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from kits.small import make_backbone, make_item_codes, make_tokenizer, semid_recipe
from mmgrid.backbone.load import load_model
from mmgrid.paradigms.semid import searching
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.testing.data import make_items, random_histories

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
OPTIONS = {"max_model_len": 99}


class Engine:
    """Answers as vLLM does: with the log-probabilities of one next token, among those that are allowed."""

    def __init__(self, folder: Any, **options: Any) -> None:
        assert options["max_logprobs"] == 8
        assert options["logprobs_mode"] == "processed_logprobs"
        assert options["max_model_len"] == 99
        assert len(list(folder.glob("*.safetensors"))) == 1, "vLLM reads them all as weights"
        self.model: PreTrainedModel = load_model(folder)
        self.requests = 0
        self.stopped = False

    @torch.no_grad()
    def generate(self, requests: list[dict[str, list[int]]], ask: Any, use_tqdm: bool) -> list[Any]:
        self.requests += len(requests)
        answers = []
        for request in requests:
            logits = self.model(input_ids=torch.tensor([request["prompt_token_ids"]])).logits[0, -1]
            found = logits[ask.allowed_token_ids].log_softmax(-1).tolist()
            table = {
                token: SimpleNamespace(logprob=one) for token, one in zip(ask.allowed_token_ids, found, strict=True)
            }
            assert len(table) == ask.logprobs
            assert ask.max_tokens == 1
            answers.append(SimpleNamespace(outputs=[SimpleNamespace(logprobs=[table])]))
        return answers


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Engine]]:
    """All engines that were started; each was stopped."""
    started: list[Engine] = []

    def start(folder: Any, **options: Any) -> Engine:
        started.append(Engine(folder, **options))
        return started[-1]

    module = ModuleType("vllm")
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(searching, "start_engine", start)
    monkeypatch.setattr(searching, "stop_engine", lambda engine: setattr(engine, "stopped", True))
    yield started
    assert all(engine.stopped for engine in started)


@pytest.mark.parametrize("renormalise", ["level", "children"])
def test_the_lists_are_those_of_the_model_in_memory(engines: list[Engine], renormalise: str) -> None:
    values = {"beam_width": 6, "renormalise": renormalise}
    paradigm, model = Semid.create(
        semid_recipe(**values),
        make_backbone(TOKENIZER, head=True),
        TOKENIZER,
        make_item_codes(40),
        "kitchen/12345678",
        seed=0,
    )
    histories = random_histories(7, 40)
    expected = paradigm.recommend(model, histories, ITEMS, 6)
    paradigm.recipe = semid_recipe(**values, engine="vllm", engine_options=OPTIONS)
    items, scores = paradigm.recommend(model, histories, ITEMS, 6)
    assert (items == expected[0]).all()
    np.testing.assert_allclose(scores, expected[1], rtol=1e-5)
    levels = paradigm.codes.levels
    assert [engine.requests for engine in engines] == [7 + 7 * 6 * (levels - 1)]
    others = np.array([np.setdiff1d(np.arange(40), histories.of(user))[0] for user in range(7)])
    ranks = paradigm.rank(model, histories, ITEMS, others)
    paradigm.recipe = semid_recipe(**values)
    assert (ranks == paradigm.rank(model, histories, ITEMS, others)).all()


def test_an_engine_is_stopped_where_the_search_fails(engines: list[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "generate", lambda *_, **__: [])
    paradigm, model = Semid.create(
        semid_recipe(engine="vllm", engine_options=OPTIONS),
        make_backbone(TOKENIZER, head=True),
        TOKENIZER,
        make_item_codes(40),
        "kitchen/12345678",
        seed=0,
    )
    with pytest.raises(RuntimeError):
        paradigm.recommend(model, random_histories(2, 40), ITEMS, 5)
    assert engines[0].stopped
