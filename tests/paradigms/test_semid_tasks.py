"""The dialogues that semid is trained on, decoded from their tokens."""

from dataclasses import replace

import numpy as np
import pytest

from kits.small import make_tokenizer, semid_recipe
from mmgrid.data import Items
from mmgrid.paradigms.semid.tasks import PromptParts, SemidExamples
from mmgrid.paradigms.shared.targets import targets
from mmgrid.paradigms.shared.windows import windows
from mmgrid.testing.data import PHASE, make_histories, make_items

N_ITEMS = 12
ITEMS = make_items(N_ITEMS)
TOKENIZER = make_tokenizer(ITEMS)
FIRST = len(TOKENIZER)
CODES = FIRST + np.arange(N_ITEMS)[:, None] * 2 + np.arange(2)  # item i has the code ⟨2i⟩⟨2i+1⟩
HISTORIES = make_histories([[3, 1, 4, 7], [5, 9]])


def make_examples(replay: float = 1.0, together: bool = False, **values) -> SemidExamples:
    recipe = semid_recipe(**{"item_group": 5, **values})
    parts = PromptParts.of(TOKENIZER, ITEMS, CODES, recipe.title_tokens, recipe.text_tokens, continued=together)
    chosen = targets(HISTORIES, PHASE, earlier=1, most_per_user=None, seed=0)
    laid = windows(HISTORIES, PHASE, recipe.history_length) if together else None
    return SemidExamples(chosen, laid, parts, ITEMS, recipe, recipe.history_length, replay, seed=0, first_code=FIRST)


def read(tokens: np.ndarray) -> str:
    """Decodes tokens to text; an item's code becomes the item's number in brackets."""
    pieces = []
    for token in tokens.tolist():
        if token < FIRST:
            pieces.append(TOKENIZER.decode([token]))
        elif (token - FIRST) % 2 == 0:
            pieces.append(f"[{(token - FIRST) // 2}]")
    return "".join(pieces)


def question_and_answer(examples: SemidExamples, index: int, epoch: int = 0) -> tuple[str, str]:
    dialogue = examples.draw(index, epoch)
    return read(dialogue.tokens[~dialogue.is_answer]), read(dialogue.tokens[dialogue.is_answer])


def start(item: int) -> str:
    """The part of a title that dialogues contain."""
    return TOKENIZER.decode(TOKENIZER(ITEMS.titles[item])["input_ids"][:8])


def test_codes_follow_codes() -> None:
    examples = make_examples()
    found = [question_and_answer(examples, index) for index in range(4)]
    assert [answer for _, answer in found] == ["[1]", "[4]", "[7]", "[9]"]
    assert "[3][1][4]" in found[2][0]
    assert "[7]" not in found[2][0], "the question does not contain the target"


def test_a_window_is_one_example_and_prompts_are_prefixes_of_it() -> None:
    examples = make_examples(together=True, mixed_tasks=False, item_group=0)
    assert len(examples) == 2
    question, answers = question_and_answer(examples, 0)
    assert answers == "[1][4][7]"
    assert question.endswith("[3]")
    prompt = examples.parts.next_codes_prompt(np.array([3, 1, 4]))
    tokens = examples.draw(0, 0).tokens
    assert tokens[: len(prompt)].tolist() == prompt.tolist()


def test_mixed_tasks_go_from_codes_to_a_title_and_from_titles_to_codes() -> None:
    examples = make_examples()
    seen = {question_and_answer(examples, 6, epoch) for epoch in range(20)}
    assert len(seen) == 2, "each epoch draws one of the two tasks for the third target"
    to_title, to_codes = sorted(seen, key=lambda pair: pair[1] == "[7]")
    assert to_title[1] == start(7) + "\n"
    assert "[3][1][4]" in to_title[0]
    assert to_codes[1] == "[7]"
    assert "\n".join(start(item) for item in (3, 1, 4)) in to_codes[0]


def test_item_dialogues_contain_every_item_in_both_directions() -> None:
    examples = make_examples()
    assert len(examples) == 2 * 4 + 2 * 3, (
        "four targets with two tasks each, and three groups of at most five items in two directions"
    )
    for epoch in (0, 1):
        to_text, to_codes = [], []
        for index in range(8, 14):
            question, answer = question_and_answer(examples, index, epoch)
            (to_codes if answer.startswith("[") else to_text).append((question, answer))
        assert len(to_text) == len(to_codes) == 3
        assert sorted("".join(answer for _, answer in to_codes)) == sorted("".join(f"[{i}]" for i in range(N_ITEMS)))
        for item in range(N_ITEMS):
            assert sum(f"[{item}]" in question and start(item) in answer for question, answer in to_text) == 1
            assert sum(start(item) in question and f"[{item}]" in answer for question, answer in to_codes) == 1
    assert question_and_answer(examples, 8, 0) != question_and_answer(examples, 8, 1), "each epoch shuffles the groups"


def test_later_phases_replay_a_share_of_the_item_dialogues() -> None:
    assert len(make_examples(replay=0.1)) == 8 + 1
    assert len(make_examples(replay=0.0)) == 8
    drawn = {question_and_answer(make_examples(replay=0.1), 8, epoch) for epoch in range(10)}
    assert len(drawn) > 5, "each epoch draws other dialogues"


def test_each_epoch_contains_all_dialogues_of_new_items() -> None:
    """In an open catalogue: items 3 and 8 are new in this phase; a tenth of the other items' dialogues is repeated."""
    parts = PromptParts.of(TOKENIZER, ITEMS, CODES, 8, 8)
    recipe = semid_recipe(item_group=5, mixed_tasks=False)
    chosen = targets(HISTORIES, PHASE, earlier=1, most_per_user=None, seed=0)
    items = replace(ITEMS, new=np.array([3, 8]))
    examples = SemidExamples(chosen, None, parts, items, recipe, recipe.history_length, 0.1, seed=0, first_code=FIRST)
    assert len(examples) == 4 + 1 + 2
    for epoch in range(3):
        known, *new = ("".join(question_and_answer(examples, index, epoch)) for index in (4, 5, 6))
        assert not any(f"[{item}]" in known for item in (3, 8))
        assert all(f"[{item}]" in one for item in (3, 8) for one in new)


def test_tasks_can_be_left_out() -> None:
    assert len(make_examples(mixed_tasks=False)) == 4 + 6
    assert len(make_examples(item_group=0)) == 8


def test_items_without_a_code_are_in_no_dialogue() -> None:
    codes = CODES.copy()
    codes[[0, 1, 2]] = -1
    parts = PromptParts.of(TOKENIZER, ITEMS, codes, 8, 8)
    recipe = semid_recipe(item_group=5)
    chosen = targets(make_histories([[0, 3, 1, 4]]), PHASE, earlier=3, most_per_user=None, seed=0)
    examples = SemidExamples(chosen, None, parts, ITEMS, recipe, recipe.history_length, 1.0, seed=0, first_code=FIRST)
    assert examples.item_dialogues == 2 * 2
    assert read(parts.next_codes_prompt(np.array([0, 3, 1]))).count("[") == 1


@pytest.mark.parametrize("index", [0, 5, 9, 12])
def test_only_answers_enter_the_loss(index: int) -> None:
    dialogue = make_examples().draw(index, 0)
    assert not dialogue.is_answer[0]
    assert dialogue.is_answer.any()
    assert len(dialogue.tokens) == len(dialogue.is_answer)


def test_names_of_tokens_in_titles_are_text() -> None:
    tokenizer = make_tokenizer(ITEMS)
    tokenizer.add_tokens(["<games/1a2b3c4d:a_1>"], special_tokens=True)
    items = Items(np.array(["1"]), ["a <|endoftext|>"], ["of <games/1a2b3c4d:a_1>"], np.arange(1))
    parts = PromptParts.of(tokenizer, items, np.full((1, 2), -1), 40, 40)
    assert tokenizer.decode(parts.titles[0], skip_special_tokens=True) == items.titles[0]
    assert tokenizer.decode(parts.descriptions[0], skip_special_tokens=True) == items.descriptions[0]
