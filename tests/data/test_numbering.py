"""Numbers of ids agree with the texts, whatever the hashes; sorted rows are those of a stable sort."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgrid.data import numbering
from mmgrid.data.numbering import Numbered, stable_sort

IDS = st.lists(st.sampled_from(["", "a", "b", "ab", "ü", "x" * 20, "\0"]) | st.text(max_size=3), max_size=30)


@settings(deadline=None)
@given(ids=IDS, others=IDS)
def test_numbers_stand_for_the_ids(ids, others):
    column, other = (pl.Series(values, dtype=pl.String) for values in (ids, others))
    numbered = Numbered.of(column)
    assert numbered.ids.gather(numbered.rows).to_list() == ids
    assert sorted(numbered.ids.to_list()) == sorted(set(ids))
    assert dict(zip(numbered.ids.to_list(), numbered.counts().tolist(), strict=True)) == {
        name: ids.count(name) for name in ids
    }
    found = numbered.find(other)
    assert [numbered.ids[row] if row >= 0 else None for row in found.tolist()] == [
        name if name in ids else None for name in others
    ]


class OneHash(pl.Series):
    """A column whose texts have few hashes."""

    def hash(self, *args: int) -> pl.Series:
        return self.str.len_bytes().cast(pl.UInt64)


def test_ids_that_share_a_hash_stay_apart():
    ids = ["a", "b", "ab", "a", "cd"]
    numbered = Numbered.of(OneHash(ids))
    assert numbered.ids.gather(numbered.rows).to_list() == ids
    assert len(numbered.ids) == 4
    same = Numbered(OneHash(["a", "b", "ab"]), np.arange(3, dtype=np.int32))
    assert same.find(pl.Series(["ab", "z", "b"])).tolist() == [2, -1, 1]
    assert not numbering.all_distinct(pl.Series(["a", "b", "a"]))
    assert numbering.all_distinct(OneHash(["a", "b"]))


@pytest.mark.parametrize("bits", [1, 8, 61, 63, 64])
def test_rows_by_key_as_a_stable_sort_gives_them(bits):
    draw = np.random.default_rng(bits)
    few = draw.integers(0, 2**bits, 20, dtype=np.uint64, endpoint=False) if bits < 64 else draw.bytes(160)
    few = np.frombuffer(few, np.uint64) if bits == 64 else few
    near = few[:5, None] ^ np.arange(2, dtype=np.uint64)  # they differ in the last bit
    keys = draw.choice(np.concatenate([few, near.ravel()]), 500)
    order, ordered = stable_sort(keys)
    assert order.tolist() == np.argsort(keys, kind="stable").tolist()
    assert ordered.tolist() == np.sort(keys).tolist()
    assert [part.tolist() for part in stable_sort(keys[:1])] == [[0], keys[:1].tolist()]
    assert [part.tolist() for part in stable_sort(keys[:0])] == [[], []]
