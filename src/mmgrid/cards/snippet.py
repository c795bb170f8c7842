"""Code that uses a model, for its card. It runs where the card's folder is the working folder."""

import json
import re
from collections.abc import Mapping
from typing import Any

from mmgrid.cards.declared import named_in

HERE = '"."'  # where the model is
_HERE = re.compile(r'\b(open_checkpoint|from_pretrained)\("\."')

_RECOMMENDING = """\
import mmgrid
from mmgrid.data import Corpus

domain = Corpus.load({domain})  # its interactions.parquet and items.parquet
model = mmgrid.open_checkpoint({here})
history = domain.catalogue.ids[:3].tolist()  # ids of items, the oldest first
(items,) = model.recommend([history], domain, k=5)
for item in items:
    print(f"{{item.score:.3f}}  {{item.item_id}}  {{item.title}}")
"""

_LANGUAGE_MODEL = """\
from transformers import {factory}, AutoTokenizer

model = {factory}.from_pretrained({here})
tokenizer = AutoTokenizer.from_pretrained({here})
"""

_ADAPTER = """\
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained({here})
"""


def usage(declared: Mapping[str, Any], config: Mapping[str, Any], *, adapter: bool = False) -> str:
    """The section "Use" of a card; empty for a model that no library is known for.

    Args:
        declared: the content of `mmgrid.json`.
        config: the content of `config.json`.
        adapter: whether it is an adapter of PEFT.
    """
    domains = named_in(declared, "domain")
    if named_in(declared, "paradigm") and domains:
        about = (
            f"`{domains[0]}` is the folder of the domain's data: a cell `corpus/{domains[0]}` of its grid, or the output "
            "of `mmgrid data prepare`."
        )
        return _section(_RECOMMENDING.format(domain=json.dumps(domains[0]), here=HERE), about)
    architectures = [str(one) for one in config.get("architectures") or ()]
    if adapter:
        return _section(_ADAPTER.format(here=HERE))
    if not architectures or "mmgrid" in config or str(config.get("model_type", "")).startswith("mmgrid"):
        return ""
    causal = any(one.endswith("ForCausalLM") for one in architectures)
    return _section(_LANGUAGE_MODEL.format(factory="AutoModelForCausalLM" if causal else "AutoModel", here=HERE))


def used_from_hub(card: str, repo: str) -> str:
    """The card with code that loads the model by its name on the Hub instead of from the working folder."""
    return _HERE.sub(lambda call: f'{call[1]}("{repo}"', card)


def _section(code: str, about: str = "") -> str:
    return "## Use\n\n" + (f"{about}\n\n" if about else "") + f"```python\n{code}```"
