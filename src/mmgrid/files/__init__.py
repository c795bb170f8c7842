"""Atomic files and folders, digests, safe paths, clear disk errors, and models on the Hub."""

from mmgrid.files.digest import (
    DIGEST_KINDS,
    Digest,
    DigestCache,
    blake3_file,
    digest_file,
    new_digest,
    sha256_file,
    sha256_files,
)
from mmgrid.files.disk import DiskFull, NotWritableError, clear_disk_errors
from mmgrid.files.folder import (
    move_up,
    publish,
    remove_folder,
    replacing_file,
    sync_folder,
    work_folder,
    write_bytes,
    write_json,
)
from mmgrid.files.hub import HubName, model_folder, name_of, on_hub, short_name_of
from mmgrid.files.hub_errors import HubError, clear_hub_errors
from mmgrid.files.paths import file_stem, inside, safe_segment
from mmgrid.files.replacing import replacing_files, replacing_folder

__all__ = [
    "DIGEST_KINDS",
    "Digest",
    "DigestCache",
    "DiskFull",
    "HubError",
    "HubName",
    "NotWritableError",
    "blake3_file",
    "clear_disk_errors",
    "clear_hub_errors",
    "digest_file",
    "file_stem",
    "inside",
    "model_folder",
    "move_up",
    "name_of",
    "new_digest",
    "on_hub",
    "publish",
    "remove_folder",
    "replacing_file",
    "replacing_files",
    "replacing_folder",
    "safe_segment",
    "sha256_file",
    "sha256_files",
    "short_name_of",
    "sync_folder",
    "work_folder",
    "write_bytes",
    "write_json",
]
