"""Prompts and answers of text, decoded."""

import numpy as np
import pytest

from kits.small import make_tokenizer
from mmgrid.data import Items
from mmgrid.paradigms.shared.prompts import Prompts, as_title, joined, one_line
from mmgrid.testing.data import make_items

TOKENIZER = make_tokenizer(make_items(40))
LONG, OTHER = "QZ" * 15, "XJ" * 15  # texts that the tokenizer has never seen: every letter is a token


def _items(*texts: tuple[str, str]) -> Items:
    titles, descriptions = zip(*texts, strict=True)
    return Items(np.arange(len(texts)).astype(str), list(titles), list(descriptions), np.arange(len(texts)))


def _prompts(*texts: tuple[str, str], **values) -> Prompts:
    shape = {"prompt": "What next?", "text_tokens": 60, "title_tokens": 40, **values}
    return Prompts.of(TOKENIZER, _items(*texts), **shape)


def _length(text: str) -> int:
    return len(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def test_a_question_is_the_instruction_and_the_items_in_order() -> None:
    prompts = _prompts(("red lamp", "a lamp of 7 parts"), ("drum", ""), ("black robot", "  "))
    assert TOKENIZER.decode(prompts.question(np.array([1, 0, 2]))) == (
        "What next?\nTitle: drum\nTitle: red lamp\nDescription: a lamp of 7 parts\nTitle: black robot\n\nTitle:"
    )
    assert TOKENIZER.decode(prompts.answer(2)) == " black robot\n"


def test_the_chat_template_frames_the_question() -> None:
    tokenizer = make_tokenizer(make_items(40))
    tokenizer.chat_template = "<|im_start|>{{ messages[0].content }}<|im_end|>you"
    prompts = Prompts.of(tokenizer, _items(("drum", "")), prompt="Next?", text_tokens=9, title_tokens=9)
    question = prompts.question(np.array([0]))
    assert tokenizer.decode(question) == "<|im_start|>Next?\nTitle: drum\n<|im_end|>youTitle:"


@pytest.mark.parametrize("title_tokens", [40, 3])
def test_turns_of_a_continued_history_equal_single_questions_and_answers(title_tokens: int) -> None:
    items, rows = make_items(40), np.array([3, 9, 4, 31, 8])
    shape = {"prompt": "What next?", "text_tokens": 60, "title_tokens": title_tokens, "continued": True}
    prompts = Prompts.of(TOKENIZER, items, **shape)
    turns = prompts.turns(rows, n_context=2)
    assert [TOKENIZER.decode(answer) for _, answer in turns] == [
        TOKENIZER.decode(prompts.answer(row)) for row in rows[2:]
    ]
    so_far: list[int] = []
    for place, (question, answer) in enumerate(turns, start=2):
        so_far += question.tolist()
        assert so_far == prompts.question(rows[:place]).tolist()
        so_far += answer.tolist()


def test_a_continued_prompt_has_nothing_between_the_newest_title_and_the_next() -> None:
    tokenizer = make_tokenizer(make_items(40))
    tokenizer.chat_template = "<|im_start|>{{ messages[0].content }}<|im_end|>you"
    shape = {"prompt": "Next?", "text_tokens": 9, "title_tokens": 9}
    prompts = Prompts.of(tokenizer, _items(("drum", "")), **shape, continued=True)
    assert tokenizer.decode(prompts.question(np.array([0]))) == "<|im_start|>Next?\nTitle: drum\nTitle:"


def test_joined_pieces_are_the_tokens_of_the_joined_text() -> None:
    items = make_items(40)
    prompts = Prompts.of(TOKENIZER, items, prompt="What next?", text_tokens=60, title_tokens=40)
    whole = np.concatenate([prompts.question(np.arange(20)), prompts.answer(20)])
    assert whole.tolist() == TOKENIZER(TOKENIZER.decode(whole), add_special_tokens=False)["input_ids"]


def test_line_breaks_in_a_text_become_blanks() -> None:
    prompts = _prompts(("red\nlamp ", "a\n\nlamp\tof  7 parts\n"))
    told = TOKENIZER.decode(joined(prompts.lines, np.array([0])))
    assert told == "Title: red lamp\nDescription: a lamp of 7 parts\n"
    assert one_line(" a\r\nb ") == "a b"


def test_the_description_is_cut_first() -> None:
    prompts = _prompts((LONG, OTHER), text_tokens=_length(f" {LONG}") + _length("Description:") + 4)
    told = TOKENIZER.decode(joined(prompts.lines, np.array([0])))
    title, _, description = told.partition("\nDescription:")
    assert title == f"Title: {LONG}", "whole"
    assert description == f" {OTHER[:3]}\n", "a blank and three letters are four tokens"


def test_a_description_of_which_nothing_fits_is_left_out() -> None:
    room = _length(f" {LONG}") + _length("Description:")
    prompts = _prompts((LONG, OTHER), text_tokens=room)
    assert TOKENIZER.decode(joined(prompts.lines, np.array([0]))) == f"Title: {LONG}\n"


@pytest.mark.parametrize(("title_tokens", "text_tokens", "letters"), [(10, 60, 9), (40, 8, 7)])
def test_a_title_has_a_maximum_length(title_tokens: int, text_tokens: int, letters: int) -> None:
    prompts = _prompts((LONG, ""), title_tokens=title_tokens, text_tokens=text_tokens)
    assert TOKENIZER.decode(joined(prompts.lines, np.array([0]))) == f"Title: {LONG[:letters]}\n"
    answer = prompts.answer(0)
    assert len(answer) == min(title_tokens, _length(f" {LONG}")) + 1, "and the line break"


def test_a_cut_title_is_completed_if_only_one_title_begins_with_it() -> None:
    prompts = _prompts((LONG, ""), (OTHER, ""), (OTHER + "X", ""), (OTHER[:5], ""), ("drum", ""), title_tokens=8)
    assert prompts.whole == {LONG[:7]: LONG}, "two other titles begin with the same letters, and one is that short"
    same = _prompts((LONG, ""), (LONG, "again"), title_tokens=8)
    assert same.whole == {LONG[:7]: LONG}, "two items with the same title count as one title"
    shown = _prompts((LONG, ""), (LONG[:7], ""), title_tokens=8)
    assert shown.whole == {}, "a cut title that is itself a title is not completed"


def test_titles_of_items_that_are_no_candidates_change_nothing() -> None:
    known = Items(np.array(["a"]), [LONG], [""], np.array([0]))
    later = Items(np.array(["a", "b", "c"]), [LONG, LONG + "X", LONG[:7]], [""] * 3, np.array([0]))
    shape = {"prompt": "", "text_tokens": 60, "title_tokens": 8}
    assert Prompts.of(TOKENIZER, later, **shape).whole == Prompts.of(TOKENIZER, known, **shape).whole != {}


@pytest.mark.parametrize(
    ("text", "title"),
    [(" red lamp\n", "red lamp"), (" red lamp\nTitle: drum", "red lamp"), ("\n drum", "drum"), (" \n", ""), ("", "")],
)
def test_a_title_ends_at_the_line_break(text: str, title: str) -> None:
    assert as_title(TOKENIZER, TOKENIZER(text, add_special_tokens=False)["input_ids"]) == title


def test_special_tokens_are_no_part_of_a_title() -> None:
    assert as_title(TOKENIZER, TOKENIZER(" drum<|endoftext|>")["input_ids"]) == "drum"


def test_names_of_special_tokens_are_text() -> None:
    special = [TOKENIZER.eos_token_id, *TOKENIZER.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])]
    title = "red <|endoftext|> lamp <|im_end|>"
    prompts = _prompts((title, "a <|im_start|> lamp"), ("drum", ""))
    assert not np.isin(special, prompts.question(np.array([0, 1]))).any()
    assert as_title(TOKENIZER, prompts.answer(0).tolist()) == title
    assert TOKENIZER("<|im_end|>", add_special_tokens=False)["input_ids"] == special[-1:], "the frame has them still"
