"""Model cards: what they say of checkpoints, merges, adapters and plain models, and that their code runs."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from kits.snippets import run_snippet
from kits.tiny_grid import Built
from kits.tiny_llama import tiny_llama
from mmgrid.cards import Measured, checkpoint_card, with_results, without_private_paths, without_private_values
from mmgrid.merging import merge

ORIGIN = {"base_model": "Qwen/Qwen3-0.6B@" + "a" * 40, "license": "apache-2.0", "datasets": ["some/clicks"]}
FIGURE = Measured("garden", "test", "all", "recall@10", 12.345, 10.0, 14.5, 150)


@pytest.mark.parametrize(("paradigm", "pipeline"), [("semb", "feature-extraction"), ("sasrec", "feature-extraction")])
def test_a_checkpoint_has_a_card_whose_code_runs(built: Built, tmp_path: Path, paradigm: str, pipeline: str) -> None:
    folder = built.folder(f"checkpoint/{paradigm}/garden/phase2")
    text = (folder / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    assert data == {
        "library_name": "mmgrid",
        "pipeline_tag": pipeline,
        "tags": ["mmgrid", "recommendation", paradigm, "garden"],
    }
    assert f"# `{paradigm}` for `garden`, phase2" in text
    assert "before 2023-01-01" in text
    lines = run_snippet(folder, tmp_path / "model", garden=built.folder("corpus/garden")).splitlines()
    assert len(lines) == 5


def test_a_card_says_where_a_checkpoint_comes_from(tmp_path: Path) -> None:
    tiny_llama(tmp_path, 0)
    facts = {"paradigm": "text", "domain": "toys", "phase": "all", "recipe": {"until": "phase2"}, "origin": ORIGIN}
    (tmp_path / "mmgrid.json").write_text(json.dumps(facts | {"phases": {"phase2": ["2022-10-01", "2023-01-01"]}}))
    data = ModelCard(checkpoint_card(tmp_path)).data.to_dict()
    assert data.pop("tags") == ["mmgrid", "recommendation", "text", "toys"]
    assert data == {
        "base_model": "Qwen/Qwen3-0.6B",
        "base_model_relation": "finetune",
        "datasets": ["some/clicks"],
        "library_name": "mmgrid",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
    }


def test_a_merge_repeats_where_its_sources_come_from(tmp_path: Path) -> None:
    for seed, domain in enumerate(("toys", "books")):
        tiny_llama(tmp_path / domain, seed)
        facts = {"paradigm": "text", "domain": domain, "phase": "phase2", "origin": ORIGIN}
        (tmp_path / domain / "mmgrid.json").write_text(json.dumps(facts))
    sources = [{"name": name, "path": str(tmp_path / name)} for name in ("books", "toys")]
    merge({"method": "linear", "sources": sources}, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    assert data.pop("tags") == ["mmgrid", "merge", "recommendation", "text", "books", "toys"]
    assert data["base_model"] == "Qwen/Qwen3-0.6B"
    assert data["base_model_relation"] == "merge"
    assert (data["license"], data["datasets"], data["library_name"]) == ("apache-2.0", ["some/clicks"], "mmgrid")
    assert 'Corpus.load("books")' in text


def test_the_code_of_a_plain_merge_runs(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "a", 0)
    merge({"method": "linear", "sources": [{"path": str(tmp_path / "a")}]}, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    data = ModelCard(text).data.to_dict()
    tags = ["mmgrid", "merge"]
    assert data == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": tags}
    (tmp_path / "out" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    run_snippet(tmp_path / "out", tmp_path / "model")


def test_an_adapter_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/base"}')
    data = ModelCard(checkpoint_card(tmp_path)).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ("some/base", "adapter")
    assert data["library_name"] == "peft"


def test_results_are_added_once_and_change_nothing_else() -> None:
    card = "---\nlicense: mit\nmine: [1, 2]\n---\n\n# Mine\n\nMy own words.\n"
    once = with_results(card, [FIGURE], "me/garden")
    found = ModelCard(once)
    (result,) = found.data.eval_results or ()
    assert (result.dataset_name, result.dataset_split, result.metric_type) == ("garden", "test", "recall@10")
    assert (result.metric_value, found.data.license, found.data.to_dict()["mine"]) == (12.35, "mit", [1, 2])
    assert "My own words." in once
    assert "| garden | test | all (150) | recall@10 | 12.35 | 10.00 to 14.50 |" in once
    assert with_results(once, [FIGURE], "me/garden") == once
    assert with_results(card, [], "me/garden") == card
    with pytest.raises(ValueError, match="not YAML") as error:
        with_results("---\n{a: [\n---\n", [FIGURE], "me/garden")
    assert "\n" not in str(error.value)


def test_private_paths_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    text = "`../base`, `/data/models/a`, `../../home/alice/b`, ~/c/d, C:\\Users\\e, https://a.b/c/d, Qwen/Q, (x)/(y)/2"
    assert without_private_paths(text) == "`../base`, `a`, `b`, d, e, https://a.b/c/d, Qwen/Q, (x)/(y)/2"
    value = {"model": "/data/models/a", "prompt": "say /a/b or not", "more": ["../alice/x", 3]}
    assert without_private_values(value) == {"model": "a", "prompt": "say /a/b or not", "more": ["x", 3]}
