"""The codes of a domain's items, and their assignment: at once, or phase by phase for an open catalogue.

Shapes: N items, D width, L levels, C codes of a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from mmgrid.files import write_bytes
from mmgrid.files.foreign import MALFORMED
from mmgrid.merging.models.header import plan_header
from mmgrid.semantic_ids.codes_report import CodesReport, codes_report
from mmgrid.semantic_ids.codewords import Codes
from mmgrid.semantic_ids.collisions import Collisions, count_collisions, resolve_collisions
from mmgrid.semantic_ids.item_vectors import check_vectors
from mmgrid.semantic_ids.quantiser import Codebook

CODES_FILE = "codes.safetensors"
NO_CODE = -1


@dataclass(frozen=True, eq=False)
class ItemCodes:
    """codes: int32 [N, L], in the order of the domain's items; a row of -1 marks an item without a code.

    codes_per_level: C; codes are 0 … C - 1.
    digest: digest of the artefact that the codes belong to, such as a checkpoint's token rows; empty if unspecified.
    """

    codes: Codes
    codes_per_level: int
    digest: str = ""

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
                f"{codes[half[0]].tolist()}; an item without a code has -1 on all levels"
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        return self.codes.shape[1]

    def has_code(self) -> npt.NDArray[np.bool_]:
        """bool [N]: whether each item has a code."""
        return self.codes[:, 0] != NO_CODE

    def first_alike(self, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """For each item the first candidate with the same code, or the item itself if none has it: int64 [N]."""
        _, code = np.unique(self.codes, axis=0, return_inverse=True)
        first = np.full(int(code.max(initial=-1)) + 1, -1, np.int64)
        first[code[candidates[::-1]]] = candidates[::-1]  # the first one is written last
        return np.where(first[code] >= 0, first[code], np.arange(len(code)))

    def collisions(self) -> Collisions:
        """The collisions among the items that have a code."""
        return count_collisions(self.codes[self.has_code()], self.codes_per_level)

    def save(self, place: Path) -> None:
        """Write `codes.safetensors` into an existing folder, or to `place` itself if it ends in `.safetensors`."""
        metadata = {"codes_per_level": str(self.codes_per_level)} | ({"digest": self.digest} if self.digest else {})
        header, _ = plan_header({"codes": ("int32", self.codes.shape)}, metadata)  # safetensors' own has no order
        write_bytes(_file(place), header + self.codes.tobytes())

    @classmethod
    def load(cls, place: Path) -> Self:
        """Read a folder with `codes.safetensors`, or a file `*.safetensors`.

        Raises FileNotFoundError if it is missing, ValueError if it is damaged.
        """
        path = _file(place)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; assign the items' codes first")
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                return cls(file.get_tensor("codes"), int(about["codes_per_level"]), about.get("digest", ""))
        except (SafetensorError, *MALFORMED) as error:
            raise ValueError(f"{path}: cannot be read: {error}; assign the items' codes again") from None


def _file(place: Path) -> Path:
    return place if place.suffix == ".safetensors" else place / CODES_FILE


def assign_codes(
    codebook: Codebook, vectors: npt.NDArray[np.floating], groups: Sequence[npt.NDArray[np.integer]]
) -> tuple[ItemCodes, CodesReport]:
    """Codes for the items of all groups, and a report on their quality.

    A group's codes depend on its own vectors and on earlier groups only, so appending a group changes no code. Fit the
    codebook on the first group alone (or on the first groups of several domains, concatenated).

    Args:
        vectors: [N, D], of all items.
        groups: item rows, oldest group first. A closed catalogue has one group of all rows, an open one a group per
            phase in which items appear. Items in no group get no code.

    Raises:
        ValueError: an item row is out of range or in two groups, or the vectors do not fit the codebook.
    """
    vectors = check_vectors(vectors, codebook.width)
    rows_of = _checked_groups(groups, len(vectors))
    encoded = np.full((len(vectors), codebook.levels), NO_CODE, np.int32)
    final = encoded.copy()
    taken = np.empty((0, codebook.levels), np.int32)
    for place, rows in enumerate(rows_of):
        own = vectors if len(rows) == len(vectors) else vectors[rows]  # avoids a copy
        encoded[rows] = codebook.encode(own)
        codes = codebook.reassign_collisions(own, encoded[rows]) if place == 0 else encoded[rows]
        final[rows] = resolve_collisions(codebook, own, codes, taken)
        taken = np.concatenate([taken, final[rows]])
    codes = ItemCodes(final, codebook.codes)
    some = codes.has_code()
    missing = int((~some).sum())
    have = vectors[some] if missing else vectors
    return codes, codes_report(codebook, have, encoded[some], final[some], missing)


def _checked_groups(groups: Sequence[npt.NDArray[np.integer]], n_items: int) -> list[npt.NDArray[np.int64]]:
    """Each group's rows, sorted."""
    sorted_groups = []
    group_of = np.full(n_items, -1, np.int64)
    for place, group in enumerate(groups):
        rows = np.sort(np.asarray(group).astype(np.int64))
        if rows.size and (rows[0] < 0 or rows[-1] >= n_items):
            wrong = rows[0] if rows[0] < 0 else rows[-1]
            raise ValueError(
                f"groups[{place}]: item row {wrong} is out of range; there are vectors for {n_items} items"
            )
        twice = rows[:-1][np.diff(rows) == 0]
        if twice.size:
            raise ValueError(f"groups[{place}]: {twice.size} item rows are repeated, first {twice[0]}")
        again = rows[group_of[rows] >= 0]
        if again.size:
            raise ValueError(
                f"groups[{place}]: {again.size} item rows are also in an earlier group, first row {again[0]} in "
                f"groups[{group_of[again[0]]}]; list each item once"
            )
        group_of[rows] = place
        sorted_groups.append(rows)
    return sorted_groups
