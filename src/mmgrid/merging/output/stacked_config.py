"""Mends the config of a stacked model: the number of its layers, and every list with an entry for each layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.merging.models.settings import LAYER_COUNTS, TEXT_PARTS, settings_of

Origins = Mapping[str, Sequence[tuple[Path, int]]]  # name before layer numbers → folder and number of each layer


def with_stack(settings: dict[str, Any], origins: Origins, counts: Mapping[str, int]) -> dict[str, Any]:
    """The settings of a model whose layers come from elsewhere.

    A list with as many entries as the model has layers (such as `layer_types`) gets the entry of each layer's own
    model; if that model's config has no such list, the model's own entry of that number, or its last.

    Args:
        settings: the model's own.
        origins: of the layers of the result.
        counts: name before layer numbers → how many layers the model itself has.
    """
    for place, layers in origins.items():
        others = {folder: settings_of(folder) for folder, _ in layers}
        for part in _parts(settings, place):
            settings = _changed(settings, part, _keys(settings, place), counts.get(place, 0), layers, others)
    return settings


def _parts(settings: Mapping[str, Any], place: str) -> list[tuple[str, ...]]:
    """The parts of the config that may describe the layers: the whole, or one for a tower."""
    for word, part in (("visual", "vision_config"), ("vision", "vision_config"), ("audio", "audio_config")):
        if word in place and isinstance(settings.get(part), Mapping):
            return [(part,)]
    return [(), *((part,) for part in TEXT_PARTS if isinstance(settings.get(part), Mapping))]


def _keys(settings: Mapping[str, Any], place: str) -> Sequence[str]:
    """The keys that may hold the number of layers. Models with encoder and decoder have one for each."""
    if settings.get("is_encoder_decoder"):
        if "decoder" in place:
            return ("decoder_layers", "num_decoder_layers")
        return ("encoder_layers", "num_layers", "num_hidden_layers")
    return LAYER_COUNTS


def _changed(
    settings: dict[str, Any],
    part: tuple[str, ...],
    keys: Sequence[str],
    count: int,
    layers: Sequence[tuple[Path, int]],
    others: Mapping[Path, Mapping[str, Any]],
) -> dict[str, Any]:
    if part:
        inner = {folder: other.get(part[0]) or {} for folder, other in others.items()}
        return {**settings, part[0]: _changed(dict(settings[part[0]]), part[1:], keys, count, layers, inner)}
    if not any(settings.get(key) == count for key in keys):
        return settings
    changed = dict(settings)
    for key, value in settings.items():
        if key in keys and value == count:
            changed[key] = len(layers)
        elif isinstance(value, list) and len(value) == count and count:
            changed[key] = [_entry(others[folder].get(key), value, layer) for folder, layer in layers]
    return changed


def _entry(there: Any, own: Sequence[Any], layer: int) -> Any:
    if isinstance(there, list) and layer < len(there):
        return there[layer]
    return own[min(layer, len(own) - 1)]
