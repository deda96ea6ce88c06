/* The gates of an LSTM whose cells are the parameters of learners (algorithms/model/metalstm.py), and their derivatives.

   Each coordinate of a task has numbers theta, x (its gradient), i0 and f0 [tasks][coordinates], and h0 and c0
   [tasks][H][coordinates].
   With z = the preprocessed x (two numbers) followed by h0, and s the logistic function:
   Forward:   (ai, af, ag, ao) = W z + b, four vectors of H numbers; columns 2 and 3 of W, for the loss, are part of b,
              c = s(af) c0 + s(ai) tanh(ag), h = s(ao) tanh(c),
              i = s(W_I (h, theta, i0) + b_I), f = s(W_F (h, theta, f0) + b_F).
   Backward:  the gates are computed again, and the gradients of their arguments give all others by products with W and z.

   A block of coordinates stays in the first cache. Sums over coordinates are taken in chunks of a fixed size, which are added
   in their order, so that results do not depend on the number of threads. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

typedef struct {
    long tasks, coordinates, hidden, threads;
    double least; /* gradients of at least this size are split into size and sign */
    double scale; /* P, by which their logarithms are divided */
} Shape;

typedef int Integers __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define V 2 /* vectors in a block */
#define BLOCK (V * LANES)
#define CHUNK 4096 /* coordinates; a multiple of all blocks */

typedef struct {
    Vector of[V];
} Row; /* one number of each coordinate of a block */

INLINE Vector all(float value) { return (Vector){0} + value; }
INLINE Vector choose(Integers where, Vector a, Vector b) { return (Vector)(((Integers)a & where) | ((Integers)b & ~where)); }
INLINE Vector at_most(Vector x, float limit) { return choose(x > all(limit), all(limit), x); } /* NaN stays NaN */
INLINE Vector at_least(Vector x, float limit) { return choose(x < all(limit), all(limit), x); }

/* e^x = scale (1 + part) for -87 <= x <= 89 or NaN; scale is infinite near the end. */
INLINE void exponential(Vector x, Vector *scale, Vector *part) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: the sum with it is rounded to an integer */
    const Vector shifted = x * 1.44269504088896341f + magic, n = shifted - magic;
    const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    *part = p * (r * r) + r;
    *scale = (Vector)(((Integers)shifted - 0x4B400000 + 127) << 23);
}

INLINE Vector logistic(Vector x) {
    Vector scale, part;
    exponential(at_least(at_most(-x, 89.0f), -87.0f), &scale, &part);
    return 1.0f / (1.0f + scale * (1.0f + part));
}

/* With e = e^2x - 1, which is exact for small x: e / (e + 2). */
INLINE Vector hyperbolic(Vector x) {
    Vector scale, part;
    exponential(2.0f * at_least(at_most(x, 10.0f), -10.0f), &scale, &part);
    const Vector e = scale * part + (scale - 1.0f);
    return e / (e + 2.0f);
}

/* The natural logarithm of positive normal numbers, infinity or NaN. */
INLINE Vector logarithm(Vector x) {
    const Integers bits = (Integers)x;
    Vector m = (Vector)((bits & 0x007fffff) | 0x3f000000);
    const Integers small = m < all(0.707106781186547524f);
    const Vector e = __builtin_convertvector((bits >> 23) - 126 + small, Vector); /* -1 where true */
    m = choose(small, m + m, m) - 1.0f;
    const Vector square = m * m;
    Vector p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * square - e * 2.12194440e-4f - 0.5f * square;
    return choose(x < all(INFINITY), m + p + e * 0.693359375f, x);
}

INLINE Vector size_of(Vector x) { return (Vector)((Integers)x & 0x7fffffff); }

INLINE void preprocess(const Shape *s, Vector x, Vector *size, Vector *sign) {
    const float least = (float)s->least;
    const Vector one = (Vector)(((Integers)x & ~0x7fffffff) | (Integers)all(1.0f)); /* of the sign of x */
    *size = logarithm(at_least(size_of(x), least)) / (float)s->scale;
    *sign = choose(size_of(x) >= all(least), one, x * (float)(1 / s->least));
}

/* What the derivatives of the two numbers above make of their gradients. */
INLINE Vector to_gradient(const Shape *s, Vector x, Vector of_size, Vector of_sign) {
    const Integers large = size_of(x) >= all((float)s->least);
    const Vector split = of_size / (x * (float)s->scale), scaled = of_sign * (float)(1 / s->least);
    return choose(large, split, scaled);
}

INLINE Row load(const float *from, long lanes) {
    Row row = {{{0}}};
    if (from && lanes == BLOCK)
        row = *(const Row *)from;
    else if (from)
        memcpy(&row, from, lanes * sizeof(float));
    return row;
}

INLINE void store(float *to, Row row, long lanes) {
    if (to && lanes == BLOCK)
        *(Row *)to = row;
    else if (to)
        memcpy(to, &row, lanes * sizeof(float));
}

/* The weights: W [4 H][4 + H], W_I and W_F [H + 2], b_I and b_F [1], b [tasks][4 H]. */
typedef struct {
    const float *W, *W_I, *b_I, *W_F, *b_F, *b;
} Weights;

/* Numbers of each coordinate of all tasks, as above. */
typedef struct {
    const float *theta, *x, *i, *f, *h, *c;
} Given;
typedef struct {
    const float *i, *f, *h, *c;
} Outcomes;
typedef struct {
    float *theta, *x, *i, *f, *h, *c;
} Wanted;

/* A block: what was given, and what is computed. */
typedef struct {
    Row theta, x, i0, f0, i, f;
    Row *z, *c0, *gates, *c, *tanh_c, *h; /* [2 + H], [H], [4 H], and [H] each */
} Block;

static void point(Block *block, Row *rows, long H) {
    block->z = rows, block->c0 = block->z + 2 + H, block->gates = block->c0 + H;
    block->c = block->gates + 4 * H, block->tanh_c = block->c + H, block->h = block->tanh_c + H;
}
#define ROWS(H) (2 + 9 * (H))

INLINE Row gate(const float *weight, const float *bias, const Row *h, long H, const Row *theta, const Row *previous) {
    Row a;
    EACH(v, V) a.of[v] = weight[H] * theta->of[v] + weight[H + 1] * previous->of[v] + bias[0];
    for (long u = 0; u < H; u++) EACH(v, V) a.of[v] += weight[u] * h[u].of[v];
    EACH(v, V) a.of[v] = logistic(a.of[v]);
    return a;
}

/* All gates of the coordinates of a task from `at` on. */
INLINE void compute(const Shape *s, const Weights *w, const Given *given, long task, long at, long lanes, Block *block) {
    const long H = s->hidden, N = s->coordinates, wide = 4 + H;
    const long first = task * N + at, hidden = task * H * N + at;
    Row *z = block->z;
    block->theta = load(given->theta + first, lanes), block->x = load(given->x + first, lanes);
    block->i0 = load(given->i + first, lanes), block->f0 = load(given->f + first, lanes);
    EACH(v, V) preprocess(s, block->x.of[v], &z[0].of[v], &z[1].of[v]);
    for (long u = 0; u < H; u++) {
        z[2 + u] = load(given->h + hidden + u * N, lanes);
        block->c0[u] = load(given->c + hidden + u * N, lanes);
    }
    for (long u = 0; u < H; u++) {
        Row a[4];
        EACH(q, 4) {
            const float *weight = w->W + (q * H + u) * wide;
            EACH(v, V) a[q].of[v] = w->b[(task * 4 + q) * H + u] + weight[0] * z[0].of[v] + weight[1] * z[1].of[v];
        }
        for (long j = 0; j < H; j++)
            EACH(q, 4) {
                const float weight = w->W[(q * H + u) * wide + 4 + j];
                EACH(v, V) a[q].of[v] += weight * z[2 + j].of[v];
            }
        EACH(v, V) {
            const Vector i = logistic(a[0].of[v]), f = logistic(a[1].of[v]), g = hyperbolic(a[2].of[v]);
            const Vector o = logistic(a[3].of[v]), c = f * block->c0[u].of[v] + i * g, tanh_c = hyperbolic(c);
            block->gates[u].of[v] = i, block->gates[H + u].of[v] = f;
            block->gates[2 * H + u].of[v] = g, block->gates[3 * H + u].of[v] = o;
            block->c[u].of[v] = c, block->tanh_c[u].of[v] = tanh_c, block->h[u].of[v] = o * tanh_c;
        }
    }
    block->i = gate(w->W_I, w->b_I, block->h, H, &block->theta, &block->i0);
    block->f = gate(w->W_F, w->b_F, block->h, H, &block->theta, &block->f0);
}

#define WEIGHTS const float *W, const float *W_I, const float *b_I, const float *W_F, const float *b_F, const float *b
#define GIVEN const float *theta, const float *x, const float *i, const float *f, const float *h, const float *c

static Row *rows_of(long count) { return aligned_alloc(64, (count * sizeof(Row) + 63) / 64 * 64); }
static long chunks_of(const Shape *s) { return (s->coordinates + CHUNK - 1) / CHUNK; }

int metashot_gates(const Shape *s, WEIGHTS, GIVEN, float *to_i, float *to_f, float *to_h, float *to_c) {
    const Weights weights = {W, W_I, b_I, W_F, b_F, b}, *w = &weights;
    const Given numbers = {theta, x, i, f, h, c}, *given = &numbers;
    const long H = s->hidden, N = s->coordinates, chunks = chunks_of(s);
    int failed = 0;
#pragma omp parallel num_threads(s->threads) if (s->threads > 1) reduction(| : failed)
    {
        Row *rows = rows_of(ROWS(H));
        Block block;
        failed |= !rows;
#pragma omp for schedule(static)
        for (long unit = 0; unit < s->tasks * chunks; unit++) {
            if (!rows) continue;
            const long task = unit / chunks, until = MIN(N, (unit % chunks + 1) * CHUNK);
            point(&block, rows, H);
            for (long at = unit % chunks * CHUNK; at < until; at += BLOCK) {
                const long lanes = MIN(BLOCK, until - at);
                compute(s, w, given, task, at, lanes, &block);
                store(to_i + task * N + at, block.i, lanes), store(to_f + task * N + at, block.f, lanes);
                for (long u = 0; u < H; u++) {
                    store(to_h + (task * H + u) * N + at, block.h[u], lanes);
                    store(to_c + (task * H + u) * N + at, block.c[u], lanes);
                }
            }
        }
        free(rows);
    }
    return failed;
}

/* Sums over coordinates: of W [4 H][2 + H] and b [4 H], row by row [4 H][3 + H], then of W_I and b_I, and of W_F and b_F,
   [H + 3] each. */
#define SUMS(H) (4 * (H) * (3 + (H)) + 2 * ((H) + 3))

INLINE void add_products(Vector *sum, const Row *a, const Row *b) {
    Vector total = *sum;
    EACH(v, V) total += a->of[v] * b->of[v];
    *sum = total;
}

INLINE void add_gate(Vector *sums, const Row *a, const Block *block, const Row *previous, long H) {
    for (long u = 0; u < H; u++) add_products(sums + u, a, block->h + u);
    add_products(sums + H, a, &block->theta);
    add_products(sums + H + 1, a, previous);
    EACH(v, V) sums[H + 2] += a->of[v];
}

#define OFFSET(pointer, by) ((pointer) ? (pointer) + (by) : 0)

/* The gradients of a block, and its part of the sums. `a` has room for 4 H rows. */
INLINE void differentiate(const Shape *s, const Weights *w, const Block *block, const Outcomes *gradient, const Wanted *to,
                          long task, long at, long lanes, Row *a, Vector *sums) {
    const long H = s->hidden, N = s->coordinates, first = task * N + at, hidden = task * H * N + at, wide = 4 + H;
    Row of_i = load(OFFSET(gradient->i, first), lanes), of_f = load(OFFSET(gradient->f, first), lanes), row;
    EACH(v, V) of_i.of[v] *= (1.0f - block->i.of[v]) * block->i.of[v];
    EACH(v, V) of_f.of[v] *= (1.0f - block->f.of[v]) * block->f.of[v];
    Vector *of_gates = sums + 4 * H * (3 + H);
    add_gate(of_gates, &of_i, block, &block->i0, H);
    add_gate(of_gates + H + 3, &of_f, block, &block->f0, H);
    EACH(v, V) row.of[v] = w->W_I[H] * of_i.of[v] + w->W_F[H] * of_f.of[v];
    store(OFFSET(to->theta, first), row, lanes);
    EACH(v, V) row.of[v] = w->W_I[H + 1] * of_i.of[v];
    store(OFFSET(to->i, first), row, lanes);
    EACH(v, V) row.of[v] = w->W_F[H + 1] * of_f.of[v];
    store(OFFSET(to->f, first), row, lanes);
    for (long u = 0; u < H; u++) {
        const Row of_h = load(OFFSET(gradient->h, hidden + u * N), lanes);
        const Row of_c = load(OFFSET(gradient->c, hidden + u * N), lanes);
        EACH(v, V) {
            const Vector i = block->gates[u].of[v], f = block->gates[H + u].of[v], g = block->gates[2 * H + u].of[v];
            const Vector o = block->gates[3 * H + u].of[v], tanh_c = block->tanh_c[u].of[v];
            const Vector dh = of_h.of[v] + w->W_I[u] * of_i.of[v] + w->W_F[u] * of_f.of[v];
            const Vector dc = of_c.of[v] + dh * o * (1.0f - tanh_c * tanh_c);
            a[u].of[v] = dc * g * (1.0f - i) * i;
            a[H + u].of[v] = dc * block->c0[u].of[v] * (1.0f - f) * f;
            a[2 * H + u].of[v] = dc * i * (1.0f - g * g);
            a[3 * H + u].of[v] = dh * tanh_c * (1.0f - o) * o;
            row.of[v] = dc * f;
        }
        store(OFFSET(to->c, hidden + u * N), row, lanes);
    }
    for (long k = 0; k < 4 * H; k++) {
        Vector *sum = sums + k * (3 + H);
        for (long j = 0; j < 2 + H; j++) add_products(sum + j, a + k, block->z + j);
        EACH(v, V) sum[2 + H] += a[k].of[v];
    }
    Row of_z[2];
    for (long j = 0; j < 2 + H; j++) {
        if (j < 2 ? !to->x : !to->h) continue;
        const float *weight = w->W + (j < 2 ? j : 2 + j);
        EACH(v, V) row.of[v] = all(0.0f);
        for (long k = 0; k < 4 * H; k++) EACH(v, V) row.of[v] += weight[k * wide] * a[k].of[v];
        if (j < 2)
            of_z[j] = row;
        else
            store(to->h + hidden + (j - 2) * N, row, lanes);
    }
    if (to->x) {
        EACH(v, V) row.of[v] = to_gradient(s, block->x.of[v], of_z[0].of[v], of_z[1].of[v]);
        store(to->x + first, row, lanes);
    }
}

/* The gradients of the weights: of b for each task, of the others for all of them. */
typedef struct {
    float *W, *W_I, *b_I, *W_F, *b_F, *b;
} OfWeights;

static void add_up(const Shape *s, const double *partial, double *totals, const OfWeights *of) {
    const long H = s->hidden, chunks = chunks_of(s), own = 3 + H, size = SUMS(H);
    memset(totals, 0, size * sizeof(double));
    for (long task = 0; task < s->tasks; task++) {
        for (long k = 0; k < 4 * H; k++) {
            double total = 0;
            for (long chunk = 0; chunk < chunks; chunk++) total += partial[(task * chunks + chunk) * size + k * own + 2 + H];
            of->b[task * 4 * H + k] = (float)total;
        }
        for (long chunk = 0; chunk < chunks; chunk++)
            for (long k = 0; k < size; k++) totals[k] += partial[(task * chunks + chunk) * size + k];
    }
    for (long k = 0; k < 4 * H; k++)
        for (long j = 0; j < 4 + H; j++)
            of->W[k * (4 + H) + j] = j == 2 || j == 3 ? 0.0f : (float)totals[k * own + (j < 2 ? j : j - 2)];
    const double *of_i = totals + 4 * H * own, *of_f = of_i + H + 3;
    for (long j = 0; j < H + 2; j++) of->W_I[j] = (float)of_i[j], of->W_F[j] = (float)of_f[j];
    of->b_I[0] = (float)of_i[H + 2], of->b_F[0] = (float)of_f[H + 2];
}

/* The gradients of everything from those of the four outcomes, each of which may be null for zeros. Those of theta, x, i, f, h
   and c may be null too, if they are not wanted. */
int metashot_of_gates(const Shape *s, WEIGHTS, GIVEN, const float *of_i, const float *of_f, const float *of_h, const float *of_c,
                      float *to_W, float *to_W_I, float *to_b_I, float *to_W_F, float *to_b_F, float *to_b, float *to_theta,
                      float *to_x, float *to_i, float *to_f, float *to_h, float *to_c) {
    const Weights weights = {W, W_I, b_I, W_F, b_F, b}, *w = &weights;
    const Given numbers = {theta, x, i, f, h, c}, *given = &numbers;
    const Outcomes gradient = {of_i, of_f, of_h, of_c};
    const Wanted to = {to_theta, to_x, to_i, to_f, to_h, to_c};
    const OfWeights of = {to_W, to_W_I, to_b_I, to_W_F, to_b_F, to_b};
    const long H = s->hidden, N = s->coordinates, chunks = chunks_of(s), size = SUMS(H);
    double *partial = malloc((s->tasks * chunks + 1) * size * sizeof(double));
    int failed = 0;
#pragma omp parallel num_threads(s->threads) if (s->threads > 1 && partial) reduction(| : failed)
    {
        Row *rows = !partial ? 0 : rows_of(ROWS(H) + 4 * H + (size + V - 1) / V), *a = rows + ROWS(H);
        Vector *sums = (Vector *)(a + 4 * H);
        Block block;
        failed |= !rows;
#pragma omp for schedule(static)
        for (long unit = 0; unit < s->tasks * chunks; unit++) {
            if (!rows) continue;
            const long task = unit / chunks, until = MIN(N, (unit % chunks + 1) * CHUNK);
            point(&block, rows, H);
            memset(sums, 0, size * sizeof(Vector));
            for (long at = unit % chunks * CHUNK; at < until; at += BLOCK) {
                const long lanes = MIN(BLOCK, until - at);
                compute(s, w, given, task, at, lanes, &block);
                differentiate(s, w, &block, &gradient, &to, task, at, lanes, a, sums);
            }
            for (long k = 0; k < size; k++) {
                double total = 0;
                for (int lane = 0; lane < LANES; lane++) total += sums[k][lane];
                partial[unit * size + k] = total;
            }
        }
        free(rows);
    }
    if (!failed) add_up(s, partial, partial + s->tasks * chunks * size, &of);
    return free(partial), failed;
}
