"""Runs all benchmarks that need no other environment, one after the other."""

import runpy
import sys
from pathlib import Path

BENCHMARKS = (
    "plan",
    "scheduling",
    "prepare",
    "semb_training",
    "text_training",
    "semid_training",
    "item_trie",
    "beam_search",
    "batch_recommend",
    "merge_sweeps",
    "merge_speed",
)


def main() -> None:
    for name in BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        sys.argv = [name]
        runpy.run_path(str(Path(__file__).with_name(f"{name}.py")), run_name="__main__")


if __name__ == "__main__":
    main()
