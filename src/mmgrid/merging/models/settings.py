"""The settings of a model: its `config.json`, in one form. No transformers: importing it costs more than most merges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards import read_json

CONFIG_FILE = "config.json"
TIED = "tie_word_embeddings"
VOCABULARY_SIZE = "vocab_size"
# Configs of models with towers keep the language model's settings one level deeper.
TEXT_PARTS = ("text_config", "llm_config", "language_config", "decoder")
# Starts of the model types whose class ties the head unless the config says otherwise, and of some that do not; the
# longest one counts. Configs that transformers writes leave the setting out only where the class ties.
_TIED_TYPES = (
    *("gpt2", "gpt_neo", "gpt_bigcode", "openai-gpt", "gemma", "t5", "mt5", "umt5", "longt5", "opt", "bloom", "cohere"),
    *(
        "mpt",
        "starcoder2",
        "granite_",
        "falcon",
        "smollm3",
        "mistral3",
        "lfm2",
        "mamba",
        "ernie4_5",
        "deepseek_vl",
        "whisper",
        "xglm",
    ),
    *("bart", "mbart", "plbart", "pegasus", "marian", "m2m_100", "led", "blenderbot", "prophetnet", "ctrl", "xlnet"),
    *("bert", "albert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert", "longformer"),
)
_UNTIED_TYPES = (
    *(
        "llama",
        "mistral",
        "mixtral",
        "ministral",
        "qwen",
        "phi",
        "gpt_neox",
        "gptj",
        "gpt_oss",
        "deepseek",
        "olmo",
        "glm",
    ),
    *(
        "granite",
        "exaone4",
        "apertus",
        "arcee",
        "stablelm",
        "nemotron",
        "dbrx",
        "bitnet",
        "internlm",
        "baichuan",
        "jamba",
    ),
    *("falcon_h1", "mamba2", "cohere_compass", "seed_oss", "minimax", "persimmon", "codegen", "llava", "idefics"),
)
# Model types whose linear layers store their matrices as [in, out].
CONV1D_TYPES = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
# The names under which configs give the number of layers.
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "depth")
LAYER_COUNTS += ("encoder_layers", "decoder_layers")
# Defaults that the classes of transformers share.
_DEFAULTS: Mapping[str, Any] = {
    "rope_theta": 10000.0,
    "rope_scaling.rope_type": "default",
    "partial_rotary_factor": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    "use_sliding_window": False,
    "scale_embedding": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "query_pre_attn_scalar": None,
    "is_decoder": False,
    "alibi": False,
    "no_rope_layers": None,
    "attention_chunk_size": None,
    "clip_qkv": None,
    "use_qk_norm": False,
    "qk_layernorm": False,
    **dict.fromkeys(
        (
            "attention_multiplier",
            "embedding_multiplier",
            "residual_multiplier",
            "logits_scaling",
            "routed_scaling_factor",
        ),
        1.0,
    ),
}

# New key → old key.
_RENAMED = {
    "partial_rotary_factor": "rotary_pct",
    "rope_theta": "global_rope_theta",
    "rope_local_base_freq": "local_rope_theta",
    "rms_norm_eps": "layer_norm_rms_epsilon",
}
# Other names of one function or kind.
_SAME_FUNCTION = {
    "swish": "silu",
    "gelu_new": "gelu_pytorch_tanh",
    "gelu_fast": "gelu_pytorch_tanh",
    "gelu_python": "gelu",
    "su": "longrope",
}


def settings_of(folder: Path) -> dict[str, Any]:
    """The content of a model's `config.json`; empty if there is none."""
    return read_json(folder / CONFIG_FILE)


def text_part(settings: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model: mostly all of it."""
    return next((settings[key] for key in TEXT_PARTS if isinstance(settings.get(key), dict)), settings)


def embeddings_tied(settings: Mapping[str, Any]) -> bool | None:
    """Whether the head shares the memory of the embeddings; None if neither the config nor its type says so."""
    parts = [settings, *(settings[key] for key in TEXT_PARTS if isinstance(settings.get(key), Mapping))]
    for part in parts:
        if isinstance(part.get(TIED), bool):
            return part[TIED]
    types = [str(part.get("model_type", "")) for part in parts]
    answers = {_ties_by_default(type_) for type_ in types} - {None}
    return None if not answers else True in answers


def _ties_by_default(type_: str) -> bool | None:
    start = max((one for one in (*_TIED_TYPES, *_UNTIED_TYPES) if type_.startswith(one)), key=len, default=None)
    return None if start is None else start in _TIED_TYPES


def default_of(key: str, settings: Mapping[str, Any]) -> Any:
    """What most models take where their config lacks a key.

    Raises:
        KeyError: it depends on the model's class.
    """
    if key == "num_key_value_heads":
        return settings["num_attention_heads"]
    if key == "head_dim":
        return settings["hidden_size"] // settings["num_attention_heads"]
    return _DEFAULTS[key]


def in_one_form(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with rotary embeddings written in one way: `rope_theta`, and `rope_scaling` with a `rope_type`.

    transformers 5 writes `rope_parameters`; older versions `rope_theta` and `rope_scaling`, its kind called `type`.
    """
    found = {key: in_one_form(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
    scaling = found.pop("rope_parameters", None) or found.get("rope_scaling")
    found.pop("rope_scaling", None)
    if isinstance(scaling, Mapping):
        scaling = dict(scaling)
        local = scaling.pop("sliding_attention", None)  # of models whose kinds of layers rotate differently
        if isinstance(local, Mapping) and "rope_theta" in local:
            found["rope_local_base_freq"] = local["rope_theta"]
        full = scaling.pop("full_attention", None)
        scaling |= full if isinstance(full, Mapping) else {}
        for key in ("rope_theta", "partial_rotary_factor"):
            if key in scaling:
                found[key] = scaling.pop(key)
        if "type" in scaling:
            kind = scaling.pop("type")
            scaling.setdefault("rope_type", kind)
        if scaling.get("rope_type") == "mrope":  # sections say so; newer versions call it default
            scaling["rope_type"] = "default"
    if scaling:
        found["rope_scaling"] = scaling
    if found.get("use_sliding_window") is False:  # then nothing reads these
        found = {key: value for key, value in found.items() if key not in ("sliding_window", "max_window_layers")}
    for new, old in _RENAMED.items():
        if old in found:
            found.setdefault(new, found.pop(old))
    return {key: _SAME_FUNCTION.get(value, value) if isinstance(value, str) else value for key, value in found.items()}
