"""Prints the results of `merge`, `methods` and `diff`: reports, estimates, comparisons, methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from mmgrid.cli import draw
from mmgrid.merging.models.digests import short_name
from mmgrid.quantities import duration, size

if TYPE_CHECKING:
    from mmgrid.merging import MergeRecipe, MergeReport, Method
    from mmgrid.merging.compare import Comparison, Sums
    from mmgrid.merging.cost import Estimate
    from mmgrid.merging.verify import Verification

_COLUMNS = ("elements", "norm A", "norm B", "cosine", "distance", "equal %", "conflict %", "zero A %", "zero B %")


def print_report(report: MergeReport, recipe: MergeRecipe) -> None:
    """Print what was merged by what, what was kept and dropped, where the result is, its size, and the time."""
    for note in report.notes:
        draw.say(f"note: {note}")
    draw.say(_merged(report, recipe))
    if report.kept_by_tower:
        rows = [
            (short_name(source, report.sources[source]), tower, f"{share:.2%}")
            for source, towers in report.kept_by_tower.items()
            for tower, share in towers.items()
        ]
        draw.print_table("Kept of the task vectors", ("source", "tower", "share"), rows, left=2)
    for name, why in report.dropped.items():
        draw.say(f"dropped {name}: {why}")
    parts = [f"{len(report.merged):,} tensors merged ({report.parameters:,} parameters)"]
    parts += [f"{len(found):,} {word}" for word, found in (("kept", report.kept), ("dropped", report.dropped)) if found]
    took = f"{duration(report.seconds)}, {size(report.bytes_written)} written"
    if report.hashing_seconds >= 0.1:
        took += f"; {duration(report.hashing_seconds)} of this waiting for digests"
    draw.say(f"{report.out}: {', '.join(parts)} in {took}")


def _merged(report: MergeReport, recipe: MergeRecipe) -> str:
    """What was merged by what: `ties of garden (0.5), kitchen (0.5) on base, density 0.2`."""
    weights = [source.weight for source in recipe.sources]
    models = [
        f"{short_name(name, path)} ({weight:g})" if isinstance(weight, int | float) else short_name(name, path)
        for (name, path), weight in zip(report.sources.items(), weights, strict=False)
    ]
    base = f" on {recipe.base}" if isinstance(recipe.base, str | Path) else ""
    options = "".join(f", {name} {_plain(value)}" for name, value in recipe.options.items())
    scale = "" if recipe.scale == 1 else f", scale {recipe.scale}"
    return f"{recipe.method} of {', '.join(models)}{base}{options}{scale}"


def print_estimate(found: Estimate, notes: Sequence[str]) -> None:
    """Print the estimated cost of a merge."""
    assert found.speed is not None
    assert found.bound is not None
    for note in notes:
        draw.say(f"note: {note}")
    rows = [
        ("method", found.method),
        ("tensors", f"{found.merged:,} merged, {found.kept:,} kept, {found.dropped:,} dropped"),
        ("parameters", f"{found.parameters:,}"),
        ("to read", f"{size(found.bytes_read)}, {found.passes:.2g} times over"),
        ("to write", size(found.bytes_written)),
        ("memory", f"about {size(found.peak_memory)} plus the interpreter, with {found.workers} threads"),
        ("disk", f"reads {size(found.speed.read)}/s, writes {size(found.speed.write)}/s, as measured now"),
        ("at least", f"{duration(found.bound)}: reading and writing once at this speed"),
    ]
    for name, value in rows:
        draw.say(f"{name:12}{value}", hang=12)


def print_verification(found: Verification) -> None:
    """Print the differences from the recipe's result, or that there are none."""
    for place in found.missing:
        draw.say(f"missing: {place}")
    for source, files in found.changed.items():
        draw.say(f"changed since the merge: {source}: {', '.join(files)}")
    for name, what in found.damaged.items():
        draw.say(("damaged", "red"), f" {found.folder / name}: {what}")
    for name, what in {**found.unlike, **found.files}.items():
        draw.say(f"{name}: {what}")
    if found.first is not None:
        first, index = found.first, list(found.first.index)
        text = f"first difference: {first.tensor} {index}: is {first.found:.9g}, the recipe gives {first.expected:.9g}"
        draw.say(text)
        elements, n = sum(found.differing.values()), len(found.differing)
        draw.say(f"elements that differ: {elements:,}, in {n:,} tensor{'s' * (n > 1)}")
    if found.equal:
        digests = "" if found.digests else "; the record has no digests of the sources"
        text = f"{found.folder}: all {size(found.compared)} equal the result of the recipe{digests}"
        draw.say(text)


def formulas(methods: Iterable[Method]) -> list[dict[str, str]]:
    """Name and formula of each method."""
    return [{"method": method.name, "formula": method.formula} for method in methods]


def print_formulas(rows: Sequence[dict[str, str]]) -> None:
    """Print `formulas`, a method a line."""
    width = max(len(row["method"]) for row in rows)
    for row in rows:
        draw.say(f"{row['method']:{width}}  {row['formula']}", hang=width + 2)


def method_facts(method: Method) -> dict[str, Any]:
    """The details of a method, from its declaration and docstring."""
    text = inspect.cleandoc(method.function.__doc__ or "")
    return {
        "method": method.name,
        "about": text.partition("\nArgs:")[0].strip(),
        "base": method.base,
        "options": _options(method, text),
        "presets": {
            name: {"options": dict(preset.options), "equal_weights": preset.equal_weights}
            for name, preset in method.presets.items()
        },
    }


def print_method(facts: dict[str, Any]) -> None:
    """Print `method_facts`."""
    for line in facts["about"].splitlines():
        draw.say(line)
    draw.say("")
    draw.say(f"base: {facts['base']}")
    if facts["options"]:
        rows = [
            (each["option"], each["type"] + ", or per source" * each["per_source"], each["default"], each["about"])
            for each in facts["options"]
        ]
        draw.say("")
        draw.print_table("", ("option", "type", "default", ""), rows, left=4)
    for name, preset in facts["presets"].items():
        settings = ", ".join(f"{key} = {_plain(value)}" for key, value in preset["options"].items())
        draw.say("")
        draw.say(f"preset {name}: {settings}{'; equal weights 1/N' if preset['equal_weights'] else ''}")


def _options(method: Method, text: str) -> list[dict[str, Any]]:
    """The options of a method, with their descriptions from its docstring."""
    section = text.partition("\nArgs:\n")[2].partition("\nRaises:")[0]
    about = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    }
    about["stages"] = "applied to each task vector beforehand, e.g. [{drop: {drop: 0.5}}]"
    return [
        {
            "option": name,
            "type": _type_of(field.annotation) + _bounds(field.metadata or _of_optional(field.annotation)[1]),
            "default": _plain(field.get_default(call_default_factory=True)),
            "per_source": name in method.per_source,
            "about": about.get(name, ""),
        }
        for name, field in method.options.model_fields.items()
    ]


def _type_of(annotation: Any) -> str:
    """A type in words: the values of a choice, number, text, true or false."""
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return "list"
    annotation = _of_optional(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(_type_of, get_args(annotation)))
    words = {float: "number", int: "whole number", bool: "true | false", str: "text"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _of_optional(annotation: Any) -> tuple[Any, Sequence[Any]]:
    """The type without None, and its constraints; the annotation itself if it is not optional."""
    if type(None) not in get_args(annotation):
        return annotation, ()
    own = next(part for part in get_args(annotation) if part is not type(None))
    return (own.__origin__, own.__metadata__[0].metadata) if hasattr(own, "__metadata__") else (own, ())


def _bounds(constraints: Sequence[Any]) -> str:
    """A number's constraints as text, such as ` ≥ 0, < 1`."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(each, key):g}" for each in constraints for key, sign in signs.items() if hasattr(each, key)
    ]
    return f" {', '.join(found)}" if found else ""


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def print_comparison(found: Comparison, *, tensors: bool) -> None:
    """Print a table for each pair of models: by tensor if wanted, by layer, by tower, and in total."""
    for one, other in combinations(range(len(found.models)), 2):
        _print_pair(found, one, other, tensors)
    for name, agrees in found.whole_numbers.items():
        draw.say(f"{name}: whole numbers, {'the same in all' if agrees else 'not the same'}")
    for name, why in found.left_out.items():
        draw.say(f"{name}: not compared: {why}")


def _print_pair(found: Comparison, one: int, other: int, tensors: bool) -> None:
    def row(name: str, sums: Sums) -> tuple[Any, ...]:
        pair = sums.pair(one, other)
        shares = (pair.equal, pair.conflicts, *pair.zeros)
        return (name, pair.elements, *pair.norms, pair.cosine, pair.distance, *(100 * share for share in shares))

    what = "task vectors" if found.of_task_vectors else "weights"
    draw.say(f"A = {found.models[one]}, B = {found.models[other]}: {what}")
    if tensors:
        draw.print_table("", ("tensor", *_COLUMNS), [row(name, sums) for name, sums in found.tensors.items()])
    rows = [row(layer if tower == "model" else f"{tower} {layer}", s) for (tower, layer), s in found.layers.items()]
    if len(found.towers) > 1:
        rows += [row(tower, sums) for tower, sums in found.towers.items()]
    draw.print_table("", ("layer", *_COLUMNS), [*rows, row("all", found.whole)])


def comparison_facts(found: Comparison) -> dict[str, Any]:
    """All numbers of a comparison as JSON."""

    def pairs(sums: Sums) -> list[dict[str, Any]]:
        return [
            {"models": [found.models[one], found.models[other]], **asdict(sums.pair(one, other))}
            for one, other in combinations(range(len(found.models)), 2)
        ]

    return {
        "models": list(found.models),
        "of_task_vectors": found.of_task_vectors,
        "whole": pairs(found.whole),
        "towers": {tower: pairs(sums) for tower, sums in found.towers.items()},
        "layers": [{"tower": tower, "layer": layer, "pairs": pairs(s)} for (tower, layer), s in found.layers.items()],
        "tensors": {tensor: pairs(sums) for tensor, sums in found.tensors.items()},
        "whole_numbers": dict(found.whole_numbers),
        "left_out": dict(found.left_out),
    }
