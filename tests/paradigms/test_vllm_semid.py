"""Codes through vLLM, in a separate virtual environment: `make test-vllm`."""

from pathlib import Path

import numpy as np
import pytest

from kits.small import make_backbone, make_item_codes, make_tokenizer, semid_recipe
from kits.vllm import needs_vllm
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.testing.data import PHASE, make_histories, make_items
from mmgrid.training.fit import fit

needs_vllm()

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
ENGINE = {"enforce_eager": True, "max_model_len": 256, "max_num_seqs": 16}
BEAMS = 8


@pytest.mark.parametrize("renormalise", ["level", "children"])
def test_the_same_items_come_first(tmp_path: Path, renormalise: str) -> None:
    values = {"beam_width": BEAMS, "renormalise": renormalise}
    # vLLM's attention has kernels for a few widths of a head only; 32 is the smallest of them.
    paradigm, model = Semid.create(
        semid_recipe(**values),
        make_backbone(TOKENIZER, head=True, head_dim=32),
        TOKENIZER,
        make_item_codes(40),
        "kitchen/12345678",
        seed=0,
    )
    histories = make_histories([[(user * 7 + step) % 40 for step in range(9)] for user in range(20)])
    training = semid_recipe().training("pretrain").model_copy(update={"epochs": 20, "learning_rate": 3e-3})
    fit(model, paradigm.examples(histories, ITEMS, PHASE, 0), paradigm.loss, training, tmp_path, seed=0)
    expected, scores = paradigm.recommend(model, histories, ITEMS, BEAMS)
    assert len(np.unique(expected[:, 0])) > 3, "otherwise there is nothing to compare"
    paradigm.recipe = semid_recipe(**values, engine="vllm", engine_options=ENGINE)
    found, by_vllm = paradigm.recommend(model, histories, ITEMS, BEAMS)
    assert (found == expected).mean() > 0.98, "two of nearly equal score may change places"
    np.testing.assert_allclose(np.sort(by_vllm), np.sort(scores), atol=1e-3)
