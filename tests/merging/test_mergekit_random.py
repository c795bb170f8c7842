"""Random mergekit files, run by mergekit and by us: the same weights, or refused by both.

What only we refuse is listed in docs/merging/mergekit.md under "What is refused only here".
"""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from kits.mergekit_runs import assert_same, by_mergekit, by_us, inject, mergekits_draws
from kits.tiny_llama import tiny_llama
from mmgrid.merging import MergeError
from mmgrid.merging.mergekit.meanings import METHODS

LAYERS = 3
WEIGHTS = st.sampled_from([0.3, 0.5, 1, 2, "7e-1", -0.2, 0])
SHARES = st.sampled_from([0.1, 0.29, 0.5, 0.77, 1.0, 1])
TRUTHS = st.sampled_from([True, False, 1.0, "no", "on"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("weight", "lambda", "scale", "r"), WEIGHTS),
    **dict.fromkeys(("density", "t", "select_topk"), SHARES),
    **dict.fromkeys(
        (
            "normalize",
            "rescale",
            "int8_mask",
            "filter_wise",
            "normalize_weights",
            "nuslerp_flatten",
            "nuslerp_row_wise",
        ),
        TRUTHS,
    ),
    "gamma": st.sampled_from([0.01, 0.25]),
    "epsilon": st.sampled_from([0.05, 0.2, 1e-4]),
    "alpha": st.sampled_from([0.2, 3]),
    "max_iter": st.sampled_from([2, 10, "5"]),
    "tol": st.sampled_from([1e-5, "1e-4"]),
    "eps": st.sampled_from([1e-8, 1e-6]),
}
ONLY_OURS = (
    "add up to zero",  # mergekit divides by it
    "keeps nothing",
    "the sources cancel out",
    "with karcher every slice must have as many",
    "with nuslerp every slice must have as many",
)


@st.composite
def settings_of(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """Values for some parameters: one, a list over the layers, or by filters."""
    found = {}
    for name in names:
        value = VALUES[name]
        truth = name in ("normalize", "rescale", "int8_mask", "filter_wise", "normalize_weights") or "nuslerp" in name
        several = st.lists(value, min_size=1, max_size=3)
        whole = name == "max_iter"
        filters = st.tuples(st.sampled_from(["mlp", "self_attn", "layers.1.", "embed", "norm"]), value, value).map(
            lambda parts: [{"filter": parts[0], "value": parts[1]}, {"value": parts[2]}]
        )
        found[name] = draw(value if truth or whole else st.one_of(value, value, several, filters))
    return found


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    method = draw(st.sampled_from([name for name in METHODS if name != "arcee_fusion"]))
    known = METHODS[method].parameters
    own = [p.name for p in known if p.scope != "shared"]
    models = draw(st.permutations(["a", "b", "c"]))
    most = METHODS[method].inputs[1]
    others_most = METHODS[method].others[1]
    has_base = METHODS[method].base == "delta" or method == "slerp" or draw(st.booleans())
    n = draw(st.integers(1, 3)) if most is None else most - has_base
    models = models[: max(min(n if others_most is None else others_most, 3), 1)]
    file: dict[str, Any] = {"merge_method": method}
    if has_base:
        file["base_model"] = "base"
    needed = [p.name for p in known if p.needed]
    optional = [p.name for p in known if not p.needed]
    file["parameters"] = draw(
        settings_of([*needed, *draw(st.lists(st.sampled_from(optional), unique=True))] if optional else needed)
    )

    def item(model: str) -> dict[str, Any]:
        some = draw(st.lists(st.sampled_from(own), unique=True)) if own and draw(st.booleans()) else []
        return {"model": model, **({"parameters": draw(settings_of(some))} if some else {})}

    if not draw(st.booleans()):
        listed = [*models, "base"] if has_base and draw(st.booleans()) else models
        return {**file, "models": [item(model) for model in listed]}
    file["slices"] = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, LAYERS))
        sources = []
        for model in draw(st.permutations([*models, "base"] if has_base else models)):
            first = draw(st.integers(0, LAYERS - length))
            sources.append({**item(model), "layer_range": [first, first + length]})
        file["slices"].append({"sources": sources})
    return file


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mergekit", reason="mergekit is not installed")
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "a", "b", "c")):
        tiny_llama(folder / name, seed, layers=LAYERS)
    return folder


@settings(max_examples=25)
@given(file=files())
def test_random_files_give_the_same_weights_or_are_refused_by_both(file: dict[str, Any], models: Path) -> None:
    logging.disable(logging.WARNING)
    work = Path(tempfile.mkdtemp(dir=models))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(models)
        theirs, problem = None, None
        with mergekits_draws() as kept:
            try:
                theirs = by_mergekit(yaml.safe_dump(file), work / "theirs")
            except Exception as error:
                problem = error
        inject(kept, patch)
        try:
            ours = by_us(yaml.safe_dump(file), work)
        except MergeError as error:
            if problem is None and not any(words in str(error) for words in ONLY_OURS):
                raise
            event(f"refused: {str(error)[-60:]}")
            return
        finally:
            logging.disable(logging.NOTSET)
        if problem is not None:
            raise AssertionError(f"only mergekit refuses this: {problem}") from problem
        assert theirs is not None
        if any(not tensor.isfinite().all() for tensor in theirs.values()):
            reject()
        assert_same(ours, theirs, 3e-6)
        event(f"equal: {file['merge_method']}{' with slices' if 'slices' in file else ''}")
    shutil.rmtree(work)
