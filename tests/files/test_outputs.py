"""No command writes to a file that it reads."""

from pathlib import Path

import pytest

from mmgrid.files.outputs import check_not_read


def test_a_file_that_is_read_is_no_output(tmp_path: Path) -> None:
    read, link, other = tmp_path / "read", tmp_path / "link", tmp_path / "other"
    read.write_text("x")
    link.symlink_to(read)
    other.write_text("x")
    check_not_read(other, [read, None, tmp_path / "missing"])
    check_not_read(tmp_path / "missing", [read])
    for name in (read, link, tmp_path / "sub" / ".." / "read"):
        if name.parent.exists():
            with pytest.raises(FileExistsError, match="is the file that is read"):
                check_not_read(name, [None, read])
