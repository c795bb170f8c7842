"""The short form of `make faults`: some of its faults once, on a single cell."""

from pathlib import Path

import pytest

from faults.disturbing import can_mount, damaged, full_disk, killed, undisturbed
from faults.victims import Cells


def test_the_next_run_mends_what_was_killed_full_or_damaged(tmp_path: Path) -> None:
    victim = Cells.make(tmp_path, ("corpus/garden",))
    seconds = undisturbed(victim)
    assert victim.expected
    assert killed(victim, 0.8 * seconds, "the main process") == []
    assert damaged(victim, min(victim.expected), "flipped") == []
    if not can_mount():
        pytest.skip("no file system can be mounted here")
    victim.place = tmp_path / "disk" / "runs"
    assert full_disk(victim, 1 << 13) == []
