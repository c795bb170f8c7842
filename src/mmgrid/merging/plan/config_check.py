"""Compares the settings of the models of a merge: equal shapes may mean different models.

The base of the rotary embedding, the number of heads or an activation changes what weights compute, and no shape shows
it. Such a difference stops the merge; others are noted.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.settings import CONFIG_FILE, LAYER_COUNTS, default_of, in_one_form, settings_of

# Settings that change what the same weights compute, by the last part of their key and by what they are about. They are
# families of names, so that keys of new architectures belong to one of them. They are compiled when configs differ.
_CHANGES_NUMBERS = (
    r"^(?:"
    + "|".join(
        (
            # positions
            r"\w*rope\w*|\w*rotary\w*|\w*theta|rope_local_base_freq|factor|(?:low|high)_freq_factor|beta_(?:fast|slow)"
            r"|original_max_position_embeddings|mscale\w*|attention_factor|(?:short|long)_(?:m?scale|factor)|llama_4_\w+|mrope\w*"
            r"|alibi\w*|\w*position_embeddings?_type|relative_(?:attention|max)\w*|max_relative_positions|pos_att_type"
            r"|position_biased_input|learned_pos_emb|sinusoidal\w*|log_scaling\w*",
            # heads, and which tokens see which
            r"\w*heads?|num_query_groups|multi_query|num_kv_\w+|\w*head_(?:dim|size|ratio)|d_kv|d_head|kv_channels|\w*per_layer"
            r"|\w*window\w*|\w*attention_chunk_size|local_attention|\w*layer_types|\w*_types?_pattern|sliding\w*_pattern"
            r"|attention_(?:types?|layers)|block_types|layers_block_type|\w*every_n_layers|\w*layer_(?:period|offset|interval)"
            r"|causal|is_causal|is_decoder|prefix_lm|use_bidirectional_attention|attention_k_eq_v|block_size|num_random_blocks",
            # activations, norms, scales and limits
            r"\w*_act|\w*_act_fn|\w*activation\w*|afn|is_gated_act|feed_forward_proj|gating|swiglu_\w+|\w*_eps|\w*epsilon|eps"
            r"|\w*eps_\w+|(?:\w+_)?(?:layer|rms|qk|pre|post|sandwich|swin)_?(?:norm|ln)(?!_eps)\w*|norm_(?:type|after)|qk_ln"
            r"|normalization_type|layernorm_embedding|\w*soft_?cap\w*|\w*_cap|\w*clip\w*|query_pre_attn_scalar"
            r"|\w*multipliers?|scale|scale_(?!factor_init)\w+|\w*_scale|\w*scal(?:e|ing)_factor|attention_scal\w+|\w*logits?_scal\w+"
            r"|rescale_\w+|\w*(?:alpha|beta)_factor|mup_\w+|dim_model_base|time_step_limit|token_dropout|softmax_scale",
            # layers that exist or not, and their order
            r"use_bias|\w*_bias|bias|no_bias|\w*parallel_(?:residual|attn)|new_decoder_architecture|num_kv_shared_layers"
            r"|apply_residual_connection_\w+|mlp_only_layers|moe_layers?\w*|\w*sparse_step|first_k_dense_replace|\w*layer_ids"
            r"|full_attn_idxs|no_rope_layer\w*|cross_attention_(?:layers|frequency)",
            # routing
            r"num_experts_per_tok\w*|moe_(?:top_?k|k)|top_k_experts|norm_topk_prob|moe_renorm\w*|topk_\w+|n_group|num_expert_group"
            r"|scoring_func|expert_(?:selection_fn|capacity)|index_topk\w*",
            # towers, and what is made of their output
            r"vision_feature_\w+|\w*patch_size|spatial_\w+|merge_size|downsample_\w+|pixel_shuffle\w*|deepstack\w*|fullatt\w*"
            r"|classifier_pooling|pooling\w*|summary_type|do_pooling",
            "model_type|id2label",
        )
    )
    + r")$"
)
# Settings of training, of files and of programs, which no weight depends on.
_OF_NO_MATTER = (
    r"^(?:_\w+|architectures|auto_map|transformers_version|torch_dtype|dtype|use_cache|(?!token_)\w*dropout\w*|\w*_pdrop"
    r"|\w*initializer_\w+|\w*init_\w+|\w*initial_scale|rescale_prenorm_residual|\w*_in_fp32|output_(?:attentions|hidden_states|router_logits|scores|past)|return_dict\w*"
    r"|gradient_\w+|pretraining_tp|task_specific_params|unsloth\w*|\w*layerdrop|drop_path_rate|\w*loss\w*|\w*jitter\w*"
    r"|freeze_\w+|quantization|quantization_config|compression_config|tie_word_embeddings|vocab_size|mmgrid|label2id"
    r"|problem_type|chunk_size_feed_forward|pruned_heads|torchscript|is_encoder_decoder|cross_attention_hidden_size"
    r"|add_cross_attention|use_\w*kernels|\w*attn_implementation\w*|lambda_std_dev|mask_(?:time|feature)_\w+)$"
)


def compare_settings(models: Mapping[str, Path], *, allow: bool = False, stacked: bool = False) -> list[str]:
    """Compare the `config.json` of all models with that of the first.

    Args:
        models: what a user calls a model → its folder; models without a config are left out.
        allow: note differences that change numbers, too.
        stacked: leave out numbers of layers and lists with an entry for each, because layers are stacked.

    Returns:
        A note for each difference that does not change numbers, or that is allowed.

    Raises:
        MergeError: models differ in settings that change what the same weights compute.
    """
    found = {name: settings for name, folder in models.items() if (settings := settings_of(folder))}
    if len(found) < 2:
        return []
    first, *others = found
    grave: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for other in others:
        differences = _differences(found[first], found[other])
        layers = [_layers(found[name]) for name in (first, other)]
        of_layers = [
            pair
            for pair in differences.values()
            if any(
                isinstance(value, tuple) and len(value) in counts for value, counts in zip(pair, layers, strict=True)
            )
        ]
        for key, (here, there) in differences.items():
            if stacked and (key.rpartition(".")[2] in LAYER_COUNTS or (here, there) in of_layers):
                continue
            known = here is not _ABSENT and there is not _ABSENT
            told = grave if known and re.match(_CHANGES_NUMBERS, key.rpartition(".")[2]) else notes
            told.setdefault(f"{key}: {first} has {_shown(here)}", []).append(f"{other} {_shown(there)}")
    texts = [f"{CONFIG_FILE}: {start}, {', '.join(ends)}" for start, ends in (*grave.items(), *notes.items())]
    if grave and not allow:
        shown = "; ".join(texts[: len(grave)])
        raise MergeError(
            f"{shown}. These settings change what the same weights compute, so a merge means nothing; merge models of one "
            "architecture, or allow it with --allow-config-mismatch (in a recipe: allow_config_mismatch: true)"
        )
    return texts


_ABSENT = object()


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key → both values, for keys that matter. A key that a config lacks has the default of most models, if any."""
    if one == other:
        return {}
    one, other = in_one_form(one), in_one_form(other)
    flat = dict(_flat(one)), dict(_flat(other))
    found = {}
    for key in sorted(flat[0].keys() | flat[1].keys()):
        pair = tuple(
            _default(key, whole) if own.get(key) is None else own[key]
            for own, whole in zip(flat, (one, other), strict=True)
        )
        if not _same(*pair) and not all(value in (None, _ABSENT) for value in pair):
            found[key] = pair
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one, perhaps rounded to float32 or written as a list of one."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, tuple) or isinstance(other, tuple):
        return one == (other,) or (one,) == other
    if {type(one), type(other)} in ({float}, {float, int}):
        return one == other or math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _layers(settings: Mapping[str, Any]) -> set[int]:
    """The numbers of layers that a config names, in all of its parts."""
    return {
        value for key, value in _flat(settings) if key.rpartition(".")[2] in LAYER_COUNTS and isinstance(value, int)
    }


def _default(key: str, settings: Mapping[str, Any]) -> Any:
    """The default of a key that a config lacks, in the part of the config that would hold it."""
    *parts, last = key.split(".")
    if parts[-1:] == ["rope_scaling"]:
        last, parts = f"rope_scaling.{last}", parts[:-1]
    for part in parts:
        settings = inner if isinstance(inner := settings.get(part), Mapping) else {}
    try:
        return default_of(last, settings)
    except (KeyError, TypeError, ZeroDivisionError):
        return _ABSENT


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings one by one, those of parts as `part.key`; lists as they are."""
    for key, item in value.items():
        if re.match(_OF_NO_MATTER, key):
            continue
        if key == "id2label":
            if labels := _labels(value):
                yield f"{above}{key}", labels
        elif isinstance(item, Mapping):
            yield from _flat(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", _as_tuple(item)


def _labels(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the rows of a classifier's head stand for, where somebody has named them."""
    labels = settings.get("id2label")
    if not isinstance(labels, Mapping) or "Classification" not in str(settings.get("architectures")):
        return ()
    return tuple(sorted(f"{row} = {label}" for row, label in labels.items() if str(label) != f"LABEL_{row}"))


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return f"[{listing(map(str, value), 4)}]" if isinstance(value, tuple) else str(value)
