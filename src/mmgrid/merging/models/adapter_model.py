"""Finds the model that an adapter was trained on, which may be a model with an adapter itself."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mmgrid.files import HubError, HubName, write_json
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.adapter_settings import ADAPTER_CONFIG, adapter_settings
from mmgrid.merging.models.hub import downloaded

_MOST_ADAPTERS = 50  # upon each other


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return (path / ADAPTER_CONFIG).is_file() and not any(
        (path / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )


def chain_under(adapter: Path, onto: Path | None, base: Path | None, base_onto: Path | None = None) -> list[Path]:
    """What lies under an adapter: its model; if that is an adapter, too, the model of that one; down to a whole model.

    Args:
        onto, base: see `model_under`, which they are for at every place.
        base_onto: the model of `base`, if that is an adapter.

    Raises:
        MergeError: one of the models is not known, or adapters lie upon each other in a circle.
    """
    chain = [model_under(adapter, onto, base)]
    _check_end(adapter, chain)
    while is_adapter(chain[-1]):
        at_base = base is not None and _is_one(chain[-1], base)
        chain.append(model_under(chain[-1], base_onto if at_base else None, None if at_base else base))
        _check_end(adapter, chain)
    return chain


def folders_under(adapter: Path) -> list[Path]:
    """The part of `chain_under` whose folders are named from each other and on this machine.

    Raises:
        MergeError: adapters lie upon each other in a circle.
    """
    chain: list[Path] = []
    while is_adapter(last := chain[-1] if chain else adapter) and (below := folder_under(last)) is not None:
        chain.append(below)
        _check_end(adapter, chain)
    return chain


def _check_end(adapter: Path, chain: list[Path]) -> None:
    """Check that the last folder of a chain does not stand in it before."""
    if any(_is_one(chain[-1], above) for above in (adapter, *chain[:-1])) or len(chain) > _MOST_ADAPTERS:
        last = [adapter, *chain][-2]
        raise MergeError(
            f"{adapter}: lies upon {chain[0]}, which is an adapter, too, and no whole model lies under them; correct "
            f"base_model_name_or_path in {last / ADAPTER_CONFIG}, or name the model (onto: FOLDER)"
        )


def _is_one(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def model_under(adapter: Path, onto: Path | None, base: Path | None) -> Path:
    """The folder of an adapter's model: `onto`, else the one its configuration names, else `base`, else on the Hub.

    Raises:
        MergeError: none of them is known.
    """
    if onto is not None:
        return onto
    here = folder_under(adapter)
    if here is not None:
        return here
    if base is not None:
        return base
    config = adapter_settings(adapter)
    named = config.get("base_model_name_or_path")
    text = (
        f"{adapter}: is a LoRA adapter of {named!r}, which is not a folder on this machine; name its model "
        f"(onto: FOLDER next to its path in the recipe, or a base)"
    )
    name = HubName.parse(str(named or ""), without_organisation=True)
    if name is None:
        raise MergeError(text)
    try:
        return downloaded(HubName(name.repo, name.revision or config.get("revision")))
    except HubError as error:
        raise MergeError(f"{text}. On the Hub: {error}") from error


def folder_under(adapter: Path) -> Path | None:
    """The folder that an adapter's configuration names as its model; None if there is none of this name here."""
    named = adapter_settings(adapter).get("base_model_name_or_path")
    for path in (adapter / named, Path(named)) if named else ():
        with suppress(OSError, ValueError):  # a text that can be no path
            if path.is_dir():
                return path.absolute()
    return None


def named_from(adapter: Path, copy: Path) -> str | None:
    """Let a copy of an adapter name the folder of its model from where the copy is, if it is named from the adapter's.

    Returns the new name; None if the copy is no adapter, or its model has a whole path or a name on the Hub.
    """
    if not (copy / ADAPTER_CONFIG).is_file():
        return None
    config = adapter_settings(copy)
    named = str(config.get("base_model_name_or_path") or "")
    if not named or Path(named).is_absolute() or not (adapter / named).is_dir():
        return None
    below = os.path.relpath((adapter / named).resolve(), copy.resolve())
    write_json(copy / ADAPTER_CONFIG, {**config, "base_model_name_or_path": below})
    return below
