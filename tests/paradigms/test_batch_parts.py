"""The folder of a batch that is not complete: kept while something in it can be used again."""

from pathlib import Path

import polars as pl
import pytest

from mmgrid.paradigms.batch_parts import part_of, working, write_part


def _stopped_after(blocks: int, parts: Path) -> None:
    with working(parts, parts.with_suffix(""), {"k": 1}):
        for number in range(blocks):
            write_part(part_of(parts, number), pl.DataFrame({"user_id": ["a"]}))
        raise KeyboardInterrupt


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_batch_that_ends_before_its_first_block_leaves_nothing(tmp_path: Path, blocks: int) -> None:
    parts = tmp_path / "best.parquet.parts"
    with pytest.raises(KeyboardInterrupt):
        _stopped_after(blocks, parts)
    assert parts.exists() == bool(blocks)
