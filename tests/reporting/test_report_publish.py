"""The report and its figures reach their places together, and the grid's name chooses no other place."""

from dataclasses import replace
from pathlib import Path

import pytest

from kits.tiny_grid import TEXT, Built, bytes_below, mmgrid, write_grid
from mmgrid.files import DiskFull
from mmgrid.reporting import default_report, publish_report
from mmgrid.reporting.page import figure_files


@pytest.mark.parametrize("fails_at", [1, 3])
def test_a_full_disk_between_two_figures_leaves_the_earlier_report(tables, tmp_path, monkeypatch, fails_at):
    small = replace(tables, studies={})
    page, folder = tmp_path / "report.html", tmp_path / "report-figures"
    page.write_text("old")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    drawn = [0]

    def full(svg: str) -> bytes:
        drawn[0] += 1
        if drawn[0] == fails_at:
            raise OSError(28, "No space left on device")
        return b"%PDF"

    monkeypatch.setattr(figure_files.vl_convert, "svg_to_pdf", full)
    before = bytes_below(tmp_path)
    with pytest.raises(DiskFull, match="Nothing that was published has been changed"):
        publish_report(small, page, folder)
    assert bytes_below(tmp_path) == before
    drawn[0] = fails_at
    paths = publish_report(small, page, folder)
    assert all(path.is_file() for path in paths)
    assert {path.name for path in folder.iterdir()} == {"mine.txt", *(path.name for path in paths)}
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["{folder}/victim", "../victim", "sub/victim", "x [/y]", "~/victim", ".", ".victim"])
def test_a_grid_chooses_no_other_folder_for_its_report(name: str, built: Built, tmp_path: Path, monkeypatch) -> None:
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    for place in (tmp_path, here / "sub"):
        (place / "victim.html").write_text("precious")
    file = write_grid(tmp_path, TEXT.replace('"tiny"\n', f'"{name.format(folder=tmp_path)}"\n', 1))
    monkeypatch.chdir(here)
    before = bytes_below(tmp_path)
    answer = mmgrid("report", file, "--store", built.root, "--set", "merges=[]")
    assert answer.code == 0, answer.err
    made = bytes_below(tmp_path)
    assert all(made[path] == content for path, content in before.items())
    new = [Path(path) for path in made.keys() - before.keys()]
    assert {path.parts[0] for path in new} == {"here"}
    assert len([path for path in new if path.suffix == ".html" and len(path.parts) == 2]) == 1


def test_only_a_report_is_replaced_unless_the_user_names_the_file(tables, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("index.html").write_text("<!doctype html>my site")
    with pytest.raises(FileExistsError, match=r"index\.html: exists already, and is not a report"):
        default_report("index")
    publish_report(replace(tables, studies={}), default_report("demo"))
    assert default_report("demo") == Path("demo.html")
