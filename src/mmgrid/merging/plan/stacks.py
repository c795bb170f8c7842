"""Builds the stacks of a recipe from its open models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmgrid.merging.models.source import Source
from mmgrid.merging.models.stack import Files, Piece, StackedSource, joint_files, stack_digest
from mmgrid.merging.plan.recipe import MergeRecipe, MergeSource, Stack

ModelPaths = tuple[Path, Path | None]  # a model's folder, and for an adapter the folder of its model


def models_in(path: Path, onto: Path | None, stack: Stack) -> list[ModelPaths]:
    """The models of a source or base: its own, then the others of its stack, each once."""
    others = [(part.path, part.onto) for part in stack if part.path is not None]
    return list(dict.fromkeys([(path, onto), *others]))


def models_of(recipe: MergeRecipe) -> list[ModelPaths]:
    """All models of a recipe's sources and base, each once."""
    found = [key for source in recipe.sources for key in models_in(source.path, source.onto, source.stack)]
    if recipe.base is not None:
        found += models_in(recipe.base, recipe.base_onto, recipe.base_stack)
    return list(dict.fromkeys(found))


def is_stacked(recipe: MergeRecipe) -> bool:
    """Whether a source or the base is a stack of layers."""
    return bool(recipe.base_stack) or any(source.stack for source in recipe.sources)


def stacked(opened: Mapping[ModelPaths, Source], path: Path, onto: Path | None, stack: Stack, called: str) -> Source:
    """A source or base with its layers in the order of its stack.

    Raises:
        MergeError: a model lacks such layers.
    """
    own = opened[path, onto]
    if not stack:
        return own
    pieces = [
        Piece(own if part.path is None else opened[part.path, part.onto], *part.layers, of=part.of) for part in stack
    ]
    return StackedSource(own, pieces, called)


def stacked_files(files: Mapping[ModelPaths, Files], path: Path, onto: Path | None, stack: Stack) -> dict[str, Any]:
    """The digests of a source's files."""
    models = models_in(path, onto, stack)
    return dict(files[models[0]]) if len(models) == 1 else joint_files([files[key] for key in models])


def digest_name(files: Mapping[ModelPaths, Files], source: MergeSource) -> str:
    """The name that a stacked source has by default: a digest of its models' weights and of the order of its layers."""
    models = models_in(source.path, source.onto, source.stack)
    order: Sequence[Any] = [
        [0 if part.path is None else models.index((part.path, part.onto)), *part.layers, part.of]
        for part in source.stack
    ]
    return stack_digest(stacked_files(files, source.path, source.onto, source.stack), json.dumps(order))
