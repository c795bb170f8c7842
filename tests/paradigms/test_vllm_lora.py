"""Adapters that a grid trains, served by vLLM over one base, in a separate virtual environment: `make test-vllm`."""

from pathlib import Path

import pytest
import torch

from kits.small import make_backbone, make_tokenizer, text_recipe
from kits.vllm import needs_vllm
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.testing.data import PHASE, make_histories, make_items
from mmgrid.training.fit import fit
from mmgrid.training.lora import put_adapter
from mmgrid.training.recipe import Lora

needs_vllm()

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
RECIPE = text_recipe(title_tokens=12)
LORA = Lora(rank=8, alpha=16)
DOMAINS = {"books": 7, "toys": 11}  # domain → how far its users go from item to item
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base")
    backbone = make_backbone(TOKENIZER, head=True, head_dim=32)  # the narrowest head of vLLM's attention
    backbone.save_pretrained(root / "backbone")
    TOKENIZER.save_pretrained(root / "backbone")
    (root / "text").mkdir()
    Text.write_base(RECIPE, root / "backbone", root / "text", 0)
    return root / "text"


@pytest.fixture(scope="module")
def adapters(base: Path) -> dict[str, Path]:
    """Domain → the checkpoint of a training with `lora`, which is a folder of an adapter."""
    return {domain: _trained(base, domain, stride) for domain, stride in DOMAINS.items()}


def _trained(base: Path, domain: str, stride: int) -> Path:
    paradigm, model = Text.load(base, RECIPE)
    put_adapter(model, LORA, base, paradigm.beside_adapter(model), seed=1)
    histories = make_histories([[(user * 3 + step * stride) % 40 for step in range(9)] for user in range(40)])
    training = RECIPE.training("pretrain").model_copy(update={"epochs": 10, "learning_rate": 1e-2})
    examples = paradigm.examples(histories, ITEMS, PHASE, 0)
    fit(model.train(), examples, paradigm.loss, training, base.with_name(f"steps-{domain}"), seed=0)
    folder = base.with_name(domain)
    folder.mkdir()
    paradigm.save(model, folder)
    return folder


def test_domains_answer_beside_one_another_as_their_checkpoints_do(base: Path, adapters: dict[str, Path]) -> None:
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

    engine = LLM(
        str(base),
        dtype="float32",
        enable_lora=True,
        max_loras=len(adapters),
        max_lora_rank=LORA.rank,
        enforce_eager=True,
        max_model_len=64,
        max_num_seqs=16,
    )
    prompts = [[number + 3, number + 7, 2 * number + 5] for number in range(6)]
    asked = [(domain, prompt) for prompt in prompts for domain in adapters]  # all domains in one batch
    served = {domain: LoRARequest(domain, n, str(folder)) for n, (domain, folder) in enumerate(adapters.items(), 1)}
    answers = engine.generate(
        [{"prompt_token_ids": prompt} for _, prompt in asked],
        SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True),
        lora_request=[served[domain] for domain, _ in asked],
    )
    models = {domain: Text.load(folder)[1].eval() for domain, folder in adapters.items()}
    found: dict[str, list[list[int]]] = {domain: [] for domain in adapters}
    for (domain, prompt), answer in zip(asked, answers, strict=True):
        wanted = models[domain].generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
        )[0, len(prompt) :]
        found[domain].append(list(answer.outputs[0].token_ids))
        assert found[domain][-1] == wanted.tolist()
    assert found["books"] != found["toys"], "otherwise the adapters change nothing"
