"""The chat frame of a question: from the chat template, or a line break."""

import pytest

from kits.small import make_tokenizer
from mmgrid.paradigms.shared.chat import Chat
from mmgrid.testing.data import make_items

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think></think>{% endif %}"
    "{% endif %}"
)


@pytest.fixture
def tokenizer():
    return make_tokenizer(make_items(40))


def test_without_a_template_a_question_ends_with_a_line_break(tokenizer) -> None:
    chat = Chat.of(tokenizer)
    assert chat.before == ()
    assert tokenizer.decode(chat.after) == tokenizer.decode(chat.end) == "\n"


def test_a_template_puts_the_question_into_one_user_turn_without_thinking(tokenizer) -> None:
    tokenizer.chat_template = TEMPLATE
    chat = Chat.of(tokenizer)
    assert tokenizer.decode(chat.before) == "<|im_start|>user\n"
    assert tokenizer.decode(chat.after) == "<|im_end|>\n<|im_start|>assistant\n<think></think>"
    assert tokenizer.decode(chat.end) == "\n"
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert chat.before[0] == start, "special tokens are single tokens"
    assert chat.after[0] == end


def test_the_frame_makes_the_tokens_of_the_whole_conversation(tokenizer) -> None:
    tokenizer.chat_template = TEMPLATE
    chat, question = Chat.of(tokenizer), "red lamp\nblue drum"
    turn = [{"role": "user", "content": question}]
    whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    framed = [*chat.before, *tokenizer(question)["input_ids"], *chat.after]
    assert framed == tokenizer(whole, add_special_tokens=False)["input_ids"]
