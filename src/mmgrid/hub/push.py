"""Publishes the folder of a model on the Hub, in one commit: all of it appears, or nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgrid.cards import CARD_FILE, Measured, checkpoint_card, used_from_hub, with_results
from mmgrid.families import expand
from mmgrid.files import HubError, HubName, clear_hub_errors
from mmgrid.hub.uploads import WEIGHTS, Content, uploads
from mmgrid.merging.models.family.place import family_of


@dataclass(frozen=True)
class Pushed:
    """A published model.

    Attributes:
        url: of its page.
        name: on the Hub, with the commit.
        files: the names of its files.
        total_bytes: the size of all files; what the Hub had already was not sent.
    """

    url: str
    name: HubName
    files: tuple[str, ...]
    total_bytes: int


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    measured: Sequence[Measured] = (),
    origin: Mapping[str, Any] | None = None,
) -> Pushed:
    """Publish a model: weights, config, tokenizer, `mmgrid.json`, the model card, and digests of all of them.

    Args:
        folder: of a checkpoint, a merge, an adapter or a language model.
        repo: NAME or ORG/NAME; created if it does not exist.
        private: create it as a private one.
        revision: the branch; created if it does not exist. Default: main.
        message: of the commit.
        measured: what was measured with the model, for the card.
        origin: where it comes from, for a card that is made now (see `checkpoint_card`).

    Raises:
        HubError: the folder holds no model, or the Hub refuses; the message says why, and what to do.
    """
    folder, name = Path(folder), _named(repo, revision)
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder")
    title = message or f"Publish {folder.name} by mmgrid"
    with _plain(folder) as plain:
        return _push(plain, name, title, private=private, measured=measured, origin=origin)


def _push(
    folder: Path,
    name: HubName,
    title: str,
    *,
    private: bool,
    measured: Sequence[Measured],
    origin: Mapping[str, Any] | None,
) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    card = _card(folder, origin)
    uploads(folder, card)  # before anything is asked of the Hub
    api = HfApi(library_name="mmgrid")
    with clear_hub_errors(str(name), writing=True):
        url = api.create_repo(name.repo, private=private or None, exist_ok=True)
        full = url.repo_id
        if private and not api.repo_info(full).private:
            raise HubError(f"{full}: exists already and is public; make it private on its page, or leave --private out")
        if name.revision is not None:
            api.create_branch(full, branch=name.revision, exist_ok=True)
        found = uploads(folder, with_results(used_from_hub(card, full), measured, full))
        there = api.list_repo_files(full, revision=name.revision)
        operations: list[Any] = [CommitOperationAdd(file, _given(content)) for file, content in found.items()]
        operations += [CommitOperationDelete(file) for file in there if _is_stale(file, found)]
        commit = api.create_commit(full, operations, commit_message=title, revision=name.revision)
    size = sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in found.values())
    at = "" if name.revision is None else f"/tree/{name.revision}"
    return Pushed(f"{url}{at}", HubName(full, commit.oid), tuple(sorted(found)), size)


@contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """The folder of a checkpoint; of one that is stored as a change, which nobody elsewhere could read, it is expanded."""
    place = family_of(folder)
    if place is None or not place.is_checkpoint(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mmgrid-") as temporary:
        expand(folder, Path(temporary) / folder.name)
        yield Path(temporary) / folder.name


def _named(repo: str, revision: str | None) -> HubName:
    name = HubName.parse(repo, without_organisation=True)
    if name is None:
        raise HubError(f"{repo}: is not a name on the Hub; it must be NAME or ORG/NAME, of letters, digits and - _ .")
    return HubName(name.repo, revision or name.revision)


def _card(folder: Path, origin: Mapping[str, Any] | None) -> str:
    """The card in the folder, or a new one if it has none, as in stores of earlier versions."""
    file = folder / CARD_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else checkpoint_card(folder, origin)


def _given(content: Content) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


def _is_stale(file: str, found: Mapping[str, Content]) -> bool:
    """Whether a file of an earlier state would be taken for a part of this model: other shards, or their index."""
    return "/" not in file and file.endswith((WEIGHTS, f"{WEIGHTS}.index.json")) and file not in found
