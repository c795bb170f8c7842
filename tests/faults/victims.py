"""What is disturbed: a small grid's cells, and a merge. Each knows how to begin, and what an undisturbed one leaves."""

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from kits.processes import start
from kits.tiny_grid import TEXT, write_grid
from mmgrid.store import Store

NOT_COMPARED = ("record.json",)  # it holds times


@dataclass
class Victim:
    """A command whose result is known.

    Attributes:
        arguments: of the command, but for the place of its output.
        place: where its output is.
        expected: file → digest, of an undisturbed run.
    """

    arguments: tuple[object, ...]
    place: Path
    expected: dict[str, str] = field(default_factory=dict)

    def start(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Begin the command, in a session of its own."""
        return start(*self.command(), environment=environment)

    def command(self) -> tuple[object, ...]:
        """The whole command."""
        raise NotImplementedError

    def found(self) -> dict[str, str]:
        """File → digest, of all that is published."""
        raise NotImplementedError


class Cells(Victim):
    """The corpora of a grid and its baselines, which need no torch."""

    @classmethod
    def make(cls, folder: Path, cells: tuple[str, ...] = ("evaluation/baseline/*",)) -> "Cells":
        """A grid in `folder`, whose cells of these names are built in `folder/runs`."""
        folder.mkdir(parents=True, exist_ok=True)
        file = write_grid(folder, TEXT)
        only = [word for name in cells for word in ("--only", name)]
        return cls(("run", file, *only), folder / "runs")

    def command(self) -> tuple[object, ...]:
        return (*self.arguments, "--store", self.place)

    def found(self) -> dict[str, str]:
        files: dict[str, str] = {}
        if self.place.exists():
            for address, folder, record in Store(self.place).entries():
                for name in record.files:
                    files[f"{address.folder}/{name}"] = _digest(folder / name)
        return files


class Merge(Victim):
    """A merge of two models of 24 MB."""

    @classmethod
    def make(cls, folder: Path) -> "Merge":
        """Models in `folder`, merged to `folder/out/merged`."""
        draw = np.random.default_rng(0)
        for name in "abc":
            (folder / name).mkdir(parents=True)
            (folder / name / "config.json").write_text('{"model_type": "llama"}')
            tensors = {f"model.layers.{n}.w.weight": draw.random((512, 512), np.float32) for n in range(24)}
            save_file(tensors, folder / name / "model.safetensors")
        (folder / "out").mkdir()
        models = [word for name in "bc" for word in ("--model", f"{name}={folder / name}:0.5")]
        return cls(("merge", "--method", "ties", "--base", folder / "a", *models), folder / "out" / "merged")

    def command(self) -> tuple[object, ...]:
        return (*self.arguments, "-o", self.place)

    def found(self) -> dict[str, str]:
        below = self.place.rglob("*") if self.place.exists() else ()
        return {path.relative_to(self.place).as_posix(): _digest(path) for path in below if path.is_file()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
