"""Writes the folder of a LoRA adapter of PEFT: its matrices, its configuration and a model card."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmgrid.files import HubName, clear_disk_errors, replacing_folder, write_json
from mmgrid.merging.arrays.floats import LARGEST, narrow
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG
from mmgrid.merging.models.lora import ADAPTER_FILE
from mmgrid.merging.models.tensor_writer import TensorWriter
from mmgrid.merging.models.tensors import TensorInfo


@dataclass(frozen=True)
class Adapter:
    """What an adapter consists of.

    Attributes:
        tensors: by PEFT's names, float32.
        ranks: module → rank.
        saved: modules that are kept whole.
        fan_in_fan_out: whether matrices are stored [in, out].
        base: the model under it, as its configuration names it.
        hub: the name of that model on the Hub.
        alpha: of all layers; None for each layer's rank, so that the scale of B A is 1.
        tokens: module → the rows of it that the adapter has in place of the base's (`trainable_token_indices`).
    """

    tensors: Mapping[str, np.ndarray]
    ranks: Mapping[str, int]
    saved: Sequence[str]
    fan_in_fan_out: bool
    base: str
    hub: HubName | None = None
    alpha: float | None = None
    tokens: Mapping[str, Sequence[int]] = field(default_factory=dict)


def write_adapter(adapter: Adapter, out: Path, dtype: str) -> int:
    """Write an adapter to a folder, which appears at once; returns the size of its weights.

    Raises:
        MergeError: a value does not fit `dtype`.
        DiskFull, NotWritableError: it cannot be written.
    """
    for name, value in adapter.tensors.items():
        if value.size and float(np.abs(value).max()) > LARGEST[dtype]:
            raise MergeError(f"{name}: its values do not fit {dtype}; choose float32 or bfloat16")
    with clear_disk_errors(out, remedy="give another output folder"), _folder(out) as folder:
        size = write_adapter_files(adapter, folder, dtype)
        (folder / "README.md").write_text(_card(adapter.hub), encoding="utf-8")
    return size


def write_adapter_files(adapter: Adapter, folder: Path, dtype: str) -> int:
    """Write weights and configuration into a folder that exists; returns the size of the weights."""
    infos = {name: TensorInfo(dtype, value.shape) for name, value in adapter.tensors.items()}
    with TensorWriter(folder / ADAPTER_FILE, infos) as writer:
        for name, value in adapter.tensors.items():
            writer.write(name, 0, narrow(value.reshape(-1), dtype))
    write_json(folder / ADAPTER_CONFIG, _settings(adapter))
    return sum(info.bytes for info in infos.values())


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as folder:
        yield folder


def _settings(adapter: Adapter) -> dict[str, Any]:
    """The adapter's configuration."""
    ranks = adapter.ranks
    usual = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    other = {module: rank for module, rank in sorted(ranks.items()) if rank != usual}
    tokens = {"trainable_token_indices": {key: list(rows) for key, rows in sorted(adapter.tokens.items())}}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "revision": adapter.hub.revision if adapter.hub is not None else None,
        "inference_mode": True,
        "init_lora_weights": True,
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "use_rslora": False,
        "use_dora": False,
        "r": usual,
        "lora_alpha": usual if adapter.alpha is None else adapter.alpha,
        "rank_pattern": other,
        "alpha_pattern": other if adapter.alpha is None else {},
        "target_modules": sorted(ranks),
        "modules_to_save": list(adapter.saved) or None,
        **(tokens if adapter.tokens else {}),
    }


def _card(hub: HubName | None) -> str:
    front = {"library_name": "peft", "tags": ["lora"]} | ({"base_model": hub.repo} if hub is not None else {})
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items()]
    return "\n".join(
        ["---", *lines, "---", "", "# LoRA adapter", "", "Extracted from a fine-tuned model by MMGRid.", ""]
    )
