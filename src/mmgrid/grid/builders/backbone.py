"""`backbone`: the shared language model, a tiny one trained on item texts or a copy of a pretrained one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.causal import check_causal
from mmgrid.backbone.load import backbone_folder, load_model, load_tokenizer
from mmgrid.backbone.tiny import TextRows, create, next_token_loss, train_tokenizer
from mmgrid.cards import licence_in
from mmgrid.data import Corpus, catalogue_at
from mmgrid.data.catalogue import Catalogue
from mmgrid.files import name_of
from mmgrid.grid.builders.workplace import Workplace
from mmgrid.seeds import derive
from mmgrid.training import TrainingRecipe
from mmgrid.training.fit import SAVE_SECONDS, fit


def copy_pretrained(
    source: str | Path, folder: Path, *, revision: str | None, trust_remote_code: bool
) -> Mapping[str, Any]:
    """Copy a backbone into `folder`, so that the store stays complete if the original is deleted.

    Raises BackboneError if it cannot be loaded, or reads in both directions.
    """
    with_code: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    found = backbone_folder(source, revision=None if isinstance(source, Path) else revision, **with_code)
    model = load_model(found, **with_code)
    check_causal(model)
    model.save_pretrained(str(folder))
    load_tokenizer(found, **with_code).save_pretrained(str(folder))
    known = {"hub": name_of(Path(found)), "license": licence_in(Path(found))}
    return {"parameters": model.num_parameters()} | {key: str(value) for key, value in known.items() if value}


def make_tiny(
    values: Mapping[str, Any],
    corpora: Mapping[str, Path],
    place: Workplace,
    *,
    t0: int,
    catalogue: Catalogue,
    seed: int,
) -> Mapping[str, Any]:
    """Train a tokenizer and a tiny language model on the item texts of prepared domains.

    values: a recipe that includes the fields of `TinyRecipe`. corpora: domain → folder. t0: ms UTC; an open catalogue
    contains the items seen before it.
    """
    recipe = TinyRecipe.model_validate(
        {name: value for name, value in values.items() if name in TinyRecipe.model_fields}
    )
    seed = derive(seed, "backbone")
    texts = [text for _, folder in sorted(corpora.items()) for text in _texts(folder, catalogue, t0)]
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    model = create(recipe, tokenizer, seed)
    rows = TextRows(tokenizer, texts, recipe.row_tokens, seed)
    training = TrainingRecipe(
        epochs=recipe.steps * recipe.batch_rows / max(len(rows), 1),
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_rows,
        weight_decay=0.01,
        warmup_ratio=0.1,
        precision=recipe.precision,
    )
    report = fit(
        model,
        rows,
        next_token_loss,
        training,
        place.step_folder,
        seed=seed,
        progress=place.progress,
        save_seconds=place.save_seconds(SAVE_SECONDS),
        tracking=place.tracking,
    )
    model.save_pretrained(str(place.folder))
    tokenizer.save_pretrained(str(place.folder))
    (place.folder / "training.json").write_text(json.dumps({"losses": report.losses}), encoding="utf-8")
    return {
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "texts": len(texts),
        "loss": report.losses[-1][2] if report.losses else None,
        "work": report.steps * recipe.batch_rows * recipe.row_tokens,
    }


def _texts(folder: Path, catalogue: Catalogue, t0: int) -> list[str]:
    """Titles and descriptions of a domain's items; with an open catalogue, of those seen before t0."""
    items = catalogue_at(Corpus.load(folder, until=t0), catalogue, t0)
    described = (f"{items.titles[row]} {items.descriptions[row]}".strip() for row in items.candidates)
    return [text for text in described if text]
