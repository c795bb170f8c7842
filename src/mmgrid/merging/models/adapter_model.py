"""Finds the model that an adapter was trained on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mmgrid.files import HubError, HubName
from mmgrid.merging.errors import MergeError
from mmgrid.merging.models.adapter_settings import adapter_settings
from mmgrid.merging.models.hub import downloaded


def model_under(adapter: Path, onto: Path | None, base: Path | None) -> Path:
    """The folder of an adapter's model: `onto`, else the one its configuration names, else `base`, else on the Hub.

    Raises:
        MergeError: none of them is known.
    """
    if onto is not None:
        return onto
    config = adapter_settings(adapter)
    named = config.get("base_model_name_or_path")
    for path in (adapter / named, Path(named)) if named else ():
        with suppress(OSError, ValueError):  # a text that can be no path
            if path.is_dir():
                return path.absolute()
    if base is not None:
        return base
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
