/* Philox 4x64 with ten rounds: the same numbers as numpy's Philox in `methods/stages/random.py`.
 *
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, including the constants.
 *
 * With wide registers several counters are drawn at once. They have no 64-bit product with all its bits, so it is put
 * together from the four products of its halves. Registers of AVX2 take as long for this as plain ones do, and other
 * units of the processor, so both draw side by side.
 */
#ifndef MMGRID_PHILOX_H
#define MMGRID_PHILOX_H

#include <stdint.h>
#include <string.h>

#define FIRST UINT64_C(0xD2E7470EE14C6C93)
#define SECOND UINT64_C(0xCA5A826395121157)
#define FIRST_STEP UINT64_C(0x9E3779B97F4A7C15)
#define SECOND_STEP UINT64_C(0xBB67AE8584CAA73B)
#define ROUNDS 10

#if defined(__SIZEOF_INT128__)
__extension__ typedef unsigned __int128 wide_t;

static inline uint64_t high(uint64_t one, uint64_t other) { return (uint64_t)(((wide_t)one * other) >> 64); }
#else
static inline uint64_t high(uint64_t one, uint64_t other) {
    uint64_t one_low = one & UINT32_MAX, one_high = one >> 32, other_low = other & UINT32_MAX, other_high = other >> 32;
    uint64_t across = one_high * other_low;
    uint64_t middle = ((one_low * other_low) >> 32) + (across & UINT32_MAX) + one_low * other_high;
    return one_high * other_high + (across >> 32) + (middle >> 32);
}
#endif

/* A counter while its numbers are drawn. */
struct counter {
    uint64_t a, b, c, d;
};

static inline void turn(struct counter *own, uint64_t key, uint64_t other_key) {
    const uint64_t from_c = high(SECOND, own->c) ^ own->b ^ key, from_a = high(FIRST, own->a) ^ own->d ^ other_key;
    own->b = SECOND * own->c, own->d = FIRST * own->a, own->a = from_c, own->c = from_a;
}

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>

#if defined(__AVX512F__)
#define LANES 8
#define PLAIN 0 /* counters beside those of a wide register */
typedef __m512i lanes;
#define ALL_LANES(value) _mm512_set1_epi64((int64_t)(value))
#define TIMES _mm512_mul_epu32
#define PLUS _mm512_add_epi64
#define AND _mm512_and_si512
#define XOR3(one, two, three) _mm512_ternarylogic_epi64(one, two, three, 0x96)
#define UPPER(value) _mm512_srli_epi64(value, 32)
/* The lower half of one number, and above it the lower half of the other. */
#define LOWER_TWO(one, other) _mm512_mask_shuffle_epi32(one, 0xAAAA, other, (_MM_PERM_ENUM)0xA0)
#else
#define LANES 4
#define PLAIN 2
typedef __m256i lanes;
#define ALL_LANES(value) _mm256_set1_epi64x((int64_t)(value))
#define TIMES _mm256_mul_epu32
#define PLUS _mm256_add_epi64
#define AND _mm256_and_si256
#define XOR3(one, two, three) _mm256_xor_si256(_mm256_xor_si256(one, two), three)
#define UPPER(value) _mm256_srli_epi64(value, 32)
#define LOWER_TWO(one, other) _mm256_blend_epi32(one, _mm256_slli_epi64(other, 32), 0xAA)
#endif

/* Both halves of the products with a constant, which is given by its halves. */
static inline void multiply(lanes value, lanes constant_low, lanes constant_high, lanes *high, lanes *low) {
    const lanes value_high = UPPER(value), lower = TIMES(value, constant_low), across = TIMES(value_high, constant_low);
    const lanes middle = PLUS(PLUS(UPPER(lower), AND(across, ALL_LANES(UINT32_MAX))), TIMES(value, constant_high));
    *high = PLUS(PLUS(TIMES(value_high, constant_high), UPPER(across)), UPPER(middle));
    *low = LOWER_TWO(lower, middle);
}

/* Writes the numbers of LANES counters one after the other. */
static inline void store_words(lanes a, lanes b, lanes c, lanes d, uint64_t *words) {
#if LANES == 8
    const lanes even_ab = _mm512_unpacklo_epi64(a, b), odd_ab = _mm512_unpackhi_epi64(a, b);
    const lanes even_cd = _mm512_unpacklo_epi64(c, d), odd_cd = _mm512_unpackhi_epi64(c, d);
    const lanes even_first = _mm512_shuffle_i64x2(even_ab, even_cd, 0x44),
                odd_first = _mm512_shuffle_i64x2(odd_ab, odd_cd, 0x44),
                even_last = _mm512_shuffle_i64x2(even_ab, even_cd, 0xEE),
                odd_last = _mm512_shuffle_i64x2(odd_ab, odd_cd, 0xEE);
    _mm512_storeu_si512(words, _mm512_shuffle_i64x2(even_first, odd_first, 0x88));
    _mm512_storeu_si512(words + 8, _mm512_shuffle_i64x2(even_first, odd_first, 0xDD));
    _mm512_storeu_si512(words + 16, _mm512_shuffle_i64x2(even_last, odd_last, 0x88));
    _mm512_storeu_si512(words + 24, _mm512_shuffle_i64x2(even_last, odd_last, 0xDD));
#else
    const lanes even_ab = _mm256_unpacklo_epi64(a, b), odd_ab = _mm256_unpackhi_epi64(a, b);
    const lanes even_cd = _mm256_unpacklo_epi64(c, d), odd_cd = _mm256_unpackhi_epi64(c, d);
    lanes *target = (lanes *)words;
    _mm256_storeu_si256(target, _mm256_permute2x128_si256(even_ab, even_cd, 0x20));
    _mm256_storeu_si256(target + 1, _mm256_permute2x128_si256(odd_ab, odd_cd, 0x20));
    _mm256_storeu_si256(target + 2, _mm256_permute2x128_si256(even_ab, even_cd, 0x31));
    _mm256_storeu_si256(target + 3, _mm256_permute2x128_si256(odd_ab, odd_cd, 0x31));
#endif
}

/* Writes the 4 n numbers of `n` counters from `block` on to `words`, which has room for those of whole steps. numpy
 * increments the counter before it draws, so its block 0 has counter 1. */
static void draw(const uint64_t *numbers, uint64_t block, int64_t n, uint64_t *words) {
    const lanes first_low = ALL_LANES(FIRST), first_high = ALL_LANES(FIRST >> 32);
    const lanes second_low = ALL_LANES(SECOND), second_high = ALL_LANES(SECOND >> 32);
    uint64_t in_order[LANES], keys[2 * ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        keys[2 * round] = numbers[0] + (uint64_t)round * FIRST_STEP;
        keys[2 * round + 1] = numbers[1] + (uint64_t)round * SECOND_STEP;
    }
    for (uint64_t lane = 0; lane < LANES; lane++) in_order[lane] = block + 1 + lane;
#if LANES == 8
    lanes counter = _mm512_loadu_si512(in_order);
#else
    lanes counter = _mm256_loadu_si256((const lanes *)in_order);
#endif
    for (int64_t done = 0; done < n; done += LANES + PLAIN, counter = PLUS(counter, ALL_LANES(LANES + PLAIN))) {
        lanes a = counter, b = ALL_LANES(0), c = b, d = b;
        struct counter plain[PLAIN + 1];
        for (int i = 0; i < PLAIN; i++) plain[i] = (struct counter){block + 1 + (uint64_t)(done + LANES + i), 0, 0, 0};
#pragma GCC unroll 10 /* ROUNDS: else plain counters are kept in memory */
        for (int round = 0; round < ROUNDS; round++) {
            lanes high_a, low_a, high_c, low_c;
            multiply(a, first_low, first_high, &high_a, &low_a);
            multiply(c, second_low, second_high, &high_c, &low_c);
            a = XOR3(high_c, b, ALL_LANES(keys[2 * round]));
            c = XOR3(high_a, d, ALL_LANES(keys[2 * round + 1]));
            b = low_c, d = low_a;
            for (int i = 0; i < PLAIN; i++) turn(plain + i, keys[2 * round], keys[2 * round + 1]);
        }
        store_words(a, b, c, d, words + 4 * done);
        memcpy(words + 4 * (done + LANES), plain, PLAIN * sizeof *plain);
    }
}
#else
/* As above, counter by counter. */
static void draw(const uint64_t *numbers, uint64_t block, int64_t n, uint64_t *words) {
    for (int64_t i = 0; i < n; i++) {
        struct counter own = {block + (uint64_t)i + 1, 0, 0, 0};
        uint64_t key = numbers[0], other_key = numbers[1];
        for (int round = 0; round < ROUNDS; round++, key += FIRST_STEP, other_key += SECOND_STEP) {
            turn(&own, key, other_key);
        }
        memcpy(words + 4 * i, &own, sizeof own);
    }
}
#endif

#endif
