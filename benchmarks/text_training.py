"""text: a training step and the generation of titles, each gain by itself, in one run.

Prints, for forward and backward passes over the same batches (float32, one thread unless --threads says otherwise),
the tokens a second of

- `padded, all logits`: a row for each example, padded to the longest, and logits everywhere, as is usual;
- `padded, logits of answers` and `packed, all logits`: with one of the two gains;
- `packed, logits of answers`: what mmgrid does,

where padding counts as no token; and for beam search over the same prompts the users a second of

- `a prompt for each beam`: `generate` of Transformers alone;
- `a prompt for each user`: what mmgrid does, the same `generate` behind one reading of each prompt.

With --corpus (a prepared domain) and --backbone (a folder) on real data, else on a made-up one.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteriaList

from mmgrid.backbone import TinyRecipe
from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.tiny import create, train_tokenizer
from mmgrid.data import Corpus, Histories, Items, Phase
from mmgrid.data.synthetic import World, WorldDomain, simulate
from mmgrid.paradigms import resolve
from mmgrid.paradigms.dialogues import Dialogue, answer_logits, collate
from mmgrid.paradigms.generation import HuggingFaceGenerator
from mmgrid.paradigms.generation.huggingface import EndsThere, pad_left
from mmgrid.paradigms.packing import attention_mask, mask_for
from mmgrid.paradigms.text import Text

WORLD = World((WorldDomain("kitchen", users=2000, items=8000),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    items, histories = domain(options.corpus)
    model, tokenizer = backbone(options.backbone, items)
    recipe = resolve("text", {}, backbone_kind="tiny", history_length=25)
    text, model = Text.create(recipe, model, tokenizer)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {len(items)} items, vocabulary {len(tokenizer)}\n")
    compare_training(text, model, items, histories, options)
    compare_asking(text, model, items, histories, options)


def compare_training(
    text: Text, model: PreTrainedModel, items: Items, histories: Histories, options: argparse.Namespace
) -> None:
    recipe = text.recipe
    examples = text.examples(histories, items, Phase("pretrain", 0, histories.end), seed=0)
    chosen = np.random.default_rng(0).permutation(len(examples))[: options.batches * recipe.batch_size].tolist()
    batches = [
        [examples.draw(index, 0) for index in chosen[start : start + recipe.batch_size]]
        for start in range(0, len(chosen), recipe.batch_size)
    ]
    n_tokens = sum(len(dialogue) for batch in batches for dialogue in batch)
    n_places = sum(len(batch) * max(map(len, batch)) for batch in batches)
    packed_places = sum(collate(batch)["input_ids"].numel() for batch in batches)
    print(f"{n_tokens} tokens, {n_places} places padded, {packed_places} packed\n")
    ways = {
        "padded, all logits": padded_all,
        "padded, logits of answers": padded_answers,
        "packed, all logits": packed_all,
        "packed, logits of answers": packed_answers,
    }
    show(
        "tokens",
        n_tokens,
        best_times({name: step(model, batches, loss) for name, loss in ways.items()}, options.repeats),
    )


def compare_asking(
    text: Text, model: PreTrainedModel, items: Items, histories: Histories, options: argparse.Namespace
) -> None:
    recipe = text.recipe
    served = histories.take(np.flatnonzero(histories.lengths >= recipe.earlier_items)[: options.users])
    recent = served.last(recipe.history_length)
    prompts = [text.prompts(items).question(np.asarray(recent.of(user), np.int64)) for user in range(len(recent))]
    generators = {
        "a prompt for each beam": EachBeam(model, text.tokenizer, title_tokens=recipe.title_tokens),
        "a prompt for each user": HuggingFaceGenerator(model, text.tokenizer, title_tokens=recipe.title_tokens),
    }
    runs = {name: asking(generator, prompts, recipe.titles) for name, generator in generators.items()}
    show("users", len(prompts), best_times(runs, options.repeats))
    start = time.perf_counter()
    text.recommend(model, served, items, 20)
    print(f"recommending, with the catalogue encoded anew: {time.perf_counter() - start:.1f} s")


def domain(folder: Path | None) -> tuple[Items, Histories]:
    """A domain's items, and its histories before the last tenth of its interactions."""
    if folder is not None:
        corpus = Corpus.load(folder)
        return corpus.catalogue, corpus.histories(int(np.quantile(corpus.timestamps, 0.9)))
    made = simulate(WORLD, "kitchen")
    rows = np.arange(len(made.titles))
    items = Items(rows.astype(str), made.titles, made.descriptions, rows)
    users, counts = np.unique(made.users, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return items, Histories(users, offsets, made.items.astype(np.int32), made.times_ms, int(made.times_ms.max()) + 1)


def backbone(folder: Path | None, items: Items) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if folder is not None:
        return load_model(folder), load_tokenizer(folder)
    tokenizer = train_tokenizer([*items.titles, *items.descriptions], TinyRecipe().vocabulary)
    return create(TinyRecipe(), tokenizer, 0), tokenizer


def padded(batch: Sequence[Dialogue]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels [examples, longest]; labels are -100 where nothing is learned."""
    width = max(map(len, batch))
    ids, mask, labels = (np.full((len(batch), width), filling) for filling in (0, 0, -100))
    for row, dialogue in enumerate(batch):
        place = slice(0, len(dialogue))
        ids[row, place], mask[row, place] = dialogue.tokens, 1
        labels[row, place] = np.where(dialogue.is_answer, dialogue.tokens, -100)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels)


def padded_all(model: PreTrainedModel, batch: Sequence[Dialogue]) -> Tensor:
    ids, mask, labels = padded(batch)
    return model(ids, attention_mask=mask, labels=labels, use_cache=False).loss


def padded_answers(model: PreTrainedModel, batch: Sequence[Dialogue]) -> Tensor:
    ids, mask, labels = padded(batch)
    hidden = model.get_decoder()(ids, attention_mask=mask, use_cache=False).last_hidden_state
    learned = labels[:, 1:] >= 0
    return F.cross_entropy(model.get_output_embeddings()(hidden[:, :-1][learned]), labels[:, 1:][learned])


def packed_all(model: PreTrainedModel, batch: Sequence[Dialogue]) -> Tensor:
    rows = collate(batch)
    mask = mask_for(attention_mask(rows["segments"]), model.config, model.dtype)
    positions = rows["position_ids"]
    logits = model(rows["input_ids"], attention_mask=mask, position_ids=positions, use_cache=False).logits
    labels = torch.full((rows["input_ids"].numel(),), -100)
    labels[rows["places"]] = rows["labels"]
    return F.cross_entropy(logits.flatten(0, 1).float(), labels)


def packed_answers(model: PreTrainedModel, batch: Sequence[Dialogue]) -> Tensor:
    rows = collate(batch)
    return F.cross_entropy(answer_logits(model, rows).float(), rows["labels"])


def step(model: PreTrainedModel, batches: list[list[Dialogue]], loss: Callable[..., Tensor]) -> Callable[[], object]:
    """Forward and backward passes over all batches, laying out the rows included."""

    def run() -> list[float]:
        model.train()
        losses = []
        for batch in batches:
            value = loss(model, batch)
            value.backward()
            model.zero_grad()
            losses.append(value.item())
        return losses

    return run


def asking(generator: HuggingFaceGenerator, prompts: list[np.ndarray], n: int) -> Callable[[], object]:
    return lambda: generator.titles(prompts, n)


class EachBeam(HuggingFaceGenerator):
    """Titles by `generate` alone, which reads a prompt once for each beam."""

    def _generate(self, prompts: list, n: int) -> Tensor:
        ids, mask = pad_left(prompts)
        ends = StoppingCriteriaList([EndsThere(self.stops)])
        return self.model.generate(input_ids=ids, attention_mask=mask, stopping_criteria=ends)[:, ids.shape[1] :]


def best_times(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best seconds of each way, in turns; all ways must come to the same."""
    best = dict.fromkeys(ways, float("inf"))
    found = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way()
            best[name] = min(best[name], time.perf_counter() - start)
    first, *others = found.values()
    assert all(other == first or np.allclose(other, first, rtol=1e-4) for other in others), f"they differ: {found}"
    return best


def show(unit: str, count: int, seconds: dict[str, float]) -> None:
    slowest = max(seconds.values())
    print(f"| way | {unit} a second | speed |\n|---|--:|--:|")
    for name, taken in seconds.items():
        print(f"| {name} | {count / taken:,.0f} | {slowest / taken:.2f}× |")
    print()


if __name__ == "__main__":
    main()
