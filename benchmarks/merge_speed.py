"""Merging models of the size of Qwen3-0.6B, compared with mergekit on the same files, with a warm page cache.

Prints, for each method, wall and processor seconds of the whole process and the peak resident memory (as counted by
the kernel) of `mmgrid merge` and `mergekit-yaml`, their ratio, and the ratio of our time to the lower bound: one read of
all sources and one write of the output, measured in the same run. Interpreter start is printed apart.

The first merge has an empty cache folder, so that it hashes its sources; the later ones find their digests there. On a
shared machine, processor seconds say more than wall seconds. Instructions do not depend on the machine's load at all:
they are counted by `perf stat`, or where it cannot, by callgrind (fifty times as slow, and without AVX-512).

    python benchmarks/merge_speed.py [--size 0.6B] [--folder DIR] [--mergekit BIN] [--only ties,slerp] [--repeats 1]
    python benchmarks/merge_speed.py --instructions --size 0.15B
    python benchmarks/merge_speed.py --grow        # 0.15, 0.6, 1.7 B with 2 sources; 2 to 6 sources at 0.6 B
"""

import argparse
import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import mmgrid
from disk_floor import seconds_of_bytes
from merge_models import make_models

MIB = 1 << 20
SOURCES = ("a", "b", "c", "d", "e", "f")


@dataclass(frozen=True)
class Case:
    """A method with its options, and mergekit's configuration for the same merge (None: mergekit lacks it)."""

    method: str
    options: dict[str, object]
    base: bool
    mergekit: str | None
    model_parameters: dict[str, object]
    parameters: dict[str, object]


CASES = {
    "linear": Case("linear", {}, False, "linear", {"weight": 0.5}, {}),
    "task_arithmetic": Case("task_arithmetic", {}, True, "task_arithmetic", {"weight": 0.5}, {}),
    "ties (tensor)": Case(
        "ties", {"scope": "tensor", "density": 0.2}, True, "ties", {"weight": 0.5, "density": 0.2}, {"normalize": True}
    ),
    "ties (model)": Case("ties", {"scope": "model", "density": 0.2}, True, None, {}, {}),
    "dare → ties": Case("dare", {"drop": 0.1, "inner": "ties"}, True, "dare_ties", {"weight": 0.5, "density": 0.9}, {}),
    "dare → ties (paper)": Case("ties", {"preset": "subspace"}, True, None, {}, {}),
    "slerp": Case("slerp", {}, False, "slerp", {}, {"t": 0.5}),
    "della": Case(
        "della", {"density": 0.7, "epsilon": 0.2}, True, "della", {"weight": 0.5, "density": 0.7, "epsilon": 0.1}, {}
    ),
    "breadcrumbs": Case(
        "breadcrumbs",
        {"density": 0.9, "gamma": 0.01},
        True,
        "breadcrumbs",
        {"weight": 0.5, "density": 0.9, "gamma": 0.01},
        {},
    ),
    "nuslerp": Case("nuslerp", {}, False, "nuslerp", {"weight": 0.5}, {}),
    "karcher": Case("karcher", {}, False, "karcher", {}, {"max_iter": 10, "tol": 1e-5}),
    "sce": Case("sce", {"select": 0.1}, True, "sce", {}, {"select_topk": 0.1}),
}


@dataclass(frozen=True)
class Measured:
    """A finished process: wall and processor time in seconds, peak resident bytes, output, errors."""

    seconds: float
    processor: float
    memory: int
    output: str
    errors: str

    @property
    def both(self) -> str:
        """Wall and processor seconds."""
        return f"{self.seconds:.2f} ({self.processor:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.6B")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mmgrid-merge-models")
    parser.add_argument("--mergekit", default=shutil.which("mergekit-yaml", path=str(Path(sys.executable).parent)))
    parser.add_argument("--only", default="", help="cases, separated by commas; default: all")
    parser.add_argument("--repeats", type=int, default=1, help="number of later runs; the best counts")
    parser.add_argument("--instructions", action="store_true", help="count instructions without hashing, no times")
    parser.add_argument("--grow", action="store_true", help="other sizes and numbers of sources, without mergekit")
    options = parser.parse_args()
    # As an installation does; without, the first run would compile mmgrid's modules.
    compileall.compile_dir(Path(mmgrid.__file__).parent, quiet=2)
    if options.instructions:
        count_instructions(options)
    elif options.grow:
        grow(options.folder, options.repeats)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    models = make_models(options.folder, options.size, ["base", "a", "b"])
    start = measured([sys.executable, "-c", "import mmgrid.cli.main"])
    torch = measured([sys.executable, "-c", "import torch"])
    print(f"Qwen3 {options.size}, base and two fine-tuned, bfloat16; {os.cpu_count()} cores.")
    print(f"Interpreter with mmgrid imported: {start.both} s; with torch imported: {torch.memory / MIB:.0f} MiB.")
    print("Seconds, and how much faster the first merge is: wall (processor).\n")
    print("| method | first | later | floor | × floor | MiB | mergekit | first faster | mergekit MiB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in chosen(options):
        case = CASES[name]
        files = [models[one] / "model.safetensors" for one in ("a", "b", *(["base"] if case.base else []))]
        floor = min(seconds_of_bytes(files, options.folder, files[0].stat().st_size) for _ in range(2))
        first = run_ours(case, models, ["a", "b"], options.folder, first=True)
        later = best(lambda case=case: run_ours(case, models, ["a", "b"], options.folder), options.repeats)
        inner, memory = json.loads(later.output)["seconds"], max(first.memory, later.memory)
        row = [name, first.both, later.both, f"{floor:.2f}", f"{inner / floor:.1f}", f"{memory / MIB:.0f}"]
        if options.mergekit and case.mergekit:
            theirs = run_mergekit(options.mergekit, case, models, options.folder)
            faster = f"{theirs.seconds / first.seconds:.1f}× ({theirs.processor / first.processor:.1f}×)"
            row += [theirs.both, faster, f"{theirs.memory / MIB:.0f}"]
        else:
            row += ["–"] * 3
        print("| " + " | ".join(row) + " |", flush=True)


def chosen(options: argparse.Namespace) -> list[str]:
    return [name.strip() for name in options.only.split(",") if name.strip()] or list(CASES)


def count_instructions(options: argparse.Namespace) -> None:
    """Prints the instructions of whole processes, with loops and without."""
    models = make_models(options.folder, options.size, ["base", "a", "b"])
    command, pattern = counter()
    print(f"Qwen3 {options.size}, base and two fine-tuned; billions of instructions, by {command[0]}.\n")
    print("| method | native | numpy |\n|---|--:|--:|")
    for name in chosen(options):
        row = [name]
        for kernels in ("on", "off"):
            case, env = CASES[name], {"MMGRID_KERNELS": kernels}
            run = run_ours(case, models, ["a", "b"], options.folder, under=command, env=env)
            found = re.findall(pattern, run.errors)
            row.append(f"{int(found[-1].replace(',', '')) / 1e9:.2f}")
        print("| " + " | ".join(row) + " |", flush=True)


def counter() -> tuple[list[str], str]:
    """A command that counts the instructions of another one, and how it prints them to the standard error."""
    perf = ["perf", "stat", "-x", " ", "-e", "instructions:u"]
    if shutil.which("perf"):
        tried = subprocess.run([*perf, "true"], capture_output=True, text=True, check=False)
        if re.match(r"\d+ ", tried.stderr):
            return perf, r"(?m)^(\d+) .*instructions"
    if shutil.which("valgrind"):
        return ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"], r"Collected : (\d+)"
    raise SystemExit("neither perf nor valgrind can count instructions here")


def grow(folder: Path, repeats: int) -> None:
    print("| size | sources | method | seconds | MiB |\n|---|--:|---|--:|--:|")
    for size, n in [("0.15B", 2), ("0.6B", 2), ("1.7B", 2), ("0.6B", 3), ("0.6B", 4), ("0.6B", 6)]:
        models = make_models(folder, size, ["base", *SOURCES[:n]])
        for name in ("linear", "task_arithmetic", "ties (model)"):
            ours = best(
                lambda name=name, models=models, n=n: run_ours(CASES[name], models, list(SOURCES[:n]), folder), repeats
            )
            inner = json.loads(ours.output)["seconds"]
            print(f"| {size} | {n} | {name} | {inner:.2f} | {ours.memory / MIB:.0f} |", flush=True)


def run_ours(
    case: Case,
    models: dict[str, Path],
    sources: list[str],
    folder: Path,
    *,
    first: bool = False,
    under: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Measured:
    """Runs `mmgrid merge RECIPE OUT`, `under` another command; the `first` merge on a machine has an empty cache."""
    cache = folder / "cache"
    if first:
        shutil.rmtree(cache, ignore_errors=True)
    recipe = {
        "method": case.method,
        "sources": [{"name": name, "path": str(models[name]), "weight": 0.5} for name in sources],
        "base": str(models["base"]) if case.base else None,
        "options": case.options,
    }
    file, out = folder / "recipe.yml", folder / "out-mmgrid"
    file.write_text(yaml.safe_dump(recipe))
    shutil.rmtree(out, ignore_errors=True)
    program = [*under, sys.executable, "-m", "mmgrid", "merge", str(file), str(out), "--json"]
    if under:  # hashing is not what is counted
        program.append("--no-digests")
    result = measured(program, {"XDG_CACHE_HOME": str(cache), **(env or {})})
    shutil.rmtree(out)
    return result


def run_mergekit(program: str, case: Case, models: dict[str, Path], folder: Path) -> Measured:
    """Runs `mergekit-yaml CONFIG OUT` for the same merge."""
    sources = [{"model": str(models[name]), "parameters": case.model_parameters} for name in ("a", "b")]
    config: dict[str, object] = {
        "merge_method": case.mergekit,
        "models": sources,
        "parameters": case.parameters,
        "dtype": "bfloat16",
    }
    if case.base:
        config["base_model"] = str(models["base"])
    if case.mergekit == "slerp":
        config |= {"base_model": str(models["a"]), "models": [{"model": str(models[name])} for name in ("a", "b")]}
    file, out = folder / "mergekit.yml", folder / "out-mergekit"
    file.write_text(yaml.safe_dump(config))
    shutil.rmtree(out, ignore_errors=True)
    result = measured([program, str(file), str(out), "--no-copy-tokenizer"])
    shutil.rmtree(out)
    return result


def best(run, repeats: int) -> Measured:
    return min((run() for _ in range(repeats)), key=lambda result: result.seconds)


def measured(program: list[str], env: Mapping[str, str] | None = None) -> Measured:
    """Runs a process to its end; its memory is as counted by the kernel, mapped pages included."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(program, stdout=output, stderr=errors, env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(program)}: exit code {process.returncode}:\n{errors.read().decode()[-2000:]}")
        processor = usage.ru_utime + usage.ru_stime
        return Measured(seconds, processor, usage.ru_maxrss * 1024, output.read().decode(), errors.read().decode())


if __name__ == "__main__":
    main()
