"""Names from outside become paths that stay within their folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgrid.files import file_stem, inside, safe_segment


@pytest.mark.parametrize("name", ["books", "Cell_Phones+Books=0.5,λ", "a.b-c", "本"])
def test_readable_names_stay(name: str) -> None:
    assert safe_segment(name) == name


def test_other_characters_become_dashes() -> None:
    assert safe_segment("Health & Household: 5%") == "Health---Household--5-"


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "a\0b", "a\u200bb", "???", "x" * 121, "本" * 100]
)
def test_dangerous_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        safe_segment(name)


@given(st.text())
def test_a_safe_segment_is_one_path_part_and_idempotent(text: str) -> None:
    try:
        segment = safe_segment(text)
    except ValueError:
        return
    assert Path(segment).parts == (segment,)
    assert safe_segment(segment) == segment
    assert len(segment.encode()) < 255


@pytest.mark.parametrize("relative", ["", ".", "..", "a/../../b", "/etc/passwd", "a\\..\\b", "a\0"])
def test_inside_refuses_paths_that_leave_the_folder(tmp_path: Path, relative: str) -> None:
    with pytest.raises(ValueError):
        inside(tmp_path, relative)


def test_inside_refuses_links_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="symbolic link"):
        inside(tmp_path / "root", "link/file")
    assert inside(tmp_path / "root", "link/file", allow_links=True) == tmp_path / "root" / "link" / "file"
    assert inside(tmp_path / "root", "not/yet/there") == tmp_path / "root" / "not" / "yet" / "there"


@pytest.mark.parametrize(
    "text",
    [
        "/home/me/index",
        "../../x",
        "..",
        ".",
        "",
        ".bashrc",
        "a\0b",
        "\x1b[2J",
        "x [/y]",
        "C:\\x",
        "日本" * 200,
        "//",
        "é",
    ],
)
def test_any_text_gives_the_name_of_one_visible_file(text: str) -> None:
    stem = file_stem(text)
    assert safe_segment(stem) == stem
    assert file_stem(stem) == stem
    assert Path(stem).parts == (stem,)


def test_readable_names_of_files_stay() -> None:
    assert file_stem("demo") == "demo"
    assert file_stem("My grid, 2024") == "My-grid,-2024"
