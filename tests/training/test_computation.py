"""How a training computes: each value of the recipe changes what it names, and nothing stays in the model."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from kits.small import make_tokenizer, sasrec_recipe, semb_recipe, semid_recipe, untrained
from mmgrid.testing.data import PHASE, make_histories, make_items
from mmgrid.training import TrainingRecipe
from mmgrid.training import computation as computation_module
from mmgrid.training import optimizer as optimizer_module
from mmgrid.training.computation import compiled, computing
from mmgrid.training.fit import TrainingError, fit

ITEMS = make_items(30)
TOKENIZER = make_tokenizer(ITEMS)
HISTORIES = make_histories([[(user * 7 + step) % 30 for step in range(7)] for user in range(8)])


def _recipe(**values: Any) -> TrainingRecipe:
    return TrainingRecipe(**{"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "schedule": "constant", **values})


def _made(name: str) -> tuple[Any, Any]:
    recipes = {"sasrec": sasrec_recipe(dropout=0.0), "semb": semb_recipe(), "semid": semid_recipe()}
    return untrained(recipes[name], ITEMS, TOKENIZER)


def _batch(paradigm: Any) -> dict[str, Any]:
    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    return examples.collate([examples.draw(index, 0) for index in range(len(examples))])


def _gradients(paradigm: Any, model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    paradigm.loss(model, _batch(paradigm)).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def _end_to_end(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention as flash-attention has it: sequences end to end with their ends, or a batch of rows; no mask."""
    assert attention_mask is None
    ends = options.pop("cu_seq_lens_q", None)
    for name in ("cu_seq_lens_k", "max_length_q", "max_length_k"):
        options.pop(name, None)
    if ends is None:
        return sdpa_attention_forward(module, query, key, value, None, is_causal=True, **options)
    sizes = ends.diff().tolist()
    parts = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
    found = [sdpa_attention_forward(module, *part, None, is_causal=True, **options)[0] for part in parts]
    return torch.cat(found, dim=1), None


def _towers(model: Any) -> list[Any]:
    return [model.item_tower, model.user_tower] if hasattr(model, "item_tower") else [model]


@pytest.mark.parametrize("name", ["semb", "semid"])
def test_eager_attention_gives_the_same_gradients(name: str) -> None:
    paradigm, model = _made(name)
    expected = _gradients(paradigm, model)
    with computing(model, _recipe(attention="eager")):
        assert {tower.config._attn_implementation for tower in _towers(model)} == {"eager"}
        found = _gradients(paradigm, model)
    assert {tower.config._attn_implementation for tower in _towers(model)} == {"sdpa"}
    _assert_near(found, expected)


@pytest.mark.parametrize("name", ["semb", "semid"])
def test_attention_without_masks_gives_the_same_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What flash-attention is given, on any machine: sequences end to end, each with its own prompt."""
    paradigm, model = _made(name)
    expected = _gradients(paradigm, model)
    monkeypatch.setitem(AttentionInterface._global_mapping, "flash_reference", _end_to_end)
    for tower in _towers(model):
        tower.config._attn_implementation = "flash_reference"
    _assert_near(_gradients(paradigm, model), expected)


def _assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_flash_attention_is_refused_by_name_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = _made("semid")
    with pytest.raises(TrainingError, match=r'^attention = "flash_attention_2" needs an NVIDIA GPU; set attention'):
        with computing(model, _recipe(attention="flash_attention_2")):
            pass
    monkeypatch.setattr(computation_module.torch.cuda, "is_available", lambda: True)
    with pytest.raises(TrainingError, match="pip install flash-attn"):
        with computing(model, _recipe(attention="flash_attention_2")):
            pass


def test_a_model_with_its_own_attention_is_refused_by_name() -> None:
    _, model = _made("sasrec")
    with pytest.raises(TrainingError, match='attention = "eager": SasrecModel computes attention itself'):
        with computing(model, _recipe(attention="eager")):
            pass


def test_compiled_layers_give_the_same_gradients() -> None:
    """The compiler is torch's; here it runs without a code generator, which would take minutes."""
    paradigm, model = _made("sasrec")
    expected = _gradients(paradigm, model)
    names = list(model.state_dict())
    with compiled(model, backend="eager"):
        assert all(layer._compiled_call_impl is not None for layer in model.blocks)
        found = _gradients(paradigm, model)
    assert all(layer._compiled_call_impl is None for layer in model.blocks)
    assert list(model.state_dict()) == names
    _assert_near(found, expected)


def test_a_model_without_layers_is_not_compiled() -> None:
    with pytest.raises(TrainingError, match="compile: Linear has no layers; set compile = false"):
        with computing(nn.Linear(2, 2), _recipe(compile=True)):
            pass


def test_weights_in_bf16_are_so_during_the_training_alone(tmp_path) -> None:
    paradigm, model = _made("semb")
    seen = set()

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        seen.update((name.split(".")[0], weight.dtype) for name, weight in model.named_parameters())
        return paradigm.loss(model, batch)

    examples = paradigm.examples(HISTORIES, ITEMS, PHASE, 0)
    fit(model, examples, loss, _recipe(precision="bf16-weights"), tmp_path, seed=0)
    assert {dtype for name, dtype in seen if name != "log_scale"} == {torch.bfloat16}
    assert ("log_scale", torch.float32) in seen
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert name == "log_scale" or torch.equal(weight, weight.bfloat16().float())


class _Points:
    """One point over and over: its gradient is `slope` at all weights."""

    def __init__(self, slope: float = 1.0):
        self.slope = slope

    def __len__(self) -> int:
        return 8

    def draw(self, index: int, epoch: int) -> int:
        return index

    def collate(self, drawn: Any) -> dict[str, Tensor]:
        return {"rows": torch.tensor(drawn)}


def _weight_after(folder, slope: float = 1.0, start: float = 2.0, steps: int = 1, **values: Any) -> float:
    """A single weight after training on a line of this slope, with one step per epoch."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    recipe = _recipe(epochs=steps, learning_rate=0.1, **values)
    fit(model, _Points(), lambda model, _: model.weight.sum() * slope, recipe, folder, seed=0)
    return model.weight.item()


def test_weight_decay_is_apart_from_the_gradient_in_adamw_and_part_of_it_in_adam(tmp_path) -> None:
    """Kingma and Ba 2015; Loshchilov and Hutter 2019: the first step is η · g / |g|."""
    assert _weight_after(tmp_path / "a", weight_decay=0.5) == pytest.approx(2 - 0.1 * 0.5 * 2 - 0.1)
    assert _weight_after(tmp_path / "b", weight_decay=0.5, optimizer="adam") == pytest.approx(2 - 0.1)
    # The gradient alone would raise the weight; with the decay in it, it falls.
    falling = {"slope": -0.5, "weight_decay": 0.5, "max_grad_norm": 0}
    assert _weight_after(tmp_path / "c", **falling) == pytest.approx(2 - 0.1 + 0.1)
    assert _weight_after(tmp_path / "d", optimizer="adam", **falling) == pytest.approx(2 - 0.1)


def test_a_gradient_is_clipped_or_not(tmp_path) -> None:
    """Adam forgets the scale of all gradients, not that of one among others: 1, then 1000."""

    def moved(folder, clipping: float) -> float:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        slopes = iter([1.0, 1000.0])
        recipe = _recipe(epochs=2, learning_rate=0.1, max_grad_norm=clipping)
        fit(model, _Points(), lambda model, _: model.weight.sum() * next(slopes), recipe, folder, seed=0)
        return model.weight.item()

    assert moved(tmp_path / "clipped", 1.0) == pytest.approx(-0.2, rel=1e-3), "two steps of the same gradient"
    first, second = 1.0, 1000.0
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * first + 0.001 * second**2) / (1 - 0.999**2)
    expected = -0.1 - 0.1 * mean / square**0.5
    assert moved(tmp_path / "unclipped", 0.0) == pytest.approx(expected, rel=1e-3)


def test_adam_in_8_bits_says_what_it_needs(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r'pip install "mmgrid\[bitsandbytes\]"'):
        _weight_after(tmp_path, optimizer="adamw_8bit")
    monkeypatch.setattr(optimizer_module, "find_spec", lambda name: object())
    with pytest.raises(TrainingError, match='optimizer = "adamw_8bit" needs an NVIDIA GPU; set optimizer = "adamw"'):
        _weight_after(tmp_path, optimizer="adamw_8bit")
    monkeypatch.setattr(optimizer_module.torch.cuda, "is_available", lambda: True)
    assert optimizer_module.trainer_options(_recipe(optimizer="adamw_8bit")) == {"optim": "adamw_bnb_8bit"}


def test_examples_by_time(tmp_path) -> None:
    class Dated(_Points):
        times = [30, 10, 20, 10, 0, 70, 60, 50]

    def rows(order: str) -> list[int]:
        seen: list[int] = []

        def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            seen.extend(batch["rows"].tolist())
            return model.weight.sum()

        points = Dated()
        points.times = torch.tensor(Dated.times).numpy()
        fit(nn.Linear(1, 1, bias=False), points, loss, _recipe(epochs=2, order=order), tmp_path / order, seed=0)
        return seen

    found = [[Dated.times[row] for row in part] for part in (rows("time")[:8], rows("time")[8:])]
    assert found == [sorted(Dated.times)] * 2
    assert [Dated.times[row] for row in rows("shuffled")[:8]] != sorted(Dated.times)
    with pytest.raises(TrainingError, match='order = "time": _Points tells no times of its examples'):
        _weight_after(tmp_path / "none", order="time")
