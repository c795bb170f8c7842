"""The optimizers of a recipe, as the Trainer takes them."""

from importlib.util import find_spec
from typing import Any

import torch

from mmgrid.training.errors import TrainingError
from mmgrid.training.recipe import TrainingRecipe

ADAM_EPSILON = 1e-8


def trainer_options(recipe: TrainingRecipe) -> dict[str, Any]:
    """Arguments of `TrainingArguments` that choose the optimizer; those of AdamW and of Adam are the Trainer's own.

    Raises:
        TrainingError: the optimizer is not available on this machine.
    """
    if recipe.optimizer != "adamw_8bit":
        return {}
    if find_spec("bitsandbytes") is None:
        raise TrainingError(
            'optimizer = "adamw_8bit" needs bitsandbytes, which is not installed: `pip install "mmgrid[bitsandbytes]"`, '
            'or set optimizer = "adamw"'
        )
    if not torch.cuda.is_available():
        raise TrainingError('optimizer = "adamw_8bit" needs an NVIDIA GPU; set optimizer = "adamw"')
    return {"optim": "adamw_bnb_8bit"}


def own_class(recipe: TrainingRecipe) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
    """Class and arguments of an optimizer that the Trainer does not know by name: Adam, whose weight decay is part of
    the gradient (Kingma and Ba 2015, arXiv 1412.6980).
    """
    if recipe.optimizer != "adam":
        return None
    betas = (0.9, recipe.adam_beta2)
    return torch.optim.Adam, {"lr": recipe.learning_rate, "betas": betas, "eps": ADAM_EPSILON}
