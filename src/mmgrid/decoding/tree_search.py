"""Exact constrained beam search over a trie of items, which reads each prompt once.

All beams of a prompt are branches of one tree behind it. Each step passes the newest token of every beam to the model
as one query, and a mask lets each token see the prompt and its own ancestors. So keys and values of the prompt are
never copied per beam, and nothing is reordered when beams die. There is no loop over users or beams, and after the
first step no data moves to the host.

Shape letters: B prompts, P prompt tokens, K beams, L levels, C codes of a level, M most children of a node, F most
items of one code, E excluded items, V vocabulary, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mmgrid.backbone.evaluation_mode import evaluating
from mmgrid.backbone.longest import check_length
from mmgrid.decoding.branches import Branches, ModelBranches
from mmgrid.decoding.prompt_tree import PromptTree
from mmgrid.decoding.renormalise import Renormalise
from mmgrid.decoding.tie_order import seeded_tie_keys
from mmgrid.decoding.tree_support import check_tree_support
from mmgrid.decoding.trie import ItemTrie, Level

NOTHING = float("-inf")


class BeamResult(NamedTuple):
    """items: int64 [B, K] item rows, best first, filled up with -1. scores: float32 [B, K], log-probabilities of their
    codes, filled up with -inf."""

    items: Tensor
    scores: Tensor


@torch.no_grad()
def beam_search(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    trie: ItemTrie,
    *,
    beam_width: int = 20,
    renormalise: Renormalise = "vocabulary",
    exclude: Tensor | None = None,
    seeds: Tensor | None = None,
) -> BeamResult:
    """Beam search over the semantic IDs of a catalogue, each exactly L tokens long.

    Args:
        model: a causal language model with "sdpa" or "eager" attention that passes `check_tree_support`, which runs
            once per model.
        input_ids: int64 [B, P] prompts, padded on the left.
        attention_mask: [B, P], 0 at padding; None if nothing is padded.
        trie: on the model's device.
        beam_width: K, branches kept at each step, and items returned.
        renormalise: normalise log-probabilities over the `children` of the current node (the official code of the
            paper), all codes of the `level`, or the whole `vocabulary` (LC-Rec; as `generate` with a prefix function).
        exclude: int64 [B, E], item rows not to be returned for each prompt, filled up with -1. Branches that lead to
            excluded items only are pruned, so they take no beam from others.
        seeds: int64 [B]; items with the same code are ordered at random by this seed. Default: by row.

    Raises:
        ValueError: prompts, mask and model do not fit together.
        BackboneError: the model cannot read trees (a ValueError).
    """
    room = beam_width * (len(trie.levels) - 1)  # positions that the branches need behind a prompt
    _check(model, input_ids, attention_mask, beam_width, renormalise, len(trie.levels), room)
    if not len(input_ids):
        return BeamResult(input_ids.new_empty(0, beam_width), torch.empty(0, beam_width, device=input_ids.device))
    check_tree_support(model)
    with evaluating(model):
        branches = ModelBranches(model, PromptTree(model, input_ids, attention_mask, room))
        return search(branches, trie, beam_width=beam_width, renormalise=renormalise, exclude=exclude, seeds=seeds)


def search(
    branches: Branches,
    trie: ItemTrie,
    *,
    beam_width: int,
    renormalise: Renormalise,
    exclude: Tensor | None = None,
    seeds: Tensor | None = None,
) -> BeamResult:
    """The search of `beam_search`, over any branches. All tensors are on the trie's device."""
    device = trie.first_item.device
    excluded = None if exclude is None or not exclude.shape[1] else _Excluded.of(exclude, trie)
    nodes = torch.zeros(len(branches), 1, dtype=trie.first_item.dtype, device=device)
    scores = torch.zeros(len(branches), 1, device=device)
    for depth, level in enumerate(trie.levels):
        step, children = _children(branches, trie.level_tokens[depth], level, nodes, renormalise)
        step = step + scores.unsqueeze(-1)
        if excluded is not None:
            step = step.masked_fill(excluded.all_below(depth, children), NOTHING)
        scores, place = _top(step.flatten(1), beam_width)
        nodes = children.flatten(1).gather(1, place)
        if depth + 1 < len(trie.levels):
            tokens = trie.level_tokens[depth][level.codes[nodes].long()]
            branches.grow(tokens, place // level.fanout)
    return _items(trie, nodes, scores, beam_width, excluded, seeds)


def _check(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    beam_width: int,
    renormalise: str,
    levels: int,
    room: int,
) -> None:
    if input_ids.ndim != 2 or not input_ids.shape[1]:
        raise ValueError(f"input_ids {list(input_ids.shape)}: expected [prompts, tokens], at least one token")
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask {list(attention_mask.shape)}: expected {list(input_ids.shape)}, as input_ids")
    if beam_width < 1:
        raise ValueError(f"beam_width {beam_width}: expected at least 1")
    if renormalise not in ("children", "level", "vocabulary"):
        raise ValueError(f"renormalise {renormalise!r}: expected 'children', 'level' or 'vocabulary'")
    if attention_mask is not None and not attention_mask[:, -1].all():
        row = int((attention_mask[:, -1] == 0).nonzero()[0])
        raise ValueError(f"attention_mask leaves out the last token of prompt {row}: pad prompts on the left")
    longest = (
        input_ids.shape[1] if attention_mask is None else int(attention_mask.sum(1).max()) if len(input_ids) else 0
    )
    check_length(model, longest + levels)
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)  # without layer types, all layers slide
    slides = types is None or "sliding_attention" in types
    if window is not None and slides and window < input_ids.shape[1] + levels:
        raise ValueError(
            f"prompts of {input_ids.shape[1]} tokens: the model's sliding window of {window} is too short; "
            "ask with shorter histories"
        )
    # GPT-Neo's local layers count positions in the cache, including those of dead branches.
    if "local" in getattr(config, "attention_layers", ()) and config.window_size < input_ids.shape[1] + room:
        raise ValueError(
            f"prompts of {input_ids.shape[1]} tokens and beams of {room}: the model's local window of "
            f"{config.window_size} is too short; ask with shorter histories"
        )


def _children(
    branches: Branches, tokens: Tensor, level: Level, nodes: Tensor, renormalise: Renormalise
) -> tuple[Tensor, Tensor]:
    """Log-probabilities float32 [B, K, M] of the children of `nodes` [B, K], and the children [B, K, M].

    branches: at the nodes. tokens: [C], token ids of the level's codes.
    """
    found = branches.logits(tokens)
    first = level.first[nodes].unsqueeze(-1)
    children = first + torch.arange(level.fanout, device=nodes.device, dtype=first.dtype)
    there = children < level.first[nodes + 1].unsqueeze(-1)
    children = children.clamp(max=len(level.codes) - 1)
    step = found.gather(-1, level.codes[children].long()).masked_fill(~there, NOTHING)
    if renormalise == "children":
        total = step.logsumexp(-1, keepdim=True)
    elif renormalise == "level":
        total = _log_total(found)
    else:
        total = _log_total(branches.vocabulary_logits())
    return step - total, children


def _log_total(found: Tensor) -> Tensor:
    """log Σ exp over the last dimension, kept as size 1. log_softmax in one pass is several times faster than logsumexp."""
    return found[..., :1] - found.log_softmax(-1)[..., :1]


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row, best first, and their indices; fewer if a row is shorter."""
    return torch.topk(scores, min(k, scores.shape[1]), dim=1)


class _Excluded(NamedTuple):
    """Excluded items of each prompt.

    nodes: their nodes at each depth, sorted: L tensors [B, E]. items: sorted rows [B, E]. sizes: for each depth, the
    cumulative number of items under its nodes.
    """

    nodes: tuple[Tensor, ...]
    items: Tensor
    sizes: tuple[Tensor, ...]

    @classmethod
    def of(cls, exclude: Tensor, trie: ItemTrie) -> _Excluded:
        leaves = torch.where(exclude >= 0, trie.leaves[exclude.clamp(min=0)], -1)
        items = torch.where(leaves >= 0, exclude, -1)
        items = _distinct(items.sort(dim=1).values)
        node = torch.where(items >= 0, trie.leaves[items.clamp(min=0)], -1)
        nodes, sizes = [node], [trie.first_item]
        for level in reversed(trie.levels[1:]):
            node = torch.where(node >= 0, level.parents[node.clamp(min=0)], -1)
            nodes.append(node)
            sizes.append(sizes[-1][level.first.long()])
        ordered = tuple(one.sort(dim=1).values for one in reversed(nodes))
        return cls(ordered, items.sort(dim=1).values, tuple(reversed(sizes)))

    def all_below(self, depth: int, nodes: Tensor) -> Tensor:
        """bool [B, ...]: whether all items below each of `nodes` [B, ...] of this depth are excluded."""
        flat = nodes.flatten(1).to(self.nodes[depth].dtype).contiguous()
        excluded = self.nodes[depth]
        count = torch.searchsorted(excluded, flat, right=True) - torch.searchsorted(excluded, flat)
        bounds = self.sizes[depth]
        return (count >= bounds[flat + 1] - bounds[flat]).view(nodes.shape)

    def among(self, items: Tensor) -> Tensor:
        """bool [B, n]: whether each of `items` [B, n] is excluded."""
        place = torch.searchsorted(self.items, items.contiguous()).clamp(max=self.items.shape[1] - 1)
        return self.items.gather(1, place) == items


def _distinct(ascending: Tensor) -> Tensor:
    """Sorted rows in which repeated numbers are replaced by -1."""
    repeated = torch.zeros_like(ascending, dtype=torch.bool)
    repeated[:, 1:] = ascending[:, 1:] == ascending[:, :-1]
    return ascending.masked_fill(repeated, -1)


def _items(
    trie: ItemTrie, leaves: Tensor, scores: Tensor, k: int, excluded: _Excluded | None, seeds: Tensor | None
) -> BeamResult:
    """The k best items under leaves [B, K]; the items of a leaf share its score."""
    first = trie.first_item[leaves].unsqueeze(-1)
    places = first + torch.arange(trie.most_items, device=leaves.device, dtype=first.dtype)
    there = (places < trie.first_item[leaves + 1].unsqueeze(-1)) & ~scores.isneginf().unsqueeze(-1)
    items = trie.items[places.clamp(max=len(trie) - 1)]  # [B, K, F]
    if excluded is not None:
        there &= ~excluded.among(items.flatten(1)).view(items.shape)
    keys = items if seeds is None else seeded_tie_keys(seeds[:, None, None], items)
    order = keys.masked_fill(~there, torch.iinfo(torch.int64).max).argsort(dim=-1, stable=True)
    items, there = items.gather(-1, order).flatten(1), there.gather(-1, order).flatten(1)
    # Leaves are sorted by score, so a stable sort that moves the missing places to the end keeps the order.
    kept = (~there).to(torch.int8).argsort(dim=1, stable=True)[:, :k]
    there = there.gather(1, kept)
    scores = scores.unsqueeze(-1).expand(-1, -1, trie.most_items).flatten(1).gather(1, kept)
    best = items.gather(1, kept).masked_fill(~there, -1), scores.masked_fill(~there, NOTHING)
    missing = k - kept.shape[1]
    return BeamResult(
        torch.nn.functional.pad(best[0], (0, missing), value=-1),
        torch.nn.functional.pad(best[1], (0, missing), value=NOTHING),
    )
