"""Readers of raw data: by the format's name in a grid, or two files by their own names."""

from mmgrid.data.readers.files import read_files
from mmgrid.data.readers.registry import READERS, Reader

__all__ = ["READERS", "Reader", "read_files"]
