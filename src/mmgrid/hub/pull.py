"""Fetches a model from the Hub into a folder, which appears complete and checked, or not at all."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmgrid.cards import checkpoints_in, read_json
from mmgrid.files import (
    HubError,
    HubName,
    clear_disk_errors,
    clear_hub_errors,
    inside,
    publish,
    remove_folder,
    sha256_file,
    work_folder,
)
from mmgrid.hub.uploads import DIGESTS_FILE

# Pickled weights, which can run code, and what is no part of the model.
_NOT_FETCHED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.h5", "*.msgpack", ".git*")
_BELOW = "*/*"  # others publish formats of other programs there; what a push has put there is listed
_CONFIGS = ("config.json", "adapter_config.json")
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[^\\\0]+)")


@dataclass(frozen=True)
class Pulled:
    """A fetched model.

    Attributes:
        folder: where it is now.
        name: on the Hub, with the commit.
        checked: the number of files whose digests were compared.
    """

    folder: Path
    name: HubName
    checked: int

    @property
    def about(self) -> str:
        """What it is, in a few words."""
        declared = read_json(self.folder / "mmgrid.json")
        known = [one for one in checkpoints_in(declared) if one.get("paradigm")]
        kinds = " and ".join(dict.fromkeys(str(one["paradigm"]) for one in known))
        domains = " and ".join(dict.fromkeys(str(one["domain"]) for one in known if one.get("domain")))
        if known and "made_from" in declared:
            return f"a merge of {kinds} checkpoints for {domains}"
        if known and domains:
            return f"a {kinds} checkpoint for {domains}, {known[0].get('phase')}"
        if known:
            return f"the base of {kinds}"
        return "a LoRA adapter" if (self.folder / _CONFIGS[1]).is_file() else "a language model"

    @property
    def recommends(self) -> bool:
        """Whether it is a recommender."""
        return any(one.get("domain") for one in checkpoints_in(read_json(self.folder / "mmgrid.json")))


def pull(repo: str, out: str | Path | None = None) -> Pulled:
    """Fetch a model from the Hub. A call that was cut is continued by the same call.

    Args:
        repo: NAME or ORG/NAME, with @REVISION for another state than the newest.
        out: the new folder. Default: NAME in the working folder.

    Raises:
        HubError: the Hub does not give it, it is no model, or a file is not what was published.
        FileExistsError: the folder exists already.
        DiskFull, NotWritableError: it cannot be written.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    name = HubName.parse(repo, without_organisation=True)
    if name is None:
        raise HubError(f"{repo}: is not a name on the Hub; it must be ORG/NAME or ORG/NAME@REVISION")
    out = Path(name.short if out is None else out)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise FileExistsError(f"{out}: exists already; give another folder with -o")
    if constants.HF_HUB_OFFLINE:
        raise HubError(f"{name}: cannot be fetched while HF_HUB_OFFLINE is set; unset it")
    work = work_folder(out)
    with clear_disk_errors(out, remedy="give another folder"), clear_hub_errors(str(name)):
        state = HfApi(library_name="mmgrid").model_info(name.repo, revision=name.revision, files_metadata=True)
        at = HubName(name.repo, state.sha)
        fetch = partial(snapshot_download, name.repo, revision=at.revision, local_dir=work)
        fetch(ignore_patterns=[*_NOT_FETCHED, _BELOW])
        if below := [glob.escape(file) for file in _listed(work) if "/" in file]:
            fetch(allow_patterns=below, ignore_patterns=[*_NOT_FETCHED])
        published = {one.rfilename: one.lfs.sha256 for one in state.siblings or () if one.lfs is not None}
        checked = _check(work, str(at), published)
        if (work / ".cache").is_dir():
            remove_folder(work / ".cache")  # of the Hub's library
        last = next(file for file in _CONFIGS if (work / file).is_file())
        publish(work, out, last_file=last, replace_leftover=False)
    return Pulled(out, at, checked)


def _check(folder: Path, name: str, published: Mapping[str, str]) -> int:
    """Compare all files with the digests that were published with them, and with the Hub's. Returns their number.

    Raises:
        HubError: a file differs or is missing, or the folder holds no model.
    """
    if not any((folder / file).is_file() for file in _CONFIGS):
        remove_folder(folder)
        raise HubError(f"{name}: holds no model: it has neither {' nor '.join(_CONFIGS)}")
    digests = {file: digest for file, digest in published.items() if (folder / file).is_file()}
    digests |= _listed(folder)
    wrong = [
        file
        for file, digest in sorted(digests.items())
        if not (folder / file).is_file() or sha256_file(folder / file) != digest
    ]
    if wrong:
        remove_folder(folder)
        raise HubError(
            f"{name}: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not what was published, by the digests in "
            f"{DIGESTS_FILE}: changed since, or damaged. Nothing was kept; pull another revision, or ask its authors"
        )
    return len(digests)


def _listed(folder: Path) -> dict[str, str]:
    """Path with "/" → digest of the files that were published, as far as they lie in the folder."""
    file = folder / DIGESTS_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = {line["name"]: line["digest"] for line in map(_LINE.fullmatch, lines) if line is not None}
    return {name: digest for name, digest in found.items() if _is_inside(folder, name)}


def _is_inside(folder: Path, name: str) -> bool:
    try:
        inside(folder, name, allow_links=True)
    except ValueError:
        return False
    return True
