"""Models that look alike and are not of one architecture; errors that name what the user wrote."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kits.tiny_llama import HIDDEN, INNER, linear, loaded, tiny_llama, with_settings
from mmgrid.merging import MergeError, MergeRecipe, merge
from mmgrid.merging.models.settings import in_one_form
from mmgrid.merging.verify import verify

DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rope_theta": 1e6}, "rope_theta: a has 10000.0, b 1000000.0"),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, "rope_theta: a has 10000.0, b 500000.0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.rope_type: a has default, b linear"),
        ({"num_attention_heads": 4, "num_key_value_heads": 4}, "num_attention_heads: a has 2, b 4"),
        ({"hidden_act": "gelu"}, "hidden_act: a has silu, b gelu"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps: a has 1e-06, b 1e-05"),
        ({"text_config": {"rope_theta": 1e6}}, "text_config.rope_theta: a has 10000.0, b 1000000.0"),
        ({"model_type": "mistral"}, "model_type: a has llama, b mistral"),
        ({"sliding_window": 4096}, "sliding_window: a has None, b 4096"),
        ({"layer_types": ["sliding_attention"]}, "layer_types: a has [full_attention], b [sliding_attention]"),
        ({"attention_bias": True}, "attention_bias: a has False, b True"),
        ({"mlp_bias": True}, "mlp_bias: a has False, b True"),
        ({"head_dim": 4}, "head_dim: a has 8, b 4"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: a has 1.0, b 0.5"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor: a has 1.0, b 0.5",
        ),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: a has None, b 30.0"),
        ({"query_pre_attn_scalar": 64}, "query_pre_attn_scalar: a has None, b 64"),
        ({"logits_scaling": 8.0}, "logits_scaling: a has 1.0, b 8.0"),
        ({"logit_scale": 0.25}, "logit_scale: a has 0.5, b 0.25"),
        ({"output_multiplier": 0.2}, "output_multiplier: a has 0.5, b 0.2"),
        ({"is_decoder": True}, "is_decoder: a has False, b True"),
        ({"num_kv_shared_layers": 1}, "num_kv_shared_layers: a has 0, b 1"),
        ({"expert_selection_fn": "sigmoid"}, "expert_selection_fn: a has softmax, b sigmoid"),
        ({"use_post_norm": True}, "use_post_norm: a has False, b True"),
        ({"vision_feature_layer": -1}, "vision_feature_layer: a has -2, b -1"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "linear", "factor": 8.0}}},
            "rope_scaling.rope_type: a has default, b linear",
        ),
        (
            {"rope_parameters": {"rope_theta": 1e4, "sliding_attention": {"rope_theta": 2e4}}},
            "rope_local_base_freq: a has 10000.0, b 20000.0",
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling.rope_type: a has default, b yarn"),
        ({"language_config": {"hidden_activation": "relu2"}}, "language_config.hidden_activation: a has silu, b relu2"),
    ],
)
def test_settings_that_change_numbers_stop_the_merge(settings: dict[str, object], said: str, tmp_path: Path) -> None:
    common = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "text_config": {"rope_theta": 10000.0}, "logit_scale": 0.5}
    common |= {"layer_types": ["full_attention"], "output_multiplier": 0.5, "num_kv_shared_layers": 0}
    common |= {"expert_selection_fn": "softmax", "use_post_norm": False, "vision_feature_layer": -2}
    common |= {"rope_local_base_freq": 10000.0, "language_config": {"hidden_activation": "silu"}}
    a, b = (with_settings(tiny_llama(tmp_path / name, seed, layers=1), **common) for seed, name in enumerate("ab"))
    with_settings(b, **settings)
    with pytest.raises(MergeError, match="--allow-config-mismatch") as raised:
        merge(linear(a, b), tmp_path / "out")
    assert said in str(raised.value)
    report = merge(linear(a, b, allow_config_mismatch=True), tmp_path / "out")
    assert any(said in note for note in report.notes)
    record = json.loads((tmp_path / "out" / "mmgrid.json").read_text())
    assert record["report"]["notes"] == list(report.notes)
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_other_differences_of_configs_are_noted_or_do_not_matter(tmp_path: Path) -> None:
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    with_settings(
        b, transformers_version="5.1", use_cache=False, attention_dropout=0.1, rope_theta=10000.0, _name_or_path="x"
    )
    with_settings(b, rope_scaling=None, head_dim=HIDDEN // 2, architectures=["LlamaModel"])
    assert merge(linear(a, b), tmp_path / "same").notes == ()
    with_settings(b, eos_token_id=[2, 3], max_position_embeddings=99)
    with_settings(a, eos_token_id=2)
    assert merge(linear(a, b), tmp_path / "noted").notes == (
        "config.json: eos_token_id: a has 2, b [2, 3]",
        "config.json: max_position_embeddings: a has nothing, b 99",
    )


SAME = {
    "sliding window that is off": (
        {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 28},
        {"sliding_window": None, "use_sliding_window": False},
    ),
    "head size": ({"head_dim": None}, {"head_dim": HIDDEN // 2}),
    "two kinds of layers": (
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None},
        {
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
            }
        },
    ),
    "partial rotary": (
        {"partial_rotary_factor": 0.5, "rope_theta": 1e4},
        {"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 1e4, "rope_type": "default"}},
    ),
    "old names": ({"rotary_pct": 0.25}, {"rope_parameters": {"partial_rotary_factor": 0.25}}),
    "sections": (
        {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}},
        {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}},
    ),
    "two kinds of layers, by other names": (
        {"global_rope_theta": 1e6, "local_rope_theta": 1e4},
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
    ),
    "names of one function": (
        {"hidden_act": "swish", "ff_act": "gelu_new"},
        {"hidden_act": "silu", "ff_act": "gelu_fast"},
    ),
    "scales of one": ({"embedding_multiplier": 1.0}, {}),
    "training": (
        {"router_aux_loss_coef": 0.1, "init_std": 0.1, "decoder_layerdrop": 0.1},
        {"init_std": 1, "loss_type": "x"},
    ),
    "rounded to float32": (
        {"rms_norm_eps": 1e-6, "x_eps": [1, 2]},
        {"rms_norm_eps": 9.999999974752427e-07, "x_eps": [1.0, 2]},
    ),
    "names of one kind": (
        {"rope_scaling": {"type": "su", "short_factor": [1]}},
        {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}},
    ),
    "a list of one": ({"eos_token_id": 2}, {"eos_token_id": [2]}),
    "no tower": ({"vision_config": None}, {"vision_config": {"hidden_act": None}}),
}


@pytest.mark.parametrize("case", SAME)
def test_one_model_saved_by_older_and_newer_versions_is_one(case: str, tmp_path: Path) -> None:
    for name, seed, settings in (("a", 0, SAME[case][0]), ("b", 1, SAME[case][1])):
        with_settings(tiny_llama(tmp_path / name, seed, layers=1), **settings)
    assert merge(linear(tmp_path / "a", tmp_path / "b"), tmp_path / "out").notes == ()


def test_labels_of_classifiers_are_compared(tmp_path: Path) -> None:
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate("ab"))
    for model, labels in ((a, ("no", "yes")), (b, ("yes", "no"))):
        with_settings(model, id2label=dict(enumerate(labels)))
    assert merge(linear(a, b), tmp_path / "language-models").notes == ()
    for model in (a, b):
        with_settings(model, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(MergeError, match=r"id2label: a has \[0 = no, 1 = yes\], b \[0 = yes, 1 = no\]"):
        merge(linear(a, b), tmp_path / "out")
    with_settings(b, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert merge(linear(a, b), tmp_path / "out").notes == ("config.json: id2label: a has [0 = no, 1 = yes], b nothing",)


def test_rotary_settings_of_all_versions_have_one_form() -> None:
    new = {"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}}
    old = {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}}
    assert in_one_form(new) == in_one_form(old)


def test_errors_name_what_the_user_wrote(tmp_path: Path) -> None:
    """A source without a name has a digest for a name; no error shows it."""
    a, b = (tiny_llama(tmp_path / name, seed, layers=1 + seed) for seed, name in enumerate(("shop-a", "shop-b")))
    with pytest.raises(MergeError, match=r"source 'shop-a' lacks model\.layers\.1\."):
        merge(linear(a, b), tmp_path / "out")
    twice = [{"path": str(a)}, {"path": str(a)}]
    with pytest.raises(MergeError, match=rf"{a} and {a} have the same weights; if this is intended, give each a name"):
        merge({"method": "linear", "sources": twice}, tmp_path / "out")


def test_sources_without_a_name_are_called_like_their_folders(tmp_path: Path) -> None:
    """In rules, in options and as the companions, though digests are their names."""
    a, b = (tiny_llama(tmp_path / name, seed, layers=1) for seed, name in enumerate(("shop-a", "shop-b")))
    rules = [{"tensors": "*mlp*", "weights": {"shop-a": 3}}]
    merge(linear(a, b, rules=rules, companions="shop-b"), tmp_path / "out")
    torch.testing.assert_close(loaded(tmp_path / "out")[DOWN], (3 * loaded(a)[DOWN] + loaded(b)[DOWN]) / 4)
    given = {"method": "dare", "base": str(a), "options": {"drop": {"shop-b": 0}}}
    merge({**linear(b), **given}, tmp_path / "own")
    torch.testing.assert_close(loaded(tmp_path / "own")[DOWN], loaded(b)[DOWN])
    save_file(loaded(a) | {DOWN: torch.zeros(HIDDEN, INNER)}, a / "model.safetensors", {"format": "pt"})
    assert verify(tmp_path / "out").changed == {"shop-a": ("model.safetensors",)}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (
            {"normalise": True},
            "normalise: unknown key; it is an option of a method, which stands under options: normalise",
        ),
        ({"normalize": True}, "which stands under options: normalise"),
        ({"models": []}, "models: unknown key; a recipe has sources"),
        ({"parameters": {}}, "parameters: unknown key; a recipe has options"),
        (
            {"sources": [{"path": "a", "density": 1}]},
            r"sources.0.density: .* under options, for one source as `density: \{NAME",
        ),
    ],
)
def test_keys_of_another_place_say_where_they_belong(recipe: dict[str, object], words: str) -> None:
    with pytest.raises(MergeError, match=words):
        MergeRecipe.load({"method": "linear", "sources": [{"path": "a"}], **recipe})


def test_a_recipe_gives_each_key_once(tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("method: linear\nsources: [{path: a}]\nmethod: ties\n")
    with pytest.raises(MergeError, match="method is given more than once.*line 3"):
        MergeRecipe.load(tmp_path / "recipe.yml")
