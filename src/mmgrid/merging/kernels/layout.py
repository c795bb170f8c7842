"""What compiled loops and their callers agree on: numbers that stand for something, and the places in tables."""

BLOCK = 2048  # elements that are worked on at once

# What is done to a vector, and what its six numbers are.
MULTIPLY = 0  # by the factor
DIVIDE = 1  # by the factor
DROP = 2  # two keys, first of `random.limits`, two keys of the rest, rest of `random.limits`
WINDOW = 3  # bits of the cut that what is kept lies above; and of the one that it does not lie above
COLUMNS = 6
ALL = 1 << 62  # for the number of equals that lie above a cut: all of them

# How vectors become one.
BASE = 0  # the base as it is
SUM = 1  # Σ wᵢ xᵢ, perhaps divided
ELECTED = 2  # as in `methods.consensus.elected`

# Tables of int64, and how many numbers a row of each has.
RUN, VARIANT, SEARCH = 13, 10, 6

SPARE_WORDS = 16  # behind the elements that a search finds, which are written sixteen at a time

SLOT_BITS = 12
SLOTS = 1 << SLOT_BITS  # of the table of different numbers: half of them are used, and all fit a first-level cache
NO_VALUE = (1 << 32) - 1

ELEMENTS_OF_COUNTER = 16  # numbers of 16 bits that a step of Philox's counter gives
COUNTERS = BLOCK // ELEMENTS_OF_COUNTER + 2  # steps for a block that begins and ends within one
_SPARE = 12 * BLOCK  # three vectors


def room_bytes(n_sources: int) -> int:
    """Bytes of the room that a loop wants for one block."""
    return _SPARE + 64 * COUNTERS + 64 + 6 * BLOCK + 4 * BLOCK * n_sources
