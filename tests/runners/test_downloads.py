"""Models on the Hub are fetched before the workers start, with the bars of the Hub's library in a terminal."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kits.hub_server import Hub, running_hub
from kits.tiny_grid import TEXT, cells_of, write_grid
from kits.tiny_llama import tiny_llama
from mmgrid.cli import main
from mmgrid.files import HubName, model_folder
from mmgrid.grid.file.load import Grid, load_grid
from mmgrid.runners import fetch_models

PRETRAINED = (
    TEXT[: TEXT.index("[backbone]")]
    + """[backbone]
kind = "pretrained"
path = "org/tiny"

[item_vectors]
source = "sentence-transformers"
path = "org/embedder"

"""
    + TEXT[TEXT.index("[paradigms.semb]") :]
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(tmp_path / "cache", monkeypatch) as server:
        yield server


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return load_grid(write_grid(tmp_path, PRETRAINED))


def test_what_the_cells_need_is_fetched_and_nothing_else(hub: Hub, grid: Grid, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny_llama(tmp_path / "model", 0))
    cells = cells_of(grid)
    assert fetch_models([cell for cell in cells if cell.kind == "corpus"], grid) == []
    assert hub.asked == []
    assert fetch_models(cells, grid) == [HubName("org/tiny")]
    assert (model_folder(HubName("org/tiny")) / "config.json").is_file()


def test_a_model_that_is_not_there_is_left_to_its_cell(hub: Hub, grid: Grid) -> None:
    assert fetch_models(cells_of(grid), grid) == []


def test_the_parts_of_an_embedding_model_are_fetched(hub: Hub) -> None:
    hub.add("org/embedder", {"config.json": b"{}", "1_Pooling/config.json": b"{}", "onnx/model.onnx": b"0"})
    name = HubName("org/embedder")
    assert not (model_folder(name) / "1_Pooling").exists()
    folder = model_folder(name, parts=True)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        "config.json",
        "1_Pooling/config.json",
    }


def test_bars_of_downloads_are_not_switched_off_with_the_others(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("org/tiny", tiny_llama(tmp_path / "model", 0))
    monkeypatch.setenv("TQDM_DISABLE", "1")  # as the command line sets it
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    model_folder(HubName("org/tiny"))
    assert "Fetching" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_commands_show_bars_of_downloads_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    seen: dict[str, str | None] = {}

    def app(**settings: object) -> int:
        seen["bars"] = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
        return 0

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    monkeypatch.setattr(main, "_part_for", lambda words: app)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    with pytest.raises(SystemExit):
        main.main()
    assert seen["bars"] == (None if terminal else "1")
