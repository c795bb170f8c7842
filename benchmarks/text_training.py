"""text: the speed of a training step and of generating titles, and the effect of each optimisation.

Prints tokens, examples and users per second and peak memory of forward and backward passes over the same batches
(float32, one thread by default; padding does not count) for

- `padded, all logits`: one row per example, padded to the longest, and logits at all positions, as is usual;
- `padded, logits of answers` and `packed, all logits`: one of two optimisations;
- `packed, logits of answers`: both, as in mmgrid;

the targets per second with

- `one example a target`: as in BIGRec;
- `all of a window at once`: `every_position`;

and the users per second of beam search over the same prompts with

- `a prompt for each beam`: `generate` of Transformers alone;
- `a prompt for each user`: as in mmgrid, the same `generate` after one prefill of each prompt.

Runs on real data with --corpus (a prepared domain) and --backbone (a folder), else on synthetic data.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteriaList

from measuring import backbone, batches_of, best_times, compare_steps, domain, options, show, step
from mmgrid.data import Histories, Items, Phase
from mmgrid.paradigms import PARADIGMS
from mmgrid.paradigms.shared.dialogues import Dialogue, answer_logits, collate
from mmgrid.paradigms.shared.packing import attention_mask, mask_for
from mmgrid.paradigms.shared.padding import pad_left
from mmgrid.paradigms.text.engines import HuggingFaceGenerator
from mmgrid.paradigms.text.engines.huggingface import EndsWithStopToken
from mmgrid.paradigms.text.paradigm import Text, TextExamples
from mmgrid.paradigms.text.spec import TextRecipe


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--users", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    items, histories = domain(given.corpus)
    model, tokenizer = backbone(given.backbone, items)
    recipe = PARADIGMS["text"].resolve({"every_position": False}, backbone_kind="tiny", history_length=25)
    assert isinstance(recipe, TextRecipe)
    text, model = Text.create(recipe, model, tokenizer)
    print(f"torch {torch.__version__}, {given.threads} thread(s), {len(items)} items, vocabulary {len(tokenizer)}\n")
    compare_training(text, model, items, histories, given)
    compare_targets(text, model, items, histories, given)
    compare_asking(text, model, items, histories, given)


def compare_training(
    text: Text, model: PreTrainedModel, items: Items, histories: Histories, given: argparse.Namespace
) -> None:
    examples = text.examples(histories, items, Phase("pretrain", 0, histories.end), seed=0)
    assert isinstance(examples, TextExamples)
    batches = batches_of(examples, text.recipe.batch_size, given.batches)
    n_tokens = sum(len(dialogue) for batch in batches for dialogue in batch)
    n_places = sum(len(batch) * max(map(len, batch)) for batch in batches)
    packed_places = sum(collate(batch)["input_ids"].numel() for batch in batches)
    print(f"{n_tokens} tokens, {n_places} positions padded, {packed_places} packed\n")
    ways = {
        "padded, all logits": padded_all,
        "padded, logits of answers": padded_answers,
        "packed, all logits": packed_all,
        "packed, logits of answers (mmgrid)": packed_answers,
    }
    users = len(np.unique(examples.targets.users)) / len(examples)
    compare_steps(model, batches, ways, tokens=n_tokens, users=users, repeats=given.repeats)


def compare_targets(
    text: Text, model: PreTrainedModel, items: Items, histories: Histories, given: argparse.Namespace
) -> None:
    for name, every in (("one example a target", False), ("all of a window at once", True)):
        other = Text(text.config | {"every_position": every}, text.tokenizer, text.recipe)
        examples = other.examples(histories, items, Phase("pretrain", 0, histories.end), seed=0)
        batches = batches_of(examples, other.recipe.batch_size, given.batches)
        end = other.prompts(items).end[-1]  # occurs once per answer
        targets = sum(
            int((dialogue.tokens[dialogue.is_answer] == end).sum()) for batch in batches for dialogue in batch
        )
        seconds = best_times({name: step(model, batches, packed_answers)}, given.repeats)
        print(f"{name}: {targets / seconds[name]:,.0f} targets per second")


def compare_asking(
    text: Text, model: PreTrainedModel, items: Items, histories: Histories, given: argparse.Namespace
) -> None:
    recipe = text.recipe
    served = histories.take(np.flatnonzero(histories.lengths >= recipe.earlier_items)[: given.users])
    recent = served.last(recipe.history_length)
    prompts = [text.prompts(items).question(np.asarray(recent.of(user), np.int64)) for user in range(len(recent))]
    generators = {
        "a prompt for each beam": EachBeam(model, text.tokenizer, title_tokens=recipe.title_tokens),
        "a prompt for each user": HuggingFaceGenerator(model, text.tokenizer, title_tokens=recipe.title_tokens),
    }
    runs = {name: asking(generator, prompts, recipe.titles) for name, generator in generators.items()}
    show("users", len(prompts), best_times(runs, given.repeats))
    start = time.perf_counter()
    text.recommend(model, served, items, 20)
    print(f"recommending, including encoding the catalogue: {time.perf_counter() - start:.1f} s")


def padded(batch: Sequence[Dialogue]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels [examples, longest]; labels are -100 at positions without loss."""
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


def asking(generator: HuggingFaceGenerator, prompts: list[np.ndarray], n: int) -> Callable[[], object]:
    return lambda: generator.titles(prompts, n)


class EachBeam(HuggingFaceGenerator):
    """Titles by `generate` alone, which processes a prompt once per beam."""

    def _generate(self, prompts: list, n: int) -> Tensor:
        ids, mask = pad_left(prompts)
        ends = StoppingCriteriaList([EndsWithStopToken(self.stops)])
        return self.model.generate(input_ids=ids, attention_mask=mask, stopping_criteria=ends)[:, ids.shape[1] :]


if __name__ == "__main__":
    main()
