"""What was mended or left out while a domain was read, so that it can be said."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmgrid.data.readers.piece import BadRows, Piece

_MOST_LISTED = 100

T = TypeVar("T")


@dataclass(eq=False)
class Repairs:
    """Collects repairs, file by file.

    skip_bad_lines: whether a line or row that cannot be read is left out; otherwise it is an error.
    bad_lines: how many were left out. listed: file, line and reason of the first of them.
    texts: kind of repair → number of texts of titles and descriptions. repeated_items: rows beyond the one that counts.
    """

    skip_bad_lines: bool = False
    bad_lines: int = 0
    listed: list[str] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)
    repeated_items: int = 0

    def skip(self, place: str, why: str) -> None:
        """Count a line that is left out."""
        self.bad_lines += 1
        if len(self.listed) < _MOST_LISTED:
            self.listed.append(f"{place}: {why}")

    def skip_rows(self, bad: BadRows) -> None:
        """Count rows that are left out."""
        rows = bad.wrong.fill_null(False).arg_true().to_list()
        shown = rows[: max(0, _MOST_LISTED - len(self.listed))]
        self.listed += [
            f"{place}: {bad.problem(row)}" for place, row in zip(bad.piece.places(shown), shown, strict=True)
        ]
        self.bad_lines += len(rows)

    def good_rows(self, piece: Piece, read: Callable[[Piece], T]) -> T:
        """What `read` makes of a piece, or of its good rows, if bad ones are to be left out."""
        while True:
            try:
                return read(piece)
            except BadRows as bad:
                if not self.skip_bad_lines:
                    raise
                self.skip_rows(bad)
                piece = bad.piece.kept(~bad.wrong.fill_null(False))

    def again(self) -> "Repairs":
        """For a second reading, or that of another file: it leaves out the same, and counts apart."""
        return Repairs(self.skip_bad_lines)

    def include(self, other: "Repairs") -> None:
        """Add what was counted apart, of a later file."""
        self.bad_lines += other.bad_lines
        self.listed += other.listed[: max(0, _MOST_LISTED - len(self.listed))]
        self.texts += other.texts
        self.repeated_items += other.repeated_items

    def summary(self) -> dict[str, Any]:
        """Plain values, for a record or for --json; without what did not occur."""
        found = {
            "bad_lines": self.bad_lines,
            "listed": self.listed,
            "texts": dict(sorted(self.texts.items())),
            "repeated_items": self.repeated_items,
        }
        return {name: value for name, value in found.items() if value}
