/* The tables that Python fills and the loops read; `kernels/layout.py` has the same numbers.
 *
 * A table holds 64-bit numbers. Addresses are stored as numbers, so that a table of integers from numpy is enough.
 */
#ifndef MMGRID_LAYOUT_H
#define MMGRID_LAYOUT_H

#include <stdint.h>

#define BLOCK 512 /* elements that are processed at once, unless rows need more */

/* Operations on a vector, with their factor or their numbers. */
enum { MULTIPLY, DIVIDE, DROP, WINDOW, ROWS };
#define COLUMNS 6
#define ALL ((uint64_t)1 << 62) /* as the number of equal elements above a threshold: all of them */

/* Combinations of vectors. */
enum { BASE, SUM, ELECTED };

#define SLOT_BITS 12
#define SLOTS (1 << SLOT_BITS) /* of the hash table of distinct numbers */
#define NO_VALUE UINT32_MAX

/* Steps of Philox for a block that begins and ends in the middle of a step, and the rest of a vector of them. */
#define COUNTERS (BLOCK / 8 + 2 + 7)

/* A run of the sources. */
struct run {
    int64_t size;         /* elements */
    int64_t place;        /* index of the first element in its tensor */
    int64_t n_sources;    /* without the base */
    int64_t n_operations; /* of all sources */
    int64_t on_deltas;    /* whether the last address is a base, to be subtracted */
    int64_t has_stages;
    int64_t block;     /* elements that are processed at once: BLOCK, or the whole rows that operations need */
    int64_t row;       /* elements of a row that operations need; 1 if none does */
    uint64_t sources;  /* addresses [n_sources + on_deltas] of uint16 (bfloat16) or float [size] */
    uint64_t halves;   /* int64 [n_sources + on_deltas]: whether a source is bfloat16 */
    uint64_t bounds;   /* int64 [n_sources + 1]: the operations of source s are those from bounds[s] to bounds[s + 1] */
    uint64_t kinds;    /* int64 [n_operations] */
    uint64_t numbers;  /* uint64 [n_operations, COLUMNS] */
    uint64_t factors;  /* float [n_operations] */
    uint64_t left;     /* uint64 [n_operations, 2]: elements that equal a threshold and still count as above it */
};

/* A result of a run. */
struct variant {
    int64_t kind;        /* BASE, SUM or ELECTED */
    uint64_t weights;    /* float [2, n_sources]: of the sum, of the vote */
    uint64_t scalars;    /* float [2]: divisor, scale */
    int64_t is_divided;  /* whether the plain sum is divided by the divisor */
    int64_t is_scaled;   /* whether the combination of task vectors is multiplied by the scale */
    int64_t by_weight;   /* whether agreement is judged by the weighted task vectors */
    int64_t normalise;   /* whether the elected sum is divided by the weights of those that agree */
    uint64_t target;     /* uint16 (bfloat16) or float [size] */
    int64_t is_half;     /* whether the target is bfloat16 */
    int64_t largest;     /* output: the largest bits without sign before rounding */
};

/* The search for a threshold in a run. */
struct search {
    int64_t source;
    int64_t low, high; /* the interval of bits */
    uint64_t inside;   /* uint32 [size + 16]: gets the distances to `low` of the elements in the interval */
    int64_t beyond;    /* output: elements above the interval */
    int64_t n_inside;  /* output: elements inside it */
};

#define AT(type, address) ((type *)(uintptr_t)(address))

#endif
