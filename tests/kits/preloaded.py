"""What the server imports from which workers of grids are forked: all that builds cells, and nothing of it is garbage."""

# ruff: noqa: E402 - the collector stops before anything is imported

import gc

gc.disable()

import transformers.trainer  # noqa: F401

import mmgrid.grid.builders.build
import mmgrid.grid.builders.checkpoint
import mmgrid.grid.builders.evaluation
import mmgrid.grid.builders.merge
import mmgrid.paradigms.sasrec.paradigm
import mmgrid.paradigms.semb.paradigm
import mmgrid.paradigms.semid.paradigm
import mmgrid.paradigms.text.paradigm  # noqa: F401

gc.enable()
gc.freeze()
