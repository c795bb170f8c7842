"""Every code block of the documentation runs, or says why it does not.

Commands of `mmgrid` and Python run in the scene of the tests, in the order of the page. Whole grid files, recipes and
mergekit files are read; parts of them are read as parts of a whole.
"""

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kits.tiny_grid import TEXT, Built, mmgrid
from mmgrid.grid.file.load import load_grid
from mmgrid.merging.mergekit import read_mergekit
from mmgrid.merging.mergekit.meanings import METHODS
from mmgrid.merging.plan.recipe import MergeRecipe
from pages.blocks import PAGES, ROOT, Block, blocks_of
from pages.scene import Scene, names_of, set_scene

pytestmark = pytest.mark.slow

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
WITH_LONG_BLOCKS = [page for page in PAGES if any(block.long for block in blocks_of(page))]
WITH_BLOCKS = [page for page in PAGES if page not in TUTORIALS and any(block.runs for block in blocks_of(page))]


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


@pytest.mark.long
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(page)
    assert all(block.runs and not block.long for block in blocks)
    run_all(blocks, page, Scene(tmp_path, {}), {"__name__": "__main__"})


def test_the_table_of_mergekits_methods_is_that_of_the_code() -> None:
    script = runpy.run_path(str(ROOT / "docs/mergekit_table.py"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page == script["with_table"](page), "run: python docs/mergekit_table.py"
    rest = page.partition(script["END"])[2]
    for method in METHODS.values():
        for parameter in method.parameters:
            assert f"`{parameter.name}" in rest, f"the page does not say what {parameter.name} becomes"


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run(page: Path, scene: Scene) -> None:
    blocks = [block for block in blocks_of(page) if block.runs and not block.long]
    run_all(blocks, page, scene, names_of(scene) if has_python(blocks) else {})


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_LONG_BLOCKS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_long_blocks_of_a_page_run(page: Path, scene: Scene) -> None:
    blocks = [block for block in blocks_of(page) if block.runs]
    run_all(blocks, page, scene, names_of(scene) if has_python(blocks) else {})


def has_python(blocks: list[Block]) -> bool:
    return any(block.language == "python" and not block.file for block in blocks)


def run_all(blocks: list[Block], page: Path, scene: Scene, names: dict[str, Any]) -> None:
    """Runs blocks in their order; an error names the page and the line."""
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
            type_in(scene.says(command), scene.folder)
    elif block.language == "python" and not block.file:
        remove_outputs(text)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(text, f"line {block.line}", "exec"), names)
    elif block.language == "toml" and not (scene.folder / "site").exists():  # this process knows no new plug-ins
        read_toml(text, scene.folder)
    elif block.language == "yaml":
        read_yaml(text, scene.folder)
    elif block.language == "json":
        json.loads(text)


def type_in(command: str, folder: Path) -> None:
    """Runs a command line; those of unknown programs need the mark `not run`.

    `pip install -e .` installs into `site`, below the folder; from then on commands run in processes that find it there.
    """
    program, *arguments = shlex.split(command)
    site = folder / "site"
    if (program, *arguments) == ("pip", "install", "-e", "."):
        offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
        in_a_process("pip", "install", *offline, "--target", site, ".")
    elif site.exists():
        assert program in ("mmgrid", "pytest"), program
        in_a_process(*(("mmgrid",) if program == "mmgrid" else ("pytest", "-q")), *arguments, site=site)
    else:
        assert program == "mmgrid", f"{program} is not run here: say why by <!-- not run: REASON -->"
        remove_outputs(command)
        answer = mmgrid(*arguments)
        assert answer.code == 0, f"{command}\n{answer.out}{answer.err}"


def in_a_process(module: str, *arguments: object, site: Path | None = None) -> None:
    """`python -m MODULE ARGUMENTS`, with the packages of `site`."""
    path = os.pathsep.join(map(str, filter(None, (site, os.environ.get("PYTHONPATH")))))
    words = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{module} {arguments}\n{done.stdout}{done.stderr}"


def remove_outputs(text: str) -> None:
    """Removes what an earlier block wrote to the same place, as pages show several ways to one thing."""
    if re.search(r"mmgrid merge|\bmerge\(", text) and not re.search("verify|--plan", text):
        for name in ("merged", "OUT", "models/merged"):
            if name in text:
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
        if "checkpoints" in tree:
            whole["data"]["domains"] += sorted({entry["domain"] for entry in tree["checkpoints"]})
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
