"""The files of MovieLens 100K, 1M and 10M: they have no line of names, no quotes, and letters of latin-1 or UTF-8."""

import codecs
from pathlib import Path

from mmgrid.data.readers.unpacking import Unpacked

FILES = {
    "ratings.dat": ("::", ("user_id", "item_id", "rating", "timestamp")),
    "movies.dat": ("::", ("item_id", "title", "genres")),
    "u.data": ("\t", ("user_id", "item_id", "rating", "timestamp")),
    "u.item": ("|", ("item_id", "title", "release_date", *(f"#{place}" for place in range(4, 25)))),
}
"""Name of a file → what separates its values, and its columns."""
_AT_ONCE = 1 << 20


def is_utf8(path: Path) -> bool:
    """Whether a whole file is text in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with Unpacked(path) as stream:
        while True:
            data = stream.read(_AT_ONCE, 1)
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError:
                return False
            if not data:
                return True
