/* Batch normalisation, optional 2x2 max pooling and ReLU of a block in one operation, with its first and second derivative.

   Images are [groups * images, height, width, channels], dense. A group is a task: the first `support` of its images give the
   statistics that normalise all of them, and it has weights and biases [channels] of its own. With s = weight / deviation, which maximum is taken in a window depends only on the
   sign of the weight. Values are therefore pooled first, and only the quarter that is left is scaled, shifted and rectified.

   Notation: xh = (y - mean) * r, r = 1 / sqrt(variance + epsilon), M = support * height * width values a channel.
   Forward:   p = the pooled y, z = max(0, weight * xh(p) + bias).
   Backward:  with g the gradient of z where z > 0, u = g at the place of p and 0 elsewhere, C = sum u, E = sum u xh:
              dbias = C, dweight = E, dy = weight r (u - [support] (C + xh E) / M).
   Its own backward, for cotangents a of dy, aw of dweight and ab of dbias: with A = sum a u, and over the support set
              B = sum a, D = sum a xh, and R = A - (B C + D E) / M:
              dg = weight r (a - B / M - xh D / M) + aw xh + ab at the places of p,
              dweight = r R,
              dy = r w - [support] (r / M) (sum w + xh sum w xh + weight r xh R), where
              w = aw u - weight r ([support] a E + u D) / M is the gradient of xh.

   Sums are taken image by image and added in their order, so that results do not depend on the number of threads. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    long groups, images, support, height, width, channels, pool, threads;
    double epsilon;
} Shape;

#define EACH(c) _Pragma("GCC ivdep") for (long c = 0; c < C; c++) /* no two channels share memory */

/* u0 to u3: u at the first of four values that is the best one, 0 elsewhere. Without branches, so that it is vectorised. */
#define SPREAD(v0, v1, v2, best, u)                                                    \
    float u0 = v0 == best ? u : 0.0f, left0 = v0 == best ? 0.0f : u;                   \
    float u1 = v1 == best ? left0 : 0.0f, left1 = v1 == best ? 0.0f : left0;           \
    float u2 = v2 == best ? left1 : 0.0f, u3 = v2 == best ? 0.0f : left1;

static inline long pooled(long size, long pool) { return size / pool; }

/* The places of a window's values, from that of its first one. */
static inline void offsets(const Shape *s, long *o) {
    long C = s->channels;
    o[0] = 0, o[1] = C, o[2] = s->width * C, o[3] = (s->width + 1) * C;
}

/* sums[2][C] += the values and their squares. */
static inline void add_moments(const float *restrict y, double *restrict sums, long C) {
    EACH(c) {
        double v = y[c];
        sums[c] += v;
        sums[C + c] += v * v;
    }
}

static void moments_and_pool(const Shape *s, const float *y, const float *restrict weight, float *p, double *restrict sums,
                             int counted) {
    const long C = s->channels, W = s->width, H = s->height, P = s->pool, h = pooled(H, P), w = pooled(W, P);
    long o[4];
    offsets(s, o);
    if (P == 1) {
        if (counted)
            for (long k = 0; k < H * W; k++) add_moments(y + k * C, sums, C);
        return;
    }
    for (long i = 0; i < h; i++)
        for (long j = 0; j < w; j++) {
            const float *restrict y0 = y + (2 * i * W + 2 * j) * C, *restrict y1 = y0 + o[1], *restrict y2 = y0 + o[2],
                        *restrict y3 = y0 + o[3];
            float *restrict q = p + (i * w + j) * C;
            EACH(c) {
                float sign = weight[c] > 0 ? 1.0f : weight[c] < 0 ? -1.0f : 0.0f, best = y0[c];
                best = (sign * y1[c] > sign * best) | (y1[c] != y1[c]) ? y1[c] : best; /* NaN stays NaN */
                best = (sign * y2[c] > sign * best) | (y2[c] != y2[c]) ? y2[c] : best;
                best = (sign * y3[c] > sign * best) | (y3[c] != y3[c]) ? y3[c] : best;
                q[c] = best;
            }
            if (counted) EACH(c) {
                double a = y0[c], b = y1[c], d = y2[c], e = y3[c];
                sums[c] += (a + b) + (d + e);
                sums[C + c] += (a * a + b * b) + (d * d + e * e);
            }
        }
    if (counted) {
        if (2 * w < W)
            for (long i = 0; i < H; i++) add_moments(y + (i * W + W - 1) * C, sums, C);
        if (2 * h < H)
            for (long j = 0; j < 2 * w; j++) add_moments(y + ((H - 1) * W + j) * C, sums, C);
    }
}

/* totals[group][k][C] = the sum of partial[image][k][C] over the group's images. */
static void add_up(const Shape *s, const double *partial, double *totals, long k) {
    long size = k * s->channels;
    memset(totals, 0, sizeof(double) * s->groups * size);
    for (long n = 0; n < s->groups * s->images; n++)
        for (long c = 0; c < size; c++) totals[n / s->images * size + c] += partial[n * size + c];
}

/* mean and r for the passes to come, [groups][C]; means and variances for running averages, too. */
int metashot_forward(const Shape *s, const float *y, const float *weight, const float *bias, float *p, float *z, double *mean,
                     double *r, float *means, float *variances) {
    const long C = s->channels, all = s->groups * s->images, full = s->height * s->width * C,
               few = pooled(s->height, s->pool) * pooled(s->width, s->pool) * C, M = s->support * s->height * s->width;
    double *partial = calloc(all * 2 * C, sizeof(double)), *totals = malloc(s->groups * 2 * C * sizeof(double));
    if (!partial || !totals) return free(partial), free(totals), 1;
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
    for (long n = 0; n < all; n++)
        moments_and_pool(s, y + n * full, weight + n / s->images * C, p + n * few, partial + n * 2 * C, n % s->images < s->support);
    add_up(s, partial, totals, 2);
    for (long g = 0; g < s->groups; g++) EACH(c) {
        double m = totals[g * 2 * C + c] / M, v = totals[g * 2 * C + C + c] / M - m * m;
        v = v < 0 ? 0 : v;
        mean[g * C + c] = m, r[g * C + c] = 1 / sqrt(v + s->epsilon);
        means[g * C + c] = m, variances[g * C + c] = v;
    }
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
    for (long n = 0; n < all; n++) {
        const double *m = mean + n / s->images * C, *rs = r + n / s->images * C;
        const float *own_weight = weight + n / s->images * C, *own_bias = bias + n / s->images * C;
        float scale[C], shift[C];
        EACH(c) scale[c] = own_weight[c] * rs[c], shift[c] = own_bias[c] - m[c] * own_weight[c] * rs[c];
        for (long k = 0; k < few / C; k++) {
            const float *restrict from = (s->pool == 1 ? y + n * full : p + n * few) + k * C;
            float *restrict to = z + n * few + k * C;
            EACH(c) {
                float value = from[c] * scale[c] + shift[c];
                to[c] = value < 0 ? 0 : value;
            }
        }
    }
    return free(partial), free(totals), 0;
}

/* sums[groups][2][C] = C and E; dweight[groups][C] and dbias[groups][C]. */
int metashot_backward(const Shape *s, const float *gz, const float *y, const float *weight, const float *p, const float *z,
                      const double *mean, const double *r, float *dy, double *sums, float *dweight, float *dbias) {
    const long C = s->channels, all = s->groups * s->images, W = s->width, H = s->height, P = s->pool, full = H * W * C,
               h = pooled(H, P), w = pooled(W, P), few = h * w * C, M = s->support * H * W;
    long o[4];
    offsets(s, o);
    double *partial = calloc(all * 2 * C, sizeof(double));
    if (!partial) return 1;
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
    for (long n = 0; n < all; n++) {
        const double *restrict m = mean + n / s->images * C, *restrict rs = r + n / s->images * C;
        double *restrict own = partial + n * 2 * C;
        for (long k = 0; k < h * w; k++) {
            const float *restrict g = gz + n * few + k * C, *restrict v = (P == 1 ? y + n * full : p + n * few) + k * C,
                        *restrict out = z + n * few + k * C;
            EACH(c) {
                float g_c = g[c];
                double u = out[c] > 0 ? g_c : 0.0f;
                own[c] += u;
                own[C + c] += u * ((v[c] - m[c]) * rs[c]);
            }
        }
    }
    add_up(s, partial, sums, 2);
    for (long k = 0; k < s->groups; k++) EACH(c) dbias[k * C + c] = sums[k * 2 * C + c], dweight[k * C + c] = sums[k * 2 * C + C + c];
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
    for (long n = 0; n < all; n++) {
        const double *m = mean + n / s->images * C, *rs = r + n / s->images * C, *own = sums + n / s->images * 2 * C;
        const float *own_weight = weight + n / s->images * C;
        const int counted = n % s->images < s->support;
        float times[C], plus[C], up[C]; /* dy = times * y + plus + up * u */
        EACH(c) {
            double scale = own_weight[c] * rs[c], a = counted ? -scale * rs[c] * own[C + c] / M : 0;
            up[c] = scale, times[c] = a, plus[c] = counted ? -scale * own[c] / M - a * m[c] : 0;
        }
        for (long i = 0; i < h; i++)
            for (long j = 0; j < w; j++) {
                const float *restrict g = gz + n * few + (i * w + j) * C, *restrict out = z + n * few + (i * w + j) * C;
                const float *restrict y0 = y + n * full + (P * i * W + P * j) * C;
                float *restrict d0 = dy + n * full + (P * i * W + P * j) * C;
                if (P == 1) {
                    EACH(c) {
                        float u = up[c] * g[c];
                        d0[c] = times[c] * y0[c] + plus[c] + (out[c] > 0 ? u : 0.0f);
                    }
                    continue;
                }
                const float *restrict q = p + n * few + (i * w + j) * C, *restrict y1 = y0 + o[1], *restrict y2 = y0 + o[2],
                            *restrict y3 = y0 + o[3];
                float *restrict d1 = d0 + o[1], *restrict d2 = d0 + o[2], *restrict d3 = d0 + o[3];
                EACH(c) {
                    float v0 = y0[c], v1 = y1[c], v2 = y2[c], v3 = y3[c], best = q[c], k = times[c], b = plus[c];
                    float all = up[c] * g[c], u = out[c] > 0 ? all : 0.0f;
                    SPREAD(v0, v1, v2, best, u)
                    d0[c] = k * v0 + b + u0, d1[c] = k * v1 + b + u1, d2[c] = k * v2 + b + u2, d3[c] = k * v3 + b + u3;
                }
            }
        if (P == 2) { /* the values that are in no window */
            if (2 * w < W)
                for (long i = 0; i < H; i++) {
                    long place = n * full + (i * W + W - 1) * C;
                    EACH(c) dy[place + c] = times[c] * y[place + c] + plus[c];
                }
            if (2 * h < H)
                for (long j = 0; j < 2 * w; j++) {
                    long place = n * full + ((H - 1) * W + j) * C;
                    EACH(c) dy[place + c] = times[c] * y[place + c] + plus[c];
                }
        }
    }
    return free(partial), 0;
}

static inline void add_cotangents(const float *restrict a, const float *restrict y, const double *restrict m,
                                  const double *restrict rs, double *restrict own, long C) {
    EACH(c) {
        own[c] += a[c];
        own[C + c] += a[c] * ((y[c] - m[c]) * rs[c]);
    }
}

/* sums are those of metashot_backward; aw, ab and dweight are [groups][C]. */
int metashot_double_backward(const Shape *s, const float *a, const float *aw, const float *ab, const float *gz, const float *y,
                             const float *weight, const float *p, const float *z, const double *mean, const double *r,
                             const double *sums, float *dg, float *dy, float *dweight) {
    const long C = s->channels, all = s->groups * s->images, W = s->width, H = s->height, P = s->pool, full = H * W * C,
               h = pooled(H, P), w = pooled(W, P), few = h * w * C, M = s->support * H * W;
    long o[4];
    offsets(s, o);
    double *partial = calloc(all * 3 * C, sizeof(double)), *totals = malloc(s->groups * 4 * C * sizeof(double));
    if (!partial || !totals) return free(partial), free(totals), 1;
    double *R = totals + s->groups * 3 * C;
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
    for (long n = 0; n < all; n++) { /* B, D, A; and a at the places of p, for now in dg */
        const double *restrict m = mean + n / s->images * C, *restrict rs = r + n / s->images * C;
        double *restrict own = partial + n * 3 * C;
        if (n % s->images < s->support)
            for (long k = 0; k < H * W; k++) add_cotangents(a + n * full + k * C, y + n * full + k * C, m, rs, own, C);
        for (long i = 0; i < h; i++)
            for (long j = 0; j < w; j++) {
                const float *restrict g = gz + n * few + (i * w + j) * C, *restrict out = z + n * few + (i * w + j) * C;
                const float *restrict y0 = y + n * full + (P * i * W + P * j) * C, *restrict a0 = a + (y0 - y);
                float *restrict at = dg + n * few + (i * w + j) * C;
                if (P == 1)
                    memcpy(at, a0, C * sizeof(float));
                else {
                    const float *restrict q = p + n * few + (i * w + j) * C;
                    const float *restrict y1 = y0 + o[1], *restrict y2 = y0 + o[2];
                    const float *restrict a1 = a0 + o[1], *restrict a2 = a0 + o[2], *restrict a3 = a0 + o[3];
                    EACH(c) {
                        float best = q[c], w0 = a0[c], w1 = a1[c], w2 = a2[c], w3 = a3[c], v0 = y0[c], v1 = y1[c], v2 = y2[c];
                        at[c] = v0 == best ? w0 : v1 == best ? w1 : v2 == best ? w2 : w3;
                    }
                }
                EACH(c) {
                    double product = (double)at[c] * g[c];
                    own[2 * C + c] += out[c] > 0 ? product : 0.0;
                }
            }
    }
    add_up(s, partial, totals, 3);
    for (long k = 0; k < s->groups; k++) EACH(c) {
        const double *t = totals + k * 3 * C, *f = sums + k * 2 * C;
        R[k * C + c] = t[2 * C + c] - (t[c] * f[c] + t[C + c] * f[C + c]) / M;
        dweight[k * C + c] = r[k * C + c] * R[k * C + c];
    }
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
    for (long n = 0; n < all; n++) {
        const long group = n / s->images;
        const double *m = mean + group * C, *rs = r + group * C, *t = totals + group * 3 * C, *f = sums + group * 2 * C;
        const float *own_weight = weight + group * C, *own_aw = aw + group * C, *own_ab = ab + group * C;
        const int counted = n % s->images < s->support;
        float of_a[C], of_y[C], plus[C], of_u[C], scale[C], g_of_v[C], g_plus[C];
        EACH(c) {
            double B = t[c], D = t[C + c], E = f[C + c], sum_u = f[c], sc = own_weight[c] * rs[c];
            double sum_w = own_aw[c] * sum_u - sc * (B * E + D * sum_u) / M, sum_w_xh = own_aw[c] * E - 2 * sc * D * E / M;
            double of_xh = -(rs[c] / M) * (sum_w_xh + sc * R[group * C + c]);
            scale[c] = sc;
            of_u[c] = rs[c] * (own_aw[c] - sc * D / M);
            of_a[c] = counted ? -sc * rs[c] * E / M : 0;
            of_y[c] = counted ? of_xh * rs[c] : 0;
            plus[c] = counted ? -of_xh * rs[c] * m[c] - rs[c] * sum_w / M : 0;
            double g_of_xh = own_aw[c] - sc * D / M;
            g_of_v[c] = g_of_xh * rs[c];
            g_plus[c] = own_ab[c] - sc * B / M - g_of_xh * rs[c] * m[c];
        }
        for (long i = 0; i < h; i++)
            for (long j = 0; j < w; j++) {
                const long few_at = n * few + (i * w + j) * C, full_at = n * full + (P * i * W + P * j) * C;
                const float *restrict g = gz + few_at, *restrict out = z + few_at;
                const float *restrict y0 = y + full_at, *restrict a0 = a + full_at, *restrict q = P == 1 ? y0 : p + few_at;
                float *restrict d = dg + few_at, *restrict d0 = dy + full_at;
                EACH(c) {
                    float v = scale[c] * d[c] + g_of_v[c] * q[c] + g_plus[c];
                    d[c] = out[c] > 0 ? v : 0.0f;
                }
                if (P == 1) {
                    EACH(c) {
                        float u = of_u[c] * g[c];
                        d0[c] = of_a[c] * a0[c] + of_y[c] * y0[c] + plus[c] + (out[c] > 0 ? u : 0.0f);
                    }
                    continue;
                }
                const float *restrict y1 = y0 + o[1], *restrict y2 = y0 + o[2], *restrict y3 = y0 + o[3];
                const float *restrict a1 = a0 + o[1], *restrict a2 = a0 + o[2], *restrict a3 = a0 + o[3];
                float *restrict d1 = d0 + o[1], *restrict d2 = d0 + o[2], *restrict d3 = d0 + o[3];
                EACH(c) {
                    float v0 = y0[c], v1 = y1[c], v2 = y2[c], v3 = y3[c], best = q[c];
                    float j = of_a[c], k = of_y[c], b = plus[c], all = of_u[c] * g[c], u = out[c] > 0 ? all : 0.0f;
                    SPREAD(v0, v1, v2, best, u)
                    d0[c] = j * a0[c] + k * v0 + b + u0, d1[c] = j * a1[c] + k * v1 + b + u1;
                    d2[c] = j * a2[c] + k * v2 + b + u2, d3[c] = j * a3[c] + k * v3 + b + u3;
                }
            }
        if (P == 2) {
            if (2 * w < W)
                for (long i = 0; i < H; i++) {
                    long place = n * full + (i * W + W - 1) * C;
                    EACH(c) dy[place + c] = of_a[c] * a[place + c] + of_y[c] * y[place + c] + plus[c];
                }
            if (2 * h < H)
                for (long j = 0; j < 2 * w; j++) {
                    long place = n * full + ((H - 1) * W + j) * C;
                    EACH(c) dy[place + c] = of_a[c] * a[place + c] + of_y[c] * y[place + c] + plus[c];
                }
        }
    }
    return free(partial), free(totals), 0;
}
