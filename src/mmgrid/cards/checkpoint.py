"""The card of a checkpoint, from what the files in its folder declare."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.cards.declared import ORIGIN
from mmgrid.cards.metadata import CardMetadata, licence_in, read_json
from mmgrid.cards.private import without_private_paths
from mmgrid.cards.snippet import usage
from mmgrid.files import HubName, name_of
from mmgrid.files.foreign import foreign
from mmgrid.visible import visible

CARD_FILE = "README.md"
_MARKUP = str.maketrans("`|<>", "'/()")
_TRAINING = {
    "history_length": "items of a history",
    "epochs": "epochs",
    "least_steps": "least optimizer steps",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "schedule": "schedule",
    "precision": "precision",
    "seed": "seed",
}


class CardError(ValueError):
    """The files of a folder declare nothing that a card can be made of."""


def checkpoint_card(folder: Path, origin: Mapping[str, Any] | None = None) -> str:
    """The card of a model's folder: a checkpoint, the base of a paradigm, a merge, an adapter or a language model.

    Args:
        folder: what its `mmgrid.json`, `config.json` and `adapter_config.json` declare is in the card.
        origin: where the model comes from, if its `mmgrid.json` does not say so (see `declared`).

    Raises:
        CardError: the files declare something of another form than mmgrid and PEFT write.
    """
    with foreign(folder, CardError, "what its mmgrid.json and its configs declare makes no card"):
        return _card(folder, origin)


def _card(folder: Path, origin: Mapping[str, Any] | None) -> str:
    files = (read_json(folder / name) for name in ("mmgrid.json", "config.json", "adapter_config.json"))
    declared, config, adapter = map(_harmless, files)
    if origin and ORIGIN not in declared and "made_from" not in declared:
        declared[ORIGIN] = dict(origin)
    below = _model_under(adapter)
    relation = "adapter" if adapter else "merge" if "made_from" in declared or "report" in declared else "finetune"
    metadata = CardMetadata(
        relation,
        declared,
        config,
        base_models=[below.repo] if below is not None else [],
        licences=[licence_in(folder)],
    )
    parts = [
        metadata.text(),
        *_about(declared, relation),
        usage(declared, config, adapter=bool(adapter)),
        _training(declared),
    ]
    return without_private_paths("\n\n".join(filter(None, parts)) + "\n")


def _model_under(adapter: Mapping[str, Any]) -> HubName | None:
    """The name on the Hub of an adapter's model; a folder of the Hub's cache has one, too."""
    named = str(adapter.get("base_model_name_or_path") or "")
    return (name_of(Path(named)) or HubName.parse(named)) if named else None


def _harmless(value: Any) -> Any:
    """What a file declares, with texts of one line that Markdown does not read as markup."""
    if isinstance(value, str):
        return " ".join(visible(value.replace("\n", " ")).translate(_MARKUP).split())
    if isinstance(value, Mapping):
        return {_harmless(key): _harmless(inner) for key, inner in value.items()}
    return [_harmless(inner) for inner in value] if isinstance(value, list) else value


def _about(declared: Mapping[str, Any], relation: str) -> list[str]:
    paradigm, domain, phase = (declared.get(key) for key in ("paradigm", "domain", "phase"))
    if not paradigm:
        kinds = {"adapter": "A LoRA adapter", "merge": "A merge of models"}
        return [f"# {kinds.get(relation, 'A language model')}", "Published with MMGRid."]
    if not domain:
        return [f"# The base of `{paradigm}`", "The model from which all checkpoints of a grid start, by MMGRid."]
    text = f"A recommender of the paradigm `{paradigm}` for the domain `{domain}`, trained by MMGRid"
    days = (declared.get("phases") or {}).get(declared.get("recipe", {}).get("until", phase))
    until = f" on what happened before {days[1]}" if isinstance(days, list) and len(days) == 2 else ""
    return [f"# `{paradigm}` for `{domain}`, {phase}", f"{text}{until}."]


def _training(declared: Mapping[str, Any]) -> str:
    recipe = declared.get("recipe")
    if not declared.get("domain") or not isinstance(recipe, Mapping):
        return ""
    rows = ["| | |", "|---|---|", f"| phase | {declared.get('phase')} |"]
    rows += [f"| {name} | {recipe[key]} |" for key, name in _TRAINING.items() if recipe.get(key) is not None]
    origin = declared.get(ORIGIN) or {}
    rows += [f"| language model | `{origin['base_model']}` |"] if origin.get("base_model") else []
    return "## Training\n\n" + "\n".join(rows) + "\n\nThe rest is in `mmgrid.json`."
