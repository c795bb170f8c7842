"""Atomic files and folders, digests, safe paths and clear disk errors, used by merging and the store."""

from mmgrid.files.digest import DigestCache, sha256_file, sha256_files
from mmgrid.files.disk import DiskFull, NotWritableError, clear_disk_errors
from mmgrid.files.folder import (
    publish,
    remove_folder,
    replacing_file,
    sync_folder,
    work_folder,
    write_bytes,
    write_json,
)
from mmgrid.files.paths import file_stem, inside, safe_segment
from mmgrid.files.replacing import replacing_files, replacing_folder

__all__ = [
    "DigestCache",
    "DiskFull",
    "NotWritableError",
    "clear_disk_errors",
    "file_stem",
    "inside",
    "publish",
    "remove_folder",
    "replacing_file",
    "replacing_files",
    "replacing_folder",
    "safe_segment",
    "sha256_file",
    "sha256_files",
    "sync_folder",
    "work_folder",
    "write_bytes",
    "write_json",
]
