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

pytestmark = pytest.mark.slow

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


# Each code in a child of one process that has imported what Transformers imports: that takes the most time, and changes
# nothing.
IN_CHILDREN = """
import json, os, sys, traceback
import accelerate, datasets, pandas, scipy.stats, sklearn.metrics, tokenizers, torch._dynamo, torch.distributed.tensor
assert not any(name.partition(".")[0] in ("mmgrid", "transformers") for name in sys.modules)
folder, codes, answers = sys.argv[1:]
for name, code in json.loads(codes).items():
    pid = os.fork()
    if not pid:
        with open(f"{answers}/{name}", "w") as errors:
            os.dup2(errors.fileno(), 2)
        try:
            exec(code)
            status = 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    with open(f"{answers}/{name}.status", "w") as file:
        file.write(str(os.waitpid(pid, 0)[1]))
"""
CHECK = """
assert type(config).__name__ == "SembConfig", config
assert sum(type(finder).__module__ == "mmgrid.auto_classes" for finder in sys.meta_path) == 1
"""
UNCHANGED = f"""
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
WITH_A_PLUG_IN = f"""
sys.path.insert(0, SITE)
import mmgrid
{CONFIG}
assert type(AutoConfig.for_model('toy')).__module__ == 'toy_model'
"""


@pytest.fixture(scope="module")
def answers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Name of a code → its exit status and what it wrote to stderr, each in a process of its own."""
    site, written = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("answers")
    (site / "toy_spec.py").write_text(TOY)
    (site / "toy_model.py").write_text(TOY_MODEL)
    (site / "broken_model.py").write_text("raise RuntimeError('out of order')")
    info = site / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    entries = ["broken = toy_spec:BROKEN", "toy = toy_spec:SPEC", "absent = toy_spec:ABSENT"]
    (info / "entry_points.txt").write_text("\n".join(["[mmgrid.paradigms]", *entries]) + "\n")
    codes = {order: code + CHECK for order, code in ORDERS.items()}
    codes |= {"unchanged": UNCHANGED, "plug-in": WITH_A_PLUG_IN.replace("SITE", repr(str(site)))}
    words = [sys.executable, "-c", IN_CHILDREN, str(folder), json.dumps(codes), str(written)]
    done = subprocess.run(words, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: (int((written / f"{name}.status").read_text()), (written / name).read_text()) for name in codes}


@pytest.mark.parametrize("order", ORDERS)
def test_the_architectures_are_known_whatever_is_imported_first(
    answers: dict[str, tuple[int, str]], order: str
) -> None:
    status, errors = answers[order]
    assert status == 0, errors
    assert "mmgrid" not in errors  # no warning


def test_after_the_first_call_nothing_of_transformers_is_changed(answers: dict[str, tuple[int, str]]) -> None:
    status, errors = answers["unchanged"]
    assert status == 0, errors


def test_a_plug_in_s_architecture_is_known_and_a_broken_one_is_no_obstacle(
    answers: dict[str, tuple[int, str]],
) -> None:
    status, errors = answers["plug-in"]
    assert status == 0, errors
    assert "broken_model cannot be imported (RuntimeError: out of order)" in errors
    assert "'absent'" in errors


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
