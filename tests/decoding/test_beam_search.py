"""The beam search equals brute force, and beam search in Transformers."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertLMHeadModel,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from mmgrid.decoding import branches, lm_head, tree_search
from mmgrid.decoding.prompt_tree import PromptTree
from mmgrid.decoding.tree_search import BeamResult, beam_search
from mmgrid.decoding.trie import ItemTrie

WORDS, LEVELS, CODES = 50, 3, 6
TOKENS = np.arange(WORDS, WORDS + LEVELS * CODES).reshape(LEVELS, CODES)
SHAPE = {
    "vocab_size": WORDS + LEVELS * CODES,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": None,
    "bos_token_id": None,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64} | {
    name: SHAPE[name] for name in ("vocab_size", "initializer_range", "pad_token_id", "eos_token_id", "bos_token_id")
}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64, "init_std": 0.3} | {
    name: SHAPE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
}
BERT = {name: value for name, value in SHAPE.items() if name not in ("num_key_value_heads", "head_dim")}
DEEPSEEK = {  # its values are narrower than its queries
    **BERT,
    **{"num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "moe_intermediate_size": 16},
    **{"n_group": 1, "topk_group": 1},
}
GPT_NEO = {"attention_types": [[["global", "local"], 1]], "window_size": 64, "num_layers": 2, "num_heads": 4} | {
    name: SHAPE[name] for name in ("vocab_size", "hidden_size", "initializer_range")
}
MODELS = {
    "qwen": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=64)),
    "gemma": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0, sliding_window=64)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**OPT)),
    "deepseek": lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**DEEPSEEK)),
    "neo": lambda: GPTNeoForCausalLM(GPTNeoConfig(**GPT_NEO)),
}
UNSUPPORTED = {  # implicit positions, a recurrent state, a head of more than one layer
    "mpt": lambda: MptForCausalLM(MptConfig(d_model=32, n_layers=2, n_heads=4, vocab_size=SHAPE["vocab_size"])),
    "rwkv": lambda: RwkvForCausalLM(RwkvConfig(hidden_size=32, num_hidden_layers=2, vocab_size=SHAPE["vocab_size"])),
    "bert": lambda: BertLMHeadModel(BertConfig(**BERT, is_decoder=True)),
}
WAYS = ("children", "level", "vocabulary")


def make_model(kind: str = "qwen", attention: str = "sdpa") -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = MODELS[kind]().eval()
    model.set_attn_implementation(attention)
    return model


def make_codes(n: int, seed: int = 0) -> np.ndarray:
    """Distinct codes of n items, unsorted."""
    chosen = np.random.default_rng(seed).choice(CODES**LEVELS, n, replace=False)
    return np.stack(np.unravel_index(chosen, (CODES,) * LEVELS), axis=1)


def make_prompts(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    ids, mask = (torch.zeros(len(lengths), max(lengths), dtype=torch.long) for _ in range(2))
    for row, length in enumerate(lengths):
        ids[row, -length:] = torch.from_numpy(rng.integers(1, WORDS, length))
        mask[row, -length:] = 1
    return ids, mask


@torch.no_grad()
def log_probability(model: PreTrainedModel, prompt: Tensor, codes: np.ndarray, item: int, way: str) -> float:
    """Log-probability of an item's codes after a prompt: one plain forward pass, normalised by definition."""
    tokens = torch.tensor([TOKENS[level, code] for level, code in enumerate(codes[item])])
    logits = model(input_ids=torch.cat([prompt, tokens])[None]).logits[0].double()
    total = 0.0
    for level in range(LEVELS):
        here = logits[len(prompt) - 1 + level]
        beside = {
            "vocabulary": np.arange(len(here)),
            "level": TOKENS[level],
            "children": TOKENS[level, np.unique(codes[(codes[:, :level] == codes[item, :level]).all(1), level])],
        }[way]
        total += float(here[tokens[level]] - here[torch.from_numpy(beside)].logsumexp(0))
    return total


def brute_force(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, codes: np.ndarray, way: str
) -> tuple[np.ndarray, np.ndarray]:
    """All items for each prompt, best first, and their scores."""
    scores = np.array(
        [
            [log_probability(model, row[seen.bool()], codes, item, way) for item in range(len(codes))]
            for row, seen in zip(ids, mask, strict=True)
        ]
    )
    order = np.argsort(-scores, axis=1, kind="stable")
    return order, np.take_along_axis(scores, order, axis=1)


def same(found: BeamResult, items: np.ndarray, scores: np.ndarray) -> None:
    assert found.items.tolist() == items.tolist()
    np.testing.assert_allclose(found.scores.numpy(), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("qwen", "sdpa"),
        ("qwen", "eager"),
        ("llama", "sdpa"),
        ("gemma", "eager"),
        ("gpt2", "sdpa"),
        ("opt", "sdpa"),
        ("deepseek", "sdpa"),
        ("deepseek", "eager"),
    ],
)
def test_wide_beams_equal_brute_force(kind: str, attention: str, way: str) -> None:
    model, codes = make_model(kind, attention), make_codes(30)
    ids, mask = make_prompts([9, 4, 1, 9])
    found = beam_search(model, ids, mask, ItemTrie(codes, TOKENS), beam_width=30, renormalise=way)
    same(found, *brute_force(model, ids, mask, codes, way))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("codes", "beams"),
    [(make_codes(3), 20), (make_codes(12), 40), (np.repeat(make_codes(10), 3, axis=0), 20)],
    ids=["fewer items than beams", "far fewer", "three items a code"],
)
def test_few_and_colliding_items_equal_brute_force(codes: np.ndarray, beams: int, way: str) -> None:
    model = make_model()
    ids, mask = make_prompts([9, 4, 1])
    items, scores = brute_force(model, ids, mask, codes, way)
    missing = ((0, 0), (0, max(0, beams - len(codes))))
    items = np.pad(items[:, :beams], missing, constant_values=-1)
    scores = np.pad(scores[:, :beams], missing, constant_values=-np.inf)
    same(beam_search(model, ids, mask, ItemTrie(codes, TOKENS), beam_width=beams, renormalise=way), items, scores)


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["qwen", "llama", "mistral", "gemma", "gpt2", "opt"])
@pytest.mark.parametrize("lengths", [[7, 7], [12, 3, 5]])
def test_narrow_beams_equal_generate(kind: str, lengths: list[int]) -> None:
    model, codes, beams = make_model(kind, "eager" if kind == "gemma" else "sdpa"), make_codes(120), 20
    ids, mask = make_prompts(lengths)
    following: dict[tuple[int, ...], set[int]] = {}
    for row in codes.tolist():
        tokens = [int(TOKENS[level, code]) for level, code in enumerate(row)]
        for level in range(LEVELS):
            following.setdefault(tuple(tokens[:level]), set()).add(tokens[level])
    told = model.generate(
        input_ids=ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=LEVELS,
        min_new_tokens=LEVELS,
        do_sample=False,
        length_penalty=0.0,
        prefix_allowed_tokens_fn=lambda _, row: sorted(following[tuple(row[ids.shape[1] :].tolist())]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    row_of = {tuple(row): item for item, row in enumerate(codes.tolist())}
    codes_told = told.sequences[:, -LEVELS:] - torch.from_numpy(TOKENS[:, 0])
    items = np.array([row_of[tuple(row)] for row in codes_told.tolist()]).reshape(len(lengths), beams)
    found = beam_search(model, ids, mask, ItemTrie(codes, TOKENS), beam_width=beams)
    same(found, items, told.sequences_scores.numpy().reshape(len(lengths), beams))


READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "bincount", "repeat_interleave"}


class _NoHostReads(TorchDispatchMode):
    """Once armed, fails at any operation that moves a number or a size from the device to the host.

    Copies (`.cpu()`, `.numpy()`) are not detected: on a CPU there are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.armed = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in {"index", "index_put_"} and any(
            place is not None and place.dtype == torch.bool for place in args[1]
        )
        assert not (self.armed and (by_mask or name in READS)), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("way", WAYS)
def test_steps_read_nothing_back_and_compute_only_needed_logits(
    way: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees, heads, reads = [], [], _NoHostReads()

    class Tree(PromptTree):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            trees.append(self)
            reads.armed = True

    def counted_logits(model, hidden, token_ids=None):
        found = lm_head.lm_head_logits(model, hidden, token_ids)
        heads.append(tuple(found.shape))
        return found

    monkeypatch.setattr(tree_search, "PromptTree", Tree)
    monkeypatch.setattr(branches, "lm_head_logits", counted_logits)
    model, trie, beams = make_model(attention=attention), ItemTrie(make_codes(120), TOKENS), 5
    ids, mask = make_prompts([9, 4])
    exclude, seeds = torch.tensor([[3, 4], [7, -1]]), torch.tensor([1, 2])
    beam_search(model, ids, mask, trie, beam_width=beams)  # runs the check for tree support once
    trees.clear()
    heads.clear()
    reads.armed = False
    with reads:
        beam_search(model, ids, mask, trie, beam_width=beams, renormalise=way, exclude=exclude, seeds=seeds)
    level = [(2, 1, CODES), (2, beams, CODES), (2, beams, CODES)]  # last positions only, tokens of a level only
    whole = [(*shape[:2], SHAPE["vocab_size"]) for shape in level]
    expected = level if way != "vocabulary" else [shape for pair in zip(level, whole, strict=True) for shape in pair]
    assert heads == expected
    (tree,) = trees
    for layer in tree.cache.layers:
        assert layer.keys.shape[:3] == (2, SHAPE["num_key_value_heads"], 9 + beams * (LEVELS - 1)), (
            "shared by all beams"
        )


def test_padding_changes_nothing() -> None:
    model, codes = make_model(), make_codes(60)
    ids, mask = make_prompts([6, 2])
    together = beam_search(model, ids, mask, ItemTrie(codes, TOKENS), beam_width=5)
    alone = beam_search(model, ids[1:, -2:], None, ItemTrie(codes, TOKENS), beam_width=5)
    assert together.items[1].tolist() == alone.items[0].tolist()
    torch.testing.assert_close(together.scores[1], alone.scores[0])


def test_items_of_one_code_share_a_score_and_are_ordered_by_the_seed() -> None:
    model = make_model()
    codes = np.repeat(make_codes(4), 8, axis=0)
    ids, mask = make_prompts([5] * 2)
    ids[1] = ids[0]
    trie = ItemTrie(codes, TOKENS)
    plain = beam_search(model, ids, mask, trie, beam_width=32)
    assert plain.items[0].tolist() == plain.items[1].tolist()
    assert (plain.scores.reshape(2, 4, 8) == plain.scores.reshape(2, 4, 8)[..., :1]).all()
    assert (plain.items[0] // 8).reshape(4, 8).unique(dim=1).shape == (4, 1), "code by code"
    assert (plain.items[0].reshape(4, 8).diff() > 0).all(), "in the order of their rows"
    mixed = beam_search(model, ids, mask, trie, beam_width=32, seeds=torch.tensor([1, 2]))
    assert mixed.items[0].tolist() != mixed.items[1].tolist()
    assert (mixed.items // 8).tolist() == (plain.items // 8).tolist()
    for row in mixed.items:
        assert sorted(row.tolist()) == list(range(32))
    again = beam_search(model, ids[1:], mask[1:], trie, beam_width=32, seeds=torch.tensor([2]))
    assert again.items[0].tolist() == mixed.items[1].tolist(), "whatever the company"
    cut = beam_search(model, ids, mask, trie, beam_width=5, seeds=torch.tensor([1, 2]))
    assert cut.items.tolist() == mixed.items[:, :5].tolist()


def test_the_order_within_a_code_is_uniform() -> None:
    codes = np.zeros((4, LEVELS), int)
    ids, mask = make_prompts([2])
    many = 2000
    found = beam_search(
        make_model(), ids.expand(many, -1), mask.expand(many, -1), ItemTrie(codes, TOKENS), beam_width=4,
        seeds=torch.arange(many),
    )  # fmt: skip
    for place in range(4):
        shares = np.bincount(found.items[:, place], minlength=4) / many
        assert abs(shares - 0.25).max() < 0.05


@pytest.mark.parametrize("way", WAYS)
def test_excluded_items_make_room_for_others(way: str) -> None:
    model = make_model()
    codes = np.concatenate([make_codes(40), make_codes(40)[:10]])  # ten of them share a code
    ids, mask = make_prompts([6, 3, 4])
    trie = ItemTrie(codes, TOKENS)
    full = beam_search(model, ids, mask, trie, beam_width=50, renormalise=way)
    exclude = torch.full((3, 20), -1)
    exclude[0] = full.items[0, :20]
    exclude[1, :5] = full.items[1, [0, 0, 3, 7, 49]]  # repeated rows do not matter
    found = beam_search(model, ids, mask, trie, beam_width=50, renormalise=way, exclude=exclude)
    for row in range(3):
        left = [item for item in full.items[row].tolist() if item not in exclude[row].tolist()]
        assert found.items[row].tolist() == left + [-1] * (50 - len(left))


def test_branches_of_excluded_items_take_no_beam() -> None:
    model = make_model()
    codes = make_codes(100, seed=5)
    ids, mask = make_prompts([6])
    trie = ItemTrie(codes, TOKENS)
    best_first = int(codes[beam_search(model, ids, mask, trie, beam_width=1).items[0, 0], 0])
    exclude = torch.from_numpy(np.flatnonzero(codes[:, 0] == best_first))[None]
    found = beam_search(model, ids, mask, trie, beam_width=1, exclude=exclude)
    assert found.items[0, 0] >= 0
    assert codes[found.items[0, 0], 0] != best_first


def test_excluding_nothing_and_everything() -> None:
    model, codes = make_model(), make_codes(5)
    ids, mask = make_prompts([4])
    found = beam_search(model, ids, mask, ItemTrie(codes, TOKENS), beam_width=3, exclude=torch.arange(5)[None])
    assert found.items.tolist() == [[-1] * 3]
    none = beam_search(model, ids[:0], mask[:0], ItemTrie(codes, TOKENS), beam_width=3)
    assert none.items.shape == none.scores.shape == (0, 3)


def test_leaves_the_model_unchanged() -> None:
    model, codes = make_model(), make_codes(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids, mask = make_prompts([4])
    for training in (False, True):
        model.train(training)
        beam_search(model, ids, mask, ItemTrie(codes, TOKENS))
        assert model.training == training
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": torch.zeros(2, 0, dtype=torch.long)}, "at least one token"),
        ({"attention_mask": torch.ones(1, 3)}, r"attention_mask \[1, 3\]: expected \[1, 4\]"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 0]])}, "last token of prompt 0: pad prompts on the left"),
        ({"attention_mask": torch.zeros(1, 4)}, "last token of prompt 0"),
        ({"beam_width": 0}, "beam_width 0"),
        ({"renormalise": "trie"}, "renormalise 'trie'"),
    ],
)
def test_invalid_arguments_are_refused(change: dict, message: str) -> None:
    ids, mask = make_prompts([4])
    given = {"input_ids": ids, "attention_mask": mask, "beam_width": 3, "renormalise": "level"} | change
    with pytest.raises(ValueError, match=message):
        beam_search(
            make_model(), given.pop("input_ids"), given.pop("attention_mask"), ItemTrie(make_codes(5), TOKENS), **given
        )


def test_attention_without_masks_is_refused() -> None:
    model = make_model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash_attention_2.*tree-shaped"):
        beam_search(model, *make_prompts([4]), ItemTrie(make_codes(5), TOKENS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", list(UNSUPPORTED))
def test_a_model_without_tree_support_is_refused(kind: str, dtype: torch.dtype) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = UNSUPPORTED[kind]().to(dtype)
    with pytest.raises(ValueError, match=f"a {kind} cannot search among semantic IDs"):
        beam_search(model, *make_prompts([4]), ItemTrie(make_codes(5), TOKENS))


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_model_with_tree_support_passes_in_bfloat16(kind: str) -> None:
    model = make_model(kind, "eager" if kind in ("gemma", "neo") else "sdpa").to(torch.bfloat16)
    found = beam_search(model, *make_prompts([4]), ItemTrie(make_codes(5), TOKENS), beam_width=5)
    assert found.scores.isfinite().all()


def test_local_windows_must_cover_the_branches() -> None:
    model, codes, room = make_model("neo", "eager"), make_codes(20), 20 * (LEVELS - 1)
    ids, mask = make_prompts([64 - room])
    trie = ItemTrie(codes, TOKENS)
    same(beam_search(model, ids, mask, trie, beam_width=20), *brute_force(model, ids, mask, codes, "vocabulary"))
    with pytest.raises(ValueError, match="25 tokens and beams of 40: the model's local window of 64 is too short"):
        beam_search(model, *make_prompts([25]), trie, beam_width=20)


@pytest.mark.parametrize(("kind", "attention"), [("gemma", "eager"), ("mistral", "sdpa")])
def test_a_prompt_longer_than_the_models_window_is_refused(kind: str, attention: str) -> None:
    model, trie = make_model(kind, attention), ItemTrie(make_codes(5), TOKENS)
    beam_search(model, *make_prompts([64 - LEVELS]), trie)
    with pytest.raises(ValueError, match="sliding window of 64 is too short"):
        beam_search(model, *make_prompts([65 - LEVELS]), trie)


def test_an_empty_exclusion_changes_nothing() -> None:
    model, trie, prompts = make_model(), ItemTrie(make_codes(30), TOKENS), make_prompts([4, 6])
    plain = beam_search(model, *prompts, trie)
    empty = beam_search(model, *prompts, trie, exclude=torch.empty(2, 0, dtype=torch.long))
    assert plain.items.equal(empty.items)
