"""Whether an adapter is plain LoRA, s B A beside linear layers and embeddings; others are merged by PEFT itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.merging.errors import MergeError, listing

# Initialisations that also change the base's weights, so that the adapter fits only the changed weights.
_CHANGES_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
# Settings with which the adapter is more than s B A, or applies only to some tokens.
_OTHER_ARITHMETIC = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)


def check_plain(path: Path, settings: Mapping[str, Any]) -> None:
    """Check that an adapter is plain LoRA, by its settings.

    Raises:
        MergeError: it is another kind, or more than s B A.
    """
    start = str(settings.get("init_lora_weights", True)).lower()
    problem = None
    kind = str(settings.get("peft_type"))
    if kind.endswith(("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE")):
        raise MergeError(
            f"{path}: is an adapter of type {kind}, which changes no weights: it puts vectors before or beside the prompt, so "
            "there is nothing to merge. Use it with the merged model, or train LoRA"
        )
    if kind != "LORA":
        problem = f"is an adapter of type {kind}"
    elif settings.get("use_dora"):
        problem = "is DoRA, which also changes magnitudes"
    elif settings.get("bias", "none") != "none" or settings.get("lora_bias"):
        problem = "also trained biases"
    elif settings.get("layer_replication"):
        problem = "repeats layers"
    elif odd := [key for key in _OTHER_ARITHMETIC if settings.get(key)]:
        problem = f"was trained with {listing(odd)}, which B A alone is not"
    elif start.startswith(_CHANGES_BASE):
        problem = f"began as {start}, which changes the model's own weights, too"
    if problem is not None:
        raise MergeError(f"{path}: {problem}; only plain LoRA is merged on the fly. {instead(path)}")


def instead(path: Path) -> str:
    """What to do with an adapter that is not merged on the fly."""
    return (
        "Merge it with peft first: "
        f"`PeftModel.from_pretrained(base, {str(path)!r}).merge_and_unload().save_pretrained(folder)`"
    )
