/* 3x3 convolution with a padding of 1 and a stride of 1 or 2, its transpose, and the gradient of its weights; and a block of a
   trained network, whose outcome of the convolution never leaves the cache.

   Images are [groups * images, height, width, channels], dense. Each group, a task, has weights [outputs, inputs, 3, 3] of its
   own, or all groups share them. The innermost loops keep a block of sums in registers: some places of a map, or some input
   channels, times a few vectors of output channels. The order of each sum depends neither on the number of threads nor on the
   number of groups. */

#include <stdlib.h>
#include <string.h>

#include "vectors.h"

typedef struct {
    long groups, images, height, width, inputs, outputs, stride, shared, pool, threads;
} Shape;

#if defined(__AVX512F__) || defined(__aarch64__) /* 32 registers, elsewhere 16 */
#define WIDEST 4                                 /* vectors in a block of sums */
#define HIGHEST(vectors) ((vectors) == 4 ? 6 : 8)
#else
#define WIDEST 2
#define HIGHEST(vectors) ((vectors) == 2 ? 6 : 8)
#endif
#define TALLEST 8
#define CASES_6(V) CASE(1, V) CASE(2, V) CASE(3, V) CASE(4, V) CASE(5, V) CASE(6, V)
#define CASES_8(V) CASES_6(V) CASE(7, V) CASE(8, V)

static long halved(long size, long stride) { return (size - 1) / stride + 1; }
static long vectors_of(long channels) { return (channels + LANES - 1) / LANES; }
static int next(long vectors_left) { return WIDEST == 4 && vectors_left >= 4 ? 4 : vectors_left >= 2 ? 2 : 1; }

/* A place relative to another, and the weights that its channels have: [channels][vectors * LANES]. */
typedef struct {
    long offset, weights;
} Tap;

INLINE Vector load(const float *from, long lanes) {
    if (lanes >= LANES) return *(const Vector *)from;
    Vector value = {0};
    for (long k = 0; k < lanes; k++) value[k] = from[k];
    return value;
}

INLINE void store(float *to, Vector value, long lanes) {
    if (lanes >= LANES)
        *(Vector *)to = value;
    else
        for (long k = 0; k < lanes; k++) to[k] = value[k];
}

/* to[p] = the sum over taps and channels of from[p][tap + channel] * weights[tap][channel], or is increased by it. */
#define ARGUMENTS                                                                                                       \
    const float *const *from, float *const *to, const Tap *taps, long count, long channels, const float *weights, long lanes, \
        int add
INLINE void sum_places(const int P, const int V, ARGUMENTS) {
    Vector sums[TALLEST][WIDEST];
    EACH(p, P) EACH(v, V) sums[p][v] = add ? load(to[p] + v * LANES, lanes - v * LANES) : (Vector){0};
    for (long t = 0; t < count; t++) {
        const float *x[TALLEST], *restrict w = weights + taps[t].weights;
        EACH(p, P) x[p] = from[p] + taps[t].offset;
        for (long c = 0; c < channels; c++, w += V * LANES) {
            Vector loaded[WIDEST];
            EACH(v, V) loaded[v] = *(const Vector *)(w + v * LANES);
            EACH(p, P) EACH(v, V) sums[p][v] += x[p][c] * loaded[v];
        }
    }
    EACH(p, P) EACH(v, V) store(to[p] + v * LANES, sums[p][v], lanes - v * LANES);
}
#define CASE(P, V) \
    case P: return sum_places(P, V, from, to, taps, count, channels, weights, lanes, add);
static void sum_places_1(long places, ARGUMENTS) { switch (places) { CASES_8(1) } }
static void sum_places_2(long places, ARGUMENTS) { switch (places) { CASES_8(2) } }
#if WIDEST == 4
static void sum_places_4(long places, ARGUMENTS) { switch (places) { CASES_6(4) } }
#endif
#undef CASE
#undef ARGUMENTS

/* packed[block of output channels][tap][channel][vectors * LANES], for the input channels first to last. Transposed, the
   convolution's outputs are the inputs. */
static void pack(const float *w, long outputs, long inputs, int transposed, long first, long last, float *packed) {
    const long from = transposed ? outputs : inputs, to = transposed ? inputs : outputs;
    const long step_from = transposed ? inputs * 9 : 9, step_to = transposed ? 9 : inputs * 9;
    for (long v = 0; v < vectors_of(to); v += next(vectors_of(to) - v)) {
        const long size = next(vectors_of(to) - v) * LANES, lanes = MIN(size, to - v * LANES);
        for (long c = first; c < last; c++) {
            const float *nine = w + v * LANES * step_to + c * step_from;
            float *block = packed + v * LANES * 9 * from + c * size;
            for (long t = 0; t < 9; t++)
                for (long k = 0; k < size; k++) block[t * from * size + k] = k < lanes ? nine[k * step_to + t] : 0;
        }
    }
}

static float *packed_weights(const Shape *s, const float *w, int transposed) {
    const long from = transposed ? s->outputs : s->inputs, to = transposed ? s->inputs : s->outputs;
    const long size = vectors_of(to) * LANES * 9 * from, sets = s->shared ? 1 : s->groups;
    float *packed = malloc(sets * size * sizeof(float));
    if (!packed) return 0;
    const long parts = sets < s->threads ? MIN(from, s->threads) : 1;
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1 && sets * size > 10000)
    for (long k = 0; k < sets * parts; k++)
        pack(w + k / parts * s->outputs * s->inputs * 9, s->outputs, s->inputs, transposed, k % parts * from / parts,
             (k % parts + 1) * from / parts, packed + k / parts * size);
    return packed;
}

/* Rows first to last of an image with a border of zeros, [last - first][width + 2][channels]; rows may lie outside. */
static void pad(const float *x, long height, long width, long channels, long first, long last, float *to) {
    const long row = width * channels;
    for (long i = first; i < last; i++, to += row + 2 * channels) {
        if (i < 0 || i >= height) {
            memset(to, 0, (row + 2 * channels) * sizeof(float));
            continue;
        }
        memset(to, 0, channels * sizeof(float));
        memcpy(to + channels, x + i * row, row * sizeof(float));
        memset(to + channels + row, 0, channels * sizeof(float));
    }
}

/* Places of an outcome: (i, j) is outcome (i * out_step + out_row, j * out_step + out_column), and sums what taps say from
   the padded map at (i * in_step, j * in_step). */
typedef struct {
    long rows, columns, in_step, out_step, out_row, out_column, count;
    Tap taps[9]; /* weights: 0 to 8 */
} Grid;

static void sum_grid(const Grid *grid, const float *in, long in_width, long channels, float *out, long out_width, long outputs,
                     const float *packed, int add) {
    for (long first = 0; first < vectors_of(outputs); first += next(vectors_of(outputs) - first)) {
        const int V = next(vectors_of(outputs) - first), most = HIGHEST(V);
        const float *from[TALLEST], *weights = packed + first * LANES * 9 * channels;
        float *to[TALLEST];
        Tap taps[9];
        for (long t = 0; t < grid->count; t++)
            taps[t] = (Tap){grid->taps[t].offset, grid->taps[t].weights * channels * V * LANES};
        int places = 0;
        for (long i = 0; i < grid->rows; i++)
            for (long j = 0; j < grid->columns; j++) {
                const long row = i * grid->out_step + grid->out_row, column = j * grid->out_step + grid->out_column;
                from[places] = in + (i * in_width + j) * grid->in_step * channels;
                to[places++] = out + (row * out_width + column) * outputs + first * LANES;
                if (places < most && (i < grid->rows - 1 || j < grid->columns - 1)) continue;
#define GIVEN places, from, to, taps, grid->count, channels, weights, outputs - first * LANES, add
#if WIDEST == 4
                if (V == 4) sum_places_4(GIVEN);
#endif
                if (V == 2) sum_places_2(GIVEN);
                if (V == 1) sum_places_1(GIVEN);
#undef GIVEN
                places = 0;
            }
    }
}

/* In how many parts the rows of an image are computed, so that few images keep all threads busy. */
static long parts_of(const Shape *s, long rows) {
    const long all = s->groups * s->images;
    return s->threads == 1 || all >= 8 * s->threads ? 1 : MIN(rows, (8 * s->threads + all - 1) / all);
}

/* out = convolution(x, w); with x2 and w2, the sum of two convolutions. */
int metashot_convolution(const Shape *s, const float *x, const float *w, const float *x2, const float *w2, float *out) {
    const long H = s->height, W = s->width, S = s->stride, h = halved(H, S), wide = halved(W, S), C = s->inputs;
    const long all = s->groups * s->images, parts = parts_of(s, h), most = ((h + parts - 1) / parts - 1) * S + 3;
    const long size = vectors_of(s->outputs) * LANES * 9 * C;
    const float *sources[2] = {x, x2};
    float *packed[2] = {packed_weights(s, w, 0), x2 ? packed_weights(s, w2, 0) : 0};
    int failed = !packed[0] || (x2 && !packed[1]);
    Grid grid = {0, wide, S, 1, 0, 0, 9, {{0, 0}}};
    for (long t = 0; t < 9; t++) grid.taps[t] = (Tap){(t / 3 * (W + 2) + t % 3) * C, t};
#pragma omp parallel num_threads(s->threads) if (s->threads > 1 && !failed) reduction(| : failed)
    {
        float *own = failed ? 0 : malloc(most * (W + 2) * C * sizeof(float));
        failed |= !own;
#pragma omp for schedule(static)
        for (long unit = 0; unit < all * parts; unit++) {
            if (!own) continue;
            const long n = unit / parts, first = unit % parts * h / parts, last = (unit % parts + 1) * h / parts;
            Grid part = grid;
            part.rows = last - first, part.out_row = first;
            for (int k = 0; k < (x2 ? 2 : 1); k++) {
                pad(sources[k] + n * H * W * C, H, W, C, first * S - 1, (last - 1) * S + 2, own);
                sum_grid(&part, own, W + 2, C, out + n * h * wide * s->outputs, wide, s->outputs,
                         packed[k] + (s->shared ? 0 : n / s->images * size), k);
            }
        }
        free(own);
    }
    return free(packed[0]), free(packed[1]), failed;
}

/* The best of a window's values after scaling them; NaN stays NaN. */
static void scale_and_pool(const float *y, long height, long width, long C, long P, const float *restrict scale,
                           const float *restrict shift, float *out) {
    for (long i = 0; i < height / P; i++)
        for (long j = 0; j < width / P; j++, out += C) {
            const float *first = y + (i * P * width + j * P) * C;
            for (long k = 0; k < P * P; k++) {
                const float *restrict from = first + (k / P * width + k % P) * C;
                float *restrict to = out;
#pragma GCC ivdep
                for (long c = 0; c < C; c++) {
                    const float value = scale[c] * from[c] + shift[c], best = k ? to[c] : 0;
                    to[c] = (value > best) | (value != value) ? value : best;
                }
            }
        }
}

/* out = the pooled max(0, scale * convolution(x, w) + shift), with scale and shift [groups][outputs]. No derivatives. */
int metashot_block(const Shape *s, const float *x, const float *w, const float *scale, const float *shift, float *out) {
    const long H = s->height, W = s->width, S = s->stride, h = halved(H, S), wide = halved(W, S), C = s->inputs, O = s->outputs;
    const long all = s->groups * s->images, size = vectors_of(O) * LANES * 9 * C, few = (h / s->pool) * (wide / s->pool) * O;
    float *packed = packed_weights(s, w, 0);
    int failed = !packed;
    Grid grid = {h, wide, S, 1, 0, 0, 9, {{0, 0}}};
    for (long t = 0; t < 9; t++) grid.taps[t] = (Tap){(t / 3 * (W + 2) + t % 3) * C, t};
#pragma omp parallel num_threads(s->threads) if (s->threads > 1 && !failed) reduction(| : failed)
    {
        float *own = failed ? 0 : malloc(((H + 2) * (W + 2) * C + h * wide * O) * sizeof(float));
        failed |= !own;
#pragma omp for schedule(static)
        for (long n = 0; n < all; n++) {
            if (!own) continue;
            float *convolved = own + (H + 2) * (W + 2) * C;
            const long group = n / s->images;
            pad(x + n * H * W * C, H, W, C, -1, H + 1, own);
            sum_grid(&grid, own, W + 2, C, convolved, wide, O, packed + (s->shared ? 0 : group * size), 0);
            scale_and_pool(convolved, h, wide, O, s->pool, scale + group * O, shift + group * O, out + n * few);
        }
        free(own);
    }
    return free(packed), failed;
}

/* The gradient of x, from the gradient g of the outcome. */
int metashot_to_inputs(const Shape *s, const float *g, const float *w, float *dx) {
    const long H = s->height, W = s->width, S = s->stride, h = halved(H, S), wide = halved(W, S), O = s->outputs;
    const long all = s->groups * s->images, parts = S == 1 ? parts_of(s, h) : 1, most = (h + parts - 1) / parts + 2;
    const long size = vectors_of(s->inputs) * LANES * 9 * O;
    float *packed = packed_weights(s, w, 1);
    int failed = !packed;
#pragma omp parallel num_threads(s->threads) if (s->threads > 1 && !failed) reduction(| : failed)
    {
        float *own = failed ? 0 : malloc(most * (wide + 2) * O * sizeof(float));
        failed |= !own;
#pragma omp for schedule(static)
        for (long unit = 0; unit < all * parts; unit++) {
            if (!own) continue;
            const long n = unit / parts, first = unit % parts * h / parts, last = (unit % parts + 1) * h / parts;
            pad(g + n * h * wide * O, h, wide, O, first - 1, last + 1, own);
            for (long parity = 0; parity < S * S; parity++) { /* rows and columns of the same remainder have the same taps */
                const long row = parity / S, column = parity % S;
                Grid grid = {last - first, halved(W - column, S), 1, S, first + row, column, 0, {{0, 0}}};
                if (S > 1) grid.rows = halved(H - row, S);
                for (long t = 0; t < 9; t++) {
                    const long up = row + 1 - t / 3, left = column + 1 - t % 3; /* S times the place that read this input */
                    if (up % S || left % S) continue;
                    grid.taps[grid.count++] = (Tap){((up / S + 1) * (wide + 2) + left / S + 1) * O, t};
                }
                if (row < H && column < W)
                    sum_grid(&grid, own, wide + 2, O, dx + n * H * W * s->inputs, W, s->inputs,
                             packed + (s->shared ? 0 : n / s->images * size), 0);
            }
        }
        free(own);
    }
    return free(packed), failed;
}

/* to[p] += the sum over places of x[place][p] * g[place]. */
#define ARGUMENTS                                                                                                        \
    const float *x, long x_row, long x_step, const float *g, long g_row, long g_step, long rows, long columns, float *to, \
        long to_step
INLINE void sum_products(const int P, const int V, ARGUMENTS) {
    Vector sums[TALLEST][WIDEST];
    EACH(p, P) EACH(v, V) sums[p][v] = (Vector){0}; /* short sums are more exact than one long one */
    for (long i = 0; i < rows; i++, x += x_row, g += g_row) {
        const float *a = x, *b = g;
        for (long j = 0; j < columns; j++, a += x_step, b += g_step) {
            Vector loaded[WIDEST];
            EACH(v, V) loaded[v] = *(const Vector *)(b + v * LANES);
            EACH(p, P) EACH(v, V) sums[p][v] += a[p] * loaded[v];
        }
    }
    EACH(p, P) EACH(v, V) *(Vector *)(to + p * to_step + v * LANES) += sums[p][v];
}
#define CASE(P, V) \
    case P: return sum_products(P, V, x, x_row, x_step, g, g_row, g_step, rows, columns, to, to_step);
static void sum_products_1(long channels, ARGUMENTS) { switch (channels) { CASES_8(1) } }
static void sum_products_2(long channels, ARGUMENTS) { switch (channels) { CASES_8(2) } }
#if WIDEST == 4
static void sum_products_4(long channels, ARGUMENTS) { switch (channels) { CASES_6(4) } }
#endif
#undef CASE
#undef ARGUMENTS

/* Adds an image's part to sums[tap][channel][O], for some of the units: a unit is a tap and a block of input channels. Rows are
   taken a few at a time, so that they stay in the cache for all units. */
static void add_image(const Shape *s, const float *x, const float *g, long O, long begin, long end, long blocks, float *sums) {
    const long H = s->height, W = s->width, S = s->stride, h = halved(H, S), wide = halved(W, S), C = s->inputs;
    const long at_once = 1 + 6000 / (wide * O);
    for (long top = 0; top < h; top += at_once)
        for (long unit = begin; unit < end; unit++) {
            const long t = unit / blocks, c = unit % blocks * C / blocks, channels = (unit % blocks + 1) * C / blocks - c;
            const long up = t / 3 - 1, left = t % 3 - 1; /* where x is from the place */
            const long i0 = up < 0 && top == 0 ? 1 : top, j0 = left < 0 ? 1 : 0;
            long i1 = MIN(top + at_once, h), j1 = wide;
            if ((i1 - 1) * S + up >= H) i1--;
            if ((j1 - 1) * S + left >= W) j1--;
            const float *a = x + ((i0 * S + up) * W + j0 * S + left) * C + c, *b = g + (i0 * wide + j0) * O;
            for (long first = 0; first < O / LANES; first += next(O / LANES - first)) {
                const int V = next(O / LANES - first);
                float *to = sums + (t * C + c) * O + first * LANES;
#define GIVEN channels, a, S * W * C, S * C, b + first * LANES, wide * O, O, i1 - i0, j1 - j0, to, O
#if WIDEST == 4
                if (V == 4) sum_products_4(GIVEN);
#endif
                if (V == 2) sum_products_2(GIVEN);
                if (V == 1) sum_products_1(GIVEN);
#undef GIVEN
            }
        }
}

/* The gradient of w, summed over the images that share it, from the gradient g of the outcome. */
int metashot_to_weights(const Shape *s, const float *g, const float *x, float *dw) {
    const long H = s->height, W = s->width, places = halved(H, s->stride) * halved(W, s->stride), C = s->inputs;
    const long O = vectors_of(s->outputs) * LANES, sets = s->shared ? 1 : s->groups, all = s->groups * s->images;
    const long images = all / sets, most = WIDEST == 4 && O >= 4 * LANES ? 6 : HIGHEST(2), blocks = (C + most - 1) / most;
    const long units = 9 * blocks, size = 9 * C * O;
    float *sums = calloc(sets * size, sizeof(float)), *whole = 0; /* g with channels that fill vectors */
    if (!sums) return 1;
    if (O != s->outputs) {
        whole = calloc(all * places * O, sizeof(float));
        if (!whole) return free(sums), 1;
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
        for (long k = 0; k < all * places; k++) memcpy(whole + k * O, g + k * s->outputs, s->outputs * sizeof(float));
        g = whole;
    }
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
    {
#pragma omp for schedule(static)
        for (long part = 0; part < s->threads; part++) {
            const long from = part * sets * units / s->threads, until = (part + 1) * sets * units / s->threads;
            for (long set = from / units; set * units < until; set++) {
                const long begin = from > set * units ? from - set * units : 0, end = MIN(until - set * units, units);
                for (long n = set * images; n < (set + 1) * images; n++)
                    add_image(s, x + n * H * W * C, g + n * places * O, O, begin, end, blocks, sums + set * size);
            }
        }
#pragma omp for schedule(static)
        for (long k = 0; k < sets * s->outputs; k++)
            for (long c = 0; c < C; c++)
                for (long t = 0; t < 9; t++)
                    dw[(k * C + c) * 9 + t] = sums[k / s->outputs * size + (t * C + c) * O + k % s->outputs];
    }
    return free(sums), free(whole), 0;
}
