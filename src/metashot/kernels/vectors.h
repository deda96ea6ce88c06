/* Vectors of floats as wide as the processor's registers. */

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define EACH(k, K) _Pragma("GCC unroll 8") for (int k = 0; k < K; k++)
#define INLINE static inline __attribute__((always_inline))
