"""Text from outside as a terminal may be given it."""

import json
import logging
import unicodedata

import pytest

from mmgrid.visible import VisibleFormatter, visible, visible_json, visible_lines


def _obeyed(text: str) -> list[str]:
    return [sign for sign in text if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")]


def test_no_control_character_is_left_and_each_can_be_told_apart() -> None:
    signs = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066, 0xD800, 0xDFFF)]
    shown = [visible(f"a{sign}b") for sign in signs]
    assert not _obeyed("".join(shown))
    assert len(set(shown)) == len(signs)
    assert visible("\x1b[2J\x9b\x7f\n\t\r") == r"\x1b[2J\x9b\x7f\n\t\r"
    assert visible("a\udcffb").encode() == rb"a\udcffb"


@pytest.mark.parametrize("text", ["Kettle [pack of 2]", "日本語 — “é” 👩‍🍳", "\\x1b is four letters", "שלום"])
def test_other_text_stays(text: str) -> None:
    assert visible(text) == visible_lines(text) == text


def test_messages_keep_their_lines() -> None:
    assert visible_lines("one\ntwo\r\x1b") == "one\ntwo\\r\\x1b"


def test_json_keeps_its_content() -> None:
    value = {"title\x9b": ["\x7f", "\x1b]0;x\x07", "\u202e", "\ud800", "é\n"], "n": 1}
    text = visible_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(text) == value
    assert not _obeyed(text.replace("\n", ""))
    assert "é" in text


def test_log_records_are_shown_as_messages_are() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s: gone", ("run\x1b[2J",), None)
    assert VisibleFormatter().format(record) == "run\\x1b[2J: gone"
