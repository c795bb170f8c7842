"""One `fit` for all paradigms, on transformers.Trainer and accelerate.

The Trainer provides devices, mixed precision, gradient accumulation, several processes and step checkpoints. This
module adds the order of the examples (`EpochSequence`), so that a killed run, resumed from its newest step checkpoint,
ends with the same weights, bit for bit, as an uninterrupted run.
"""

import logging
import math
import os
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from mmgrid.backbone.device import check_precision, device
from mmgrid.training.base_decay import BaseDecay
from mmgrid.training.computation import computing
from mmgrid.training.errors import TrainingError
from mmgrid.training.optimizer import own_class, trainer_options
from mmgrid.training.progress import StepProgress
from mmgrid.training.recipe import TrainingRecipe
from mmgrid.training.schedule import EpochSequence, Examples
from mmgrid.training.sharding import gather
from mmgrid.training.share import own_share
from mmgrid.training.tracking import Tracking, tracked
from mmgrid.training.trainer import Loss, LossTrainer, SharedBatches

logger = logging.getLogger(__name__)

LOSS_POINTS = 200  # approximate length of a loss curve
LOSS_WITHOUT_GRADIENT = 0.5  # share of the loss curve at 0 from which a training is told of
SAVE_SECONDS = 60.0
SAVE_SHARE = 0.02  # largest share of the time that goes into step checkpoints
_DROPOUTS = ("dropout", "attention_dropout", "attn_dropout", "attn_pdrop", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class TrainingReport:
    """Steps, number of examples and loss curve of a run.

    losses: (step, epoch, mean loss since the point before).
    """

    steps: int
    examples: int
    losses: list[tuple[int, float, float]]


def fit(
    model: nn.Module,
    examples: Examples,
    loss: Loss,
    recipe: TrainingRecipe,
    step_folder: Path,
    *,
    seed: int,
    progress: StepProgress | None = None,
    save_seconds: float = SAVE_SECONDS,
    tracking: Tracking | None = None,
    base: Path | None = None,
    sharded: bool = False,
) -> TrainingReport:
    """Train `model` in place on `examples`; resume if `step_folder` holds a step checkpoint.

    Args:
        loss: `loss(model, batch)` returns the mean loss of a batch as a scalar.
        step_folder: for step checkpoints.
        progress: called at every logged step.
        save_seconds: minimum time between two step checkpoints; it does not affect the weights. Where saving takes long,
            more time passes between two, such that it takes 2 % of the time at most; 0 saves at every logged step.
        tracking: experiment trackers that follow the training; they do not affect the weights.
        base: the folder of Θ⁽⁰⁾, if the recipe has a `base_decay`.
        sharded: of several processes, each holds its share of weights, gradients and moments only. Afterwards the model
            is whole again and can be saved, but no longer be called.

    Raises:
        DeviceError: the device has not the recipe's precision.
        TrainingError: there are no examples, the batch cannot be divided, or the loss or a weight is not finite.
        TypeError: the model has an attribute `config`, which Transformers reads, of another type than its own.
    """
    config = getattr(model, "config", None)
    if config is not None and not isinstance(config, PreTrainedConfig):
        raise TypeError(
            f"{type(model).__name__}.config is a {type(config).__name__}, and Transformers expects a PreTrainedConfig "
            "there; give the attribute another name"
        )
    least = recipe.least_steps * recipe.batch_size
    sequence = EpochSequence(examples, recipe.epochs, seed, least=least, order=recipe.order)
    if len(sequence) == 0:
        raise TrainingError(
            "no training examples: a recommender needs a user with a target in this phase and an item before it, "
            "a backbone at least one row of item texts"
        )
    check_precision(recipe.precision)
    PartialState(cpu=device() == "cpu")  # joins the process group, as the Trainer would
    share = own_share()
    if share.of > 1:
        _check_dropout(model)
    micro_batch = _micro_batch(recipe)
    steps = math.ceil(len(sequence) / recipe.batch_size)
    every = max(1, steps // LOSS_POINTS)
    with computing(model, recipe), tracked(tracking):
        trainer = LossTrainer(
            sharded=sharded,
            model=model,
            args=_arguments(recipe, step_folder, seed, steps, every, micro_batch, tracking),
            train_dataset=sequence,
            data_collator=examples.collate if share.of == 1 else SharedBatches(examples, share),
            callbacks=[_StepCallback(progress, every, save_seconds)],
            optimizer_cls_and_kwargs=own_class(recipe),
        )
        trainer.batch_loss = loss
        if recipe.base_decay:
            trainer.decay = _base_decay(model, base, recipe.base_decay)
        _train(trainer, step_folder)
        if sharded:
            gather(model)
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise TrainingError("after the last step some weights are not finite; lower the learning rate")
    losses = [
        (int(entry["step"]), entry["step"] / steps * len(sequence) / len(examples), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    _warn_of_nothing_learned([loss for _, _, loss in losses], steps)
    return TrainingReport(steps=steps, examples=len(examples), losses=losses)


def _warn_of_nothing_learned(losses: list[float], steps: int) -> None:
    """A loss of exactly 0 has no gradient, so that its steps leave the weights as they are."""
    share = losses.count(0.0) / len(losses) if losses else 0.0
    if share >= LOSS_WITHOUT_GRADIENT:
        logger.warning(
            "the loss was 0 in %s of its %d steps, and nothing is learned from such a step: the model tells all targets "
            "apart already, or has nothing to tell them from",
            "each" if share == 1.0 else f"{share:.0%}",
            steps,
        )


def _train(trainer: LossTrainer, step_folder: Path) -> None:
    """Train to the end, from the newest step checkpoint if there is one."""
    trainer.remove_callback(PrinterCallback)  # progress is reported through the callback only
    with trainer.accelerator.main_process_first():  # it removes broken step checkpoints before the others look
        last = newest_step(step_folder)
    if last:
        logger.info("resuming from %s", last)
    with warnings.catch_warnings():
        # torch warns once per run that the scheduler of a resumed run is stepped before the optimizer.
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        trainer.train(resume_from_checkpoint=last)
    trainer.accelerator.free_memory()


def newest_step(folder: Path) -> str | None:
    """The newest complete step checkpoint in `folder`; None if there is none.

    The Trainer writes the state file of a step checkpoint last. A half-written one has no readable state and is removed:
    it must neither be resumed from nor block the next one with its name.
    """
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))):
        try:
            TrainerState.load_from_json(str(Path(newest) / TRAINER_STATE_NAME))
        except (OSError, ValueError, TypeError):
            shutil.rmtree(newest)
        else:
            return newest
    return None


def _arguments(
    recipe: TrainingRecipe,
    folder: Path,
    seed: int,
    steps: int,
    every: int,
    micro_batch: int,
    tracking: Tracking | None,
) -> TrainingArguments:
    warmup = recipe.warmup_steps or math.ceil(recipe.warmup_ratio * steps)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=recipe.accumulation,
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.adam_beta2,
        lr_scheduler_type="cosine" if recipe.schedule == "cosine" else "constant_with_warmup",
        warmup_steps=min(warmup, max(steps - 1, 0)),
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        use_cpu=device() == "cpu",
        seed=seed % 2**32,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_strategy="steps",
        logging_steps=every,
        logging_nan_inf_filter=False,
        save_strategy="no",  # the callback requests step checkpoints by time
        save_total_limit=1,
        disable_tqdm=True,
        report_to=list(tracking.report_to) if tracking else [],
        run_name=tracking.run if tracking else None,
        project=tracking.project if tracking else "huggingface",
        trackio_space_id=os.environ.get("TRACKIO_SPACE_ID"),  # by default it stays on this machine
        dataloader_pin_memory=device() == "cuda",
        **trainer_options(recipe),
    )
    # Use one GPU per process; torch's DataParallel would split packed rows at arbitrary places.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _StepCallback(TrainerCallback):
    """Reports progress, and requests a step checkpoint when enough time has passed, which depends on what one costs.

    Checkpoints are written at logging steps only, so that a resumed run logs the same loss curve.
    """

    def __init__(self, progress: StepProgress | None, every: int, save_seconds: float):
        self.progress = progress
        self.every = every
        self.save_seconds = save_seconds
        self.saved_at = time.monotonic()
        self.cost = 0.0  # seconds that the last step checkpoint took

    @property
    def wait(self) -> float:
        """Seconds from one step checkpoint to the next."""
        return max(self.save_seconds, self.cost * (1 / SAVE_SHARE - 1)) if self.save_seconds else 0.0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            # The first process's clock decides for all, since each writes its part of a step checkpoint.
            due = broadcast_object_list([time.monotonic() - self.saved_at >= self.wait])
            if due[0]:
                control.should_save = True
                self.saved_at = time.monotonic()

    def on_save(self, args, state, control, **kwargs):
        now = time.monotonic()
        self.cost, self.saved_at = now - self.saved_at, now

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.progress:
            self.progress(state.global_step, state.max_steps, (logs or {}).get("loss"))


def _base_decay(model: nn.Module, base: Path | None, rate: float) -> BaseDecay:
    if base is None:
        raise TrainingError(
            "base_decay pulls the weights towards a base, and this model starts from none; leave it out"
        )
    try:
        return BaseDecay(model, base, rate)
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _micro_batch(recipe: TrainingRecipe) -> int:
    """Examples of a micro-batch, over all processes."""
    if recipe.batch_size % recipe.accumulation:
        raise TrainingError(
            f"batch_size {recipe.batch_size} cannot be divided into {recipe.accumulation} micro-batches "
            f"(accumulation); make it a multiple of {recipe.accumulation}"
        )
    return recipe.batch_size // recipe.accumulation


def _check_dropout(model: nn.Module) -> None:
    """Raise TrainingError if the model draws at random while it trains: several processes would draw otherwise."""
    drawn = {name: one.p for name, one in model.named_modules() if isinstance(one, nn.Dropout) and one.p}
    for one in model.modules():
        if isinstance(one, PreTrainedModel):  # what attention drops is in no module
            drawn |= {name: value for name, value in vars(one.config).items() if name in _DROPOUTS and value}
    if drawn:
        name, value = next(iter(drawn.items()))
        raise TrainingError(
            f"several processes draw other dropout masks than one, and {type(model).__name__} has dropout ({name} = "
            f"{value}); set it to 0, or processes = 1"
        )
