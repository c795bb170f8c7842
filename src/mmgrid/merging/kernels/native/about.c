/* What Python asks of the library before it uses it. */
#include <stdint.h>

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

/* The digest of the sources that this library was built from. */
PUBLIC const char *mmgrid_digest(void);
const char *mmgrid_digest(void) { return DIGEST; }

/* The highest level of the loops that this processor can run: its place in `building.LEVELS`. */
PUBLIC int32_t mmgrid_level(void);
int32_t mmgrid_level(void) {
#if defined(HAS_AVX2)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt"))) return 0;
#if defined(HAS_AVX512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        return 2;
    }
#endif
    return 1;
#else
    return 0;
#endif
}
