"""Rules: other settings for some of the tensors. What a rule leaves out is the recipe's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmgrid.merging.arrays.floats import is_float
from mmgrid.merging.errors import MergeError
from mmgrid.merging.methods import Method, get_method
from mmgrid.merging.models.tensors import Tensors
from mmgrid.merging.plan.plan import Plan
from mmgrid.merging.plan.program import AppliedMethod, Program, Scale, apply_method


@dataclass(frozen=True)
class Rule:
    """Settings for the tensors whose names fit; the first rule that fits a tensor counts.

    Attributes:
        tensors: a pattern of names, such as `item_tower.*`, or several.
        method: another method, whose options are then `options`.
        options, scale, base: instead of the recipe's. The base is a state dict, or an open folder of tensors.
        weights: name of a source → its weight for these tensors.
    """

    tensors: str | Sequence[str]
    method: str | None = None
    options: Mapping[str, Any] | None = None
    scale: Scale | None = None
    base: Any = None
    weights: Mapping[str, float] | None = None


def apply_rules(
    rules: Sequence[Rule],
    method: Method,
    sources: Mapping[str, Tensors],
    base: Tensors | None,
    weights: Mapping[str, float],
    scale: Scale,
    options: Mapping[str, Any],
) -> list[AppliedMethod]:
    """The methods of the rules, in their order.

    Args:
        rules: a base of theirs is open (`Tensors`).
        The rest: of the recipe.

    Raises:
        MergeError: method, base, weights, scale or options of a rule do not fit together.
    """
    methods = []
    for rule in rules:
        own = method if rule.method is None else get_method(rule.method)
        below = rule.base if rule.base is not None else base if own.base != "none" else None
        inherited = 1.0 if below is None else scale  # without a base there is no delta to scale
        methods.append(
            apply_method(
                own,
                sources,
                below,
                {**weights, **(rule.weights or {})},
                inherited if rule.scale is None else rule.scale,
                rule.options if rule.options is not None else {} if rule.method else options,
                rule.tensors,
            )
        )
    return methods


def check_bases(program: Program, plan: Plan, base: Tensors | None) -> None:
    """Check that a rule's own base has the rule's tensors, in the shape of the recipe's base (or of a source).

    Raises:
        MergeError: it lacks one, or has it in another shape or type.
    """
    reference = next(iter(program.sources.values())) if base is None else base
    for name in plan.merged:
        own = program.applied(name).base
        if own is None or own is base:
            continue
        if name not in own:
            raise MergeError(f"the base of a rule lacks {name}, which the rule covers")
        there, here = own.info(name), reference.info(name)
        if there.shape != here.shape:
            raise MergeError(f"tensor {name}: shapes differ: base of its rule {list(there.shape)}, {list(here.shape)}")
        if not is_float(there.dtype):
            raise MergeError(f"tensor {name}: types cannot be combined: base of its rule {there.dtype}")
