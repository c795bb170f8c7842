"""Parts of low rank served by vLLM over one shared model, in a separate virtual environment: `make test-vllm`."""

from pathlib import Path

import pytest
import torch

from kits.small import make_backbone, make_tokenizer
from kits.vllm import needs_vllm
from mmgrid.families import build, expand
from mmgrid.testing.data import make_items

needs_vllm()

TOKENIZER = make_tokenizer(make_items(40))
DOMAINS = ("books", "games", "toys")
NEW_TOKENS = 12
RANK = 8


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """Three domains' models, each near a backbone in its linear layers, as one model and three adapters."""
    backbone = make_backbone(TOKENIZER, head=True, head_dim=32)  # the narrowest head of vLLM's attention
    start = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for number, domain in enumerate(DOMAINS):
        draw = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for name, tensor in backbone.state_dict().items():
                change = 0.15 * torch.randn(tensor.shape, generator=draw) if "proj" in name else 0
                tensor.copy_(start[name] + change)
        backbone.save_pretrained(tmp_path / domain)
        TOKENIZER.save_pretrained(tmp_path / domain)
    recipe = {
        "method": "linear",
        "sources": [{"name": domain, "path": str(tmp_path / domain)} for domain in DOMAINS],
        "family": {"part": {"kind": "low_rank", "rank": RANK, "energy": 0.8}},
    }
    build(recipe, tmp_path / "family")
    return tmp_path / "family"


def test_domains_answer_beside_one_another_as_their_own_checkpoints_do(family: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

    engine = LLM(
        str(family / "shared"),
        dtype="float32",
        enable_lora=True,
        max_loras=len(DOMAINS),
        max_lora_rank=RANK,
        enforce_eager=True,
        max_model_len=64,
        max_num_seqs=16,
    )
    prompts = [[number + 3, number + 7, 2 * number + 5] for number in range(6)]
    adapters = {
        domain: LoRARequest(domain, number, str(family / f"parts/{domain}/low_rank"))
        for number, domain in enumerate(DOMAINS, 1)
    }
    asked = [(prompt, domain) for prompt in prompts for domain in DOMAINS]  # all domains in one batch
    found = engine.generate(
        [{"prompt_token_ids": prompt} for prompt, _ in asked],
        SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True),
        lora_request=[adapters[domain] for _, domain in asked],
    )
    answers = {
        (tuple(prompt), domain): list(one.outputs[0].token_ids)
        for (prompt, domain), one in zip(asked, found, strict=True)
    }
    for domain in DOMAINS:
        expand(family, tmp_path / f"out-{domain}", domain=domain)
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / f"out-{domain}", dtype=torch.float32).eval()
        for prompt in prompts:
            wanted = whole.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
            )[0, len(prompt) :].tolist()
            assert answers[tuple(prompt), domain] == wanted
    told_apart = sum(len({tuple(answers[tuple(prompt), one]) for one in DOMAINS}) > 1 for prompt in prompts)
    assert told_apart == len(prompts), "otherwise the adapters change nothing"
