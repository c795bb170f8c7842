"""LoRA adapters: what is trained, what is saved, and that phases, merges and PEFT read them alike."""

import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from kits.small import make_backbone, make_item_codes, make_tokenizer, semb_recipe, semid_recipe, text_recipe
from mmgrid.backbone.load import load_model, load_tokenizer
from mmgrid.backbone.shape import Shape
from mmgrid.cards import read_json
from mmgrid.merging import merge_state_dicts
from mmgrid.merging.models.sources import open_source
from mmgrid.paradigms.semb.paradigm import Semb
from mmgrid.paradigms.semb.work import weights as of_both_towers
from mmgrid.paradigms.semid.paradigm import Semid
from mmgrid.paradigms.text.paradigm import Text
from mmgrid.paradigms.work import defaults, trained_weights
from mmgrid.testing.data import PHASE, make_histories, make_items, same_weights
from mmgrid.testing.paradigm import Interruption
from mmgrid.training.fit import TrainingError, fit
from mmgrid.training.lora import put_adapter, trained_parameters
from mmgrid.training.recipe import Lora
from mmgrid.training.recomputation import recomputed

ITEMS = make_items(40)
TOKENIZER = make_tokenizer(ITEMS)
HISTORIES = make_histories([[(user * 7 + step) % 40 for step in range(9)] for user in range(24)])
CODES = make_item_codes(len(ITEMS))
LORA = Lora(rank=3, alpha=12)
LAYERS, WIDTH, INNER = 3, 32, 64
# of one layer: queries, keys, values, output; gate, up, down (two heads of 16, one key-value head)
PER_LAYER = LORA.rank * (2 * (WIDTH + WIDTH) + 2 * (WIDTH + 16) + 3 * (WIDTH + INNER))
PARADIGMS: dict[str, Any] = {"text": Text, "semid": Semid, "untied": Semid, "semb": Semb}
RECIPES: dict[str, Any] = {"text": text_recipe(), "semid": semid_recipe(), "semb": semb_recipe()}
RECIPES["untied"] = RECIPES["semid"]  # with a head of its own
N_CODES = CODES.levels * CODES.codes_per_level
TRAINED = {
    "text": LAYERS * PER_LAYER,
    "semid": LAYERS * PER_LAYER + N_CODES * WIDTH,
    "untied": LAYERS * PER_LAYER + 2 * N_CODES * WIDTH,
    "semb": (LAYERS + 2) * PER_LAYER + WIDTH + 1,  # two towers, [ITEM] and the scale
}
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TABLES: dict[str, tuple[str, ...]] = {"text": (), "semid": (EMBED,), "untied": (EMBED, HEAD), "semb": ()}


@dataclass(frozen=True)
class Trained:
    """A paradigm that was trained for a few steps with an adapter."""

    name: str
    base: Path
    folder: Path
    paradigm: Any
    model: nn.Module


def begun(name: str, base: Path, lora: Lora = LORA) -> tuple[Any, Any]:
    """A paradigm and its model with a new adapter."""
    recipe = RECIPES[name]
    if PARADIGMS[name] is Semid:
        start = load_model(base), load_tokenizer(base), CODES, "kitchen"
        paradigm, model = Semid.create(recipe, *start, seed=0)
    else:
        paradigm, model = PARADIGMS[name].load(base, recipe)
    put_adapter(model, lora, base, paradigm.beside_adapter(model), seed=1)
    return paradigm, model.train()


def train(paradigm: Any, model: nn.Module, folder: Path, seed: int = 0, **options: Any) -> None:
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    few = {"epochs": 40 / len(examples), "weight_decay": 0.1}  # five steps
    recipe = RECIPES[paradigm.name].training("pretrain").model_copy(update=few)
    fit(model, examples, paradigm.loss, recipe, folder, seed=seed, **options)


def saved(paradigm: Any, model: nn.Module, folder: Path) -> Path:
    folder.mkdir()
    paradigm.save(model, folder)
    return folder


def batch_of(paradigm: Any) -> dict[str, Any]:
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    return examples.collate([examples.draw(index, 0) for index in range(6)])


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, an adapter with its model."""
    with open_source(folder) as source:
        return {
            name: torch.from_numpy(source.read(name, 0, source.info(name).size).copy()).reshape(source.info(name).shape)
            for name in source
        }


def make_base(name: str, folder: Path) -> Path:
    """The model that trainings of a paradigm start from."""
    folder.mkdir()
    backbone = make_backbone(TOKENIZER, layers=LAYERS, head=True, tie_word_embeddings=name != "untied")
    plain = folder if PARADIGMS[name] is Semid else folder.with_name("backbone")
    backbone.save_pretrained(plain)
    TOKENIZER.save_pretrained(plain)
    if plain != folder:
        PARADIGMS[name].write_base(RECIPES[name], plain, folder, 0)
    return folder


@pytest.fixture(scope="module", params=list(PARADIGMS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    base = make_base(name, root / "base")
    paradigm, model = begun(name, base)
    train(paradigm, model, root / "steps")
    return Trained(name, base, saved(paradigm, model, root / "adapter"), paradigm, model)


def test_only_the_adapter_and_what_belongs_to_no_layer_is_trained(trained: Trained) -> None:
    assert trained_parameters(trained.model) == TRAINED[trained.name]
    before, after = weights(trained.base), weights(trained.folder)
    moved = {
        name for name, old in before.items() if not (after[name][: len(old)] if old.dim() else after[name]).equal(old)
    }
    alone = {"item_token", "log_scale"} if trained.name == "semb" else set()
    assert moved == {name for name in before if name.endswith("_proj.weight")} | alone
    new_rows = {name: len(after[name]) - len(old) for name, old in before.items() if after[name].shape != old.shape}
    assert new_rows == dict.fromkeys(TABLES[trained.name], N_CODES)


def test_the_folder_has_the_adapter_in_place_of_weights(trained: Trained) -> None:
    stored = load_file(trained.folder / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == TRAINED[trained.name]
    assert not list(trained.folder.glob("model*"))
    settings = json.loads((trained.folder / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (LORA.rank, LORA.alpha)
    assert settings["base_model_name_or_path"] == "../base"


def test_a_loaded_adapter_is_the_trained_model(trained: Trained) -> None:
    loaded, model = type(trained.paradigm).load(trained.folder, trained.paradigm.recipe)
    batch = batch_of(trained.paradigm)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.loss(model.eval(), batch), trained.paradigm.loss(trained.model.eval(), batch), rtol=1e-5, atol=1e-5
        )
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in weights(trained.folder).items())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT asks by an old name
@pytest.mark.parametrize("trained", ["text", "semid"], indirect=True)
def test_peft_reads_the_adapter(trained: Trained) -> None:
    """Not semb's: PEFT has no place for parameters of no layer."""
    _, ours = type(trained.paradigm).load(trained.folder)
    below = AutoModelForCausalLM.from_pretrained(trained.base)
    below.resize_token_embeddings(ours.config.vocab_size, mean_resizing=False)
    theirs = PeftModel.from_pretrained(below, str(trained.folder)).eval()
    tokens = torch.arange(ours.config.vocab_size)[None]
    with torch.no_grad():
        expected = ours.eval()(input_ids=tokens).logits
        torch.testing.assert_close(theirs(input_ids=tokens).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_next_phase_goes_on_with_the_same_adapter(trained: Trained, tmp_path: Path) -> None:
    paradigm, model = type(trained.paradigm).load(trained.folder, trained.paradigm.recipe)
    put_adapter(model, LORA, trained.folder, paradigm.beside_adapter(model), seed=99)
    assert same_weights(model, trained.model), "the frozen weights, too"
    train(paradigm, model.train(), tmp_path / "steps", seed=1)
    assert not same_weights(model, trained.model)
    folder = saved(paradigm, model, trained.folder.parent / "second")
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "../base", "of the first model, whatever the phase"
    first, second = (load_file(one / "adapter_model.safetensors") for one in (trained.folder, folder))
    assert first.keys() == second.keys()
    shutil.rmtree(folder)


def test_a_killed_training_ends_with_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    def kill(step: int, steps: int, loss: float | None) -> None:
        if step == 3:
            raise Interruption

    with pytest.raises(Interruption):
        train(*begun(trained.name, trained.base), tmp_path / "steps", save_seconds=0, progress=kill)
    (step,) = (tmp_path / "steps").iterdir()
    written = load_file(step / "model.safetensors")
    assert sum(tensor.numel() for tensor in written.values()) == TRAINED[trained.name], "frozen weights are not written"
    paradigm, model = begun(trained.name, trained.base)
    train(paradigm, model, tmp_path / "steps")
    assert same_weights(model, trained.model)
    again = saved(paradigm, model, trained.folder.parent / "again")
    for name in ("adapter_model.safetensors", "adapter_config.json", "config.json"):
        assert (again / name).read_bytes() == (trained.folder / name).read_bytes(), name
    shutil.rmtree(again)


def test_recomputed_activations_change_no_gradient(trained: Trained) -> None:
    paradigm, model = begun(trained.name, trained.base)
    batch, found = batch_of(paradigm), []
    for recompute in (False, True):
        model.zero_grad()
        with recomputed(model) if recompute else nullcontext():
            paradigm.loss(model, batch).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
    assert all(gradient is not None for gradient in found[1].values())
    assert any(gradient.any() for name, gradient in found[1].items() if "lora_B" in name)
    assert all(found[0][name].equal(gradient) for name, gradient in found[1].items())


def test_a_merge_of_adapters_is_that_of_plain_checkpoints(trained: Trained, tmp_path: Path) -> None:
    paradigm, model = begun(trained.name, trained.base)
    train(paradigm, model, tmp_path / "steps", seed=7)
    other = saved(paradigm, model, trained.folder.parent / "other")
    plain = [weights(folder) for folder in (trained.folder, other)]
    base = weights(trained.base)
    base |= {name: plain[0][name] for name in TABLES[trained.name]}  # rows that the base lacks are no part of this
    for method in ("linear", "ties", "task_arithmetic"):
        below = None if method == "linear" else base
        expected = merge_state_dicts(method, plain, base=below, seed=1)
        with open_source(trained.folder) as one, open_source(other) as two:
            found = merge_state_dicts(method, [one, two], base=below, seed=1)
        assert found.keys() == expected.keys()
        assert all(found[name].equal(tensor) for name, tensor in expected.items()), method
    shutil.rmtree(other)


def test_another_adapter_than_that_of_the_phase_before_is_refused(trained: Trained) -> None:
    for lora in (Lora(rank=2, alpha=12), Lora(rank=3, alpha=6), Lora(rank=3, alpha=12, targets=("q_proj",))):
        paradigm, model = type(trained.paradigm).load(trained.folder, trained.paradigm.recipe)
        with pytest.raises(TrainingError, match=r"rank 3 and alpha 12 .*same rank, alpha and targets"):
            put_adapter(model, lora, trained.folder, paradigm.beside_adapter(model))


def test_chosen_layers(tmp_path: Path) -> None:
    base = make_base("text", tmp_path / "base")
    _, model = begun("text", base, Lora(rank=2, targets=("q_proj", "layers.1.mlp.up_proj")))
    assert trained_parameters(model) == 2 * (LAYERS * (WIDTH + WIDTH) + (WIDTH + INNER))
    for wrong in ("proj", "lm_head", "embed_tokens"):
        with pytest.raises(
            TrainingError, match=f"targets: {wrong}: the model has no linear layer .* down_proj, gate_proj"
        ):
            begun("text", base, Lora(targets=("q_proj", wrong)))


def test_without_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base("text", tmp_path / "base")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r'pip install "mmgrid\[lora\]"'):
        begun("text", base)


@pytest.mark.parametrize("lora", [LORA, Lora(rank=5, targets=("q_proj", "layers.0.mlp.up_proj"))], ids=["all", "some"])
@pytest.mark.parametrize("name", ["text", "semb"])
def test_plans_know_how_many_weights_an_adapter_has(name: str, lora: Lora, tmp_path: Path) -> None:
    base = make_base(name, tmp_path / "base")
    shape = Shape.of_config(read_json(tmp_path / "backbone" / "config.json"))
    values = defaults(type(RECIPES[name]), {"lora": lora.model_dump(mode="json")})
    weights = of_both_towers(shape) if name == "semb" else float(shape.weights)
    _, model = begun(name, base, lora)
    assert trained_weights(values, weights, shape) == pytest.approx(trained_parameters(model), abs=WIDTH + 1)
    assert trained_weights(defaults(None, {"lora": None}), weights, shape) == weights
