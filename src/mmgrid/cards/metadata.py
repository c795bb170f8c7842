"""The metadata at the top of a card: what the Hub shows beside a model, filters by, and links to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from mmgrid.cards.declared import named_in, origins_in
from mmgrid.files.bounded_yaml import load_yaml

Relation = Literal["finetune", "merge", "adapter"]


@dataclass(frozen=True)
class CardMetadata:
    """The facts behind the metadata.

    Attributes:
        relation: to the base models.
        declared: the content of `mmgrid.json`; of a merge, at least `made_from`.
        config: the content of `config.json`.
        base_models: names on the Hub, without revisions; those that the checkpoints declare are added.
        licences: of the base models, as far as they are known.
    """

    relation: Relation
    declared: Mapping[str, Any]
    config: Mapping[str, Any]
    base_models: Sequence[str] = ()
    licences: Sequence[str | None] = ()

    def text(self) -> str:
        """The block of YAML, with its `---` lines."""
        origins = origins_in(self.declared)
        paradigms = named_in(self.declared, "paradigm")
        models = [*self.base_models, *(str(one.get("base_model") or "").partition("@")[0] for one in origins)]
        models = list(dict.fromkeys(filter(None, models)))
        licences = {each for each in (*self.licences, *(one.get("license") for one in origins)) if each}
        datasets = list(dict.fromkeys(each for one in origins for each in one.get("datasets") or ()))
        tags = ["mmgrid", *(["merge"] if self.relation == "merge" else [])]
        tags += ["recommendation", *paradigms, *named_in(self.declared, "domain")] if paradigms else []
        data = {
            "base_model": models if len(models) > 1 else models[0] if models else None,
            "datasets": datasets or None,
            "library_name": library(self.relation, self.config, paradigms),
            "license": licences.pop() if len(licences) == 1 else None,  # of several, nobody knows which holds
            "pipeline_tag": pipeline(self.relation, self.config),
            "tags": list(dict.fromkeys(tags)),
            "base_model_relation": self.relation if models else None,
        }
        known = {key: value for key, value in data.items() if value is not None}
        return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def library(relation: Relation, config: Mapping[str, Any], paradigms: Sequence[str]) -> str | None:
    """The library that loads the model."""
    if paradigms:
        return "mmgrid"
    if relation == "adapter":
        return "peft"
    return "transformers" if config.get("architectures") or config.get("model_type") else None


def pipeline(relation: Relation, config: Mapping[str, Any]) -> str | None:
    """What the model does, in the Hub's words: writes text, or makes vectors that are compared."""
    architectures = [str(one) for one in config.get("architectures") or ()]
    if relation == "adapter" or any(one.endswith("ForCausalLM") for one in architectures):
        return "text-generation"
    return "feature-extraction" if architectures else None


def licence_in(folder: Path) -> str | None:
    """The licence that the card in a folder names; None if it names none."""
    try:
        top, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("---\n")
        found = load_yaml(rest.partition("\n---")[0]) if not top.strip() else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # no card, or one whose metadata cannot be read
        return None
    licence = found.get("license") if isinstance(found, dict) else None
    return licence if isinstance(licence, str) else None


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if it is missing or no object."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
