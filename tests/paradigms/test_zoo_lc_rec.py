"""LC-Rec's official layout: read and written, with the scores of an independent forward in plain Transformers calls."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import mmgrid
from kits.small import make_tokenizer
from mmgrid.data import Items
from mmgrid.merging import BlockTable
from mmgrid.paradigms import load_checkpoint
from mmgrid.paradigms.contract import CannotTrainError
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.testing.data import PHASE, make_items, random_histories

N, LENGTH = 14, 3
CODES = [[n % 3, 11 * (n % 2), n // 2] for n in range(N)]
CODES[13] = CODES[12]  # two items with one code
INSTRUCTION = (
    "The user has interacted with items {} in chronological order. "
    "Can you predict the next possible item that the user may expect?"
)
PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:"
)


@pytest.fixture(scope="module")
def items() -> Items:
    return make_items(N)


@pytest.fixture(scope="module")
def official(items: Items, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `finetune.py` saves it: the sorted tokens of the index after the vocabulary, the vocabulary as long as that."""
    folder = tmp_path_factory.mktemp("lcrec")
    index = {
        str(n): [f"<{level}_{code}>" for level, code in zip("abc", codes, strict=True)] for n, codes in enumerate(CODES)
    }
    (folder / "Games.index.json").write_text(json.dumps(index))
    tokenizer = make_tokenizer(items)
    tokenizer.add_tokens(sorted({token for tokens in index.values() for token in tokens}))
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer),
        initializer_range=0.4, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def imported(official: Path) -> Path:
    return mmgrid.import_checkpoint(official, official / "ours", "lc-rec", {"history_length": LENGTH})


def reference_score(model, tokenizer, history: list[int], item: int) -> float:
    """Log-probability of an item's tokens and of the end-of-text token, over the whole vocabulary."""
    words = [
        "".join(f"<{level}_{code}>" for level, code in zip("abc", CODES[n], strict=True)) for n in [*history, item]
    ]
    asked = PROMPT.format(INSTRUCTION.format(", ".join(words[:-1])))
    prompt, ids = (tokenizer(text)["input_ids"] for text in (asked, asked + words[-1]))
    assert ids[: len(prompt)] == prompt
    ids = [*ids, tokenizer.eos_token_id]
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return float(sum(logs[place - 1, ids[place]] for place in range(len(prompt), len(ids))))


def lists(folder: Path, items: Items, histories) -> list[dict[int, float]]:
    paradigm, model = load_checkpoint(folder)
    declared = json.loads((folder / "mmgrid.json").read_text())["evaluation"]["values"]
    assert paradigm.recipe.model_dump().items() >= declared.items(), "a grid that says nothing else takes these"
    best, scores = paradigm.recommend(model, histories, items, len(items))
    return [dict(zip(b.tolist(), s.tolist(), strict=True)) for b, s in zip(best, scores, strict=True)]


def test_an_imported_model_scores_as_the_official_code(official: Path, imported: Path, items: Items) -> None:
    histories = random_histories(4, N)
    model = LlamaForCausalLM.from_pretrained(official, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(official)
    for user, found in enumerate(lists(imported, items, histories)):
        assert sorted(found) == list(range(N)), "nothing is left out, the history neither"
        history = histories.of(user).tolist()[-LENGTH:]
        expected = [reference_score(model, tokenizer, history, item) for item in range(N)]
        np.testing.assert_allclose([found[item] for item in range(N)], expected, atol=2e-4)
        assert np.std(expected) > 0.05, "far above the tolerance"


def test_a_round_trip_keeps_the_bytes(official: Path, imported: Path, items: Items, tmp_path: Path) -> None:
    mmgrid.export_checkpoint(imported, tmp_path / "theirs", "lc-rec")
    before, after = (load_file(folder / "model.safetensors") for folder in (official, tmp_path / "theirs"))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == torch.bfloat16 for name in after)
    texts = [(folder / "Games.index.json").read_text() for folder in (official, tmp_path / "theirs")]
    assert json.loads(texts[0]) == json.loads(texts[1])
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path / "theirs")
    assert theirs.get_vocab() == PreTrainedTokenizerFast.from_pretrained(official).get_vocab()
    again = mmgrid.import_checkpoint(tmp_path / "theirs", tmp_path / "ours", "lc-rec", {"history_length": LENGTH})
    histories = random_histories(3, N)
    assert lists(again, items, histories) == lists(imported, items, histories)


def test_the_rows_of_the_codes_are_a_block_of_their_domain(imported: Path) -> None:
    table = BlockTable.read(imported)
    assert table is not None
    backbone, own = table.blocks
    assert own.domain == "Games"
    assert own.name.startswith("Games/")
    assert len(own.tokens) == own.size == len({(level, code) for codes in CODES for level, code in enumerate(codes)})
    tokenizer = PreTrainedTokenizerFast.from_pretrained(imported)
    assert tokenizer.convert_tokens_to_ids(list(own.tokens)) == list(range(backbone.stop, own.stop))


def test_items_of_the_index_are_found_in_a_domain(official: Path, tmp_path: Path) -> None:
    import polars as pl

    ids = [f"B{n:03}" for n in range(20)]
    pl.DataFrame({"item_id": ids}).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "Games.item2id").write_text("".join(f"B{n + 5:03}\t{n}\n" for n in range(N)))
    options = {"items": str(tmp_path), "item_ids": str(tmp_path / "Games.item2id")}
    folder = mmgrid.import_checkpoint(official, tmp_path / "ours", "lc-rec", options)
    codes = load_checkpoint(folder)[0].codes.codes
    assert codes[5 : 5 + N].tolist() == CODES
    assert (codes[[*range(5), *range(5 + N, 20)]] == -1).all()
    with pytest.raises(LayoutError, match="lacks 14 items of Games.index.json.*item2id"):
        mmgrid.import_checkpoint(official, tmp_path / "x", "lc-rec", {"items": str(tmp_path)})


def test_what_is_not_supported_is_refused(official: Path, imported: Path, items: Items, tmp_path: Path) -> None:
    def fails(message: str, index: dict) -> None:
        (tmp_path / "other.index.json").write_text(json.dumps(index))
        with pytest.raises(LayoutError, match=message):
            mmgrid.import_checkpoint(official, tmp_path / "x", "lc-rec", {"index": str(tmp_path / "other.index.json")})

    fails("tokenizer lacks <a_99>", {"0": ["<a_99>"]})
    fails(r"\[1, 2\] tokens", {"0": ["<a_0>"], "1": ["<a_0>", "<b_0>"]})
    fails("expected a list of tokens", {"0": "a_0"})
    fails("expected a, b, c", {"0": ["<b_0>"]})
    fails("is no number", {"B001": ["<a_0>"]})
    paradigm, _ = load_checkpoint(imported)
    with pytest.raises(CannotTrainError, match="imported from LC-Rec"):
        paradigm.examples(random_histories(3, N), items, PHASE, seed=0)
