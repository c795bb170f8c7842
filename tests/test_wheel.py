"""The wheel alone is enough: what the package reads is in it, and nothing needs the clone."""

import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import mmgrid

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    package = ROOT / "src"
    files = [path for path in (package / "mmgrid").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    inside = {path.relative_to(package).as_posix() for path in files}
    assert inside >= {"mmgrid/py.typed", "mmgrid/grid/file/template.toml", "mmgrid/reporting/page/templates/style.css"}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == inside


def test_the_demonstration_is_in_the_wheel_as_a_file(wheel: zipfile.ZipFile) -> None:
    assert wheel.read("mmgrid/grid/file/demo.toml") == (ROOT / "grids" / "demo.toml").read_bytes()


def test_the_version_comes_from_the_package(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    about = Parser().parsestr(wheel.read(name).decode())
    assert about["Version"] == mmgrid.__version__
    urls = dict(url.split(", ", 1) for url in about.get_all("Project-URL", []))
    assert urls["Repository"].startswith("https://")
