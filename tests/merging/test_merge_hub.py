"""Models on the Hub as sources of merges: from the cache or by download, by name, with revision and commit."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file

from kits.hub_server import Hub, running_hub
from kits.tiny_grid import mmgrid
from kits.tiny_llama import loaded, tiny_llama
from mmgrid.merging import MergeError, merge
from mmgrid.merging.compare import compare
from mmgrid.merging.mergekit import read_mergekit
from mmgrid.merging.verify import verify

LINEAR = "merge_method: linear\nparameters: {weight: 1}\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub with `some/base`, `some/a` (at first equal to the base; the tag v1) and `my/b`; `local` is a folder."""
    base = tiny_llama(tmp_path / "files" / "base", 0)
    tiny_llama(tmp_path / "local", 3, near=base)
    for seed, name in enumerate("ab", 1):
        tiny_llama(tmp_path / "files" / name, seed, near=base)
    (tmp_path / "files" / "a" / "pytorch_model.bin").write_bytes(b"pickled")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with running_hub(tmp_path / "cache", monkeypatch) as server:
        server.add("some/base", base)
        server.repos["some/base"].refs["v1"] = server.repos["some/base"].refs["main"]
        server.add("some/a", base)
        server.repos["some/a"].refs["v1"] = server.repos["some/a"].refs["main"]
        server.add("some/a", tmp_path / "files" / "a")
        server.add("my/b", tmp_path / "files" / "b")
        yield server


def test_a_merge_by_names_equals_one_of_folders(hub: Hub, tmp_path: Path) -> None:
    answer = mmgrid(
        "merge", "--method", "task_arithmetic", "--base", "some/base", "--model", "some/a:0.5", "--model", "mine=my/b@main:0.5",
        "-o", "out",
    )  # fmt: skip
    assert answer.code == 0
    files = tmp_path / "files"
    sources = [{"path": str(files / "a"), "weight": 0.5}, {"name": "mine", "path": str(files / "b"), "weight": 0.5}]
    merge({"method": "task_arithmetic", "base": str(files / "base"), "sources": sources}, "expected")
    assert Path("out/model.safetensors").read_bytes() == Path("expected/model.safetensors").read_bytes()
    assert not any("pytorch_model.bin" in line for line in hub.asked)
    commits = {name: repo.refs["main"] for name, repo in hub.repos.items()}
    recipe = json.loads(Path("out/mmgrid.json").read_text())["recipe"]
    assert recipe["base"] == f"some/base@{commits['some/base']}"
    assert [each["path"] for each in recipe["sources"]] == [f"{name}@{commits[name]}" for name in ("some/a", "my/b")]
    card = Path("out/README.md").read_text()
    assert f"| a | `some/a@{commits['some/a']}` | 0.5 |" in card
    assert str(tmp_path) not in card
    assert "base_model:\n- some/base\n- some/a\n- my/b\n" in card
    assert "base_model_relation: merge\n" in card
    again = read_mergekit(Path("out/mergekit_config.yml")).recipe
    assert again.anchored().sources[0].path == tmp_path / "cache/models--some--a/snapshots" / commits["some/a"]


def test_a_merge_is_verified_on_another_machine(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge({"method": "linear", "sources": [{"path": "some/a"}, {"path": "../local"}]}, "out")
    hub.add("some/a", tmp_path / "files" / "b")  # the name means other weights now
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    assert verify("out").equal
    hub.repos["some/a"].commits.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty again"))
    missing = verify("out").missing
    assert len(missing) == 1
    assert "some/a@" in missing[0]
    assert "not this revision" in missing[0]


def test_a_path_in_a_record_is_not_looked_up_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "work" / "some" / "a", 5)
    merge({"method": "linear", "sources": [{"path": "some/a"}, {"path": "../local"}]}, "out")
    assert hub.asked == []  # an existing folder wins
    (tmp_path / "work" / "some" / "a").rename(tmp_path / "moved")
    assert len(verify("out").missing) == 1
    assert hub.asked == []


def test_a_recipe_file_names_revisions(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("method: linear\nsources: [{path: some/a@v1}, {path: local, name: l}]")
    merge(tmp_path / "recipe.yml", "out")
    sources = [{"path": str(tmp_path / "files" / "base")}, {"path": str(tmp_path / "local"), "name": "l"}]
    merge({"method": "linear", "sources": sources}, "expected")
    assert Path("out/model.safetensors").read_bytes() == Path("expected/model.safetensors").read_bytes()


def test_a_mergekit_file_names_models_and_adapters(hub: Hub, tmp_path: Path) -> None:
    factors = {f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight": one for half, one in
               zip("AB", (loaded(tmp_path / "local")["lm_head.weight"][:2], loaded(tmp_path / "local")["lm_head.weight"][:16, :2]), strict=True)}  # fmt: skip
    (tmp_path / "adapter").mkdir()
    save_file(
        {name: value.contiguous() for name, value in factors.items()}, tmp_path / "adapter/adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": "some/base", "revision": "v1", "r": 2, "lora_alpha": 2}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config))
    commit = hub.add("some/adapter", tmp_path / "adapter")
    Path("config.yml").write_text(f"{LINEAR}models: [{{model: some/a@v1}}, {{model: some/base+some/adapter@{commit}}}]")
    read = read_mergekit("config.yml").recipe
    assert [(source.name, source.onto is not None) for source in read.sources] == [("a", False), ("adapter", True)]
    merge(read, "out")
    text = Path("out/mergekit_config.yml").read_text()
    assert f"model: some/a@{hub.repos['some/a'].refs['v1']}\n" in text
    assert f"revision: {commit}" in text
    # The model of an adapter is the one that its configuration names; the record keeps its commit.
    sources = [{"name": "a", "path": "some/a@v1"}, {"name": "adapter", "path": "some/adapter"}]
    merge({"method": "linear", "sources": sources}, "own")
    assert Path("own/model.safetensors").read_bytes() == Path("out/model.safetensors").read_bytes()
    onto = json.loads(Path("own/mmgrid.json").read_text())["recipe"]["sources"][1]["onto"]
    assert onto == f"some/base@{hub.repos['some/base'].refs['main']}"
    assert compare("some/adapter", "some/a", base="some/base").whole.pair().norms[0] > 0


def test_the_cache_is_enough(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    compare("some/a", "my/b")
    asked = len(hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    compare("some/a", "my/b")
    assert len(hub.asked) == asked
    answer = mmgrid("diff", "some/base", "my/b")
    assert answer.code == 1
    assert "HF_HUB_OFFLINE is set" in answer.err
    assert "there is no folder of this name here either" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, "no model of this name, or it is private or gated: check the name, or run `hf auth login`"),
        (403, {}, "your token has no right to read there"),
        (403, {"X_Error_Code": "GatedRepo"}, "is gated: accept its terms"),
        (404, {"X_Error_Code": "RepoNotFound"}, "no model of this name"),
        (404, {"X_Error_Code": "RevisionNotFound"}, "but not this revision"),
        (429, {"Retry_After": "17"}, r"limits requests \(429\): wait 17 seconds"),
        (503, {}, r"the Hub has a problem \(503\)"),
        (0, {}, "the connection to the Hub failed"),
    ],
)
@pytest.mark.parametrize("path", ["/api/models/some/a", "/some/a/resolve/"])
def test_errors_of_the_hub_are_one_line(hub: Hub, status: int, headers: dict[str, str], words: str, path: str) -> None:
    for method in ("GET", "HEAD"):
        hub.fail(method, path, status, **headers)
    with pytest.raises(MergeError, match=words) as error:
        merge({"method": "linear", "sources": [{"path": "some/a"}, {"path": "my/b"}]}, "out")
    assert "\n" not in str(error.value)
    assert not Path("out").exists()


def test_a_cut_download_is_resumed(hub: Hub) -> None:
    hub.fail("GET", "/some/a/resolve/", 0, times=3)
    compare("some/a", "my/b")


def test_a_wrong_name_says_so(hub: Hub) -> None:
    with pytest.raises(MergeError, match="models/gardn: the Hub has no model of this name.*; there is no folder"):
        compare("models/gardn", "my/b")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "tise", "--base", "some/base"), "unknown merge method 'tise'"),
        (("--method", "ties"), "ties: needs a base"),
        (("--method", "linear", "--base", "some/base"), "linear: has no base"),
    ],
)
def test_methods_are_checked_before_models_are_downloaded(hub: Hub, words: tuple[str, ...], says: str) -> None:
    answer = mmgrid("merge", *words, "--model", "some/a", "--model", "my/b", "-o", "out")
    assert answer.code == 1
    assert says in answer.err
    assert not hub.asked


def test_modules_and_further_chat_templates_are_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "files" / "a"
    (model / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}, {"path": "../x"}]')
    (model / "chat_template.jinja").write_text("{{ messages }}")
    kept = ("1_Pooling/config.json", "2_Dense/model.safetensors", "additional_chat_templates/tool.jinja")
    for name in (*kept, "onnx/model.safetensors", "checkpoint-10/config.json"):
        (model / name).parent.mkdir()
        (model / name).write_text("{}")
    hub.add("some/embedder", model)
    recipe = {"method": "linear", "sources": [{"path": "some/embedder"}]}
    merge(recipe, "out")
    found = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.parent != Path("out")}
    assert found >= set(kept)
    assert not any(word in line for line in hub.asked for word in ("onnx", "checkpoint-10"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    merge(recipe, "again")
    assert (Path("again") / kept[0]).read_text() == "{}"
