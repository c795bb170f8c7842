"""`import mmgrid` and the Auto classes of Transformers: in any order of imports, and with any plug-ins."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from kits.small import child_environment, make_backbone, make_tokenizer, semb_recipe
from mmgrid import auto_classes
from mmgrid.paradigms.registry import PARADIGMS
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.plugins import PluginError
from mmgrid.testing.data import make_items

CONFIG = "from transformers import AutoConfig\nconfig = AutoConfig.from_pretrained(folder)\n"
MODEL = "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder)\nconfig = model.config\n"
ORDERS = {
    "mmgrid first": f"import mmgrid\nassert 'transformers' not in sys.modules\n{MODEL}",
    "mmgrid first, the config alone": f"import mmgrid\n{CONFIG}",
    "Transformers first": f"import transformers\nimport mmgrid\n{MODEL}",
    "an Auto class first": f"from transformers import AutoModel\nimport mmgrid\n{MODEL}",
    "a config that imports the Auto classes": f"import mmgrid\nfrom transformers import LlavaConfig\n{CONFIG}",
    "a module of ours that imports Transformers": f"import mmgrid.backbone.load\n{MODEL}",
    "a reload, and a second import": f"""
import importlib, mmgrid
importlib.reload(mmgrid)
{CONFIG}
for name in [name for name in sys.modules if name.partition(".")[0] == "mmgrid"]:
    del sys.modules[name]
import mmgrid
{MODEL}
""",
}
TOY = """
import sys
from mmgrid.paradigms import ParadigmSpec

class ToySpec(ParadigmSpec):
    name = "toy"
    implementation = "toy_paradigm:Toy"
    model_type = "toy"
    auto_classes = "toy_model"

class BrokenSpec(ToySpec):
    name = "broken"
    auto_classes = "broken_model"

SPEC, BROKEN = ToySpec(), BrokenSpec()
"""
TOY_MODEL = """
from transformers import AutoConfig, PreTrainedConfig

class ToyConfig(PreTrainedConfig):
    model_type = "toy"

AutoConfig.register("toy", ToyConfig)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of semb."""
    found = tmp_path_factory.mktemp("semb")
    tokenizer = make_tokenizer(make_items(40))
    paradigm, model = Semb.create(semb_recipe(), make_backbone(tokenizer), tokenizer, seed=0)
    paradigm.save(model, found)
    return found


def in_a_process(code: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `code`, in which `folder` is the checkpoint's, in a new process."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nfolder = sys.argv[1]\n{code}", str(folder), *arguments],
        env=child_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )


# Each order in a child of one process that has imported torch: that takes the most time, and changes nothing.
IN_CHILDREN = """
import json, os, torch
assert not any(name.partition(".")[0] in ("mmgrid", "transformers") for name in sys.modules)
for order, code in json.loads(sys.argv[2]).items():
    pid = os.fork()
    if not pid:
        with open(f"{sys.argv[3]}/{order}", "w") as errors:
            os.dup2(errors.fileno(), 2)
        exec(code)
        sys.stderr.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, order
"""
CHECK = """
assert type(config).__name__ == "SembConfig", config
assert sum(type(finder).__module__ == "mmgrid.auto_classes" for finder in sys.meta_path) == 1
"""


def test_the_architectures_are_known_whatever_is_imported_first(folder: Path, tmp_path: Path) -> None:
    codes = {order: code + CHECK for order, code in ORDERS.items()}
    done = in_a_process(IN_CHILDREN, folder, json.dumps(codes), str(tmp_path))
    errors = {order: (tmp_path / order).read_text() for order in ORDERS if (tmp_path / order).exists()}
    assert done.returncode == 0, (done.stderr, errors)
    assert list(errors) == list(ORDERS)
    assert not [text for text in errors.values() if "mmgrid" in text]  # no warning


def test_after_the_first_call_nothing_of_transformers_is_changed(folder: Path) -> None:
    code = f"""
import inspect
from transformers import AutoConfig
before = [vars(AutoConfig)[name] for name in ("from_pretrained", "for_model")]
import mmgrid
assert inspect.signature(AutoConfig.from_pretrained)
{CONFIG}
assert [vars(AutoConfig)[name] for name in ("from_pretrained", "for_model")] == before
module = sys.modules[AutoConfig.__module__]
assert module.__loader__ is module.__spec__.loader
assert type(module.__loader__).__module__ != "mmgrid.auto_classes"
"""
    done = in_a_process(code, folder)
    assert done.returncode == 0, done.stderr


def test_a_plug_in_s_architecture_is_known_and_a_broken_one_is_no_obstacle(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "toy_spec.py").write_text(TOY)
    (tmp_path / "toy_model.py").write_text(TOY_MODEL)
    (tmp_path / "broken_model.py").write_text("raise RuntimeError('out of order')")
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    entries = ["broken = toy_spec:BROKEN", "toy = toy_spec:SPEC", "absent = toy_spec:ABSENT"]
    (info / "entry_points.txt").write_text("\n".join(["[mmgrid.paradigms]", *entries]) + "\n")
    path = f"{tmp_path}:{child_environment()['PYTHONPATH']}"
    code = f"import mmgrid\n{CONFIG}assert type(AutoConfig.for_model('toy')).__module__ == 'toy_model'"
    done = in_a_process(code, folder, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "broken_model cannot be imported (RuntimeError: out of order)" in done.stderr
    assert "'absent'" in done.stderr


def test_without_entry_points_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise PluginError("no paradigm is installed")

    monkeypatch.setattr(PARADIGMS, "working", fail)
    with caplog.at_level(logging.WARNING):
        auto_classes.register()
    assert "no paradigm is installed" in caplog.text


def test_a_module_without_auto_config_is_left_alone() -> None:
    auto_classes.prepare(type(sys)("configuration_auto"))
