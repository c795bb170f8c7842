"""The names that tensors of tokens have in the common architectures, and tensors with other names in other files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kits.tiny_llama import loaded, tiny_llama
from mmgrid.merging import merge
from mmgrid.merging.models.settings import embeddings_tied
from mmgrid.merging.models.token_tensors import tied_pairs, usual_head
from mmgrid.merging.verify import verify

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def test_names_of_pairs() -> None:
    layers = ["model.layers.0.mlp.weight", "h.0.attn.bias"]
    assert tied_pairs([EMBEDDINGS, HEAD, *layers]) == {HEAD: EMBEDDINGS}
    assert tied_pairs(["transformer.wte.weight", HEAD]) == {HEAD: "transformer.wte.weight"}
    assert tied_pairs(["item_tower.embed_tokens.weight", "user_tower.embed_tokens.weight"]) == {}
    parts = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD]
    assert tied_pairs(parts) == dict.fromkeys(parts[1:], "shared.weight")
    towers = ["a.model.embed_tokens.weight", "b.model.embed_tokens.weight", "a.lm_head.weight", "b.lm_head.weight"]
    assert tied_pairs(towers) == {"a.lm_head.weight": towers[0], "b.lm_head.weight": towers[1]}


# Embeddings that classes of transformers 5 tie to a head of this name.
DECLARED = {
    "lm_head.weight": """
        model.language_model.embed_tokens.weight
        transformer.wte.weight
        backbone.embeddings.weight
        model.decoder.embed_tokens.weight
        transformer.word_embeddings.weight
        gpt_neox.embed_in.weight
        model.shared.weight
        led.shared.weight
        transformer.w.weight
        transformer.tokens_embed.weight
        model.text_model.embed_tokens.weight
        model.embed_tokens.embed_tokens.weight
        prophetnet.word_embeddings.weight
    """,
    "cls.predictions.decoder.weight": """
        bert.embeddings.word_embeddings.weight
        deberta.embeddings.word_embeddings.weight
    """,
    "predictions.decoder.weight": """
        albert.embeddings.word_embeddings.weight
    """,
    "lm_head.decoder.weight": """
        roberta.embeddings.word_embeddings.weight
    """,
    "lm_head.out_proj.weight": """
        model.decoder.embed_tokens.weight
    """,
    "generator_lm_head.weight": """
        electra.embeddings.word_embeddings.weight
    """,
    "vocab_projector.weight": """
        distilbert.embeddings.word_embeddings.weight
    """,
    "proj_out.weight": """
        model.decoder.embed_tokens.weight
    """,
    "output_projection.weight": """
        biogpt.embed_tokens.weight
        model.decoder.embed_tokens.weight
    """,
    "embed_out.weight": """
        gpt_neox.embed_in.weight
    """,
    "output.weight": """
        model.tok_embeddings.weight
    """,
    "transformer.output_layer.weight": """
        transformer.embedding.word_embeddings.weight
    """,
    "pred_layer.proj.weight": """
        transformer.embeddings.weight
    """,
    "lm_loss.weight": """
        transformer.word_embedding.weight
    """,
    "head.weight": """
        rwkv.embeddings.weight
    """,
    "decoder.weight": """
        model.embeddings.tok_embeddings.weight
    """,
    "text_decoder.cls.predictions.decoder.weight": """
        text_decoder.bert.embeddings.word_embeddings.weight
    """,
    "text_encoder.embed_tokens.weight": """
        shared.weight
    """,
    "prophetnet.encoder.word_embeddings.weight": """
        prophetnet.word_embeddings.weight
    """,
    "cls.predictions.decoder.bias": """
        cls.predictions.bias
    """,
    "lm_head.decoder.bias": """
        lm_head.bias
    """,
    "text_decoder.cls.predictions.decoder.bias": """
        text_decoder.cls.predictions.bias
    """,
}


def test_pairs_of_other_architectures_are_known_by_their_names() -> None:
    others = ["embeddings.position_embeddings.weight", "classifier.weight", "model.layers.0.mlp.weight", "wpe.weight"]
    for twin, firsts in DECLARED.items():
        for first in firsts.split():
            assert tied_pairs([twin, first, *others]) == {twin: first}


def test_whether_a_type_ties_unless_its_config_says_so() -> None:
    for type_ in ("gpt_neo", "smollm3", "mamba", "mistral3", "roberta"):
        assert embeddings_tied({"model_type": type_}) is True
        assert embeddings_tied({"model_type": type_, "tie_word_embeddings": False}) is False
    for type_ in ("gpt_neox", "mamba2", "falcon_h1", "mistral", "qwen3"):
        assert embeddings_tied({"model_type": type_}) is False
    assert embeddings_tied({"model_type": "unheard_of"}) is None


def test_the_heads_that_files_do_not_hold() -> None:
    words = "bert.embeddings.word_embeddings.weight"
    assert (
        usual_head(words, {"model_type": "bert", "architectures": ["BertForMaskedLM"]})
        == "cls.predictions.decoder.weight"
    )
    assert usual_head(words, {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}) is None
    assert usual_head("model.decoder.embed_tokens.weight", {"model_type": "whisper"}) == "proj_out.weight"
    assert usual_head("backbone.embeddings.weight", {"model_type": "mamba"}) == HEAD
    assert usual_head("a.model.embed_tokens.weight", {}) == "a.lm_head.weight"


def _renamed(folder: Path, seed: int, starts: dict[str, str]) -> dict[str, Tensor]:
    """Write a model with other names; returns its tensors with the usual ones."""
    tensors = loaded(tiny_llama(folder, seed, layers=1))
    other = {}
    for name, tensor in tensors.items():
        start = next((start for start in starts if name.startswith(start)), "")
        other[starts.get(start, "") + name.removeprefix(start)] = tensor
    save_file(other, folder / "model.safetensors", {"format": "pt"})
    return tensors


OLD = {"model.": "language_model.model.", "lm_head": "language_model.lm_head"}
RENAMED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "no prefix": ({}, {"model.": ""}),
    "a prefix": ({"model.": ""}, {}),
    "another part": ({}, {"model.": "model.language_model."}),
    "towers that moved": ({"model.": "model.language_model."}, OLD),
}


@pytest.mark.parametrize("case", RENAMED)
def test_models_that_only_their_names_keep_apart_are_merged(case: str, tmp_path: Path) -> None:
    means = [_renamed(tmp_path / name, seed, RENAMED[case][seed]) for seed, name in enumerate("ab")]
    sources = [{"path": str(tmp_path / name)} for name in "ab"]
    report = merge({"method": "linear", "sources": sources}, tmp_path / "out")
    merged, first = loaded(tmp_path / "out"), loaded(tmp_path / "a")
    assert merged.keys() == first.keys()
    for name, tensor in means[0].items():
        own = next(other for other, value in first.items() if torch.equal(value, tensor) and other.endswith(name[6:]))
        torch.testing.assert_close(merged[own], (tensor + means[1][name]) / 2)
    assert report.notes[0].startswith("b: ")
    assert "tensors have the names that they have in a" in report.notes[0]
    assert verify(tmp_path / "out").equal


def test_old_names_of_norms(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        folder, ends = (
            tiny_llama(tmp_path / name, seed, layers=1),
            ("weight", "bias") if seed == 0 else ("gamma", "beta"),
        )
        norms = {f"top.LayerNorm.{end}": torch.full((4,), seed + 1.0) for end in ends}
        save_file(loaded(folder) | norms, folder / "model.safetensors", {"format": "pt"})
    sources = [{"path": str(tmp_path / name), "name": name} for name in "ab"]
    merge({"method": "linear", "sources": sources}, tmp_path / "out")
    norms = {name for name in loaded(tmp_path / "out") if "Norm" in name}
    assert norms == {"top.LayerNorm.weight", "top.LayerNorm.bias"}
    merge({"method": "linear", "sources": sources, "companions": "b"}, tmp_path / "of-b")
    assert "top.LayerNorm.gamma" in loaded(tmp_path / "of-b")
