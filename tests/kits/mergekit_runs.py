"""Runs mergekit and us on the same mergekit file, with mergekit's random draws, and compares the weights."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from kits.tiny_llama import loaded
from mmgrid.merging import merge
from mmgrid.merging.kernels.choice import VARIABLE
from mmgrid.merging.mergekit import read_mergekit
from mmgrid.merging.methods.stages import Place, draws


def by_mergekit(config: str | Path, out: Path) -> dict[str, Tensor]:
    """What mergekit makes of a file."""
    pytest.importorskip("mergekit", reason="mergekit is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mergekit.config import MergeConfiguration
        from mergekit.io.tasks import LoaderCache
        from mergekit.merge import run_merge
        from mergekit.options import MergeOptions

        LoaderCache.loaders.clear()
        text = config.read_text() if isinstance(config, Path) else config
        value = MergeConfiguration.model_validate(yaml.safe_load(text))
        options = MergeOptions(
            quiet=True, copy_tokenizer=False, write_model_card=False, lora_merge_cache=str(out) + ".lora"
        )
        run_merge(value, str(out), options)
    return loaded(out)


def by_us(config: str, folder: Path) -> dict[str, Tensor]:
    (folder / "config.yml").write_text(config)
    read = read_mergekit(folder / "config.yml")
    merge(read.recipe, folder / "ours", notes=read.notes)
    return loaded(folder / "ours")


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], atol: float = 1e-6) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        difference = (tensor.double() - theirs[name].double()).abs().max().item()
        assert difference <= atol * max(1.0, theirs[name].abs().max().item()), (name, difference)


@contextmanager
def mergekits_draws() -> Iterator[dict[tuple[str, str], np.ndarray]]:
    """Records what mergekit keeps at random: (source, tensor) → truth values."""
    gta = pytest.importorskip("mergekit.merge_methods.generalized_task_arithmetic")
    kept: dict[tuple[str, str], np.ndarray] = {}
    drawn, places, merge_group = torch.bernoulli, [], gta.GeneralizedTaskArithmeticMerge.merge_group

    def bernoulli(probabilities: Tensor, *arguments: Any, **others: Any) -> Tensor:
        found = drawn(probabilities, *arguments, **others)
        kept[places.pop(0)] = found.bool().reshape(-1).numpy()
        return found

    def with_places(self: Any, group: Any, **parameters: Any) -> Tensor:
        places[:] = [
            (str(entry.id), group.metadata.name) for entry in group.non_base if parameters["density"][entry.id] < 1
        ]
        return merge_group(self, group, **parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "bernoulli", bernoulli)
        patch.setattr(gta.GeneralizedTaskArithmeticMerge, "merge_group", with_places)
        yield kept


def inject(kept: Mapping[tuple[str, str], np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes our random stages keep these elements."""

    def drops(place: Place, n: int, probability: float) -> np.ndarray:
        return ~kept[place.source, place.tensor][place.start : place.start + n]

    def numbers(place: Place, n: int) -> np.ndarray:
        own = kept[place.source, place.tensor][place.start : place.start + n]
        return np.where(own, 0, 2**32 - 1).astype(np.uint32)

    monkeypatch.setenv(VARIABLE, "off")
    monkeypatch.setattr(draws, "happens", drops)
    monkeypatch.setattr(draws, "words", numbers)
