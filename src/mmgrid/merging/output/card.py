"""The model card of a merge: a `README.md` that describes the sources and how to repeat the merge.

It depends only on the recipe and the sources: it contains no dates, no absolute paths, and not the folder's own name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmgrid.cards import CardMetadata, usage, without_private_paths
from mmgrid.files import HubName
from mmgrid.merging.methods import get_method
from mmgrid.merging.models.digests import digest_of, short_name
from mmgrid.merging.plan.plan import BASE
from mmgrid.merging.plan.recipe import MergeRecipe, Stack


@dataclass(frozen=True)
class CardFacts:
    """The facts that a card can contain.

    Attributes:
        name: name of the output folder; the default card leaves it out.
        recipe: with all defaults filled in; paths are relative to the output folder.
        digests: source (or `(base)`) → file → digest and size; empty without digests.
        tensors: numbers of merged, kept and dropped tensors.
        parameters: elements in the merged tensors.
        kept_share: source → tower → share of its task vector left after the stages.
        notes: remarks on anything unexpected.
        companions: names of the other files in the folder.
        own_model_type: the model type, if Transformers only knows it after `import mmgrid`; else empty.
        config: the content of the merge's `config.json`.
        made_from: name of the source → what it declares about itself.
        licences: of the sources, as their own cards name them.
    """

    name: str
    recipe: MergeRecipe
    digests: Mapping[str, Mapping[str, Mapping[str, Any]]]
    tensors: tuple[int, int, int]
    parameters: int
    kept_share: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    companions: frozenset[str] = frozenset()
    own_model_type: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    made_from: Mapping[str, Any] = field(default_factory=dict)
    licences: tuple[str | None, ...] = ()


Card = Callable[[CardFacts], str]


def model_card(facts: CardFacts) -> str:
    """The default card of a merge, in Markdown."""
    recipe, method = facts.recipe, get_method(facts.recipe.method)
    count, declared = len(recipe.sources), {"made_from": facts.made_from}
    parts = [
        CardMetadata("merge", declared, facts.config, _base_models(recipe), facts.licences).text(),
        f"# {count} model{'s' * (count > 1)} merged by `{method.name}`",
        "Made with MMGRid.",
        f"> {method.formula}",
        *([use] if (use := usage(declared, facts.config)) else []),
        *([_loading(facts.own_model_type)] if facts.own_model_type else []),
        _sources(facts),
        _settings(recipe),
    ]
    if recipe.rules:
        parts.append(_rules(recipe))
    merged, kept, dropped = facts.tensors
    parts.append(
        f"{merged:,} tensors with {facts.parameters:,} parameters were merged, {kept:,} kept as they are, "
        f"{dropped:,} dropped."
    )
    if facts.kept_share:
        names = {str(source.name): short_name(str(source.name), source.path) for source in recipe.sources}
        parts.append(_shares(facts.kept_share, names))
    if facts.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in facts.notes))
    parts.append(_again(facts))
    return without_private_paths("\n\n".join(parts) + "\n")


def _base_models(recipe: MergeRecipe) -> list[str]:
    """The names on the Hub of base and sources."""
    paths = [recipe.base, *(path for source in recipe.sources for path in (source.onto, source.path))]
    paths += [part.path for source in recipe.sources for part in source.stack]
    named = [HubName.parse(path.as_posix()) for path in paths if path is not None]
    return list(dict.fromkeys(name.repo for name in named if name is not None and name.is_pinned))


def _loading(model_type: str) -> str:
    return (
        f"Transformers knows the model type `{model_type}` once `mmgrid` is imported:\n\n"
        "```python\nimport mmgrid\nfrom transformers import AutoModel\n\n"
        'model = AutoModel.from_pretrained(".")\n```'
    )


def _sources(facts: CardFacts) -> str:
    rows = ["| | model | weight | digest |", "|---|---|---|---|"]
    if facts.recipe.base is not None:
        layers = _layers(facts.recipe.base_stack)
        rows.append(f"| base θ₀ | `{facts.recipe.base}`{layers} | | {_digest(facts, BASE)} |")
    for source in facts.recipe.sources:
        name, weight = str(source.name), source.weight
        onto = f" onto `{source.onto}`" if source.onto is not None else ""
        called = short_name(name, source.path)
        rows.append(
            f"| {called} | `{source.path}`{onto}{_layers(source.stack)} | {1.0 if weight is None else weight:g} | {_digest(facts, name)} |"
        )
    return "## Sources\n\n" + "\n".join(rows)


def _layers(stack: Stack) -> str:
    """The layers of a stack in words; empty if there is none."""
    parts = [
        f"{part.layers[0]} to {part.layers[1] - 1}"
        + (f" (`{part.of}`)" if part.of else "")
        + (f" of `{part.path}`" if part.path is not None else "")
        for part in stack
    ]
    return f": layers {', '.join(parts)}" if parts else ""


def _digest(facts: CardFacts, name: str) -> str:
    files = facts.digests.get(name, {})
    digests = {file: digest_of(entry) for file, entry in sorted(files.items())}
    return "<br>".join(f"{kind} `{digest[:16]}…` {file}" for file, (kind, digest) in digests.items()) or "–"


def _settings(recipe: MergeRecipe) -> str:
    rows = ["| setting | value |", "|---|---|"]
    if get_method(recipe.method).returns == "delta":
        rows.append(f"| scale λ | {_text(recipe.scale)} |")
    rows += [f"| {name} | {_text(value)} |" for name, value in recipe.options.items()]
    rows += [f"| seed | {recipe.seed} |", f"| dtype | {recipe.dtype} |"]
    rows += [
        f"| block `{name}` | {action if isinstance(action, str) else 'keep_all of ' + ', '.join(action.keep_all)} |"
        for name, action in recipe.blocks.items()
    ]
    return "## Settings\n\n" + "\n".join(rows)


def _rules(recipe: MergeRecipe) -> str:
    rows = ["| tensors | settings |", "|---|---|"]
    for rule in recipe.rules:
        patterns = rule.patterns
        shown = ", ".join(f"`{pattern}`" for pattern in patterns[:3]) + (
            f" and {len(patterns) - 3} more" if len(patterns) > 3 else ""
        )
        settings = rule.model_dump(mode="json", exclude={"tensors"}, exclude_none=True)
        rows.append(f"| {shown} | {'; '.join(f'{name} {_text(value)}' for name, value in settings.items())} |")
    return "Other settings for some of the tensors; the first that fits counts:\n\n" + "\n".join(rows)


def _shares(shares: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> str:
    towers = sorted({tower for own in shares.values() for tower in own})
    rows = [f"| kept of the task vector | {' | '.join(towers)} |", "|---|" + "---|" * len(towers)]
    for source, own in shares.items():
        rows.append(
            f"| {names[source]} | {' | '.join(f'{own[tower]:.2%}' if tower in own else '–' for tower in towers)} |"
        )
    return "\n".join(rows)


def _again(facts: CardFacts) -> str:
    lines = [
        "## Again",
        "",
        "```console",
        "$ mmgrid merge mmgrid.json OUT    # merges again",
        "$ mmgrid merge --verify .         # merges again, and compares byte for byte",
        "```",
    ]
    if "mergekit_config.yml" in facts.companions:
        lines += ["", "`mergekit_config.yml` says the same to mergekit."]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
