"""The layout that compiled loops and their callers share: codes, table sizes, and scratch memory."""

BLOCK = 2048  # elements processed at once

# Operations on a vector, with their factor or their six numbers.
MULTIPLY = 0  # by the factor
DIVIDE = 1  # by the factor
DROP = 2  # key of the first bits (two words), their limit, key of the rest (two words), its limit; see `random.limits`
WINDOW = 3  # bits of the lower threshold, which kept elements are above, and of the upper one, which they are not above
COLUMNS = 6
ALL = 1 << 62  # as the number of equal elements above a threshold: all of them

# Combinations of vectors.
BASE = 0  # the unchanged base
SUM = 1  # Σ wᵢ xᵢ, optionally divided
ELECTED = 2  # as in `methods.consensus.elected`

# Numbers per row in the tables of int64.
RUN, VARIANT, SEARCH = 13, 10, 6

SPARE_WORDS = 16  # after the elements that a search finds, because they are written sixteen at a time

SLOT_BITS = 12
SLOTS = 1 << SLOT_BITS  # of the hash table of distinct numbers: at most half are used, and all fit in the L1 cache
NO_VALUE = (1 << 32) - 1

ELEMENTS_OF_COUNTER = 16  # 16-bit numbers per step of Philox's counter
COUNTERS = BLOCK // ELEMENTS_OF_COUNTER + 2  # steps for a block that begins and ends in the middle of a step
_SPARE = 12 * BLOCK  # three vectors


def room_bytes(n_sources: int) -> int:
    """Bytes of scratch memory that a loop needs for one block."""
    return _SPARE + 64 * COUNTERS + 64 + 6 * BLOCK + 4 * BLOCK * n_sources
