"""Which engine generates answers, as a value of a recipe, and what it is told. Imports no vLLM and no torch."""

import json
from collections.abc import Mapping
from typing import Any, Literal

Engine = Literal["huggingface", "vllm"]


def check_engine(engine: Engine, options: Mapping[str, Any], evaluation_precision: str, taken: frozenset[str]) -> None:
    """Check that options are for vLLM, and say nothing that the recipe says itself.

    taken: names of options that the paradigm sets.

    Raises:
        ValueError: they do not; the message says what to change.
    """
    if options and engine != "vllm":
        raise ValueError('engine_options are for vLLM; set engine = "vllm", or leave them out')
    if engine == "vllm" and evaluation_precision != "float32":
        raise ValueError(
            'evaluation_precision is for engine = "huggingface"; set engine_options = { dtype = "bfloat16" } for vLLM'
        )
    if repeated := sorted(options.keys() & taken):
        raise ValueError(
            f"engine_options: {repeated[0]} is set by the recipe, the grid or the checkpoint; leave it out"
        )
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"engine_options: {error}; use strings, numbers, booleans, lists and tables") from None
