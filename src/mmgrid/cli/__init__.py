"""The command line: parses arguments, calls the package and prints."""

import gc

gc.set_threshold(10_000)  # imports make many objects and hardly any garbage: saves a tenth of a second
