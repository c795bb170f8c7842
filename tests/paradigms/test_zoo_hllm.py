"""HLLM's official layout: read and written, with the scores of an independent forward in plain Transformers calls."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

import mmgrid
from kits.small import make_tokenizer
from kits.tiny_grid import TEXT as TEXT_OF_GRID
from kits.tiny_grid import mmgrid as mmgrid_command
from mmgrid.data import Items
from mmgrid.files import DiskFull
from mmgrid.paradigms import PARADIGMS, load_checkpoint
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.paradigms.semb import hllm
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.testing.data import make_items, random_histories, same_weights

PROMPT = "Compress the following sentence into embedding: "
LENGTH, TEXT = 4, 67  # some texts are longer


def official_folder(folder: Path, items: Items, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The official state dict in `pytorch_model.bin`, and next to it the two language models as `item` and `user`."""
    tokenizer = make_tokenizer(items)
    torch.manual_seed(3)
    weights = {"item_emb_tokens": torch.randn(1, 1, 32), "logit_scale": torch.tensor(2.5)}
    for name, layers in (("item", 2), ("user", 3)):
        config = LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=2,
            num_key_value_heads=1, vocab_size=len(tokenizer), initializer_range=0.2, pad_token_id=None,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        weights |= {f"{name}_llm.{key}": weight for key, weight in model.state_dict().items()}
        config.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    weights = {name: weight.detach().to(dtype).clone() for name, weight in weights.items()}
    torch.save(weights, folder / "pytorch_model.bin")
    return weights


@pytest.fixture(scope="module")
def items() -> Items:
    return make_items(25)


@pytest.fixture(scope="module")
def official(items: Items, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hllm")
    official_folder(folder, items)
    return folder


def options(folder: Path) -> dict:
    about = {"item_model": str(folder / "item"), "user_model": str(folder / "user")}
    return about | {"max_text_length": TEXT, "history_length": LENGTH}


@pytest.fixture(scope="module")
def imported(official: Path) -> Path:
    return mmgrid.import_checkpoint(official, official / "ours", "hllm", options(official))


def reference_scores(folder: Path, weights: dict[str, Tensor], items: Items, histories: list[list[int]]) -> np.ndarray:
    """What the official code computes, from one item and one left-padded user at a time: float [users, items]."""
    models = []
    for name in ("item", "user"):
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder / name))
        own = {key.removeprefix(f"{name}_llm."): w for key, w in weights.items() if key.startswith(f"{name}_llm.")}
        model.load_state_dict(own)
        models.append(model.eval())
    item_model, user_model = models
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "item")
    vectors = []
    with torch.no_grad():
        for title, description in zip(items.titles, items.descriptions, strict=True):
            text = PROMPT + f"title: {title}" + (f"description: {description}" if description else "")
            ids = tokenizer.encode(text)[:TEXT]
            embedded = item_model.get_input_embeddings()(torch.tensor(ids))
            embedded = torch.cat([embedded, weights["item_emb_tokens"][0]])[None]
            places = torch.arange(len(ids) + 1)[None] + TEXT - len(ids)
            out = item_model(inputs_embeds=embedded, position_ids=places, output_hidden_states=True)
            vectors.append(out.hidden_states[-1][0, -1])
        table = torch.stack(vectors)
        scores = []
        for history in histories:
            recent = history[-LENGTH:]
            padded = [0] * (LENGTH - len(recent)) + recent
            mask = torch.tensor([[0] * (LENGTH - len(recent)) + [1] * len(recent)])
            out = user_model(inputs_embeds=table[padded][None], attention_mask=mask, output_hidden_states=True)
            scores.append(normalize(out.hidden_states[-1][0, -1], dim=0) @ normalize(table, dim=1).T)
    return torch.stack(scores).numpy()


def our_scores(folder: Path, items: Items, histories) -> np.ndarray:
    paradigm, model = load_checkpoint(folder)
    best, found = paradigm.recommend(model, histories, items, len(items))
    scores = np.full((len(histories), len(items)), np.nan)
    for user in range(len(histories)):
        kept = best[user] >= 0
        scores[user, best[user][kept]] = found[user][kept]
    return scores


def test_an_imported_model_scores_as_the_official_code(official: Path, imported: Path, items: Items) -> None:
    histories = random_histories(9, len(items))
    expected = reference_scores(
        official, torch.load(official / "pytorch_model.bin"), items, [histories.of(u).tolist() for u in range(9)]
    )
    found = our_scores(imported, items, histories)
    seen = np.isnan(found)
    assert seen.sum() == sum(len(set(histories.of(user).tolist())) for user in range(9)), "all but the history"
    np.testing.assert_allclose(found[~seen], expected[~seen], atol=2e-5)
    assert np.std(expected) > 0.005, "far above the tolerance"


def test_a_round_trip_keeps_the_bytes(official: Path, imported: Path, items: Items, tmp_path: Path) -> None:
    notes = mmgrid.export_checkpoint(imported, tmp_path / "theirs", "hllm")
    assert any("hllm.yaml" in note for note in notes)
    before = torch.load(official / "pytorch_model.bin", weights_only=True)
    after = torch.load(tmp_path / "theirs" / "pytorch_model.bin", weights_only=True)
    unread = {"item_llm.lm_head.weight", "user_llm.lm_head.weight", "user_llm.model.embed_tokens.weight"}
    assert after.keys() == before.keys() - unread
    assert all(torch.equal(after[name], before[name]) for name in after)
    again = mmgrid.import_checkpoint(tmp_path / "theirs", tmp_path / "ours", "hllm")  # its settings lie beside it
    assert (again / "model.safetensors").read_bytes() == (imported / "model.safetensors").read_bytes()
    histories = random_histories(5, len(items))
    np.testing.assert_array_equal(our_scores(again, items, histories), our_scores(imported, items, histories))


def test_half_precision_stays(items: Items, tmp_path: Path) -> None:
    weights = official_folder(tmp_path, items, torch.bfloat16)
    (tmp_path / "shards").mkdir()
    save_file({f"module.{name}": weight for name, weight in weights.items()}, tmp_path / "shards" / "any.safetensors")
    folder = mmgrid.import_checkpoint(tmp_path / "shards", tmp_path / "ours", "hllm", options(tmp_path))
    stored = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    assert torch.equal(stored["item_token"], weights["item_emb_tokens"][0, 0])
    assert json.loads((folder / "mmgrid.json").read_text())["imported"]["layout"] == "hllm"


def test_weights_of_a_trainers_state_are_found(official: Path, imported: Path, tmp_path: Path) -> None:
    state = {"model": torch.load(official / "pytorch_model.bin"), "optimizer": {}, "epoch": 3}
    torch.save(state, tmp_path / "HLLM-0.pth")
    folder = mmgrid.import_checkpoint(tmp_path / "HLLM-0.pth", tmp_path / "ours", "hllm", options(official))
    assert (folder / "model.safetensors").read_bytes() == (imported / "model.safetensors").read_bytes()


def _changed(official: Path, folder: Path, change) -> Path:
    weights = torch.load(official / "pytorch_model.bin")
    change(weights)
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("item_emb_tokens"), "mean pooling"),
        (lambda w: w.update(item_emb_tokens=torch.zeros(1, 2, 32)), r"shape \[1, 2, 32\]; semb has one"),
        (lambda w: w.pop("logit_scale"), "nce loss"),
        (lambda w: w.pop("user_llm.model.norm.weight"), "lacks the weights of user_tower.norm.weight"),
        (lambda w: w.update({"item_llm.model.odd": torch.zeros(1)}), "item_llm.model.odd has no place"),
        (lambda w: w.update({"user_llm.model.norm.weight": torch.zeros(4)}), r"has shape \[4\].*user_model"),
    ],
)
def test_what_would_score_differently_is_refused(official: Path, tmp_path: Path, change, message: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(LayoutError, match=message):
        mmgrid.import_checkpoint(_changed(official, source, change), tmp_path / "ours", "hllm", options(official))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"], "nothing is left"


def test_bad_sources_and_options_are_clear_errors(official: Path, tmp_path: Path) -> None:
    def fails(source: Path, message: str, **values) -> None:
        with pytest.raises((LayoutError, OSError), match=message):
            mmgrid.import_checkpoint(source, tmp_path / "ours", "hllm", options(official) | values)

    (tmp_path / "zero" / "checkpoint").mkdir(parents=True)
    (tmp_path / "zero" / "checkpoint" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").touch()
    fails(tmp_path / "zero", "zero_to_fp32.py")
    (tmp_path / "code.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    fails(tmp_path / "code.bin", "not opened")
    fails(tmp_path / "absent", "does not exist")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "holds no weights")
    fails(official, "text_keys.*", text_keys=["tag"])
    fails(official, "unknown option of hllm", histroy=3)
    fails(official, "item_model=FOLDER", item_model=str(tmp_path / "nowhere"))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mine").touch()
    fails(official, "not empty")
    with pytest.raises(LayoutError, match="no such layout; the installed paradigms have .*hllm"):
        mmgrid.import_checkpoint(official, tmp_path / "x", "tiger")


def test_our_own_model_exported_scores_the_same_by_the_official_code(items: Items, tmp_path: Path) -> None:
    recipe = PARADIGMS["semb"].resolve(
        {"text_tokens": 40, "title_tokens": 40}, backbone_kind="tiny", history_length=LENGTH
    )
    tokenizer = make_tokenizer(items)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer),
        initializer_range=0.2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(5)
    paradigm, model = Semb.create(recipe, LlamaModel(config), tokenizer, seed=0)
    ours = tmp_path / "ours"
    ours.mkdir()
    paradigm.save(model, ours)
    mmgrid.export_checkpoint(ours, tmp_path / "theirs", "hllm")
    again = mmgrid.import_checkpoint(tmp_path / "theirs", tmp_path / "again", "hllm")
    histories = random_histories(6, len(items))
    np.testing.assert_allclose(our_scores(again, items, histories), our_scores(ours, items, histories), atol=2e-5)
    assert same_weights(load_checkpoint(again)[1], model)


def test_the_command_line_imports_exports_and_lists_options(official: Path, tmp_path: Path) -> None:
    given = [f"--option={name}={value}" for name, value in options(official).items()]
    done = mmgrid_command("import", "--from", "hllm", official, "-o", tmp_path / "ours", *given)
    assert done.code == 0, done.err
    assert "imported from" in done.out
    done = mmgrid_command("export", tmp_path / "ours", "--to", "hllm", "-o", tmp_path / "theirs")
    assert done.code == 0, done.err
    assert "hllm.yaml" in done.out
    listed = mmgrid_command("import", "--from", "hllm", "--options").out
    assert all(name in listed for name in ("item_model", "max_text_length", "history_length"))
    wrong = mmgrid_command("import", "--from", "hllm", official, "-o", tmp_path / "x", "--option", "depth=3")
    assert wrong.code == 1
    assert "option depth: unknown option of hllm" in wrong.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("text_keys", 5), ("text_keys", "title"), ("text_keys", [["title"]]), ("item_prompt", ["x"]),
     ("MAX_TEXT_LENGTH", "x"), ("MAX_TEXT_LENGTH", True), ("MAX_ITEM_LIST_LENGTH", 0), ("MAX_ITEM_LIST_LENGTH", 2**70)],
)  # fmt: skip
def test_settings_of_another_kind_are_refused(official: Path, tmp_path: Path, name: str, value: object) -> None:
    source = tmp_path / "source"
    shutil.copytree(official, source)
    (source / "hllm.yaml").write_text(json.dumps({name: value}))
    with pytest.raises(LayoutError, match=rf"hllm\.yaml: {name} is .*; it must be a"):
        mmgrid.import_checkpoint(source, tmp_path / "ours", "hllm", options(official))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_full_disk_is_named_and_leaves_nothing(
    official: Path, imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 6464 vs 6352")

    monkeypatch.setattr(hllm, "copy_weights", full)
    monkeypatch.setattr(hllm, "pickle_weights", full)
    with pytest.raises(DiskFull, match="ours: could not be written"):
        mmgrid.import_checkpoint(official, tmp_path / "ours", "hllm", options(official))
    with pytest.raises(DiskFull, match="theirs: could not be written"):
        mmgrid.export_checkpoint(imported, tmp_path / "theirs", "hllm")
    assert not list(tmp_path.iterdir())


def test_a_grid_takes_an_imported_checkpoint(imported: Path, tmp_path: Path) -> None:
    head = TEXT_OF_GRID[: TEXT_OF_GRID.index("[backbone]")].replace('["garden", "kitchen"]', '["garden"]')
    entry = f'[[checkpoints]]\nparadigm = "semb"\ndomain = "garden"\nphase = "phase2"\npath = "{imported}"\n'
    file = tmp_path / "grid.toml"
    file.write_text(head + entry)
    done = mmgrid_command("run", file, "--store", tmp_path / "runs", "--jobs", "1")
    assert done.code == 0, done.out + done.err
    found = mmgrid_command("results", file, "--store", tmp_path / "runs", "--json").json
    assert any(row["paradigm"] == "semb" and row["domain"] == "garden" for row in found), found
