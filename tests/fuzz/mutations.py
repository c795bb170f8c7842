"""Hostile variants of a file: of its tree, if it is JSON or YAML, and of its bytes. The same seed gives the same variants."""

import copy
import json
import random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1e308,
        -0.0,
        2**31,
        2**63,
        10**30,
        "",
        "x",
        " ",
        "\0",
        "\ud800",
        "..",
        "/",
        "../../etc/passwd",
    ),
    *(
        "[",
        "(",
        "(a|a)*$",
        "{{7*7}}",
        "\x1b[31m",
        "99999999999999999999",
        "nan",
        [],
        [[]],
        {},
        [None],
        ["x"],
        {"x": None},
    ),
    *({"path": 5}, [1, [2, [3]]], "a" * 5000, float("inf"), float("nan")),
)
DEEP = "[" * 100_000
LONG_NUMBER = "9" * 5000


def variant(content: bytes, draw: random.Random) -> bytes:
    """One variant of a file's content."""
    if draw.random() < 0.8:
        try:
            tree = json.loads(content)
        except ValueError:
            return _of_lines(content, draw)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            tree = _of_tree(tree, draw)
        return json.dumps(tree).encode()
    return _of_bytes(content, draw)


def _of_tree(tree: Any, draw: random.Random) -> Any:
    """The tree with one value changed, removed, repeated under another key, or put in the place of another."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places or draw.random() < 0.03:
        return draw.choice(HOSTILE)
    holder, key = draw.choice(places)
    change = draw.randrange(6)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, dict):
        holder[draw.choice(["", "x", "name", "path", "\x1b", *holder])] = holder.pop(key)
    elif change == 2:
        other, place = draw.choice(places)
        holder[key] = copy.deepcopy(other[place])
    elif change == 3:
        holder[key] = [holder[key]]
    else:
        holder[key] = draw.choice(HOSTILE)
    return tree


def _places(tree: Any) -> Any:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])


def _of_bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    change = draw.randrange(5)
    place = draw.randrange(len(changed) or 1)
    if change == 0:
        return bytes(changed[:place])
    if change == 1:
        changed[place : place + 1] = bytes([draw.randrange(256)])
    elif change == 2:
        end = draw.randrange(place, len(changed) or 1)
        changed[place:place] = changed[place:end]
    elif change == 3:
        changed[place:place] = draw.choice((DEEP, LONG_NUMBER, "\ud800"[:0] + "\x00", "- ")).encode()
    else:
        return draw.choice((DEEP.encode(), LONG_NUMBER.encode(), b"", b"\xff\xfe", b"null", b"[]", b"{}", b'""'))
    return bytes(changed)


def _of_lines(content: bytes, draw: random.Random) -> bytes:
    """A text of lines `key = value` or `key: value` with another value, a line less, or two lines exchanged."""
    lines = content.decode(errors="replace").splitlines()
    place, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    change = draw.randrange(4)
    if change == 0:
        del lines[place]
    elif change == 1:
        lines[place], lines[other] = lines[other], lines[place]
    else:
        sign = "=" if "=" in lines[place] else ":"
        key, found, _ = lines[place].partition(sign)
        value = json.dumps(draw.choice(HOSTILE)) if draw.random() < 0.9 else LONG_NUMBER
        lines[place] = f"{key}{found or sign} {value}"
    return "\n".join(lines).encode(errors="replace")
