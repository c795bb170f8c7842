"""The device on which models are trained and evaluated."""

import torch

from mmgrid.machine.bf16 import fast_bf16
from mmgrid.machine.rates import seconds_of


class DeviceError(ValueError):
    """The device cannot do what a recipe asks for; the message says what to change."""


def device() -> str:
    """A GPU where there is one ("cuda", or "mps" on a Mac), otherwise "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bf16(place: str) -> bool:
    """Whether the device computes in bf16 at all; on a CPU it may be slow."""
    if place == "cuda":
        return torch.cuda.is_bf16_supported()
    return place != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def check_precision(precision: str) -> None:
    """Check that the device has the precision of a recipe.

    Raises:
        DeviceError: it has not.
    """
    place = device()
    if precision != "float32" and not has_bf16(place):
        needs = "macOS 14 or newer" if place == "mps" else "a newer GPU"
        raise DeviceError(
            f'precision = "{precision}" needs {needs} on this device ({place}); set precision = "float32"'
        )


def autocast(place: str, precision: str) -> torch.autocast:
    """Within it, a model on this kind of device computes in bfloat16 where that is safe, if `precision` is "bf16".

    With "float32" it computes as its weights are, also within another such block.
    """
    return torch.autocast(place, torch.bfloat16, enabled=precision == "bf16")


def emulated_bf16(size: int = 256) -> float | None:
    """Floating-point operations a second of one core that emulates products of bfloat16; None if none emulates them."""
    if fast_bf16():
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        draw = torch.ones(size, size, dtype=torch.bfloat16)
        return 2.0 * size**3 / min(seconds_of(lambda: torch.mm(draw, draw)) for _ in range(2))
    finally:
        torch.set_num_threads(threads)
