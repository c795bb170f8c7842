"""Every code block of the documentation runs, or says why it does not.

Commands of `mmgrid` and Python run in the scene of the tests, in the order of the page. Whole grid files, recipes and
mergekit files are read; parts of them are read as parts of a whole.
"""

import contextlib
import io
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kits.tiny_grid import TEXT, Built, mmgrid
from mmgrid.grid.file.load import load_grid
from mmgrid.merging.mergekit import read_mergekit
from mmgrid.merging.plan.recipe import MergeRecipe
from pages.blocks import PAGES, ROOT, Block, blocks_of
from pages.scene import Scene, names_of, set_scene

WITH_LONG_BLOCKS = [page for page in PAGES if any(block.long for block in blocks_of(page))]
WITH_BLOCKS = [page for page in PAGES if any(block.runs for block in blocks_of(page))]


@pytest.fixture(scope="module")
def stage(studied: Built, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The scene as pages find it; each page gets a copy."""
    return set_scene(studied, tmp_path_factory.mktemp("pages") / "stage")


@pytest.fixture
def scene(stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    shutil.copytree(stage.folder, tmp_path / "scene")
    monkeypatch.chdir(tmp_path / "scene")
    monkeypatch.setenv("MMGRID_DATA", "data")
    return Scene(tmp_path / "scene", stage.words)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run(page: Path, scene: Scene) -> None:
    run_all([block for block in blocks_of(page) if block.runs and not block.long], page, scene)


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_LONG_BLOCKS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_long_blocks_of_a_page_run(page: Path, scene: Scene) -> None:
    run_all([block for block in blocks_of(page) if block.runs], page, scene)


def run_all(blocks: list[Block], page: Path, scene: Scene) -> None:
    """Runs blocks in their order; an error names the page and the line."""
    names = names_of(scene) if any(block.language == "python" for block in blocks) else {}
    for block in blocks:
        try:
            run(block, scene, names)
        except Exception as error:
            error.add_note(f"{page.relative_to(ROOT)}:{block.line}: this {block.language} block does not run")
            raise


def run(block: Block, scene: Scene, names: dict[str, Any]) -> None:
    """Does with a block what a reader does with it."""
    text = scene.says(block.text)
    if block.file:
        target = scene.folder / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    if block.language == "console":
        for command in block.commands:
            type_in(scene.says(command))
    elif block.language == "python" and not block.file:
        remove_outputs(text)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, f"line {block.line}", "exec"), names)
    elif block.language == "toml":
        read_toml(text, scene.folder)
    elif block.language == "yaml":
        read_yaml(text, scene.folder)
    elif block.language == "json":
        json.loads(text)


def type_in(command: str) -> None:
    """Runs a command line; those of other programs need the mark `not run`."""
    program, *arguments = shlex.split(command)
    assert program == "mmgrid", f"{program} is not run here: say why by <!-- not run: REASON -->"
    remove_outputs(command)
    answer = mmgrid(*arguments)
    assert answer.code == 0, f"{command}\n{answer.out}{answer.err}"


def remove_outputs(text: str) -> None:
    """Removes what an earlier block wrote to the same place, as pages show several ways to one thing."""
    if re.search(r"\bmerge\b", text) and not re.search("--verify|--plan", text):
        for name in ("merged", "OUT", "models/merged"):
            shutil.rmtree(name, ignore_errors=True)
    if found := re.fullmatch(r"mmgrid init .*?(\S+\.toml)", text):
        Path(found[1]).unlink(missing_ok=True)


def read_toml(text: str, folder: Path) -> None:
    """Reads a grid file, or a part of one in a whole one. Other files, such as `pyproject.toml`, are only parsed."""
    tree = tomllib.loads(text)
    if "project" in tree:
        return
    if "name" not in tree:
        whole = tomllib.loads(TEXT.replace('corpus = ["garden", "kitchen"]\n', ""))
        text = _toml({key: value for key, value in whole.items() if key not in tree}) + "\n" + text
    (folder / "of-a-page.toml").write_text(text)
    load_grid(folder / "of-a-page.toml")


def read_yaml(text: str, folder: Path) -> None:
    """Reads a mergekit file, or a recipe or a part of one."""
    tree = yaml.safe_load(text)
    if "merge_method" in tree:
        (folder / "of-a-page.yml").write_text(text)
        read_mergekit(folder / "of-a-page.yml")
    else:
        whole = {"method": "ties", "base": "base", "sources": [{"path": "garden"}, {"path": "kitchen"}]}
        MergeRecipe.model_validate(whole | tree)


def _toml(tree: dict[str, Any]) -> str:
    """The top-level keys of a grid file, written again."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines.append(f"{key} = {_inline(value)}")
        else:
            lines.append(f"{key} = {json.dumps(value) if not _of_tables(value) else _list(value)}")
    return "\n".join(lines)


def _of_tables(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)


def _list(value: list[Any]) -> str:
    return "[" + ", ".join(_inline(entry) for entry in value) + "]"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)
