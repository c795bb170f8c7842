"""Models with different vocabularies are brought to one, with mergekit's meaning of `tokenizer_source`."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from kits.tiny_llama import HIDDEN, loaded, tiny_llama
from mmgrid.merging import MergeError, merge
from mmgrid.merging.mergekit.read import read_mergekit
from mmgrid.merging.models.token_files import TEMPLATES, token_files
from mmgrid.merging.verify import verify

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WORDS = [f"w{n}" for n in range(20)]


def _model(
    folder: Path, seed: int, words: list[str], *, added: tuple[str, ...] = (), rows: int = 0, tied: bool = False
) -> Path:
    """A model whose row of each token is drawn by the token and the seed, so that rows can be told apart."""
    tensors = loaded(tiny_llama(folder, seed, layers=1))
    tokens = [*words, *added]
    size = rows or len(tokens)
    for place, name in enumerate((EMBEDDINGS, HEAD)):
        tensors[name] = torch.stack(
            [_row(token, seed, place) for token in tokens] + [_row("", seed, place)] * (size - len(tokens))
        )
    if tied:
        del tensors[HEAD]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"vocab_size": size, "tie_word_embeddings": tied, "eos_token_id": len(words) - 1}
    (folder / "config.json").write_text(json.dumps(config))
    entries = [
        {"id": len(words) + n, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for n, token in enumerate(added)
    ]
    model = {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(words)}, "unk_token": words[0]}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": entries, "model": model}))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


def _row(token: str, seed: int, place: int) -> Tensor:
    number = sum(ord(letter) * 31**n for n, letter in enumerate(token)) % 10_000
    return torch.randn(HIDDEN, generator=torch.Generator().manual_seed(number * 10 + seed * 2 + place))


def _by_token(folder: Path, name: str = EMBEDDINGS) -> dict[str, Tensor]:
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    tensor = loaded(folder)[name]
    return {token: tensor[row] for token, row in ids.items()}


def _close(found: Tensor, *expected: Tensor) -> None:
    torch.testing.assert_close(found, sum(expected[1:], start=expected[0]) / len(expected))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`base`; `a` with the words in another order and two chat tokens; `b` with another chat token and padding."""
    _model(tmp_path / "base", 0, WORDS)
    _model(tmp_path / "a", 1, WORDS[::-1], added=("<chat>", "<end>"))
    _model(tmp_path / "b", 2, WORDS, added=("<chat>", "<tool>"), rows=32)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _recipe(**more: object) -> dict[str, object]:
    return {"method": "linear", "sources": [{"path": "a", "name": "a"}, {"path": "b", "name": "b"}], **more}


def test_the_union_holds_every_token(models: Path) -> None:
    report = merge(_recipe(vocabulary="union"), models / "out")
    for place, name in enumerate((EMBEDDINGS, HEAD)):
        merged = _by_token(models / "out", name)
        assert merged.keys() == {*WORDS, "<chat>", "<end>", "<tool>"}
        for word in (*WORDS, "<chat>"):
            _close(merged[word], _row(word, 1, place), _row(word, 2, place))
        _close(merged["<end>"], _row("<end>", 1, place))
        _close(merged["<tool>"], _row("<tool>", 2, place))
    assert "vocabulary: a lacks 1 token; the row is that of b: <tool>" in report.notes
    assert "vocabulary: 10 rows of b left out, which no token of its tokenizer stands for" in report.notes
    record = json.loads((models / "out" / "mmgrid.json").read_text())["report"]["vocabulary"]
    assert record["made_up"] == {"a": {"<tool>": "that of b"}, "b": {"<end>": "that of a"}}
    assert verify(models / "out").equal
    config = json.loads((models / "out" / "config.json").read_text())
    assert config["vocab_size"] == 23
    assert config["eos_token_id"] == Tokenizer.from_file("out/tokenizer.json").token_to_id(WORDS[0])


def test_no_file_of_the_other_tokenizer_stays(models: Path) -> None:
    others = {
        "a": ("source.spm", "bpe.codes", "tekken.json", "a.tiktoken", "target_vocab.json", f"{TEMPLATES}/rag.jinja"),
        "b": ("qwen.tiktoken", f"{TEMPLATES}/tool.jinja"),
    }
    for model, names in others.items():
        (models / model / TEMPLATES).mkdir()
        for name in names:
            (models / model / name).write_text("{}")
    merge(_recipe(vocabulary="b"), models / "out")
    assert not [name for name in others["a"] if (models / "out" / name).exists()]
    assert all((models / "out" / name).is_file() for name in others["b"])
    assert token_files(models / "out") == ["tokenizer.json", "qwen.tiktoken"]


def test_a_named_vocabulary_leaves_other_tokens_out(models: Path) -> None:
    report = merge(_recipe(vocabulary="b"), models / "out")
    merged = _by_token(models / "out")
    assert merged.keys() == {*WORDS, "<chat>", "<tool>"}
    _close(merged["<tool>"], _row("<tool>", 2, 0))
    assert "vocabulary: 1 token of a left out: <end>" in report.notes
    tokenizer = Tokenizer.from_file("out/tokenizer.json")
    assert [tokenizer.token_to_id(word) for word in WORDS] == list(range(20))
    # Config and ids are those of the first source, whose end was its last word.
    assert json.loads((models / "out" / "config.json").read_text())["eos_token_id"] == tokenizer.token_to_id("w0")


def test_tokens_that_a_model_lacks_have_the_rows_of_the_base(models: Path) -> None:
    _model(models / "base", 0, WORDS, added=("<tool>",))
    recipe = _recipe(method="task_arithmetic", base="base", vocabulary="base")
    merge(recipe, models / "out")
    merged = _by_token(models / "out")
    assert merged.keys() == {*WORDS, "<tool>"}
    base, tuned = _row("<tool>", 0, 0), _row("<tool>", 2, 0)
    torch.testing.assert_close(merged["<tool>"], base + (tuned - base))  # a has the base's row, so no change
    word = [_row("w3", seed, 0) for seed in range(3)]
    torch.testing.assert_close(merged["w3"], word[0] + (word[1] - word[0]) + (word[2] - word[0]))


def test_rows_may_be_asked_for(models: Path) -> None:
    rules = {
        "<chat>": {"source": "a", "force": True},
        "<new>": {"source": "b", "token": "<tool>"},
        "<zero>": {"source": "zero"},
        "<row>": {"source": "b", "row": 31},
    }
    merge(_recipe(vocabulary={"source": "a", "tokens": rules, "pad_to_multiple_of": 16}), models / "out")
    merged = _by_token(models / "out")
    _close(merged["<chat>"], _row("<chat>", 1, 0))
    _close(merged["<new>"], _row("<tool>", 2, 0))
    _close(merged["<row>"], _row("", 2, 0))
    assert not merged["<zero>"].any()
    rows = loaded(models / "out")[EMBEDDINGS]
    assert len(rows) == 32
    torch.testing.assert_close(rows[25], rows[:25].mean(dim=0))


def test_reserved_rows_of_the_tokenizers_model_stay(models: Path) -> None:
    words = {word: n + 3 for n, word in enumerate(WORDS)}
    tiny_llama(models / "a", 1, layers=1, vocabulary=words)
    tiny_llama(models / "b", 2, layers=1, vocabulary=words)
    report = merge(_recipe(vocabulary="a"), models / "out")
    merged, (a, b) = loaded(models / "out")[EMBEDDINGS], (loaded(models / name)[EMBEDDINGS] for name in "ab")
    torch.testing.assert_close(merged[:3], a[:3])
    torch.testing.assert_close(merged[3:], ((a + b) / 2)[3:23])
    assert "vocabulary: b lacks 3 tokens; the row is that of a: row 0, row 1, row 2" in report.notes


def test_ids_of_tokens_that_are_left_out_are_those_of_the_tokenizers_model(models: Path) -> None:
    for name, end in (("a", 21), ("b", 3)):
        file = models / name / "config.json"
        settings = {"eos_token_id": end, "suppress_tokens": [0, 1], "image_token_index": None}
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    generation = {
        "bad_words_ids": [[0, 1], [2]],
        "forced_decoder_ids": [[1, 0], [2, None]],
        "force_words_ids": [[[0]], [[21]]],
    }
    (models / "a" / "generation_config.json").write_text(json.dumps(generation))
    (models / "a" / "preprocessor_config.json").write_text('{"image_patch_token_id": 2, "size": 3}')
    merge(_recipe(vocabulary="b"), models / "out")  # a's end is left out
    generation = json.loads((models / "out" / "generation_config.json").read_text())
    assert generation == {
        "bad_words_ids": [[19, 18], [17]],
        "forced_decoder_ids": [[1, 19], [2, None]],
        "force_words_ids": None,  # b has none
    }
    images = json.loads((models / "out" / "preprocessor_config.json").read_text())
    assert images == {"image_patch_token_id": 17, "size": 3}
    config = json.loads((models / "out" / "config.json").read_text())
    assert config["eos_token_id"] == 3
    assert config["suppress_tokens"] == [19, 18]  # a counts its words backwards
    assert config["image_token_index"] is None


def _pieces(tokens: list[str]) -> bytes:
    """A model of SentencePiece: pieces with a text and a score, then a message that says something else."""
    parts = [b"\x0a%c%b\x15\0\0\0\0" % (len(token), token.encode()) for token in tokens]
    return b"".join(b"\x0a%c%b" % (len(part), part) for part in parts) + b"\x12\x02\x08\x01"


def _tekken(tokens: list[str]) -> bytes:
    words = [{"rank": row, "token_bytes": token, "token_str": None} for row, token in enumerate(tokens)]
    special = [{"rank": 0, "token_str": "<s>"}]
    return json.dumps({"config": {"default_num_special_tokens": 5}, "vocab": words, "special_tokens": special}).encode()


TOKENIZERS = {
    "vocab.txt": lambda tokens: "\n".join(tokens).encode(),
    "vocab.json": lambda tokens: json.dumps({token: row for row, token in enumerate(tokens)}).encode(),
    "added_tokens.json": lambda tokens: json.dumps({token: row for row, token in enumerate(tokens, 1)}).encode(),
    "tokenizer.model": _pieces,
    "tekken.json": _tekken,
    "qwen.tiktoken": lambda tokens: "\n".join(f"{token} {row}" for row, token in enumerate(tokens)).encode(),
}


@pytest.mark.parametrize("file", TOKENIZERS)
def test_tokenizers_of_other_libraries_are_compared(file: str, models: Path) -> None:
    for name, tokens in (("a", ["x", "y", "z"]), ("b", ["x", "z", "y"])):
        tiny_llama(models / name, ord(name), layers=1)
        (models / name / "tokenizer.json").unlink()
        if file == "added_tokens.json":
            (models / name / "vocab.txt").write_text("t")
        (models / name / file).write_bytes(TOKENIZERS[file](tokens))
    with pytest.raises(MergeError, match=r"tokenizer of b: 2 tokens have other rows than in a \('y', 'z'\)"):
        merge(_recipe(), models / "out")
    (models / "b" / file).write_bytes(b"\x0a\x7f" if file == "tokenizer.model" else TOKENIZERS[file](["x", "y"]))
    notes = merge(_recipe(), models / "out").notes
    told = "b: tokenizer.model cannot be read" if file == "tokenizer.model" else "a: has 1 token that b lacks: 'z'"
    assert [note for note in notes if told in note]
    (models / "b" / file).unlink()
    (models / "b" / "vocab.txt").unlink(missing_ok=True)
    tiny_llama(models / "b", 2, layers=1)
    assert [note for note in merge(_recipe(), models / "out2").notes if "their tokens were not compared" in note]


def test_words_cannot_follow_a_gap(models: Path) -> None:
    file = models / "a" / "tokenizer.json"
    value = json.loads(file.read_text())
    value["model"]["vocab"] = {word: row + (row > 5) for word, row in value["model"]["vocab"].items()}
    value["added_tokens"] = []
    file.write_text(json.dumps(value))
    with pytest.raises(MergeError, match="its ids have a gap: 20 tokens, the last with the id 20"):
        merge(_recipe(vocabulary="union"), models / "out")


def test_words_of_others_are_said_to_be_cut_out_first(models: Path) -> None:
    _model(models / "b", 2, [*WORDS, "more"])
    report = merge(_recipe(vocabulary="union"), models / "out")
    assert any("1 token of other tokenizers are added ones of the result" in note for note in report.notes)


def test_tensors_as_long_as_the_embeddings_are_named(models: Path) -> None:
    for name in "ab":
        tensors = loaded(models / name)
        tensors["final_logits"] = torch.ones(1, len(tensors[EMBEDDINGS]))
        save_file(tensors, models / name / "model.safetensors", {"format": "pt"})
    with pytest.raises(MergeError, match="tensor final_logits: shapes differ"):
        merge(_recipe(vocabulary="union"), models / "out")
    _model(models / "b", 2, WORDS, added=("<chat>", "<tool>"))
    tensors = loaded(models / "b") | {"final_logits": torch.ones(1, 22)}
    save_file(tensors, models / "b" / "model.safetensors", {"format": "pt"})
    report = merge(_recipe(vocabulary="b"), models / "out")
    assert any("b: final_logits: as long as the embeddings" in note for note in report.notes) or any(
        "a: final_logits: as long as the embeddings" in note for note in report.notes
    )


def test_a_row_with_an_element_for_each_token_is_arranged(models: Path) -> None:
    """`final_logits_bias` of BART and Marian is [1, tokens]."""
    bias = {}
    for name in ("a", "b"):
        rows = len(loaded(models / name)[EMBEDDINGS])
        bias[name] = torch.arange(rows, dtype=torch.float32)
        tensors = loaded(models / name) | {"final_logits_bias": bias[name][None]}
        save_file(tensors, models / name / "model.safetensors", {"format": "pt"})
    merge(_recipe(vocabulary="a"), models / "out")
    merged = loaded(models / "out")["final_logits_bias"]
    ids = [Tokenizer.from_file(str(models / name / "tokenizer.json")).get_vocab() for name in ("a", "b")]
    assert merged.shape == (1, len(loaded(models / "out")[EMBEDDINGS]))
    for token in ids[0].keys() & ids[1].keys():
        assert merged[0, ids[0][token]] == (bias["a"][ids[0][token]] + bias["b"][ids[1][token]]) / 2


def test_a_vocabulary_has_no_counterpart_file(models: Path) -> None:
    merge(_recipe(vocabulary="union"), models / "out")
    assert not (models / "out" / "mergekit_config.yml").exists()


def test_a_tied_head_is_arranged_once(models: Path) -> None:
    _model(models / "a", 1, WORDS[::-1], added=("<chat>",), tied=True)
    _model(models / "b", 2, WORDS, tied=True)
    merge(_recipe(vocabulary="union"), models / "out")
    assert HEAD not in loaded(models / "out")
    _close(_by_token(models / "out")["<chat>"], _row("<chat>", 1, 0))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("bas", "vocabulary: source: there is no source 'bas'.*known: a, b, union"),
        ("base", "vocabulary: source: there is no base; known: a, b, union"),
        (
            {"source": "a", "tokens": {"<x>": {"source": "c"}}},
            "tokens: '<x>': there is no source 'c'; known: a, b, zero",
        ),
        ({"source": "a", "tokens": {"<x>": {"source": "b"}}}, "tokens: '<x>': b has no token '<x>'"),
        ({"source": "a", "tokens": {"<x>": {"source": "b", "row": 99}}}, "b has 32 rows, so it has no row 99"),
        ({"source": "a", "tokens": {"<x>": {"force": True}}}, "token, row and force need a source"),
        ({"sorce": "a"}, "vocabulary.sorce: unknown key; did you mean source"),
        (
            {"source": "a", "tokens": {"<x>": {"frm": "b"}}},
            r"vocabulary.tokens.<x>.frm: unknown key \(known: source, token",
        ),
    ],
)
def test_wrong_choices_are_named(choice: object, words: str, models: Path) -> None:
    with pytest.raises(MergeError, match=words):
        merge(_recipe(vocabulary=choice), models / "out")


def test_files_that_list_added_tokens_list_those_of_the_result(models: Path) -> None:
    for name in ("a", "b"):
        added = json.loads((models / name / "tokenizer.json").read_text())["added_tokens"]
        settings: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": WORDS[0]}
        settings["added_tokens_decoder"] = {
            str(one["id"]): {key: one[key] for key in one if key != "id"} for one in added
        }
        (models / name / "tokenizer_config.json").write_text(json.dumps(settings))
        (models / name / "added_tokens.json").write_text(json.dumps({one["content"]: one["id"] for one in added}))
        (models / name / "tekken.json").write_text("{}")
    report = merge(_recipe(vocabulary="union"), models / "out")
    written = json.loads((models / "out" / "added_tokens.json").read_text())
    assert written == {"<chat>": 20, "<end>": 21, "<tool>": 22}
    assert "vocabulary: tekken.json is copied as it is, and lacks 1 token: <tool>" in report.notes
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(models / "out")
    assert {token: found.get_vocab()[token] for token in written} == written
    assert loaded(models / "out")[EMBEDDINGS].shape[0] == 23


def test_without_a_choice_other_rows_are_refused(models: Path) -> None:
    with pytest.raises(MergeError, match="tokenizer of b: 20 tokens have other rows than in a .*--vocabulary"):
        merge(_recipe(), models / "out")
    _model(models / "a", 1, WORDS, added=("<chat>",))
    with pytest.raises(MergeError, match="shapes differ.*choose one vocabulary"):
        merge(_recipe(), models / "out")
    _model(models / "b", 2, WORDS, rows=21)
    report = merge(_recipe(), models / "noted")
    assert "tokenizer of a: has 1 token that b lacks: '<chat>'" in report.notes
    (models / "b" / "tokenizer.json").unlink()
    report = merge(_recipe(vocabulary="union"), models / "assumed")
    assert "vocabulary: b has no tokenizer.json, and is taken to have that of a" in report.notes
    for name, text in (("a", "x"), ("b", "y")):
        (models / name / "vocab.txt").write_text(f"{text}\nz\n")
    with pytest.raises(
        MergeError, match="b has no tokenizer.json, and by its vocab.txt it has other tokens than a .'x', 'y'"
    ):
        merge(_recipe(vocabulary="union"), models / "out")
    (models / "b" / "vocab.txt").unlink()
    _model(models / "b", 2, WORDS, rows=22)
    (models / "b" / "tokenizer.json").unlink()
    with pytest.raises(MergeError, match="vocabulary: b has no tokenizer.json in .*Save its tokenizer"):
        merge(_recipe(vocabulary="union"), models / "out")
    (models / "a" / "mmgrid.json").write_text(
        json.dumps({"blocks": {"tensors": [EMBEDDINGS], "rows": [{"name": "backbone", "start": 0, "stop": 21}]}})
    )
    with pytest.raises(MergeError, match="vocabulary: a declares blocks of token rows"):
        merge(_recipe(vocabulary="union"), models / "out")


MERGEKIT = {
    "union": "tokenizer: {source: union}",
    "base": "tokenizer_source: base",
    "a model": "tokenizer: {source: b}",
    "rows asked for": """
tokenizer:
  source: union
  pad_to_multiple_of: 8
  tokens:
    <chat>: {source: b, force: true}
    <tool>: {source: {kind: model_token, model: a, token: <end>}}
    w3: {source: {kind: zero}, force: true}
    <more>: {source: {kind: model_token, model: base, token_id: 4}}""",
}
METHODS = {
    "linear": "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}, {model: base}]\n",
    "linear with a base": "merge_method: linear\nbase_model: base\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}]\n",
    "ties": "merge_method: ties\nbase_model: base\nparameters: {weight: 1, density: 0.5}\nmodels: [{model: a}, {model: b}]\n",
}


@pytest.mark.parametrize("asked", MERGEKIT)
@pytest.mark.parametrize("method", METHODS)
def test_mergekit_arranges_rows_alike(method: str, asked: str, models: Path) -> None:
    from test_mergekit_files import by_mergekit

    if asked == "base" and method == "linear":
        return  # no base_model: refused by both
    text = f"{METHODS[method]}dtype: float32\n{MERGEKIT[asked]}\n"
    (models / "config.yml").write_text(text)
    read = read_mergekit(models / "config.yml")
    merge(read.recipe, models / "ours", notes=read.notes)
    by_mergekit(text, models / "theirs")
    for name in (EMBEDDINGS, HEAD):
        ours, theirs = _by_token(models / "ours", name), _by_token(models / "theirs", name)
        assert ours.keys() == theirs.keys()
        for token, row in ours.items():
            torch.testing.assert_close(
                row, theirs[token], atol=1e-6, rtol=1e-5, msg=lambda text, t=token: f"{t}: {text}"
            )
        assert loaded(models / "ours")[name].shape == loaded(models / "theirs")[name].shape
    _assert_config(models)


def _assert_config(models: Path) -> None:
    configs: list[Mapping[str, object]] = [
        json.loads((models / name / "config.json").read_text()) for name in ("ours", "theirs")
    ]
    assert configs[0]["vocab_size"] == configs[1]["vocab_size"]


@pytest.mark.parametrize(
    ("recipe", "written"),
    [
        ({"vocabulary": "b"}, {"source": "../b"}),
        ({"vocabulary": {"source": "a", "pad_to_multiple_of": 8}}, {"source": "../a", "pad_to_multiple_of": 8}),
        (
            {
                "method": "task_arithmetic",
                "base": "base",
                "vocabulary": {"source": "base", "tokens": {"<new>": {"source": "a", "row": 3}}},
            },
            {
                "source": "../base",
                "tokens": {"<new>": {"source": {"kind": "model_token", "model": "../a", "token_id": 3}}},
            },
        ),
        ({"vocabulary": "union"}, None),  # without a base, mergekit's order differs from run to run
        ({"method": "task_arithmetic", "base": "base", "vocabulary": "union"}, None),
    ],
)
def test_a_vocabulary_is_written_for_mergekit_where_its_rows_are_the_same(
    recipe: dict[str, object], written: object, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_mergekit_files import by_mergekit

    merge(_recipe(dtype="float32", **recipe), models / "ours")
    file = models / "ours" / "mergekit_config.yml"
    if written is None:
        assert not file.exists()
        return
    assert yaml.safe_load(file.read_text())["tokenizer"] == written
    merge(read_mergekit(file).recipe, models / "again")
    monkeypatch.chdir(models / "ours")
    by_mergekit(file, models / "theirs")
    for name in (EMBEDDINGS, HEAD):
        ours = loaded(models / "ours")[name]
        torch.testing.assert_close(loaded(models / "again")[name], ours)
        torch.testing.assert_close(loaded(models / "theirs")[name], ours)
