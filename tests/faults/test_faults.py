"""The short form of `make faults`: some of its faults once, on a single cell."""

from pathlib import Path

import pytest

from faults.disturbances import can_mount, damaged, full_disk, undisturbed, worker_killed
from faults.disturbing import Tally, attempt
from faults.victims import Cells


def test_the_next_run_mends_what_was_killed_full_or_damaged(tmp_path: Path) -> None:
    victim = Cells.make(tmp_path, ("corpus/garden",))
    undisturbed(victim)
    assert victim.expected
    assert damaged(victim, min(victim.expected), "flipped") == []
    tally = Tally()
    attempt(victim, "worker_killed", lambda: worker_killed(victim, 0), tally)
    assert tally.lost == {"worker_killed": 0}
    if not can_mount():
        pytest.skip("no file system can be mounted here")
    victim.place = tmp_path / "disk" / "runs"
    assert full_disk(victim, 1 << 13) == []


def test_a_table_counts_attempts_whatever_each_has_lost(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.note("run: killed", ["a file", "another file"])
    tally.note("run: killed", [])
    tally.note("run: stopped", [])
    assert tally.table().splitlines()[2:] == ["| run: killed | 2 | 1 | 1 |", "| run: stopped | 1 | 1 | 0 |"]
    assert "LOST run: killed: another file" in capsys.readouterr().err
