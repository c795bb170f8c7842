"""Moving a live model along a direction: `walk` in steps, `Line` always from the starting point."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmgrid.merging import Line, MergeError, merge_state_dicts, walk


class Tiny(nn.Module):
    """A model with a tied head, a float buffer, an integer buffer, and an empty parameter."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.embed = nn.Embedding(11, 6)
        self.middle = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draw)
        self.head.weight = self.embed.weight
        self.nothing = nn.Parameter(torch.empty(0, 3))
        self.register_buffer("scale", torch.tensor(0.5))
        self.register_buffer("positions", torch.arange(4))
        self.to(dtype)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def direction_of(model: nn.Module, seed: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A direction with a tensor for every float tensor of the model; tied tensors get the same."""
    draw = torch.Generator().manual_seed(seed)
    steps = {
        name: (0.1 * torch.randn(tensor.shape, generator=draw)).to(dtype)
        for name, tensor in state(model).items()
        if tensor.is_floating_point()
    }
    return {**steps, "head.weight": steps["embed.weight"]}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].equal(other[name]) for name in one
    )


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.3, -2.0])
def test_a_step_is_computed_wide_and_rounded_once(dtype: torch.dtype, scale: float) -> None:
    model = Tiny(dtype)
    before, direction = state(model), direction_of(model)
    walk(model, direction, scale=scale)
    for name, tensor in state(model).items():
        if name not in direction:
            assert tensor.equal(before[name])
            continue
        wide = torch.promote_types(dtype, torch.float32)
        expected = torch.add(before[name].to(wide), direction[name].to(wide), alpha=scale).to(dtype)
        assert tensor.dtype == dtype
        assert tensor.equal(expected), name


def test_tied_parameters_are_moved_once_and_stay_tied() -> None:
    model = Tiny()
    before, direction = state(model), direction_of(model)
    walk(model, direction, scale=1.0)
    assert model.head.weight is model.embed.weight
    torch.testing.assert_close(model.embed.weight.detach(), before["embed.weight"] + direction["embed.weight"])
    Line(model, direction).at(1.0)
    torch.testing.assert_close(model.embed.weight.detach(), before["embed.weight"] + 2 * direction["embed.weight"])
    assert model.head.weight is model.embed.weight


def test_a_direction_may_name_one_of_two_tied_parameters() -> None:
    for name in ("embed.weight", "head.weight"):
        model = Tiny()
        before, direction = state(model), direction_of(model)
        walk(model, {name: direction[name]}, scale=1.0)
        assert model.embed.weight.detach().equal(before["embed.weight"] + direction[name])


def test_walking_back_and_forth_in_float32_drifts_and_a_line_does_not() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = Tiny(dtype)
        before, direction = state(model), direction_of(model)
        for scale in (0.1, 0.2, -0.05, 1.3):
            walk(model, direction, scale=scale)
            walk(model, direction, scale=-scale)
        if dtype == torch.bfloat16:
            assert not same(state(model), before), "the reason for Line"
        model.load_state_dict(before)
        line = Line(model, direction)
        for scale in (0.1, 0.2, -0.05, 1.3, 0.0):
            line.at(scale)
        assert same(state(model), before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_point_of_a_line_equals_a_merge(dtype: torch.dtype) -> None:
    """Θ(λ) has the bits that task arithmetic with scale λ writes to the disk, wherever the model was before."""
    model = Tiny(dtype)
    before = state(model)
    other = {
        name: tensor + direction_of(model)[name].to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in before.items()
    }
    direction = {name: other[name].float() - before[name].float() for name in direction_of(model)}
    line = Line(model, direction)
    for scale in (1.0, 0.5, -1.0, 0.3, 0.0, 0.3):
        assert line.at(scale) is model
        merged = merge_state_dicts("task_arithmetic", {"other": other}, base=before, scale=scale, dtype=dtype)
        for name, tensor in state(model).items():
            if dtype == torch.float64 and scale != 0:  # Line computes float64 models in float64, merges in float32
                torch.testing.assert_close(tensor, merged[name], rtol=1e-6, atol=1e-6)
            elif dtype == torch.float64:
                assert tensor.equal(before[name])
            else:  # one fused step here, two rounded ones in a merge: at most the last bit of float32 differs
                torch.testing.assert_close(
                    tensor, merged[name], rtol=1e-6 if dtype == torch.float32 else 8e-3, atol=1e-7
                )
        if dtype != torch.float64:
            wrong = [
                float((tensor != merged[name]).float().mean())
                for name, tensor in state(model).items()
                if tensor.numel()
            ]
            assert dtype == torch.float32 or max(wrong) < 0.02


def test_each_tensor_of_a_line_may_have_its_own_scale() -> None:
    model = Tiny()
    before, direction = state(model), direction_of(model)
    line = Line(model, direction)
    scales = {name: 0.1 * place - 0.2 for place, name in enumerate(line.names)}
    assert line.at_each(scales) is model
    for name in line.names:
        torch.testing.assert_close(state(model)[name], before[name] + scales[name] * direction[name])
    assert model.head.weight is model.embed.weight
    moved = state(model)
    with pytest.raises(MergeError, match="must be a finite number"):
        line.at_each(scales | {line.names[-1]: float("nan")})
    assert same(state(model), moved)
    line.at_each(dict.fromkeys(line.names, 0.5))
    halfway = state(model)
    assert same(state(line.at(0.5)), halfway)


def test_a_model_keeps_its_identity_and_gradients_are_not_recorded() -> None:
    model = Tiny()
    pointers = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    line = Line(model, direction_of(model))
    line.at(0.5)
    walk(model, direction_of(model), scale=0.5)
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == pointers
    assert all(parameter.grad_fn is None and parameter.requires_grad for parameter in model.parameters())
    loss = model.head(model.middle(model.embed(torch.tensor([1, 2])))).sum()
    loss.backward()
    assert model.embed.weight.grad is not None


def test_the_direction_is_not_changed_and_may_have_any_type() -> None:
    model = Tiny(torch.bfloat16)
    before = state(model)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        direction = direction_of(model, dtype=dtype)
        kept = {name: tensor.clone() for name, tensor in direction.items()}
        walk(model, direction, scale=0.5)
        Line(model, direction).at(0.5)
        assert same(direction, kept)
        model.load_state_dict(before)
        wide = torch.promote_types(dtype, torch.float32)
        walk(model, direction, scale=0.5)
        expected = (before["middle.weight"].to(wide) + 0.5 * direction["middle.weight"].to(wide)).bfloat16()
        assert (model.middle.weight.detach() != expected).float().mean() < 0.05
        model.load_state_dict(before)


def test_parameters_outside_the_direction_do_not_move() -> None:
    model = Tiny()
    before = state(model)
    line = Line(model, {"middle.bias": torch.ones(6)})
    with torch.no_grad():
        model.middle.weight.fill_(3.0)
    line.at(2.0)
    assert model.middle.weight.detach().eq(3).all()
    assert model.middle.bias.detach().equal(before["middle.bias"] + 2)
    walk(model, {}, scale=1.0)
    walk(model, {"middle.bias": torch.ones(6)}, scale=0.0)
    assert model.middle.bias.detach().equal(before["middle.bias"] + 2)


@pytest.mark.parametrize(
    ("direction", "says"),
    [
        ({"nowhere": torch.ones(1)}, "the model has no nowhere; a direction is named like"),
        ({"middle.bias": torch.ones(5)}, r"tensor middle\.bias: shapes differ: model \[6\], direction \[5\]"),
        ({"middle.bias": torch.ones(1, 6)}, r"tensor middle\.bias: shapes differ"),
        ({"positions": torch.ones(4)}, "tensor positions: holds whole numbers, and cannot be moved"),
    ],
)
def test_mismatched_directions_move_nothing(direction: dict[str, Tensor], says: str) -> None:
    model = Tiny()
    before = state(model)
    both: dict[str, Any] = {"middle.weight": torch.ones(6, 6), **direction}
    for move in (lambda: walk(model, both, scale=1.0), lambda: Line(model, both)):
        with pytest.raises(MergeError, match=says):
            move()
        assert same(state(model), before)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_scales_that_are_not_finite_move_nothing(scale: float) -> None:
    model = Tiny()
    before, line = state(model), Line(model, direction_of(model))
    for move in (lambda: walk(model, direction_of(model), scale=scale), lambda: line.at(scale)):
        with pytest.raises(MergeError, match=f"scale is {scale}; it must be a finite number"):
            move()
        assert same(state(model), before)


def test_tied_parameters_with_two_directions_are_refused() -> None:
    """Tied tensors are one parameter, which cannot move in two directions."""
    model = Tiny()
    before = state(model)
    both = {**direction_of(model), "head.weight": torch.zeros(11, 6)}
    for move in (lambda: walk(model, both, scale=1.0), lambda: Line(model, both)):
        with pytest.raises(
            MergeError, match=r"tensors embed\.weight and head\.weight are tied, but the direction differs"
        ):
            move()
        assert same(state(model), before)
