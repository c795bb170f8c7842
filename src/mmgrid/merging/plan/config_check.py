"""Compares the settings of the models of a merge: equal shapes may mean different models.

The base of the rotary embedding, the number of heads or an activation changes what weights compute, and no shape shows
it. Such a difference stops the merge; others are noted.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError, listing
from mmgrid.merging.models.settings import CONFIG_FILE, LAYER_COUNTS, default_of, in_one_form, settings_of

# Settings that change what the same weights compute, by the last part of their key.
_CHANGES_NUMBERS = re.compile(
    r"^(?:model_type|rope_\w+|rotary_\w+|\w*theta|factor|(?:low|high)_freq_factor|original_max_position_embeddings"
    r"|beta_(?:fast|slow)|mscale\w*|attention_factor|short_factor|long_factor|partial_rotary_factor|no_rope_layers\w*"
    r"|(?:num|n)_(?:attention_|key_value_|kv_)?heads?|n_head|num_query_groups|multi_query|head_dim|v_head_dim"
    r"|qk_\w*head_dim|hidden_act\w*|activation\w*|\w*_activation|\w*_eps|\w*epsilon|eps|norm_type|\w*softcapping"
    r"|query_pre_attn_scalar|\w*_multiplier|\w*logits?_scal\w+|scale_\w+|attention_scal\w+|use_parallel_residual"
    r"|parallel_residual|sliding_window\w*|use_sliding_window|max_window_layers|layer_types|alibi|position_embedding_type"
    r"|is_causal|use_qk_norm|num_experts_per_tok|norm_topk_prob|routed_scaling_factor|scoring_func|topk_\w+|n_group"
    r"|pooling\w*|classifier_activation|do_layer_norm_before|apply_residual_connection_post_layernorm)$"
)
# Settings of training, of files and of programs, which no weight depends on.
_OF_NO_MATTER = re.compile(
    r"^(?:_\w+|architectures|auto_map|transformers_version|torch_dtype|dtype|use_cache|\w*dropout\w*|\w*_pdrop"
    r"|initializer_\w+|output_\w+|return_dict\w*|gradient_checkpointing|pretraining_tp|task_specific_params|unsloth\w*"
    r"|quantization_config|tie_word_embeddings|vocab_size|mmgrid|id2label|label2id|problem_type|chunk_size_feed_forward"
    r"|pruned_heads|torchscript|is_decoder|is_encoder_decoder|cross_attention_hidden_size|add_cross_attention)$"
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
            told = grave if known and _CHANGES_NUMBERS.match(key.rpartition(".")[2]) else notes
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
    one, other = in_one_form(one), in_one_form(other)
    flat = dict(_flat(one)), dict(_flat(other))
    found = {}
    for key in sorted(flat[0].keys() | flat[1].keys()):
        pair = tuple(
            _default(key, whole) if own.get(key) is None else own[key]
            for own, whole in zip(flat, (one, other), strict=True)
        )
        if pair[0] != pair[1] and not all(value in (None, _ABSENT) for value in pair):
            found[key] = pair
    return found


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
        if _OF_NO_MATTER.match(key):
            continue
        if isinstance(item, Mapping):
            yield from _flat(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", tuple(map(str, item)) if isinstance(item, list) else item


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return f"[{listing(value, 4)}]" if isinstance(value, tuple) else str(value)
