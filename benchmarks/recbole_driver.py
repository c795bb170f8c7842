"""Trains RecBole's SASRec on the files of `sasrec_vs_recbole.py`, and writes the rank of each target.

Runs in a separate interpreter with RecBole and numpy, but without mmgrid. RecBole trains; the ranks are computed here
in numpy, over the full catalogue with the whole history masked, so that nothing depends on RecBole's evaluator. Its
metrics are recorded as a check: RecBole masks no history for sequential models, so the unmasked ranks are written as
well, and must give the same metrics.

Usage: python recbole_driver.py JOB.json, where the job names `dataset`, `config`, `epochs` and `questions`.
Shapes: U test users, N items, E numbers of epochs, B users of a block.
"""

import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_logger, init_seed

BLOCK = 512  # users scored at once


def main(job_file: Path) -> None:
    job = json.loads(job_file.read_text())
    torch.set_num_threads(job["threads"])
    # Importing RecBole's models turns on anomaly detection for the process (sine.py), which doubles the time of a step.
    torch.autograd.set_detect_anomaly(False)
    config = Config(model="SASRec", dataset=job["dataset"], config_dict=job["config"])
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    train_data, _, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = (Trimmed if job["trim"] else SASRec)(config, train_data.dataset).to(config["device"])
    trainer = Trainer(config, model)
    with np.load(job["questions"]) as questions:
        ask = Questions(dataset, dict(questions), config["MAX_ITEM_LIST_LENGTH"])
    if job["trim"]:
        ask.check(model)
    seconds, masked, unmasked, own = 0.0, [], [], []
    for epochs in job["epochs"]:
        trainer.epochs = epochs
        started = time.perf_counter()
        trainer.fit(train_data, saved=False, verbose=True)
        seconds += time.perf_counter() - started
        trainer.start_epoch = epochs
        found = ask.ranks(model)
        masked.append(found[0])
        unmasked.append(found[1])
        figures = dict(trainer.evaluate(test_data, load_best_model=False))
        own.append({"seconds": seconds, **{name: float(value) for name, value in figures.items()}})
        print(f"RecBole: {epochs} epochs, {own[-1]}", flush=True)
    np.savez(job["ranks"], masked=np.stack(masked), unmasked=np.stack(unmasked))
    facts = {
        "own": own,
        "examples": len(train_data.dataset),
        "trimmed": job["trim"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "versions": {
            "recbole": recbole.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    Path(job["facts"]).write_text(json.dumps(facts, indent=2))


class Trimmed(SASRec):
    """RecBole's model without computation on padding: prefixes of similar length are processed together.

    A user vector is read at the prefix's newest item, which sees no place after it, so that places after it
    change nothing. Most prefixes are short: this saves more than half of the time.
    """

    BOUNDS = (4, 8, 14)

    def forward(self, item_seq, item_seq_len):
        group = torch.bucketize(item_seq_len, torch.tensor(self.BOUNDS, device=item_seq.device))
        users = item_seq.new_empty((len(item_seq), self.hidden_size), dtype=torch.float32)
        for number in group.unique().tolist():
            rows = torch.nonzero(group == number)[:, 0]
            lengths = item_seq_len[rows]
            users = users.index_copy(0, rows, super().forward(item_seq[rows, : lengths.max()], lengths))
        return users


class Questions:
    """The test users: histories and targets as item rows, and RecBole's numbers of these items."""

    def __init__(self, dataset, questions: dict[str, np.ndarray], length: int):
        self.offsets, self.items = questions["offsets"], questions["items"]
        self.targets, self.n_items = questions["targets"], int(questions["n_items"])
        # RecBole's number of each item row: int64[N]; number 0 is padding.
        self.number = np.asarray(dataset.token2id("item_id", [str(row) for row in range(self.n_items)]))
        if dataset.item_num != self.n_items + 1 or len(set(self.number.tolist()) | {0}) != self.n_items + 1:
            raise ValueError(f"RecBole knows {dataset.item_num - 1} items, expected {self.n_items}")
        self.length = length

    @torch.no_grad()
    def ranks(self, model) -> tuple[np.ndarray, np.ndarray]:
        """Ranks from 0, with the history masked and not: two int64[U]. Of equal scores, the lower row ranks first."""
        model.eval()
        found = [self._block(model, start) for start in range(0, len(self.targets), BLOCK)]
        return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])

    @torch.no_grad()
    def check(self, model: Trimmed) -> None:
        """Checks on the first block of users that `Trimmed` computes the same as RecBole's forward."""
        model.eval()
        interaction = self._interaction(self._histories(0))
        asked = interaction["item_id_list"], interaction["item_length"]
        torch.testing.assert_close(model(*asked), SASRec.forward(model, *asked), rtol=1e-4, atol=1e-4)

    def _block(self, model, start: int) -> tuple[np.ndarray, np.ndarray]:
        histories = self._histories(start)
        numbered = model.full_sort_predict(self._interaction(histories).to(model.device)).cpu().numpy()
        scores = numbered.reshape(len(histories), -1)[:, self.number]
        targets = self.targets[start : start + BLOCK]
        unmasked = _ranks(scores, targets)
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        return _ranks(scores, targets), unmasked

    def _histories(self, start: int) -> list[np.ndarray]:
        stop = min(start + BLOCK, len(self.targets))
        return [self.items[self.offsets[i] : self.offsets[i + 1]] for i in range(start, stop)]

    def _interaction(self, histories: list[np.ndarray]) -> Interaction:
        """The latest items of each history in RecBole's numbers, padded at the end."""
        recent = [history[-self.length :] for history in histories]
        sequences = np.zeros((len(recent), self.length), np.int64)
        for row, items in enumerate(recent):
            sequences[row, : len(items)] = self.number[items]
        lengths = torch.tensor([len(items) for items in recent])
        return Interaction({"item_id_list": torch.from_numpy(sequences), "item_length": lengths})


def _ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The number of items ranked before each target: int64[B] from float[B, N]; -1 if the target is masked."""
    own = scores[np.arange(len(targets)), targets][:, None]
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < targets[:, None]))
    return np.where(np.isneginf(own[:, 0]), -1, ahead.sum(axis=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
