"""Models on the Hugging Face Hub: their names, and their folders on this machine, from the Hub's cache or by download.

A name is `ORG/NAME` or `ORG/NAME@REVISION`; a revision is a branch, a tag or a commit. The path of a folder in the cache
contains the name and the commit, so the folder alone tells where it comes from (`name_of`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmgrid.files.hub_errors import clear_hub_errors

MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.codes", "*.jinja", "*.tiktoken", "*.py")
_ABOUT = ("README.md",)  # names the licence; an incomplete cache may lack it
# Files in subfolders are other formats of the model, or its training; `consolidated` holds the same weights again.
_IN_FOLDERS, _OTHER_FORMATS = ("*/*",), ("consolidated*.safetensors",)
_PART = r"[A-Za-z0-9_](?:[\w.-]*\w)?"
_REPO = re.compile(rf"(?:{_PART}/)?{_PART}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILE_ENDINGS = (".git", ".safetensors", ".json", ".yml", ".yaml")


@dataclass(frozen=True)
class HubName:
    """The name of a model on the Hub.

    Attributes:
        repo: ORG/NAME, or the NAME of an old model without an organisation.
        revision: a branch, tag or commit; None for the newest state.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"

    @property
    def short(self) -> str:
        """The name without organisation and revision."""
        return self.repo.rpartition("/")[2]

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    @classmethod
    def parse(cls, text: str, *, without_organisation: bool = False) -> HubName | None:
        """The name in `ORG/NAME[@REVISION]`; None if the text is something else, such as a path.

        without_organisation: also accept `NAME[@REVISION]`.
        """
        repo, at, revision = text.partition("@")
        if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(_FILE_ENDINGS):
            return None
        if (at and not revision) or any(sign.isspace() for sign in revision):
            return None
        return cls(repo, revision or None) if without_organisation or "/" in repo else None


def on_hub(path: Path, folder: Path | None = None, *, pinned: bool = False) -> HubName | None:
    """The name on the Hub that a path means; None if the path exists, or cannot be such a name. An existing one wins.

    Args:
        path: as the user gave it.
        folder: relative paths are resolved from here. Default: the working folder.
        pinned: accept only names with a commit; a record names its other sources by paths.
    """
    if path.is_absolute() or ((folder or Path.cwd()) / path).exists():
        return None
    name = HubName.parse(path.as_posix())
    return name if name is not None and (name.is_pinned or not pinned) else None


def model_folder(name: HubName, *, more: Iterable[str] = (), below: Iterable[str] = (), parts: bool = False) -> Path:
    """The folder of a model in the Hub's cache; what is missing there is downloaded.

    Only weights in safetensors, configs and the tokenizer are. With `HF_HUB_OFFLINE=1`, or without a network, the
    newest state in the cache is taken.

    Args:
        more: further files, or patterns of names.
        below: files of subfolders, or patterns of their paths; without a network they may be missing.
        parts: also take the files of subfolders, such as the parts of an embedding model.

    Raises:
        HubError: it is neither in the cache nor can it be downloaded; the message says why.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def found(patterns: Iterable[str], without: Iterable[str], revision: str | None = name.revision) -> Path:
        return Path(
            snapshot_download(
                name.repo, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(without)
            )
        )

    wanted, without = (*MODEL_FILES, *more), _OTHER_FORMATS if parts else (*_IN_FOLDERS, *_OTHER_FORMATS)
    with clear_hub_errors(str(name)):
        try:
            folder = found((*wanted, *_ABOUT), without)
        except LocalEntryNotFoundError as error:
            if not hasattr(error, "snapshot_path"):  # the cache has nothing of this model
                raise
            folder = found(wanted, without)
        if below := list(below):
            pinned = name_of(folder) or name
            with contextlib.suppress(LocalEntryNotFoundError):
                found(below, (), pinned.revision)
        return folder


def name_of(folder: Path) -> HubName | None:
    """The name, pinned to its commit, of a model's folder in the Hub's cache; None for any other folder."""
    *_, repo, kind, commit = ("", "", "", *folder.absolute().parts)
    if kind != "snapshots" or not repo.startswith("models--") or not _COMMIT.fullmatch(commit):
        return None
    return HubName(repo.removeprefix("models--").replace("--", "/"), commit)


def short_name_of(path: Path) -> str:
    """A model's name for people: the last part of its path or of its name on the Hub, without a revision."""
    name = name_of(path) or HubName.parse(path.as_posix())
    return path.name if name is None else name.short
