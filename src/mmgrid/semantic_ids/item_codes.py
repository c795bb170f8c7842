"""The codes of a domain's items, and how they are assigned, phase by phase if the catalogue is open.

Shapes: N items, D width, L levels, C codes of a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmgrid.files import write_bytes
from mmgrid.semantic_ids.codes_report import CodesReport, report
from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.collisions import Collisions, count, separate
from mmgrid.semantic_ids.item_vectors import checked
from mmgrid.semantic_ids.quantiser import Codebook

CODES_FILE = "codes.safetensors"
NO_CODE = -1


@dataclass(frozen=True, eq=False)
class ItemCodes:
    """codes: int32 [N, L], rows as in the domain's items; a row of -1 for an item without a code.

    codes_per_level: C; codes lie in 0 … C - 1.
    """

    codes: Codes
    codes_per_level: int

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.ndim != 2 or codes.shape[1] == 0 or codes.dtype != np.int32:
            raise ValueError(f"item codes: {codes.dtype} {codes.shape}; expected int32 [items, levels]")
        bad = np.flatnonzero(((codes < NO_CODE) | (codes >= self.codes_per_level)).any(axis=1))
        if bad.size:
            raise ValueError(
                f"item codes: {bad.size} of {len(codes)} items have codes outside 0 to {self.codes_per_level - 1}, "
                f"first item {bad[0]}: {codes[bad[0]].tolist()}"
            )
        absent = codes == NO_CODE
        half = np.flatnonzero(absent.any(axis=1) & ~absent.all(axis=1))
        if half.size:
            raise ValueError(
                f"item codes: {half.size} of {len(codes)} items have -1 on some levels only, first item {half[0]}: "
                f"{codes[half[0]].tolist()}; -1 on all levels is an item without a code"
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        return self.codes.shape[1]

    def has_code(self) -> npt.NDArray[np.bool_]:
        """bool [N]: whether each item has a code."""
        return self.codes[:, 0] != NO_CODE

    def collisions(self) -> Collisions:
        """Among the items that have a code."""
        return count(self.codes[self.has_code()], self.codes_per_level)

    def save(self, folder: Path) -> None:
        """Write `codes.safetensors` into a folder that is there."""
        metadata = {"codes_per_level": str(self.codes_per_level)}
        write_bytes(folder / CODES_FILE, save({"codes": np.ascontiguousarray(self.codes)}, metadata))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From `codes.safetensors`. FileNotFoundError or ValueError if it is missing or damaged."""
        path = folder / CODES_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; assign the items' codes first")
        try:
            with safe_open(path, framework="np") as file:
                return cls(file.get_tensor("codes"), int((file.metadata() or {})["codes_per_level"]))
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read: {error}; assign the items' codes again") from None


def assign(
    codebook: Codebook, vectors: npt.NDArray[np.floating], groups: Sequence[npt.NDArray[np.integer]]
) -> tuple[ItemCodes, CodesReport]:
    """Codes for the items of all groups, and how good they are.

    A group's codes depend on its own vectors and those of the groups before it: what is appended later changes no
    code. The codebook is to be fitted on the first group alone, or on those of several domains, one after the other.

    Args:
        vectors: [N, D], of all items.
        groups: item rows, oldest group first; a closed catalogue has one group of all rows, an open one a group per
            phase in which items appear. Items in no group get no code.

    Raises:
        ValueError: an item row is not there or in two groups, or the vectors do not fit the codebook.
    """
    vectors = checked(vectors, codebook.width)
    rows_of = _checked_groups(groups, len(vectors))
    encoded = np.full((len(vectors), codebook.levels), NO_CODE, np.int32)
    final = encoded.copy()
    taken = np.empty((0, codebook.levels), np.int32)
    for place, rows in enumerate(rows_of):
        own = vectors if len(rows) == len(vectors) else vectors[rows]  # all of them need no copy
        encoded[rows] = codebook.encode(own)
        codes = codebook.spread(own, encoded[rows]) if place == 0 else encoded[rows]
        final[rows] = separate(codebook, own, codes, taken)
        taken = np.concatenate([taken, final[rows]])
    codes = ItemCodes(final, codebook.codes)
    some = codes.has_code()
    missing = int((~some).sum())
    have = vectors[some] if missing else vectors
    return codes, report(codebook, have, encoded[some], final[some], missing)


def _checked_groups(groups: Sequence[npt.NDArray[np.integer]], n_items: int) -> list[npt.NDArray[np.int64]]:
    """Each group's rows, sorted."""
    sorted_groups = []
    group_of = np.full(n_items, -1, np.int64)
    for place, group in enumerate(groups):
        rows = np.sort(np.asarray(group).astype(np.int64))
        if rows.size and (rows[0] < 0 or rows[-1] >= n_items):
            wrong = rows[0] if rows[0] < 0 else rows[-1]
            raise ValueError(f"groups[{place}]: item row {wrong}; there are vectors for {n_items} items")
        twice = rows[:-1][np.diff(rows) == 0]
        if twice.size:
            raise ValueError(f"groups[{place}]: {twice.size} item rows are repeated, first {twice[0]}")
        again = rows[group_of[rows] >= 0]
        if again.size:
            raise ValueError(
                f"groups[{place}]: {again.size} item rows are in an earlier group, too, first row {again[0]} in "
                f"groups[{group_of[again[0]]}]; an item appears once"
            )
        group_of[rows] = place
        sorted_groups.append(rows)
    return sorted_groups
