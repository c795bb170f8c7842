"""Weight decay towards the base Θ⁽⁰⁾ instead of towards zero: models that stay near one base can be merged.

Source: L2-SP (Li, Grandvalet and Davoine 2018, arXiv 1802.01483), decoupled from the gradient as AdamW's weight decay
is (Loshchilov and Hutter 2019, arXiv 1711.05101).
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class BaseDecay:
    """After each step of the optimizer, θ ← θ − η κ (θ − θ⁽⁰⁾), with κ = `rate` and the step's learning rate η.

    Weights that the base lacks are left alone; of a matrix with more rows than the base's (token rows of codes), the
    first rows are pulled.
    """

    def __init__(self, model: nn.Module, base: Path, rate: float):
        """Read the base's weights: as much memory as the model's.

        Raises:
            ValueError: the folder holds none of the weights that are trained.
        """
        self.rate = rate
        stored = {
            name: tensor for file in sorted(base.glob("*.safetensors")) for name, tensor in load_file(file).items()
        }
        self.home: dict[Tensor, Tensor] = {
            weight: stored[name].to(weight.device, weight.dtype)
            for name, weight in model.named_parameters()
            if name in stored and weight.requires_grad
        }
        if not self.home:
            raise ValueError(f"base_decay: {base} holds none of the weights that are trained")

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Pull the weights; a hook for `Optimizer.register_step_post_hook`."""
        for group in optimizer.param_groups:
            share = min(1.0, group["lr"] * self.rate)
            for weight in group["params"]:
                home = self.home.get(weight)
                if home is not None:
                    part = weight if weight.shape == home.shape else weight[: len(home)]
                    part.lerp_(home, share)
