"""Semantic IDs for items that appear after training: under the frozen codebook, without changing any older code.

Only the table of codes changes: the token rows stand for codes and not for items, so the model stays as it is.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from mmgrid.data import Corpus, DataError, Items
from mmgrid.families import expand
from mmgrid.files import clear_disk_errors, digest_file, replacing_folder, sha256_file, sync_folder, write_json
from mmgrid.merging.models.adapter_model import named_from
from mmgrid.merging.models.family.place import family_of
from mmgrid.merging.output.own_files import OWN_KIND
from mmgrid.paradigms.facts import FACTS_FILE, CheckpointError, facts
from mmgrid.paradigms.semid.code_tokens import CodeTokens, codes_file, entry_of, token_digest
from mmgrid.semantic_ids.codebook_files import ARRAYS_FILE
from mmgrid.semantic_ids.collisions import resolve_collisions, shares_code
from mmgrid.semantic_ids.quantiser import load_codebook

_OF_THE_CELL = ("record.json", "log.txt")  # they describe the checkpoint as it was built


@dataclass(frozen=True)
class AddedCodes:
    """What was added.

    items: all items now. added: items that got a code. known: items of the file that had one. moved: added items whose own
    code was taken, and that got a free one beside it. colliding: added items that share their code, since none was free.
    """

    items: int
    added: int
    known: int
    moved: int
    colliding: int


def add_codes(
    checkpoint: Path,
    corpus: Corpus,
    new: Items,
    codebook_folder: Path,
    embed: Callable[[Items], np.ndarray],
    out: Path,
    domain_out: Path,
    *,
    part: str | None = None,
) -> AddedCodes:
    """Write a checkpoint that knows new items, and the domain with them.

    Args:
        checkpoint: the folder of a semid checkpoint, or of one that is part of a family; a plain one is written.
        corpus: the domain as the checkpoint knows it.
        new: the new items; those that have a code already keep code and texts.
        codebook_folder: holds the codebook of the checkpoint's codes.
        embed: items → float [M, D], the vectors that codes are made from.
        out: a new folder, for the checkpoint.
        domain_out: the folder for the domain. It may be there if it is what would be written, as after an earlier call that
            was killed, or for another checkpoint.
        part: the domain, of a checkpoint with codes of several.

    Raises:
        CheckpointError: it is no semid checkpoint, or the codebook or the corpus is not the one of its codes.
        FileExistsError: `out` is there already, or `domain_out` with anything but the domain with these items.
        ValueError: the vectors do not fit the codebook, or one of the folders would lie in another.
    """
    _check_places(checkpoint, out, domain_out)
    check_has_codes(checkpoint)
    entry = entry_of(facts(checkpoint)["blocks"]["rows"], part, checkpoint)
    tokens, codes = CodeTokens.load(checkpoint, entry)
    known = corpus.catalogue
    if len(codes) != len(known):
        raise CheckpointError(
            f"{checkpoint}: has codes of {len(codes):,} items, and the domain has {len(known):,}; name the prepared domain "
            "that it was trained on (--domain-dir)"
        )
    codebook = load_codebook(codebook_folder)
    _check_codebook(codebook_folder, tokens, checkpoint)
    has_code = set(known.ids[codes.has_code()].tolist())
    chosen = np.array([row for row, item in enumerate(new.ids.tolist()) if item not in has_code], np.int64)
    fresh = _taken(new, chosen)
    items = pl.concat([fresh.table(), known.table()]).unique("item_id", keep="first", maintain_order=True)
    grown = Corpus.from_tables(corpus.name, corpus.interactions_table(), items)
    if domain_out.exists():
        _check_same(domain_out, grown)
    taken = codes.codes[codes.has_code()]
    encoded = np.empty((0, codes.levels), np.int32)
    final = encoded
    if len(fresh):
        vectors = embed(fresh)
        encoded = codebook.encode(vectors)
        final = resolve_collisions(codebook, vectors, encoded, taken)
    code_of = dict(zip(known.ids.tolist(), codes.codes, strict=True)) | dict(
        zip(fresh.ids.tolist(), final, strict=True)
    )
    rows = np.array([code_of[item] for item in grown.catalogue.ids.tolist()], np.int32)
    every = replace(codes, codes=rows)
    with _grown(checkpoint, out, grown, domain_out) as work:
        file = codes_file(work, entry)
        tokens.save_codes(every, file)
        _record(work, file)
    shares = shares_code(np.concatenate([final, taken]), codes.codes_per_level)[: len(final)]
    return AddedCodes(
        len(grown.catalogue),
        len(fresh),
        len(new) - len(fresh),
        int((encoded != final).any(axis=1).sum()),
        int(shares.sum()),
    )


def check_has_codes(checkpoint: Path, called: object = None) -> None:
    """Raise CheckpointError if a folder is no checkpoint with codes of items. called: its name for the error."""
    if not facts(checkpoint).get("blocks"):
        raise CheckpointError(f"{called or checkpoint}: has no codes of items; name a checkpoint of semid")


def _check_places(checkpoint: Path, out: Path, domain_out: Path) -> None:
    if out.exists():
        raise FileExistsError(f"{out}: exists already; name a new folder")
    for folder in (out, domain_out):
        if checkpoint.resolve() in folder.resolve().parents:
            raise ValueError(f"{folder}: would lie in the checkpoint {checkpoint}; name a folder elsewhere")
    one, other = out.resolve(), domain_out.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ValueError(
            f"{out} and {domain_out}: are to be two folders, of which neither lies in the other; name one of them otherwise"
        )


def _check_same(folder: Path, corpus: Corpus) -> None:
    """Raise FileExistsError if a folder is not what `corpus.save` writes."""
    try:
        found = Corpus.load(folder) if not folder.is_file() else None
    except DataError:
        found = None
    if (
        found is None
        or found.name != corpus.name
        or not found.catalogue.table().equals(corpus.catalogue.table())
        or not found.interactions_table().equals(corpus.interactions_table())
    ):
        raise FileExistsError(f"{folder}: exists already, and is not the domain with these items; name a new folder")


def _taken(items: Items, rows: np.ndarray) -> Items:
    some: list[int] = rows.tolist()
    titles, descriptions = [items.titles[row] for row in some], [items.descriptions[row] for row in some]
    return Items(items.ids[rows], titles, descriptions, np.arange(len(rows)))


def _check_codebook(folder: Path, tokens: CodeTokens, checkpoint: Path) -> None:
    """Raise CheckpointError if the checkpoint's token rows belong to another codebook."""
    digest = sha256_file(folder / ARRAYS_FILE)
    found = token_digest(digest, tokens.names)
    if tokens.digest and tokens.digest != found:
        raise CheckpointError(
            f"{folder}: is not the codebook of the codes in {checkpoint}, whose tokens are called like "
            f"{tokens.names[0] if tokens.names else tokens.block}; this one begins with {digest[:8]}"
        )


@contextmanager
def _grown(checkpoint: Path, out: Path, corpus: Corpus, domain_out: Path) -> Iterator[Path]:
    """The plain checkpoint in a folder of its own, to be changed; it appears after the domain beside it."""
    for folder in (out, domain_out):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with clear_disk_errors(out), replacing_folder(out) as work:
        mode = work.stat().st_mode  # not that of the checkpoint, which may be a temporary folder
        if family_of(checkpoint) is None:
            shutil.copytree(checkpoint, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_OF_THE_CELL))
            if (below := named_from(checkpoint, work)) is not None:  # of a LoRA adapter
                write_json(work / FACTS_FILE, {**facts(work), "adapter_of": below})
        else:  # its weights are elsewhere
            expand(checkpoint, work)
        work.chmod(mode)
        yield work
        sync_folder(work)  # so that little lies between the two folders
        if not domain_out.exists():
            with clear_disk_errors(domain_out), replacing_folder(domain_out) as domain:
                corpus.save(domain)


def _record(folder: Path, file: Path) -> None:
    """Tell a merge's record, which holds digests of its files, of the one that is another now."""
    declared = facts(folder)
    if file.name in declared.get("files", {}):
        declared["files"][file.name] = {OWN_KIND: digest_file(file, OWN_KIND), "bytes": file.stat().st_size}
        write_json(folder / FACTS_FILE, declared)
