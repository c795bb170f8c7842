"""The folder of a batch that is not complete: kept while something in it can be used again."""

import polars as pl
import pytest

from mmgrid.paradigms.batch_parts import part_of, working, write_part


@pytest.mark.parametrize("written", [0, 1])
def test_a_batch_that_ends_before_its_first_block_leaves_nothing(tmp_path, written) -> None:
    parts = tmp_path / "best.parquet.parts"
    with pytest.raises(KeyboardInterrupt), working(parts, tmp_path / "best.parquet", {"k": 1}):
        for number in range(written):
            write_part(part_of(parts, number), pl.DataFrame({"user_id": ["a"]}))
        raise KeyboardInterrupt
    assert parts.exists() == bool(written)
