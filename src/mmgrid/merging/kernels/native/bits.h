/* Floats as the bits they are. */
#ifndef MMGRID_BITS_H
#define MMGRID_BITS_H

#include <stdint.h>
#include <string.h>

#define SIGN 0x80000000u
#define WITHOUT_SIGN 0x7FFFFFFFu
#define ONE 0x3F800000u /* of 1.0f */

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t magnitude(float value) { return bits_of(value) & WITHOUT_SIGN; }

/* 1.0f or 0.0f. Multiplying by it is what numpy does with a mask: zeros keep their sign, infinities become NaN. */
static inline float one_if(int condition) { return float_of((0u - (uint32_t)(condition != 0)) & ONE); }

static inline uint32_t larger(uint32_t one, uint32_t other) { return one > other ? one : other; }

static inline int highest_bit(uint32_t bits) {
    int place = 0;
    while (bits >>= 1) place++;
    return place;
}

static inline int lowest_bit(uint32_t bits) {
    int place = 0;
    while (!(bits >> place & 1)) place++;
    return place;
}

static inline int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }

#endif
