"""Hostile files end in one error that names them: a short form of `fuzzing`, which found what the others here pin."""

import json
from pathlib import Path

import pytest

from fuzz import fuzzing
from fuzz.files_of_others import Reader, readers
from fuzz.fuzzing import finding
from mmgrid.files.bounded_yaml import load_yaml
from mmgrid.merging import MergeError
from mmgrid.merging.models.adapter_settings import adapter_settings, alpha_of
from mmgrid.merging.models.tokens import Vocabulary
from mmgrid.merging.plan.recipe import read_yaml

VARIANTS = 10


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    return list(readers(tmp_path_factory.mktemp("fuzz")))


def test_variants_of_every_file_are_read_or_refused_in_words(all_readers: list[Reader]) -> None:
    found = [finding(reader, number) for reader in all_readers for number in range(VARIANTS)]
    assert [problem for problem in found if problem] == []


def test_a_finding_ends_in_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for problem, status in ((None, 0), ("torn", 1)):
        monkeypatch.setattr(fuzzing, "finding", lambda reader, number, problem=problem: problem)
        monkeypatch.setattr("sys.argv", ["fuzzing", "--seconds", "0.01"])
        with pytest.raises(SystemExit) as ended:
            fuzzing.main()
        assert ended.value.code == status


def test_sound_files_are_read(all_readers: list[Reader]) -> None:
    for reader in all_readers:
        reader.file.write_bytes(reader.content)
        if reader.name != "family.json":  # its sound form needs the files of a family
            reader.read()


def test_words_without_a_token_are_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [[]]}}))
    with pytest.raises(MergeError, match=r"tokenizer\.json: is not a tokenizer of the tokenizers library"):
        Vocabulary.read(tmp_path)


def test_aliases_may_repeat_but_not_multiply(tmp_path: Path) -> None:
    assert load_yaml("a: &a [1, 2]\nb: *a\nc: *a") == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    file = tmp_path / "bomb.yml"
    for text, says in (
        ("\n".join(lines), "its aliases repeat more than 100,000 elements"),
        ("a: &a [*a]", "an alias leads back into itself"),
        ("[" * 100_000, "more than 64 brackets are open"),
    ):
        file.write_text(text)
        with pytest.raises(MergeError, match=rf"bomb\.yml: is not YAML .*{says}"):
            read_yaml(file)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"lora_alpha": None}, "lora_alpha: should be a number"),
        ({"lora_alpha": "4"}, "lora_alpha: "),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path: should be a text"),
        ({"alpha_pattern": ["q"]}, "alpha_pattern: should be a table"),
        ({"alpha_pattern": {"q": "1"}}, "alpha_pattern.q: "),
        ({"trainable_token_indices": [-1]}, "trainable_token_indices"),
        ({"trainable_token_indices": {"embed": [2**40]}}, "trainable_token_indices"),
    ],
)
def test_settings_of_an_adapter_have_the_forms_that_peft_writes(tmp_path: Path, setting: dict, says: str) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA"} | setting))
    with pytest.raises(MergeError) as error:
        adapter_settings(tmp_path)
    assert str(error.value).startswith(f"{file}: {says}")


def test_patterns_of_alpha_are_those_of_peft_and_take_bounded_time() -> None:
    file = Path("adapter_config.json")
    module = "model.layers.0.self_attn.q_proj"
    for pattern, fits in (
        ("q_proj", True),
        ("proj", False),
        ("layers.0.self_attn.q_proj", True),
        (r"layers\.\d+\.self_attn\.(q|k)_proj", True),
        (r"^model\.layers.*q_proj", True),
        ("(([a-z._0-9])+)+!(([a-z._0-9])+)+", False),
        ("(a|a|m|o|d|e|l|.)*(.*)*(.*)*(.*)*(.*)*(.*)*$x", False),
    ):
        settings = {"lora_alpha": 8, "alpha_pattern": {pattern: 2}}
        assert (alpha_of(settings, module, file) == 2) is fits, pattern
    for pattern in ("(", "(?=a)a", "(a{1000}){1000}"):
        with pytest.raises(MergeError, match=r"adapter_config\.json: alpha_pattern: .* bounded time"):
            alpha_of({"alpha_pattern": {pattern: 2}}, module, file)
