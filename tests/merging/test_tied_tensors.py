"""A tensor that is tied, or stored twice, is one tensor; a buffer that only some files store is no difference."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kits.tiny_llama import HIDDEN, TOKENS, loaded, tiny_llama
from mmgrid.merging import MergeError, merge, merge_state_dicts
from mmgrid.merging.verify import verify

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def _write(folder: Path, tensors: dict[str, Tensor], **settings: object) -> Path:
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def _tied(folder: Path, seed: int, *, twice: bool, near: Path | None = None) -> Path:
    """A tied model whose file holds its head, too, or not."""
    tensors = loaded(tiny_llama(folder, seed, layers=1, near=near))
    del tensors[HEAD]
    return _write(folder, tensors | ({HEAD: tensors[EMBEDDINGS]} if twice else {}), tie_word_embeddings=True)


def _config(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tiny_llama(tmp_path / "seed", 0, layers=1)
    return _tied(tmp_path / "base", 0, twice=True)


METHODS: dict[str, dict[str, object]] = {
    "dare": {"drop": 0.5},
    "della": {"density": 0.5},
    "ties": {"density": 0.35, "scope": "model"},
    "breadcrumbs": {"density": 0.6},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_head_that_is_stored_twice_is_merged_once(method: str, base: Path, tmp_path: Path) -> None:
    """Also in thresholds over the whole model, where a copy would count double."""
    recipes = {}
    for twice in (True, False):
        place = tmp_path / f"{twice}"
        place.mkdir()
        for name, seed in (("a", 1), ("b", 2)):
            _tied(place / name, seed, twice=twice, near=tmp_path / "seed")
        own = _tied(place / "base", 0, twice=twice)
        sources = [{"path": str(place / name), "name": name} for name in "ab"]
        recipes[twice] = {"method": method, "base": str(own), "sources": sources, "options": METHODS[method]}
    report = merge(recipes[True], tmp_path / "twice")
    merge(recipes[False], tmp_path / "once")
    assert report.dropped[HEAD] == f"tied to {EMBEDDINGS}, so it is stored once"
    assert (tmp_path / "twice/model.safetensors").read_bytes() == (tmp_path / "once/model.safetensors").read_bytes()
    assert _config(tmp_path / "twice")["tie_word_embeddings"] is True
    assert verify(tmp_path / "twice").equal


def test_models_that_store_a_tied_head_and_models_that_do_not_are_of_one_architecture(tmp_path: Path) -> None:
    both, alone = _tied(tmp_path / "both", 1, twice=True), _tied(tmp_path / "alone", 2, twice=False)
    merge({"method": "linear", "sources": [{"path": str(both)}, {"path": str(alone)}]}, tmp_path / "out")
    merged = loaded(tmp_path / "out")
    assert HEAD not in merged
    expected = (loaded(both)[EMBEDDINGS] + loaded(alone)[EMBEDDINGS]) / 2
    torch.testing.assert_close(merged[EMBEDDINGS], expected)


def test_a_model_that_stores_only_its_head_is_the_same_model(tmp_path: Path) -> None:
    one, other = _tied(tmp_path / "one", 1, twice=False), _tied(tmp_path / "other", 2, twice=False)
    tensors = loaded(other)
    _write(other, {HEAD if name == EMBEDDINGS else name: tensor for name, tensor in tensors.items()})
    merge({"method": "linear", "sources": [{"path": str(one)}, {"path": str(other)}]}, tmp_path / "out")
    expected = (loaded(one)[EMBEDDINGS] + tensors[EMBEDDINGS]) / 2
    torch.testing.assert_close(loaded(tmp_path / "out")[EMBEDDINGS], expected)


def test_a_tied_and_an_untied_model_give_an_untied_one(tmp_path: Path) -> None:
    tied, untied = _tied(tmp_path / "tied", 1, twice=False), tiny_llama(tmp_path / "untied", 2, layers=1)
    report = merge({"method": "linear", "sources": [{"path": str(tied)}, {"path": str(untied)}]}, tmp_path / "out")
    merged = loaded(tmp_path / "out")
    torch.testing.assert_close(merged[HEAD], (loaded(tied)[EMBEDDINGS] + loaded(untied)[HEAD]) / 2)
    torch.testing.assert_close(merged[EMBEDDINGS], (loaded(tied)[EMBEDDINGS] + loaded(untied)[EMBEDDINGS]) / 2)
    assert _config(tmp_path / "out")["tie_word_embeddings"] is False
    assert any(note.startswith(f"{HEAD}: tied: tied to {EMBEDDINGS}") for note in report.notes)
    assert verify(tmp_path / "out").equal


def test_a_config_that_ties_two_different_tensors_is_not_believed(tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", 1), ("b", 2)):
        made[name] = _write(
            tiny_llama(tmp_path / name, seed, layers=1), loaded(tmp_path / name), tie_word_embeddings=True
        )
    report = merge({"method": "linear", "sources": [{"path": str(path)} for path in made.values()]}, tmp_path / "out")
    assert not torch.equal(loaded(tmp_path / "out")[HEAD], loaded(tmp_path / "out")[EMBEDDINGS])
    assert _config(tmp_path / "out")["tie_word_embeddings"] is False
    assert any(
        "differs from model.embed_tokens.weight in a, b although the config ties them" in n for n in report.notes
    )


def test_an_untied_model_without_its_head_is_refused(tmp_path: Path) -> None:
    whole, headless = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate(("whole", "headless")))
    tensors = loaded(headless)
    del tensors[HEAD]
    _write(headless, tensors)
    with pytest.raises(MergeError, match=r"source 'headless' lacks lm_head\.weight"):
        merge(
            {"method": "linear", "sources": [{"path": str(whole)}, {"path": str(headless), "name": "headless"}]},
            tmp_path / "out",
        )


def test_buffers_of_some_files_are_left_out_and_named(tmp_path: Path) -> None:
    one, other = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    buffer = "model.layers.0.self_attn.rotary_emb.inv_freq"
    _write(one, loaded(one) | {buffer: torch.ones(4)})
    report = merge({"method": "linear", "sources": [{"path": str(one)}, {"path": str(other)}]}, tmp_path / "out")
    assert report.dropped == {buffer: "a buffer that only some models store; loaders compute it"}
    _write(other, loaded(other) | {buffer: torch.ones(4)})
    assert (
        buffer
        in merge({"method": "linear", "sources": [{"path": str(one)}, {"path": str(other)}]}, tmp_path / "o2").merged
    )


def test_an_encoder_decoder_shares_its_embeddings_even_with_a_head_of_its_own(tmp_path: Path) -> None:
    """T5 1.1: the head is untied, and files hold the shared embeddings once or three times.

    Loaders tie the copies only where they tie the head, so all are stored.
    """
    parts = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    for name, seed in (("a", 1), ("b", 2)):
        folder = tiny_llama(tmp_path / name, seed, layers=1)
        tensors = {"shared.weight": torch.randn(TOKENS, HIDDEN), HEAD: torch.randn(TOKENS, HIDDEN)}
        _write(folder, tensors | (dict.fromkeys(parts, tensors["shared.weight"]) if name == "a" else {}))
    report = merge({"method": "linear", "sources": [{"path": str(tmp_path / name)} for name in "ab"]}, tmp_path / "out")
    assert set(report.merged) == {"shared.weight", HEAD}
    merged = loaded(tmp_path / "out")
    assert all(torch.equal(merged[part], merged["shared.weight"]) for part in parts)
    assert verify(tmp_path / "out").equal
    assert _config(tmp_path / "out")["tie_word_embeddings"] is False


def _with_more(folder: Path, seed: int, names: dict[str, Tensor], near: Path | None = None) -> Path:
    return _write(tiny_llama(folder, seed, layers=1, near=near), loaded(folder) | names)


def test_tensors_of_any_name_with_the_same_bytes_in_all_models_are_merged_once(tmp_path: Path) -> None:
    """Two names that no architecture is known to tie; one mask for both, and both are stored."""
    constants = {"one.scale": torch.ones(4), "other.scale": torch.ones(4)}
    for seed, name in enumerate(("base", "a", "b")):
        table = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
        copies = {"reader.table.weight": table, "writer.table.weight": table}
        _with_more(tmp_path / name, seed, copies | constants)
    sources = [{"path": str(tmp_path / name), "name": name} for name in "ab"]
    recipe = {"method": "dare", "base": str(tmp_path / "base"), "sources": sources, "options": {"drop": 0.5}}
    report = merge(recipe, tmp_path / "out")
    note = "writer.table.weight: has the bytes of reader.table.weight in all models; merged once, and stored twice"
    assert report.notes == (note,)
    merged = loaded(tmp_path / "out")
    assert torch.equal(merged["reader.table.weight"], merged["writer.table.weight"])
    assert "other.scale" in report.merged  # constants are no copies
    assert verify(tmp_path / "out").equal
    held = {name: loaded(tmp_path / name) for name in "ab"}
    in_memory = merge_state_dicts("dare", held, base=loaded(tmp_path / "base"), drop=0.5)
    assert torch.equal(in_memory["reader.table.weight"], in_memory["writer.table.weight"])
    assert in_memory["reader.table.weight"].data_ptr() != in_memory["writer.table.weight"].data_ptr()
    apart = recipe | {"rules": [{"tensors": "writer.*", "method": "linear"}]}
    assert "writer.table.weight" in merge(apart, tmp_path / "by-rules").merged
    tables = {"reader.table.weight": torch.zeros(6, 4), "writer.table.weight": torch.ones(6, 4)}
    _with_more(tmp_path / "b", 2, constants | tables)
    assert "writer.table.weight" in merge(recipe, tmp_path / "apart").merged


def test_a_rule_for_a_tensor_that_is_not_merged_by_itself_gets_a_note(tmp_path: Path) -> None:
    model = _tied(tmp_path / "model", 0, twice=True)
    rules = [{"tensors": HEAD, "method": "linear"}, {"tensors": "*.mpl.*", "method": "linear"}]
    rules += [{"tensors": "*", "method": "linear"}, {"tensors": ["*.mlp.*", "x"], "method": "linear"}]
    recipe = {"method": "linear", "sources": [{"path": str(model)}], "rules": rules}
    assert merge(recipe, tmp_path / "out").notes == (
        f"rules[0]: {HEAD}: applies to no tensor: {HEAD} is not merged by itself",
        "rules[1]: *.mpl.*: applies to no tensor",
        "rules[3]: *.mlp.*, x: applies to no tensor: earlier rules fit all of them",
    )


def test_the_second_bias_of_a_head_follows_the_first(tmp_path: Path) -> None:
    """Models of one architecture store it once or twice; loaders of untied models need both."""
    bias, again = "cls.predictions.bias", "cls.predictions.decoder.bias"
    for seed, name in enumerate("ab"):
        own = torch.randn(TOKENS)
        more = {bias: own, "cls.predictions.decoder.weight": torch.randn(TOKENS, HIDDEN)}
        _with_more(tmp_path / name, seed, more | ({again: own} if name == "a" else {}))
    sources = [{"path": str(tmp_path / name)} for name in "ab"]
    report = merge({"method": "linear", "sources": sources}, tmp_path / "out")
    merged = loaded(tmp_path / "out")
    assert torch.equal(merged[bias], merged[again])
    assert again not in report.merged
    merge({"method": "linear", "sources": [{"path": str(tmp_path / "b")}]}, tmp_path / "one")
    assert torch.equal(loaded(tmp_path / "one")[again], loaded(tmp_path / "b")[bias])


def _adapter(folder: Path, base: Path, tensors: dict[str, Tensor], **settings: object) -> Path:
    folder.mkdir()
    save_file(
        {f"base_model.model.{name}": tensor.clone() for name, tensor in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2, "lora_alpha": 2, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return folder


@pytest.mark.parametrize("twice", [True, False])
def test_an_adapter_that_retrains_the_embeddings_leaves_the_tied_head(twice: bool, tmp_path: Path) -> None:
    base = _tied(tmp_path / "base", 0, twice=twice)
    new = torch.randn(TOKENS, HIDDEN)
    adapter = _adapter(tmp_path / "adapter", base, {EMBEDDINGS: new})
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    merged = loaded(tmp_path / "out")
    assert torch.equal(merged[EMBEDDINGS], new)
    assert torch.equal(merged[HEAD], loaded(base)[EMBEDDINGS])
    assert _config(tmp_path / "out")["tie_word_embeddings"] is False


def test_an_adapter_that_trains_the_head_leaves_the_tied_embeddings(tmp_path: Path) -> None:
    base = _tied(tmp_path / "base", 0, twice=False)
    down, up = torch.randn(2, HIDDEN), torch.randn(TOKENS, 2)
    adapter = _adapter(tmp_path / "adapter", base, {"lm_head.lora_A.weight": down, "lm_head.lora_B.weight": up})
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    merged, before = loaded(tmp_path / "out"), loaded(base)[EMBEDDINGS]
    assert torch.equal(merged[EMBEDDINGS], before)
    torch.testing.assert_close(merged[HEAD], before + up @ down)


def test_an_adapter_that_holds_both_tied_tensors_stays_tied(tmp_path: Path) -> None:
    base = _tied(tmp_path / "base", 0, twice=False)
    new = torch.randn(TOKENS, HIDDEN)
    adapter = _adapter(tmp_path / "adapter", base, {EMBEDDINGS: new, HEAD: new})
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    merged = loaded(tmp_path / "out")
    assert HEAD not in merged
    assert torch.equal(merged[EMBEDDINGS], new)
    assert _config(tmp_path / "out")["tie_word_embeddings"] is True


def test_an_adapter_trained_after_a_resize_of_the_vocabulary_is_merged(tmp_path: Path) -> None:
    base = _tied(tmp_path / "base", 0, twice=False)
    new = torch.randn(TOKENS + 2, HIDDEN)
    factors = {"lora_embedding_A": torch.randn(2, TOKENS + 2), "lora_embedding_B": torch.randn(HIDDEN, 2)}
    whole = _adapter(tmp_path / "whole", base, {EMBEDDINGS: new})
    merge({"method": "linear", "sources": [{"path": str(whole)}]}, tmp_path / "out")
    assert torch.equal(loaded(tmp_path / "out")[EMBEDDINGS], new)
    assert _config(tmp_path / "out") | {"tie_word_embeddings": True, "vocab_size": TOKENS + 2} == _config(
        tmp_path / "out"
    )
    stem = EMBEDDINGS.removesuffix(".weight")
    lacking = {f"{stem}.{kind}": tensor for kind, tensor in factors.items()}
    with pytest.raises(MergeError, match="trained after the vocabulary was resized from 48 to 50 rows"):
        merge(
            {"method": "linear", "sources": [{"path": str(_adapter(tmp_path / "less", base, lacking))}]}, tmp_path / "o"
        )
    full = _adapter(tmp_path / "full", base, lacking | {f"{stem}.base_layer.weight": new})
    merge({"method": "linear", "sources": [{"path": str(full)}]}, tmp_path / "out2")
    change = (factors["lora_embedding_B"] @ factors["lora_embedding_A"]).T
    torch.testing.assert_close(loaded(tmp_path / "out2")[EMBEDDINGS], new + change)


def test_a_base_with_an_adapter(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    query = "model.layers.0.self_attn.q_proj"
    factors = {f"{query}.lora_A.weight": torch.randn(2, HIDDEN), f"{query}.lora_B.weight": torch.randn(HIDDEN, 2)}
    adapter = _adapter(tmp_path / "adapter", base, factors)
    tuned = tiny_llama(tmp_path / "tuned", 1, layers=1, near=base)
    file = tmp_path / "config.yml"
    file.write_text(
        f"merge_method: task_arithmetic\nbase_model: {base}+{adapter}\ndtype: float32\n"
        f"models: [{{model: {tuned}, parameters: {{weight: 0.5}}}}]\n"
    )
    from mmgrid.merging.mergekit.read import read_mergekit

    merge(read_mergekit(file).recipe, tmp_path / "out")
    start = loaded(base)[f"{query}.weight"] + factors[f"{query}.lora_B.weight"] @ factors[f"{query}.lora_A.weight"]
    expected = start + 0.5 * (loaded(tuned)[f"{query}.weight"] - start)
    torch.testing.assert_close(loaded(tmp_path / "out")[f"{query}.weight"], expected)
    assert verify(tmp_path / "out").equal
    assert load_file(adapter / "adapter_model.safetensors")  # sources are only read


def test_an_adapter_of_shared_embeddings_alone_changes_nothing_in_peft(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    _write(base, {"shared.weight": torch.randn(TOKENS, HIDDEN)}, is_encoder_decoder=True, tie_word_embeddings=True)
    adapter = _adapter(tmp_path / "adapter", base, {"shared.weight": torch.randn(TOKENS, HIDDEN)})
    with pytest.raises(
        MergeError, match=r"changes shared.weight, but not the copies .* Take shared out of the adapter's file"
    ):
        merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    head = _adapter(tmp_path / "head", base, {HEAD: torch.randn(TOKENS, HIDDEN)})
    merge({"method": "linear", "sources": [{"path": str(head)}]}, tmp_path / "out")
    merged = loaded(tmp_path / "out")
    assert set(merged) == {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD}
    assert torch.equal(merged["encoder.embed_tokens.weight"], loaded(base)["shared.weight"])


def test_an_adapter_of_conv1d_layers_whose_setting_peft_has_unset(tmp_path: Path) -> None:
    """PEFT unsets fan_in_fan_out for the whole adapter once it meets a linear layer."""
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    wide = "transformer.h.0.attn.c_attn"
    _write(base, {f"{wide}.weight": torch.randn(HIDDEN, 3 * HIDDEN)}, model_type="gpt2")
    down, up = torch.randn(2, HIDDEN), torch.randn(3 * HIDDEN, 2)
    factors = {f"{wide}.lora_A.weight": down, f"{wide}.lora_B.weight": up}
    adapter = _adapter(tmp_path / "adapter", base, factors, fan_in_fan_out=False)
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    torch.testing.assert_close(
        loaded(tmp_path / "out")[f"{wide}.weight"], loaded(base)[f"{wide}.weight"] + (up @ down).T
    )


@pytest.mark.parametrize("twice", [True, False])
def test_rows_of_tied_embeddings_are_the_heads_too(twice: bool, tmp_path: Path) -> None:
    """Also where LoRA on the head unties it: PEFT adds B A to the head with these rows."""
    base = _tied(tmp_path / "base", 0, twice=twice)
    rows, before = torch.randn(2, HIDDEN), loaded(base)[EMBEDDINGS]
    own = {"model.embed_tokens.token_adapter.trainable_tokens_delta": rows}
    adapter = _adapter(tmp_path / "rows", base, own, trainable_token_indices=[3, 7])
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    expected = before.clone()
    expected[[3, 7]] = rows
    assert HEAD not in loaded(tmp_path / "out")
    assert torch.equal(loaded(tmp_path / "out")[EMBEDDINGS], expected)
    factors = {"lm_head.lora_A.weight": torch.randn(2, HIDDEN), "lm_head.lora_B.weight": torch.randn(TOKENS, 2)}
    adapter = _adapter(tmp_path / "both", base, own | factors, trainable_token_indices=[3, 7])
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out2")
    merged = loaded(tmp_path / "out2")
    assert torch.equal(merged[EMBEDDINGS], expected)
    torch.testing.assert_close(
        merged[HEAD], expected + factors["lm_head.lora_B.weight"] @ factors["lm_head.lora_A.weight"]
    )


@pytest.mark.parametrize("twice", [True, False])
def test_rows_of_a_tied_head_alone_leave_the_embeddings(twice: bool, tmp_path: Path) -> None:
    base = _tied(tmp_path / "base", 0, twice=twice)
    own = {"lm_head.token_adapter.trainable_tokens_delta": torch.randn(2, HIDDEN)}
    adapter = _adapter(tmp_path / "adapter", base, own, trainable_token_indices={"lm_head": [3, 7]})
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    merged, before = loaded(tmp_path / "out"), loaded(base)[EMBEDDINGS]
    assert torch.equal(merged[EMBEDDINGS], before)
    before[[3, 7]] = next(iter(own.values()))
    assert torch.equal(merged[HEAD], before)
    assert _config(tmp_path / "out")["tie_word_embeddings"] is False


def test_parameters_that_are_targets_are_not_turned(tmp_path: Path) -> None:
    """PEFT's `target_parameters` take a Conv1D layer's matrix as it is stored."""
    base = tiny_llama(tmp_path / "base", 0, layers=1)
    _write(base, loaded(base), model_type="gpt2")
    gate = "model.layers.0.mlp.gate_proj"
    rows, columns = loaded(base)[f"{gate}.weight"].shape
    factors = {f"{gate}.lora_A.weight": torch.randn(2, columns), f"{gate}.lora_B.weight": torch.randn(rows, 2)}
    adapter = _adapter(tmp_path / "adapter", base, factors, target_parameters=["gate_proj.weight"])
    merge({"method": "linear", "sources": [{"path": str(adapter)}]}, tmp_path / "out")
    change = factors[f"{gate}.lora_B.weight"] @ factors[f"{gate}.lora_A.weight"]
    torch.testing.assert_close(loaded(tmp_path / "out")[f"{gate}.weight"], loaded(base)[f"{gate}.weight"] + change)
