"""The tensors that have a row for each token, by their names in the common architectures: embeddings and heads.

Source: the tied weights that the classes of transformers 5 declare.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_EMBEDDING = re.compile(
    r"^(?P<place>(?:.*?\.)??)(?:embed_tokens|wte|word_embeddings?|embed_in|tok_embeddings|tokens_embed|shared"
    r"|embeddings|transformer\.w)\.weight$"
)
_HEAD_NAMES = (
    r"(?:lm_head(?:\.decoder|\.out_proj|\.linear)?|embed_out|output|output_layer|output_projection|proj_out|lm_loss"
    r"|(?:cls\.)?predictions\.decoder|\w+_head\.decoder|generator_lm_head|vocab_projector|pred_layer\.proj"
    r"|head(?:\.decoder)?|decoder)"
)
_HEAD = re.compile(rf"^(?P<place>(?:.*?\.)??){_HEAD_NAMES}\.weight$")
# Other tensors with an entry for each token.
_PER_TOKEN = re.compile(
    rf"(?:^|\.)(?:{_HEAD_NAMES}\.bias|(?:cls\.)?predictions\.bias|embed_tokens_per_layer\.weight|final_logits_bias)$"
)
_PART_OF_SHARED = re.compile(
    r"^(?P<place>(?:.*?\.)??)(?:\w+_)?(?:encoder|decoder)\.(?P<kind>embed_tokens|word_embeddings)\.weight$"
)
_WITH_HEAD = ("MaskedLM", "CausalLM", "LMHeadModel", "ForPreTraining")
_HEAD_OF = {  # start of a model's type → its head, where it is not lm_head
    "bert": "cls.predictions.decoder.weight",
    "roberta": "lm_head.decoder.weight",
    "xlm-roberta": "lm_head.decoder.weight",
    "camembert": "lm_head.decoder.weight",
    "distilbert": "vocab_projector.weight",
    "albert": "predictions.decoder.weight",
    "electra": "generator_lm_head.weight",
    "modernbert": "decoder.weight",
    "whisper": "proj_out.weight",
    "moonshine": "proj_out.weight",
    "internlm2": "output.weight",
    "gpt_neox": "embed_out.weight",
}
# A head's bias is stored once more beside its matrix.
_BIAS_TWICE = re.compile(r"^(?P<module>(?:.*\.)?\w*(?:predictions|lm_head|_head))\.decoder\.bias$")


def tied_pairs(names: Iterable[str]) -> dict[str, str]:
    """A tensor that may be tied → the one that it is tied to, by their names alone: mostly head → embeddings."""
    names = sorted(names)
    known = set(names)
    embeddings = {name: match["place"] for name in names if (match := _EMBEDDING.match(name))}
    shared = {name for name in names if name.endswith("shared.weight") and name in embeddings}
    pairs = {}
    for name in names:
        if part := shares_embeddings(name, known):
            pairs[name] = part
        elif twice := _BIAS_TWICE.match(name):
            if f"{twice['module']}.bias" in known:
                pairs[name] = f"{twice['module']}.bias"
        elif head := _HEAD.match(name):
            # `model.embed_tokens` and `lm_head` share no place; `a.model.embed_tokens` and `a.lm_head` share `a.`.
            near = {one: place for one, place in embeddings.items() if place.startswith(head["place"])}
            roots = sorted(near, key=lambda one: (one not in shared, len(near[one]), "encoder" in one, one))
            if roots:
                pairs[name] = roots[0]
    return pairs


def shares_embeddings(name: str, names: Iterable[str]) -> str | None:
    """The shared embeddings of which an encoder or decoder stores a copy; None if there are none."""
    match = _PART_OF_SHARED.match(name)
    if match is None:
        return None
    known = set(names)
    above = ("shared", "word_embeddings") if match["kind"] == "embed_tokens" else ("word_embeddings",)
    return next((one for kind in above if (one := f"{match['place']}{kind}.weight") in known), None)


def parts_of_shared(name: str) -> list[str]:
    """The copies of shared embeddings that encoder and decoder may store; none of other tensors."""
    place, _, last = name.removesuffix(".weight").rpartition(".")
    if last != "shared":
        return []
    return [".".join(filter(None, (place, part, "embed_tokens.weight"))) for part in ("encoder", "decoder")]


def twin_of_bias(name: str) -> str | None:
    """The second name of a head's bias; None of other tensors."""
    twin = name.removesuffix(".bias") + ".decoder.bias"
    return twin if name.endswith(".bias") and _BIAS_TWICE.match(twin) else None


def usual_head(embeddings: str, settings: Mapping[str, Any]) -> str | None:
    """The name of the head that is tied to embeddings, where a file does not hold it; None if the model has none.

    Args:
        settings: of the model: its type, and its class, because a classifier has no head of tokens.
    """
    type_ = str(settings.get("model_type", ""))
    if ".embeddings." in f".{embeddings}" and not embeddings.startswith("backbone."):  # encoders, such as BERT
        heads = any(str(name).endswith(_WITH_HEAD) for name in settings.get("architectures") or ())
        return next((head for start, head in _HEAD_OF.items() if type_.startswith(start)), None) if heads else None
    if head := next((head for start, head in _HEAD_OF.items() if type_.startswith(start)), None):
        return head
    place = embeddings.rpartition(".")[0].rpartition(".")[0]
    outer, _, last = place.rpartition(".")
    return f"{outer}.lm_head.weight" if outer and last == "model" else "lm_head.weight"


def embeddings_in(names: Iterable[str]) -> list[str]:
    """Those of the names that are embedding matrices of tokens."""
    return [name for name in names if _EMBEDDING.match(name)]


def holds_vocabulary(name: str) -> bool:
    """Whether the entries of a tensor stand for tokens, by its name alone."""
    return bool(_EMBEDDING.match(name) or _HEAD.match(name) or _PER_TOKEN.search(name))
