"""The layout that the native loops and their callers share: codes, table sizes, scratch memory; see native/layout.h."""

BLOCK = 512  # elements processed at once, unless rows need more

# Operations on a vector, with their factor or their six numbers.
MULTIPLY = 0  # by the factor
DIVIDE = 1  # by the factor
DROP = 2  # key of the first bits (two words), their limit, key of the rest (two words), its limit; see `random.limits`
WINDOW = 3  # bits of the lower threshold, which kept elements are above, and of the upper one, which they are not above
ROWS = (
    4  # key (two words), elements in a row, address of the chances by rank, uint32 [row], whether they are divided by
)
COLUMNS = 6
ALL = 1 << 62  # as the number of equal elements above a threshold: all of them

# Combinations of vectors.
BASE = 0  # the unchanged base
SUM = 1  # Σ wᵢ xᵢ, optionally divided
ELECTED = 2  # as in `methods.consensus.elected`

# Numbers per row in the tables of int64.
RUN, VARIANT, SEARCH = 15, 10, 6

SPARE_WORDS = 16  # after the elements that a search finds, because they are written sixteen at a time

SLOTS = 1 << 12  # of the hash table of distinct numbers: at most half are used, and all fit in the L1 cache

LINE = 64  # bytes of a cache line, at which scratch memory begins
_COUNTERS = BLOCK // 8 + 2 + 7  # steps of Philox for a block
_DRAWS = 8 * (4 * _COUNTERS + 4 * 8)


MOST_COLUMNS = 4096  # of the rows that a sorting network ranks side by side, see native/network.h
MOST_ROWS = 16  # that it ranks at once
FEW = 8  # places that it sorts in registers


def block_of(row: int, rows_at_once: int) -> int:
    """The elements processed at once if rows of `row` elements must not be parted; 1 for single elements."""
    if row == 1:
        return BLOCK
    together = rows_at_once if row <= MOST_COLUMNS else 1
    return max(BLOCK // (row * together), 1) * together * row


def room_bytes(n_sources: int, block: int, row: int) -> int:
    """Bytes of scratch memory that a loop needs for one block: see `open_room` in native/vectors.h."""
    of_rows = 4 * MOST_ROWS * (row + FEW) + 2 * 8 * row
    vectors, chances, chosen = 4 * (1 + n_sources), 4, 2
    return of_rows + _DRAWS + 4 * BLOCK + block * (vectors + chances + chosen)
