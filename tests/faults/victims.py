"""What is disturbed: a small grid's cells, and a merge. Each knows how to begin, and what an undisturbed one leaves."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.numpy import save_file

from kits.processes import start
from kits.tiny_grid import TEXT, write_grid
from mmgrid.store import Store
from mmgrid.store.address import SHORT_DIGITS
from mmgrid.store.lock import LOCK_SUFFIX
from mmgrid.store.record import RECORD_FILE


@dataclass
class Victim:
    """A command whose result is known.

    Attributes:
        arguments: of the command, but for the place of its output.
        place: where its output is.
        expected: file → digest, of an undisturbed run.
        beside: what it may say instead of ending well, where another process makes the same.
    """

    arguments: tuple[object, ...]
    place: Path
    expected: dict[str, str] = field(default_factory=dict)
    beside: ClassVar[tuple[str, ...]] = ()

    def start(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Begin the command, in a session of its own."""
        return start(*self.command(), environment=environment)

    def command(self) -> tuple[object, ...]:
        """The whole command."""
        raise NotImplementedError

    def found(self) -> dict[str, str]:
        """File → digest, of all that is published."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the output, if there is one."""
        shutil.rmtree(self.place, ignore_errors=True)

    def begun(self) -> bool:
        """Whether anything of the output was written, under a hidden name or its own."""
        return any(self.place.parent.glob(f"*{self.place.name}*"))

    def building(self) -> bool:
        """Whether something is being built now."""
        raise NotImplementedError

    def lapse(self) -> None:
        """Have the builders been silent for longer than their lease, if they have one."""

    def taken_over(self, said: str) -> bool:
        """Whether another runner has taken over what was being built, if that is possible. said: its errors."""
        return True


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

    def records(self) -> list[str]:
        """The record of each published cell, as files are named in `expected`."""
        cell = re.compile(rf".+?/[0-9a-f]{{{SHORT_DIGITS}}}(?=/)")
        return sorted({f"{found[0]}/{RECORD_FILE}" for file in self.expected if (found := cell.match(file))})

    def building(self) -> bool:
        return bool(self._locks())

    def lapse(self) -> None:
        for lock in self._locks():
            os.utime(lock, (1, 1))

    def taken_over(self, said: str) -> bool:
        return "taken over from" in said

    def _locks(self) -> list[Path]:
        return list(self.place.rglob(f"*{LOCK_SUFFIX}"))


class Merge(Victim):
    """A merge of two models of 24 MB."""

    beside = ("another merge is writing it now", "exists already and is not an empty folder")

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

    def building(self) -> bool:
        return self.begun() and not self.place.exists()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
