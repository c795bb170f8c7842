/* Elements side by side in a register: what the compiler does not find out by itself where a loop over sources lies within
 * the loop over elements. Each operation is that of single elements, with the same bits.
 */
#ifndef MMGRID_REGISTERS_H
#define MMGRID_REGISTERS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define REGISTER 64
#elif defined(__AVX2__)
#define REGISTER 32
#else
#define REGISTER 16
#endif
#define SOME (REGISTER / (int64_t)sizeof(float))
#define SOME_DOUBLES (REGISTER / (int64_t)sizeof(double))
typedef float floats __attribute__((vector_size(REGISTER)));
typedef int32_t whole __attribute__((vector_size(REGISTER)));
typedef double doubles __attribute__((vector_size(REGISTER)));
typedef float few_floats __attribute__((vector_size(REGISTER / 2)));

static inline floats floats_at(const float *from) {
    floats own;
    memcpy(&own, from, sizeof own);
    return own;
}

/* `n` floats, at most SOME_DOUBLES, as doubles; zeros behind them. */
static inline doubles doubles_at(const float *from, int64_t n) {
    few_floats own = {0};
    if (n == SOME_DOUBLES) {
        memcpy(&own, from, sizeof own);
    } else {
        memcpy(&own, from, (size_t)n * sizeof(float));
    }
    return __builtin_convertvector(own, doubles);
}

#endif
