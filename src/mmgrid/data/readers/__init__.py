"""Readers of raw data by the format that a grid names; `files` reads two files by their extension."""

from mmgrid.data.readers.options import Columns, PreparationOptions, TableOptions
from mmgrid.data.readers.registry import READERS, Reader

__all__ = ["READERS", "Columns", "PreparationOptions", "Reader", "TableOptions"]
