"""BIGRec's official layout: read and written, with prompts, answers and ranks of an independent rewriting of its code."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import mmgrid
from kits.small import make_tokenizer
from kits.tiny_grid import TEXT as TEXT_OF_GRID
from kits.tiny_grid import mmgrid as mmgrid_command
from mmgrid.data import Histories, Items
from mmgrid.paradigms import load_checkpoint
from mmgrid.paradigms.contract import CannotTrainError
from mmgrid.paradigms.facts import CheckpointError
from mmgrid.paradigms.layouts import LayoutError
from mmgrid.paradigms.text.official import OfficialGenerator
from mmgrid.testing.data import PHASE, make_items, random_histories

N, LENGTH, NEW = 25, 3, 9
RANK, ALPHA = 4, 16
INSTRUCTION = (
    "Given a list of video games the user has played before, please recommend a new video game that the user likes to "
    "the user."
)


def with_odd_titles(items: Items) -> Items:
    """With a repeated title, one in quotes and one with braces and two blanks."""
    titles = [items.titles[7], '"Quoted"', "Braces {input}  twice", *items.titles[3:]]
    return Items(items.ids, titles, items.descriptions, items.candidates)


@pytest.fixture(scope="module")
def items() -> Items:
    return with_odd_titles(make_items(N))


def save_llama(folder: Path, items: Items, seed: int, dtype: torch.dtype = torch.float32) -> Path:
    """A tiny Llama whose tokenizer begins each text with a special token, as Llama's does."""
    tokenizer = make_tokenizer(items)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    template = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = template
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer),
        initializer_range=0.4, tie_word_embeddings=False, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(items: Items, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("base"), items, seed=1)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `train.py` saves it, with peft's names."""
    folder = tmp_path_factory.mktemp("adapter")
    generator = torch.Generator().manual_seed(2)
    weights = {}
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            module = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            for half, shape in (("lora_A", (RANK, 32)), ("lora_B", (32, RANK))):
                weights[f"{module}.{half}.weight"] = 0.3 * torch.randn(shape, generator=generator)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj", "v_proj"]}))
    return folder


OPTIONS = {"data": "game", "history_length": LENGTH, "new_tokens": NEW}


@pytest.fixture(scope="module")
def imported(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mmgrid.import_checkpoint(adapter, tmp_path_factory.mktemp("ours") / "model", "bigrec", OPTIONS)


def reference_answers(model, tokenizer, items: Items, histories: Histories) -> list[list[str]]:
    """`process.ipynb` and `inference.py`, for one user at a time: each user's four answers."""
    answers = []
    for user in range(len(histories)):
        history = "The user has played the following video games before:"
        for place, row in enumerate(histories.of(user).tolist()[-LENGTH:]):
            history += ("" if place == 0 else ", ") + '"' + items.titles[row] + '"'
        prompt = (
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
            f"response that appropriately completes the request.  \n\n### Instruction:\n{INSTRUCTION}\n\n"
            f"### Input:\n{history}\n \n\n### Response:\n"
        )
        inputs = tokenizer(prompt, return_tensors="pt")
        config = GenerationConfig(num_beams=4, num_return_sequences=4, max_new_tokens=NEW)
        with torch.no_grad():
            found = model.generate(**inputs, generation_config=config)
        texts = tokenizer.batch_decode(found, skip_special_tokens=True)
        answers.append([text.split("Response:\n")[-1] for text in texts])
    return answers


def reference_distances(base: Path, answers: list[str], items: Items) -> np.ndarray:
    """`embedding.ipynb` and `evaluate.py`, for one text at a time: float64 [answers, items]."""
    model = LlamaForCausalLM.from_pretrained(base).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)

    def embed(texts: list[str]) -> torch.Tensor:
        with torch.no_grad():
            states = [model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True) for text in texts]
        return torch.stack([state.hidden_states[-1][0, -1] for state in states]).double()

    titles = [title.strip(" ").strip('"') for title in items.titles]
    return torch.cdist(embed([answer.strip('"') for answer in answers]), embed(titles), p=2).numpy()


def adapted(base: Path, adapter: Path) -> LlamaForCausalLM:
    """The base model with α / r · B A added to its weights."""
    model = LlamaForCausalLM.from_pretrained(base).eval()
    factors = load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in factors if ".lora_A." in name]:
        module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        module.weight.data += ALPHA / RANK * factors[name.replace("lora_A", "lora_B")] @ factors[name]
    return model


def opened(folder: Path) -> tuple[Any, Any]:
    paradigm, model = load_checkpoint(folder)
    declared = json.loads((folder / "mmgrid.json").read_text())["evaluation"]["values"]
    assert paradigm.recipe.model_dump().items() >= declared.items(), "a grid that says nothing else takes these"
    return paradigm, model


def lists(folder: Path, items: Items, histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    paradigm, model = opened(folder)
    return paradigm.recommend(model, histories, items, len(items))


def check_official(folder: Path, base: Path, model, items: Items) -> None:
    """Answers, distances and ranks of an imported checkpoint are those of the official code."""
    histories = random_histories(12, N)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    answers = [first for first, *_ in reference_answers(model, tokenizer, items, histories)]
    paradigm, ours = opened(folder)
    assert paradigm.titles(ours, histories, items) == [[answer.strip('"')] for answer in answers]
    assert len(set(answers)) > 3
    expected = reference_distances(base, answers, items)
    best, scores = paradigm.recommend(ours, histories, items, N)
    found = np.empty_like(expected)
    np.put_along_axis(found, best, np.sqrt(-scores.astype(float)), axis=1)
    assert (np.sort(best) == np.arange(N)).all(), "nothing is left out, the history neither"
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.std(expected) > 0.1, "far above the tolerance"
    targets = np.arange(12) % N
    titles = np.array([title.strip(" ").strip('"') for title in items.titles])
    places = expected.argsort(axis=1, kind="stable").argsort(axis=1)
    wanted = [place[titles == titles[target]].min() for place, target in zip(places, targets, strict=True)]
    assert paradigm.rank(ours, histories, items, targets).tolist() == wanted, "as data/game/evaluate.py counts"


def test_an_imported_adapter_scores_as_the_official_code(
    imported: Path, base: Path, adapter: Path, items: Items
) -> None:
    check_official(imported, base, adapted(base, adapter), items)


def test_a_whole_model_scores_as_the_official_code_and_its_titles_are_embedded_by_the_base(
    base: Path, items: Items, tmp_path: Path
) -> None:
    source = save_llama(tmp_path / "tuned", items, seed=7)
    folder = mmgrid.import_checkpoint(source, tmp_path / "ours", "bigrec", OPTIONS | {"base": str(base)})
    check_official(folder, base, LlamaForCausalLM.from_pretrained(source).eval(), items)


def test_answers_end_at_the_end_of_text_alone_and_may_be_empty(base: Path, items: Items) -> None:
    model = LlamaForCausalLM.from_pretrained(base).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    generator = OfficialGenerator(model, tokenizer, title_tokens=4)
    prompt, (line_break,) = (
        tokenizer("Response:\n")["input_ids"],
        tokenizer("\n", add_special_tokens=False)["input_ids"],
    )
    assert generator.stops == [tokenizer.eos_token_id]
    two_lines = [*tokenizer('"one', add_special_tokens=False)["input_ids"], line_break, tokenizer.eos_token_id]
    assert generator.title(prompt, two_lines) == "one\n"
    torch.nn.init.zeros_(model.lm_head.weight)
    head = torch.zeros(len(tokenizer))
    head[tokenizer.eos_token_id] = 50
    model.lm_head.register_forward_hook(lambda _, __, logits: logits + head)
    assert generator.titles([prompt], 1) == [[""]]


def test_an_empty_answer_is_embedded_like_any_other(imported: Path, base: Path, items: Items) -> None:
    paradigm, model = opened(imported)

    class Empty:
        def titles(self, prompts, n: int) -> list[list[str]]:
            return [[""] * n for _ in prompts]

    paradigm.generator = Empty()
    best, scores = paradigm.recommend(model, random_histories(1, N), items, N)
    expected = reference_distances(base, [""], items)[0]
    np.testing.assert_allclose(np.sqrt(-scores[0]), expected[best[0]], atol=2e-4)


def test_a_round_trip_keeps_the_bytes(base: Path, items: Items, tmp_path: Path) -> None:
    source = save_llama(tmp_path / "tuned", items, seed=7, dtype=torch.bfloat16)
    ours = mmgrid.import_checkpoint(source, tmp_path / "ours", "bigrec", OPTIONS | {"base": str(base), "beams": 2})
    notes = mmgrid.export_checkpoint(ours, tmp_path / "theirs", "bigrec")
    assert any("PeftModel" in note for note in notes)
    assert any(str(base) in note for note in notes)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "theirs"))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == torch.bfloat16 for name in after)
    assert LlamaForCausalLM.from_pretrained(tmp_path / "theirs").config.hidden_size == 32
    again = mmgrid.import_checkpoint(tmp_path / "theirs", tmp_path / "again", "bigrec")  # its settings lie beside it
    configs = [json.loads((folder / "config.json").read_text()) for folder in (ours, again)]
    assert configs[0] == configs[1]
    histories = random_histories(4, N)
    for first, second in zip(lists(ours, items, histories), lists(again, items, histories), strict=True):
        np.testing.assert_array_equal(first, second)


def test_an_exported_adapter_is_its_whole_model(imported: Path, base: Path, adapter: Path, tmp_path: Path) -> None:
    mmgrid.export_checkpoint(imported, tmp_path / "theirs", "bigrec")
    merged = adapted(base, adapter).state_dict()
    after = load_file(tmp_path / "theirs" / "model.safetensors")
    assert after.keys() == merged.keys()
    assert all(torch.allclose(after[name], merged[name], atol=1e-6) for name in after)
    assert not torch.equal(after["model.layers.0.self_attn.q_proj.weight"], load_file(base / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"])  # fmt: skip


def test_a_pickled_adapter_of_an_older_peft_is_read(adapter: Path, imported: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    (older / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    torch.save(load_file(adapter / "adapter_model.safetensors"), older / "adapter_model.bin")
    folder = mmgrid.import_checkpoint(older, tmp_path / "ours", "bigrec", OPTIONS)
    assert (folder / "model.safetensors").read_bytes() == (imported / "model.safetensors").read_bytes()


def test_the_official_texts_of_movies_and_own_texts(adapter: Path, items: Items, tmp_path: Path) -> None:
    movies = mmgrid.import_checkpoint(adapter, tmp_path / "movies", "bigrec", {"data": "movie"})
    paradigm, _ = opened(movies)
    assert (paradigm.recipe.titles, paradigm.recipe.masked, paradigm.recipe.hits) == (1, "nothing", "item")
    prompt = paradigm.official.prompt(["Heat (1995)", "Toy Story (1995)"])
    assert prompt.endswith(
        "### Instruction:\nGiven a list of movies the user has watched before, please recommend a new movie that the "
        "user likes to the user.\n\n### Input:\nThe user has watched the following movies before:"
        '"Heat (1995)", "Toy Story (1995)"\n \n\n### Response:\n'
    )
    own = {"instruction": "Next {input}?", "history": "Read:"}
    paradigm, _ = opened(mmgrid.import_checkpoint(adapter, tmp_path / "own", "bigrec", own))
    assert "### Instruction:\nNext {input}?\n\n### Input:\nRead:" in paradigm.official.prompt([])


def test_what_would_score_differently_is_refused(
    base: Path, adapter: Path, imported: Path, items: Items, tmp_path: Path
) -> None:
    def fails(source: Path, message: str, **options) -> None:
        with pytest.raises(LayoutError, match=message):
            mmgrid.import_checkpoint(source, tmp_path / "x", "bigrec", {"data": "game", **options})

    fails(base, "tuned from; name it: --option base=FOLDER")
    fails(base, "option base: .*nowhere", base=str(tmp_path / "nowhere"))
    fails(base / "model.safetensors", "name the model's folder")
    fails(base, "is empty", base="")
    fails(adapter, "Input should be 'movie' or 'game'", data="books")
    with pytest.raises(LayoutError, match="do not say how they are asked.*instruction=TEXT"):
        mmgrid.import_checkpoint(adapter, tmp_path / "x", "bigrec")

    def changed(name: str, weights: dict | None = None, **config) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = json.loads((adapter / "adapter_config.json").read_text()) | config
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        save_file(load_file(adapter / "adapter_model.safetensors") if weights is None else weights, folder / "adapter_model.safetensors")  # fmt: skip
        return folder

    fails(changed("dora", use_dora=True), "is DoRA.*merge_and_unload")
    fails(changed("empty", weights={"odd": torch.zeros(1)}), "neither LoRA's nor in the model")
    fails(changed("none", weights={}), "holds no weights of LoRA")
    fails(changed("lost", base_model_name_or_path=str(tmp_path / "lost model")), "name it: --option base=FOLDER")
    eight_bits = shutil.copytree(base, tmp_path / "eight bits")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].to(torch.int8)
    save_file(weights, eight_bits / "model.safetensors")
    fails(eight_bits, r"lm_head\.weight is int8, so the model is quantised", base=str(base))
    histories = random_histories(3, N)
    paradigm, model = opened(imported)
    with pytest.raises(CannotTrainError, match="imported from BIGRec"):
        paradigm.examples(histories, items, PHASE, seed=0)
    paradigm.recipe = paradigm.recipe.model_copy(update={"engine": "vllm"})
    with pytest.raises(ValueError, match='set engine = "huggingface"'):
        paradigm.titles(model, histories, items)
    paradigm.official.base = str(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"gone.*--option base=FOLDER"):
        paradigm.official.grounding(items)


def test_hits_by_title_need_lists_without_gaps(imported: Path) -> None:
    with pytest.raises(ValueError, match='hits = "title" ranks titles, but masked = "own" leaves out items'):
        load_checkpoint(imported, values={"hits": "title", "masked": "own"})


def test_our_own_model_is_exported_on_request_alone(base: Path, tmp_path: Path) -> None:
    from mmgrid.paradigms import PARADIGMS
    from mmgrid.paradigms.text.paradigm import Text

    ours = tmp_path / "ours"
    ours.mkdir()
    recipe = PARADIGMS["text"].resolve({}, backbone_kind="tiny", history_length=LENGTH)
    Text.write_base(recipe, base, ours, 0)
    with pytest.raises(LayoutError, match="own_prompts=true"):
        mmgrid.export_checkpoint(ours, tmp_path / "theirs", "bigrec")
    notes = mmgrid.export_checkpoint(ours, tmp_path / "theirs", "bigrec", {"own_prompts": True})
    assert any("paradigms.md" in note for note in notes)
    assert not (tmp_path / "theirs" / "bigrec.json").exists()
    assert "mmgrid" not in json.loads((tmp_path / "theirs" / "config.json").read_text())


def test_a_grid_takes_an_imported_checkpoint(imported: Path, tmp_path: Path, caplog) -> None:
    head = TEXT_OF_GRID[: TEXT_OF_GRID.index("[backbone]")].replace('["garden", "kitchen"]', '["garden"]')
    entry = f'[[checkpoints]]\nparadigm = "text"\ndomain = "garden"\nphase = "phase2"\npath = "{imported}"\n'
    file = tmp_path / "grid.toml"
    file.write_text(f"{head}[evaluation]\nmax_users = 10\n\n{entry}")
    done = mmgrid_command("run", file, "--store", tmp_path / "runs", "--jobs", "1")
    assert done.code == 0, done.out + done.err
    found = mmgrid_command("results", file, "--store", tmp_path / "runs", "--json").json
    assert any(row["paradigm"] == "text" and row["domain"] == "garden" for row in found), found
    corpus = next((tmp_path / "runs").glob("corpus/garden/*"))
    recommender = mmgrid.open_checkpoint(imported)
    ids = pl.read_parquet(corpus / "items.parquet")["item_id"].to_list()
    (found,) = recommender.recommend([ids[:2]], corpus, k=3)
    assert len(found) == 3
    assert "figures may differ" not in caplog.text, "it names the model that embeds titles"


def test_the_command_line_imports_and_exports(adapter: Path, tmp_path: Path) -> None:
    done = mmgrid_command("import", "--from", "bigrec", adapter, "-o", tmp_path / "ours", "--option=data=movie")
    assert done.code == 0, done.err
    done = mmgrid_command("export", tmp_path / "ours", "--to", "bigrec", "-o", tmp_path / "theirs")
    assert done.code == 0, done.err
    assert "bigrec.json" in done.out
    listed = mmgrid_command("import", "--from", "bigrec", "--options").out
    assert all(name in listed for name in ("base", "instruction", "history_length", "beams"))
