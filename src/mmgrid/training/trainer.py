"""The Trainer of all trainings: it takes a loss function, and lets several processes share each batch."""

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from mmgrid.training.base_decay import BaseDecay
from mmgrid.training.errors import TrainingError
from mmgrid.training.schedule import EpochSequence, Examples
from mmgrid.training.sharding import clip_gradients, divide_loaded_state, shard, whole, whole_state
from mmgrid.training.share import Share, collate_share

Loss = Callable[[nn.Module, dict[str, Any]], Tensor]
_WEIGHT = "weight_of_share"  # in a batch that several processes share


@dataclass(frozen=True)
class SharedBatches:
    """Collates the process's share of each micro-batch, with the weight of its loss."""

    examples: Examples
    share: Share

    def __call__(self, drawn: Sequence[Any]) -> dict[str, Any]:
        batch, weight = collate_share(self.examples, drawn, self.share)
        return {**batch, _WEIGHT: weight}


class LossTrainer(Trainer):
    """A Trainer with a given loss function instead of the loss that the model's forward pass returns."""

    batch_loss: Loss
    decay: BaseDecay | None = None
    loss_is_scaled_for_ga = False  # a loss is the mean of a micro-batch, also where the model's own would be a sum

    def __init__(self, *, sharded: bool, **options: Any):
        self.sharded = sharded
        super().__init__(**options)
        if sharded:  # as of a model that was sharded when it was loaded: accelerate does not wrap it
            self.is_distributed_loading_by_transformers = True

    def _move_model_to_device(self, model, device):
        if not self.sharded:  # a device may not hold it whole
            super()._move_model_to_device(model, device)

    def get_train_dataloader(self) -> DataLoader:
        """Each of several processes gets all micro-batches in their order, and takes its share of each."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        assert isinstance(self.train_dataset, EpochSequence)
        return DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model=None):
        if self.sharded:
            shard(self.model)  # type: ignore[arg-type]
        optimizer = super().create_optimizer(model)
        if self.sharded:
            optimizer.register_load_state_dict_pre_hook(divide_loaded_state)
        if self.decay:
            optimizer.register_step_post_hook(self.decay.after_step)
        return optimizer

    def _sync_replicated_trainable_parameters(self, model):
        """`shard` does it, by means that gloo has, too."""

    @contextmanager
    def _defer_fsdp_gradient_reduction(self):
        """Gradients stay divided between micro-batches."""
        yield

    def _clip_grad_norm(self, model):  # type: ignore[override]
        return clip_gradients(model, self.args.max_grad_norm) if self.sharded else super()._clip_grad_norm(model)

    def _get_grad_norm(self, model, grad_norm=None):
        if self.sharded and grad_norm is None:
            grad_norm = clip_gradients(model, math.inf)
        return super()._get_grad_norm(model, grad_norm)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[override]
        weight = inputs.pop(_WEIGHT, 1.0)
        value = self.batch_loss(model, inputs) * weight
        if not torch.isfinite(value.detach()):
            raise TrainingError(
                f"the loss is {value.item()} at step {self.state.global_step}; "
                "lower the learning rate, or train in float32"
            )
        return (value, {}) if return_outputs else value

    def _save(self, output_dir=None, state_dict=None):  # type: ignore[override]
        """Of a model with frozen weights, a step checkpoint has the others only; of a sharded one, whole weights."""
        if self._trains_all and not self.sharded:
            super()._save(output_dir, state_dict)
            return
        named = self.model.named_parameters()  # type: ignore[union-attr]
        found = {name: whole(weight.detach()).contiguous() for name, weight in named if weight.requires_grad}
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir or ".")
            folder.mkdir(parents=True, exist_ok=True)
            save_file(found, folder / SAFE_WEIGHTS_NAME)

    def _save_optimizer_and_scheduler(self, output_dir):
        if not self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        found = whole_state(self.optimizer)  # type: ignore[arg-type]
        if self.args.should_save:
            torch.save(found, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)  # type: ignore[union-attr]

    def _issue_warnings_after_load(self, load_result):  # type: ignore[override]
        if self._trains_all and not self.sharded:
            super()._issue_warnings_after_load(load_result)

    @property
    def _trains_all(self) -> bool:
        return all(weight.requires_grad for weight in self.model.parameters())  # type: ignore[union-attr]
