"""Readers under atheris, guided by coverage: `python tests/fuzz/fuzz_readers.py [SUFFIX] -max_total_time=10`.

Needs `pip install atheris`, which has wheels for Linux.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["mmgrid.data"]):
    from fuzz.readers import ITEMS, LOG, SUFFIXES, attempt, folder, written

FINDINGS = Path(__file__).parent / "findings"


def main() -> None:
    chosen = [argument for argument in sys.argv[1:] if argument in SUFFIXES] or list(SUFFIXES)
    arguments = [argument for argument in sys.argv if argument not in SUFFIXES]
    with folder() as place:
        corpus = place / "corpus"
        corpus.mkdir()
        for number, suffix in enumerate(chosen):
            for is_log, table in ((True, LOG), (False, ITEMS)):
                seed = bytes([number, is_log * 2]) + written(table, suffix)
                (corpus / f"{number}{is_log}").write_bytes(seed)

        for file in FINDINGS.iterdir():
            if file.suffix in chosen:
                (corpus / file.name).write_bytes(bytes([chosen.index(file.suffix), 0]) + file.read_bytes())

        def one(data: bytes) -> None:
            if len(data) >= 2:
                suffix = chosen[data[0] % len(chosen)]
                attempt(place, data[2:], suffix, is_log=bool(data[1] & 2), skip=bool(data[1] & 1))

        atheris.Setup([*arguments, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
