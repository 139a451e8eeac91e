// Kernels for training on CUDA devices. Activations are [n, h, w, c]. A kernel computes `len` values, or fours of values,
// one per thread, except those that sum. Sums are taken in a fixed order, without atomic operations, so that the same
// device gives the same bytes again.
//
// This file is compiled twice. Activations and their gradients are stored as T: float, or with BF16 as bf16. Everything
// else is float, and so is all arithmetic.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// The upper half of a float.
struct bf16 {
    u16 bits;
};

#ifdef BF16
typedef bf16 T;
#define KERNEL(name) extern "C" __global__ void wbc_bf16_##name
#else
typedef float T;
#define KERNEL(name) extern "C" __global__ void wbc_##name
#endif

#define INDEX(len) \
    u32 i = blockIdx.x * blockDim.x + threadIdx.x; \
    if (i >= len) return;

// Threads of a block that adds up parts of a sum.
#define LANES 128

static __device__ float widened(float x) { return x; }
static __device__ float widened(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

// The nearest bf16, of two the even one.
static __device__ u32 rounded(float x) {
#if __CUDA_ARCH__ >= 800
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
#endif
}

static __device__ void put(float *to, float x) { *to = x; }
static __device__ void put(bf16 *to, float x) { to->bits = u16(rounded(x)); }

// Fours of values in 16 bytes.
#define FOURS (4 / int(sizeof(T)))

// Four neighbouring values; `i` counts fours.
struct Four {
    float at[4];
};

#define EACH \
    _Pragma("unroll") \
    for (int k = 0; k < 4; k++)

static __device__ Four load(const float *x, u32 i) {
    float4 v = ((const float4 *)x)[i];
    return {{v.x, v.y, v.z, v.w}};
}

static __device__ Four load(const bf16 *x, u32 i) {
    uint2 v = ((const uint2 *)x)[i];
    return {{__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xFFFF0000), __uint_as_float(v.y << 16),
             __uint_as_float(v.y & 0xFFFF0000)}};
}

static __device__ void store(float *x, u32 i, Four v) {
    ((float4 *)x)[i] = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
}

static __device__ void store(bf16 *x, u32 i, Four v) {
    u32 first = rounded(v.at[0]) | rounded(v.at[1]) << 16, second = rounded(v.at[2]) | rounded(v.at[3]) << 16;
    ((uint2 *)x)[i] = make_uint2(first, second);
}

// Shape of a convolution; `c_in` counts what a thread takes at a time. The stride is 1 << shift.
struct Conv {
    u32 h, w, c_in, kernel, shift, pad, oh, ow;
};

// The pixel of a window's place `tap`, counted over all images; -1 outside the image.
static __device__ int source(u32 row, u32 tap, Conv s) {
    u32 oy = row / s.ow % s.oh, ox = row % s.ow, image = row / (s.ow * s.oh);
    int y = int((oy << s.shift) + tap / s.kernel) - int(s.pad), x = int((ox << s.shift) + tap % s.kernel) - int(s.pad);
    bool inside = y >= 0 && y < int(s.h) && x >= 0 && x < int(s.w);
    return inside ? int((image * s.h + y) * s.w + x) : -1;
}

// The window of every output pixel, [n * oh * ow, kernel * kernel * c], 16 bytes at a time.
KERNEL(windows)(u32 len, Conv s, const uint4 *x, uint4 *columns) {
    INDEX(len)
    u32 channel = i % s.c_in, place = i / s.c_in, taps = s.kernel * s.kernel;
    int pixel = source(place / taps, place % taps, s);
    columns[i] = pixel < 0 ? make_uint4(0, 0, 0, 0) : x[pixel * s.c_in + channel];
}

// As windows, one pixel at a time, of images, which are float; rows are `width` apart.
KERNEL(image_windows)(u32 len, Conv s, u32 width, const float *x, T *columns) {
    INDEX(len)
    u32 taps = s.kernel * s.kernel, row = i / taps, tap = i % taps;
    int pixel = source(row, tap, s);
    T *to = columns + row * width + tap * s.c_in;
    for (u32 channel = 0; channel < s.c_in; channel++)
        put(to + channel, pixel < 0 ? 0.0f : x[pixel * s.c_in + channel]);
}

// The sum over the windows that a pixel is in: the gradient of `x`; with `more`, added to what is there. 16 bytes at a
// time.
KERNEL(windows_backward)(u32 len, Conv s, const T *columns, T *dx, u32 more) {
    INDEX(len)
    u32 channel = i % s.c_in, x = i / s.c_in % s.w, y = i / (s.c_in * s.w) % s.h, image = i / (s.c_in * s.w * s.h);
    u32 between = (1 << s.shift) - 1;
    Four sums[FOURS];
#pragma unroll
    for (int four = 0; four < FOURS; four++) sums[four] = more ? load(dx, i * FOURS + four) : Four{};
    for (u32 ky = 0; ky < s.kernel; ky++) {
        int ty = int(y + s.pad) - int(ky);
        if (ty < 0 || ty & between || ty >> s.shift >= s.oh) continue;
        for (u32 kx = 0; kx < s.kernel; kx++) {
            int tx = int(x + s.pad) - int(kx);
            if (tx < 0 || tx & between || tx >> s.shift >= s.ow) continue;
            u32 row = (image * s.oh + (ty >> s.shift)) * s.ow + (tx >> s.shift);
            u32 from = ((row * s.kernel + ky) * s.kernel + kx) * s.c_in + channel;
#pragma unroll
            for (int four = 0; four < FOURS; four++) {
                Four d = load(columns, from * FOURS + four);
                EACH sums[four].at[k] += d.at[k];
            }
        }
    }
#pragma unroll
    for (int four = 0; four < FOURS; four++) store(dx, i * FOURS + four, sums[four]);
}

// The same numbers as they are stored.
KERNEL(stored)(u32 len, const float *x, T *y) {
    INDEX(len)
    put(y + i, x[i]);
}

// See nn/kernel/dropout.rs.
static __device__ u32 position_hash(u64 key, u32 position) {
    u32 z = position * 0x9E3779B1u ^ u32(key);
    z ^= z >> 16;
    z *= 0x85EBCA6Bu;
    z ^= u32(key >> 32);
    z ^= z >> 13;
    z *= 0xC2B2AE35u;
    return z ^ (z >> 16);
}

// Dropout of one layer: one key per image; a threshold of 0 keeps everything.
struct Dropout {
    const u64 *keys;
    u32 threshold;
    float scale;
};

static __device__ bool keeps(Dropout drop, u32 image, u32 position) {
    return drop.threshold == 0 || position_hash(drop.keys[image], position) >= drop.threshold;
}

// y = dropout(max_pool_2x2(relu(z + bias))). The code says which pixel of its window a value is: 0 to 3, or 4 where it is
// 0 or dropped. Of equal values it is the first. Four channels at a time, and their codes in one number.
KERNEL(pool2)(u32 len, u32 h, u32 w, u32 c, const T *z, const float *bias, Dropout drop, T *y, u32 *codes) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2, fours = c / 4, each = oh * ow * fours;
    u32 channel = i % fours, ox = i / fours % ow, oy = i / (fours * ow) % oh, image = i / each;
    u32 first = ((image * h + 2 * oy) * w + 2 * ox) * fours + channel;
    Four b = load(bias, channel), best = load(z, first);
    u32 code[4] = {0, 0, 0, 0}, packed = 0;
    EACH best.at[k] += b.at[k];
    for (u32 pixel = 1; pixel < 4; pixel++) {
        Four value = load(z, first + (pixel / 2 * w + pixel % 2) * fours);
        EACH if (value.at[k] + b.at[k] > best.at[k]) {
            best.at[k] = value.at[k] + b.at[k];
            code[k] = pixel;
        }
    }
    EACH {
        bool kept = best.at[k] > 0.0f && keeps(drop, image, i % each * 4 + k);
        best.at[k] = kept ? best.at[k] * drop.scale : 0.0f;
        packed |= (kept ? code[k] : 4) << (8 * k);
    }
    store(y, i, best);
    codes[i] = packed;
}

// The gradient of z; see pool2.
KERNEL(pool2_backward)(u32 len, u32 h, u32 w, u32 c, const T *dy, const u32 *codes, float scale, T *dz) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2, fours = c / 4;
    u32 channel = i % fours, ox = i / fours % ow, oy = i / (fours * ow) % oh, image = i / (fours * ow * oh);
    u32 first = ((image * h + 2 * oy) * w + 2 * ox) * fours + channel, packed = codes[i];
    Four d = load(dy, i);
    for (u32 pixel = 0; pixel < 4; pixel++) {
        Four value;
        EACH value.at[k] = (packed >> (8 * k) & 0xFF) == pixel ? d.at[k] * scale : 0.0f;
        store(dz, first + (pixel / 2 * w + pixel % 2) * fours, value);
    }
}

// W-Net's first block: pool2 of the 3x3 convolution of images with three channels, padded with zeros. Each thread
// computes sixteen channels of one pooled pixel.
#define GROUP 16

KERNEL(first_block)(u32 len, u32 h, u32 w, u32 c, const float *x, const float *weight, const float *bias, Dropout drop,
                    T *y, u32 *codes) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2, groups = c / GROUP, each = oh * ow * c;
    u32 first = i % groups * GROUP, ox = i / groups % ow, oy = i / (groups * ow) % oh, image = i / (groups * ow * oh);
    float window[4][4][3], sums[4][GROUP];
#pragma unroll
    for (int row = 0; row < 4; row++)
#pragma unroll
        for (int column = 0; column < 4; column++) {
            int yy = int(2 * oy) + row - 1, xx = int(2 * ox) + column - 1;
            bool inside = yy >= 0 && yy < int(h) && xx >= 0 && xx < int(w);
            const float *pixel = x + ((image * h + yy) * w + xx) * 3;
#pragma unroll
            for (int k = 0; k < 3; k++) window[row][column][k] = inside ? pixel[k] : 0.0f;
        }
#pragma unroll
    for (int p = 0; p < 4; p++)
#pragma unroll
        for (int k = 0; k < GROUP; k++) sums[p][k] = 0.0f;
#pragma unroll
    for (int tap = 0; tap < 27; tap++)
#pragma unroll
        for (int k = 0; k < GROUP; k++) {
            float factor = weight[tap * c + first + k];
#pragma unroll
            for (int p = 0; p < 4; p++) sums[p][k] += factor * window[p / 2 + tap / 9][p % 2 + tap / 3 % 3][tap % 3];
        }
    u32 start = ((image * oh + oy) * ow + ox) * c + first;
#pragma unroll
    for (int group = 0; group < GROUP / 4; group++) {
        Four values;
        u32 packed = 0;
        EACH {
            int channel = 4 * group + k;
            float b = bias[first + channel], best = sums[0][channel] + b;
            u32 code = 0;
#pragma unroll
            for (int p = 1; p < 4; p++)
                if (sums[p][channel] + b > best) {
                    best = sums[p][channel] + b;
                    code = p;
                }
            bool kept = best > 0.0f && keeps(drop, image, (start + channel) % each);
            values.at[k] = kept ? best * drop.scale : 0.0f;
            packed |= (kept ? code : 4) << (8 * k);
        }
        store(y, start / 4 + group, values);
        codes[start / 4 + group] = packed;
    }
}

// The gradients of weight and bias, [28, c], summed over `each` pooled pixels at a time: [parts, 28, c]. Only one pixel of
// each window has a gradient.
KERNEL(first_block_backward)(u32 len, u32 pixels, u32 h, u32 w, u32 c, u32 each, const float *x, const T *dy,
                             const u8 *codes, float scale, float *sums) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2, channel = i % c, part = i / c;
    u32 first = part * each, last = min(first + each, pixels);
    float sum[28];
#pragma unroll
    for (int k = 0; k < 28; k++) sum[k] = 0.0f;
    for (u32 pixel = first; pixel < last; pixel++) {
        u32 code = codes[pixel * c + channel];
        if (code == 4) continue;
        float d = widened(dy[pixel * c + channel]) * scale;
        int yy = 2 * (pixel / ow % oh) + code / 2, xx = 2 * (pixel % ow) + code % 2;
        const float *image = x + u64(pixel / (ow * oh)) * h * w * 3;
#pragma unroll
        for (int ky = 0; ky < 3; ky++)
#pragma unroll
            for (int kx = 0; kx < 3; kx++) {
                int row = yy + ky - 1, column = xx + kx - 1;
                bool inside = row >= 0 && row < int(h) && column >= 0 && column < int(w);
#pragma unroll
                for (int k = 0; k < 3; k++)
                    sum[(ky * 3 + kx) * 3 + k] += inside ? d * image[(row * w + column) * 3 + k] : 0.0f;
            }
        sum[27] += d;
    }
#pragma unroll
    for (int k = 0; k < 28; k++) sums[(part * 28 + k) * c + channel] = sum[k];
}

// y = y + bias, in place: [n, width].
KERNEL(bias)(u32 len, u32 width, const float *bias, float *y) {
    INDEX(len)
    y[i] += bias[i % width];
}

// The gradient of the logits, [len, classes]; see `weighted` in models/output.rs. Without weights, all are 1.
KERNEL(loss)(u32 len, u32 classes, const float *logits, const u32 *labels, const float *weights, float gamma,
             float *gradient) {
    INDEX(len)
    const float *values = logits + i * classes;
    u32 label = labels[i];
    float top = values[0];
    for (u32 k = 1; k < classes; k++) top = fmaxf(top, values[k]);
    double sum = 0.0;
    for (u32 k = 0; k < classes; k++) sum += exp(double(values[k] - top));
    double log_p = double(values[label] - top) - log(sum), p = exp(log_p), rest = fmax(1.0 - p, 1e-12);
    double slope = gamma * p * pow(rest, gamma - 1.0) * log_p - pow(rest, double(gamma));
    slope *= (weights ? double(weights[i]) : 1.0) / len;
    for (u32 k = 0; k < classes; k++)
        gradient[i * classes + k] = float(((k == label) - exp(double(values[k] - top)) / sum) * slope);
}

// y = dropout(relu(y + bias)), in place: [n, width].
KERNEL(hidden)(u32 len, u32 width, const float *bias, Dropout drop, float *y) {
    INDEX(len)
    u32 position = i % width;
    float value = y[i] + bias[position];
    y[i] = value > 0.0f && keeps(drop, i / width, position) ? value * drop.scale : 0.0f;
}

// The gradient before hidden: scale * d where y is above 0, and 0 elsewhere.
KERNEL(hidden_backward)(u32 len, const float *y, float scale, const float *d, T *before) {
    INDEX(len)
    put(before + i, y[i] > 0.0f ? d[i] * scale : 0.0f);
}

// d where y is above 0, and 0 elsewhere.
KERNEL(relu_backward)(u32 len, const T *y, T *d) {
    INDEX(len)
    Four value = load(y, i), slope = load(d, i);
    EACH slope.at[k] = value.at[k] > 0.0f ? slope.at[k] : 0.0f;
    store(d, i, slope);
}

// Sums of `each` rows at a time: [rows, c] to [len / c, c].
template <typename V>
static __device__ void sum_rows(u32 i, u32 rows, u32 c, u32 each, const V *x, float *sums) {
    u32 channel = i % c, first = i / c * each, last = min(first + each, rows);
    float sum = 0.0f;
    for (u32 row = first; row < last; row++) sum += widened(x[u64(row) * c + channel]);
    sums[i] = sum;
}

KERNEL(sum_rows)(u32 len, u32 rows, u32 c, u32 each, const T *x, float *sums) {
    INDEX(len)
    sum_rows<T>(i, rows, c, each, x, sums);
}

KERNEL(sum_float_rows)(u32 len, u32 rows, u32 c, u32 each, const float *x, float *sums) {
    INDEX(len)
    sum_rows<float>(i, rows, c, each, x, sums);
}

// The sum of a block's values, in the first thread.
static __device__ double block_sum(double *sums, double value) {
    u32 lane = threadIdx.x;
    sums[lane] = value;
    for (u32 half = LANES / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) sums[lane] += sums[lane + half];
    }
    double total = sums[0];
    __syncthreads();
    return total;
}

// Sums of columns: [parts, c] to [c].
KERNEL(totals)(u32 parts, u32 c, const float *x, float *totals) {
    __shared__ double shared[LANES];
    u32 channel = blockIdx.x;
    double sum = 0.0;
    for (u32 part = threadIdx.x; part < parts; part += LANES) sum += x[u64(part) * c + channel];
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) totals[channel] = float(sum);
}

// The totals of a block's channel over the parts of moments or norm_sums, in the first thread.
static __device__ void pair_totals(double *shared, u32 parts, u32 c, const float *sums, double *first, double *second) {
    u32 channel = blockIdx.x;
    double a = 0.0, b = 0.0;
    for (u32 part = threadIdx.x; part < parts; part += LANES) {
        a += sums[part * c + channel];
        b += sums[(parts + part) * c + channel];
    }
    *first = block_sum(shared, a);
    *second = block_sum(shared, b);
}

// A batch normalisation has four numbers for each channel, [4, c]: scale, shift, mean and 1 / standard deviation.
// scale * z + shift is gamma * (z - mean) / sqrt(variance + epsilon) + beta.
static __device__ void set_norm(float *norm, u32 c, u32 channel, float gamma, float beta, float mean, float variance,
                                float epsilon) {
    float inverse = 1.0f / sqrtf(variance + epsilon), scale = gamma * inverse;
    norm[channel] = scale;
    norm[c + channel] = beta - scale * mean;
    norm[2 * c + channel] = mean;
    norm[3 * c + channel] = inverse;
}

// A block that sums rows has SIDE * SIDE threads: each takes four channels of every SIDE-th row.
#define SIDE 16

// Where a block that sums begins and ends; `channel` counts fours.
struct Part {
    u32 index, parts, channel, first, last;
};

static __device__ Part part(u32 rows, u32 c, u32 each) {
    u32 groups = c / (4 * SIDE), index = blockIdx.x / groups;
    u32 channel = blockIdx.x % groups * SIDE + threadIdx.x % SIDE;
    return {index, gridDim.x / groups, channel, index * each + threadIdx.x / SIDE, min(index * each + each, rows)};
}

// The sums over a block's rows, in its first SIDE threads.
static __device__ Four side_sums(Four value) {
    __shared__ Four sums[SIDE * SIDE];
    u32 lane = threadIdx.x;
    sums[lane] = value;
    for (u32 half = SIDE / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half * SIDE) {
            EACH sums[lane].at[k] += sums[lane + half * SIDE].at[k];
        }
    }
    Four total = sums[lane];
    __syncthreads();
    return total;
}

// Writes a block's two sums to [2, parts, c].
static __device__ void put_sums(Part p, u32 c, Four first, Four second, float *sums) {
    first = side_sums(first);
    second = side_sums(second);
    if (threadIdx.x >= SIDE) return;
    store(sums, p.index * (c / 4) + p.channel, first);
    store(sums, (p.parts + p.index) * (c / 4) + p.channel, second);
}

// Sums and sums of squares of `each` rows at a time: [rows, c] to [2, parts, c].
KERNEL(moments)(u32 rows, u32 c, u32 each, const T *z, float *sums) {
    Part p = part(rows, c, each);
    Four sum{}, square{};
#pragma unroll 4
    for (u32 row = p.first; row < p.last; row += SIDE) {
        Four value = load(z, row * (c / 4) + p.channel);
        EACH {
            sum.at[k] += value.at[k];
            square.at[k] += value.at[k] * value.at[k];
        }
    }
    put_sums(p, c, sum, square, sums);
}

// The arrays of a batch normalisation, and the bias of the convolution before it: [c] each.
struct NormArrays {
    const float *gamma, *beta, *bias;
    float *running_mean, *running_variance;
};

// The normalisation by the moments of a batch, and the running moments after it.
KERNEL(norm)(u32 parts, u32 c, u32 rows, const float *sums, NormArrays arrays, float epsilon, float momentum,
             float *norm) {
    __shared__ double shared[LANES];
    u32 channel = blockIdx.x;
    double sum, square;
    pair_totals(shared, parts, c, sums, &sum, &square);
    if (threadIdx.x > 0) return;
    double mean = sum / rows, wide = square / rows - mean * mean;
    float variance = wide > 0.0 ? float(wide) : 0.0f;
    set_norm(norm, c, channel, arrays.gamma[channel], arrays.beta[channel], float(mean), variance, epsilon);
    // The running variance is the unbiased one, and the mean is that of the convolution with its bias.
    float unbiased = float(rows) / float(max(rows, 2u) - 1);
    float *running = arrays.running_mean + channel;
    *running += momentum * (float(mean) + arrays.bias[channel] - *running);
    running = arrays.running_variance + channel;
    *running += momentum * (variance * unbiased - *running);
}

// The normalisation by the running moments.
KERNEL(running_norm)(u32 c, NormArrays arrays, float epsilon, float *norm) {
    INDEX(c)
    float mean = arrays.running_mean[i] - arrays.bias[i];
    set_norm(norm, c, i, arrays.gamma[i], arrays.beta[i], mean, arrays.running_variance[i], epsilon);
}

// norm(z) of four channels.
static __device__ Four normed(const float *norm, u32 fours, u32 channel, Four z) {
    Four scale = load(norm, channel), shift = load(norm, fours + channel);
    EACH z.at[k] = scale.at[k] * z.at[k] + shift.at[k];
    return z;
}

// relu(norm(z)).
KERNEL(norm_relu)(u32 len, u32 c, const T *z, const float *norm, T *y) {
    INDEX(len)
    Four value = normed(norm, c / 4, i % (c / 4), load(z, i));
    EACH value.at[k] = fmaxf(value.at[k], 0.0f);
    store(y, i, value);
}

// relu(norm(z) + shortcut), where the shortcut is normalised too unless its norm is 0.
KERNEL(shortcut)(u32 len, u32 c, const T *z, const float *norm, const T *shortcut, const float *shortcut_norm, T *y) {
    INDEX(len)
    u32 channel = i % (c / 4);
    Four value = normed(norm, c / 4, channel, load(z, i)), other = load(shortcut, i);
    if (shortcut_norm) other = normed(shortcut_norm, c / 4, channel, other);
    EACH value.at[k] = fmaxf(value.at[k] + other.at[k], 0.0f);
    store(y, i, value);
}

// The gradient before ReLU, where that is asked for.
static __device__ Four before_relu(u32 relu, const float *norm, u32 fours, u32 channel, Four z, Four d) {
    if (!relu) return d;
    z = normed(norm, fours, channel, z);
    EACH d.at[k] = z.at[k] > 0.0f ? d.at[k] : 0.0f;
    return d;
}

// Sums of d and of d * z of `each` rows at a time, as moments.
KERNEL(norm_sums)(u32 rows, u32 c, u32 each, u32 relu, const T *z, const float *norm, const T *d, float *sums) {
    Part p = part(rows, c, each);
    Four sum{}, dot{};
#pragma unroll 4
    for (u32 row = p.first; row < p.last; row += SIDE) {
        u32 i = row * (c / 4) + p.channel;
        Four value = load(z, i), slope = before_relu(relu, norm, c / 4, p.channel, value, load(d, i));
        EACH {
            sum.at[k] += slope.at[k];
            dot.at[k] += slope.at[k] * value.at[k];
        }
    }
    put_sums(p, c, sum, dot, sums);
}

// The gradients of gamma and beta, and for norm_backward the slope and the offset of each channel: [2, c].
KERNEL(norm_totals)(u32 parts, u32 c, u32 rows, const float *sums, const float *norm, float *gamma, float *beta,
                    float *slopes) {
    __shared__ double shared[LANES];
    u32 channel = blockIdx.x;
    double sum, dot;
    pair_totals(shared, parts, c, sums, &sum, &dot);
    if (threadIdx.x > 0) return;
    double scale = norm[channel], mean = norm[2 * c + channel], inverse = norm[3 * c + channel];
    double to_gamma = inverse * (dot - mean * sum);
    slopes[channel] = float(-scale * inverse * to_gamma / rows);
    slopes[c + channel] = float(scale * (mean * inverse * to_gamma - sum) / rows);
    gamma[channel] = float(to_gamma);
    beta[channel] = float(sum);
}

// The gradient of z, `to`, from that of the output, d; they may be the same array.
KERNEL(norm_backward)(u32 len, u32 c, u32 relu, const T *z, const float *norm, const float *slopes, const T *d, T *to) {
    INDEX(len)
    u32 fours = c / 4, channel = i % fours;
    Four value = load(z, i), slope = before_relu(relu, norm, fours, channel, value, load(d, i));
    Four scale = load(norm, channel), by_value = load(slopes, channel), offset = load(slopes, fours + channel);
    EACH slope.at[k] = scale.at[k] * slope.at[k] + by_value.at[k] * value.at[k] + offset.at[k];
    store(to, i, slope);
}

// y = max_pool_3x3(relu(norm(z))), stride 2, padded by 1. The code is the place in the window, or 9 where y is 0.
KERNEL(pool3)(u32 len, u32 h, u32 w, u32 c, const T *z, const float *norm, T *y, u32 *codes) {
    INDEX(len)
    u32 oh = (h + 1) / 2, ow = (w + 1) / 2, fours = c / 4;
    u32 channel = i % fours, ox = i / fours % ow, oy = i / (fours * ow) % oh, image = i / (fours * ow * oh);
    Four best{};
    u32 code[4] = {9, 9, 9, 9}, packed = 0;
    for (u32 place = 0; place < 9; place++) {
        u32 row = 2 * oy + place / 3, column = 2 * ox + place % 3;
        if (row < 1 || row > h || column < 1 || column > w) continue;
        Four value = normed(norm, fours, channel, load(z, ((image * h + row - 1) * w + column - 1) * fours + channel));
        EACH if (value.at[k] > best.at[k]) {
            best.at[k] = value.at[k];
            code[k] = place;
        }
    }
    EACH packed |= code[k] << (8 * k);
    store(y, i, best);
    codes[i] = packed;
}

// The gradient of norm(z); see pool3.
KERNEL(pool3_backward)(u32 len, u32 h, u32 w, u32 c, const T *dy, const u32 *codes, T *dx) {
    INDEX(len)
    u32 oh = (h + 1) / 2, ow = (w + 1) / 2, fours = c / 4;
    u32 channel = i % fours, x = i / fours % w, y = i / (fours * w) % h, image = i / (fours * w * h);
    Four sum{};
    // Windows whose place ky, kx is this pixel: 2 * o + k - 1 is its row or column.
    for (u32 ky = (y + 1) % 2; ky < 3; ky += 2) {
        u32 oy = (y + 1 - ky) / 2;
        if (y + 1 < ky || oy >= oh) continue;
        for (u32 kx = (x + 1) % 2; kx < 3; kx += 2) {
            u32 ox = (x + 1 - kx) / 2;
            if (x + 1 < kx || ox >= ow) continue;
            u32 at = ((image * oh + oy) * ow + ox) * fours + channel, packed = codes[at];
            Four d = load(dy, at);
            EACH if ((packed >> (8 * k) & 0xFF) == 3 * ky + kx) sum.at[k] += d.at[k];
        }
    }
    store(dx, i, sum);
}

// Mean over the pixels of each image: [n, pixels, c] to [n, c].
KERNEL(mean_pool)(u32 len, u32 pixels, u32 c, const T *x, float *y) {
    INDEX(len)
    const T *image = x + u64(i / c) * pixels * c + i % c;
    float sum = 0.0f;
    for (u32 pixel = 0; pixel < pixels; pixel++) sum += widened(image[pixel * c]);
    y[i] = sum / pixels;
}

// The gradient of x; see mean_pool.
KERNEL(mean_pool_backward)(u32 len, u32 pixels, u32 c, const float *dy, T *dx) {
    INDEX(len)
    put(dx + i, dy[i / (pixels * c) * c + i % c] / pixels);
}

// One step of Adam; see nn/kernel/adam.rs.
KERNEL(adam)(u32 len, float *value, float *m, float *v, const float *gradient, float rate, float beta1, float beta2,
             float second, float epsilon) {
    INDEX(len)
    float g = gradient[i];
    float first = beta1 * m[i] + (1.0f - beta1) * g, square = beta2 * v[i] + (1.0f - beta2) * g * g;
    m[i] = first;
    v[i] = square;
    value[i] -= rate * first / (sqrtf(square * second) + epsilon);
}

// One step of SGD with momentum; see nn/optim.rs.
KERNEL(sgd)(u32 len, float *value, float *velocity, const float *gradient, float rate, float momentum,
            float weight_decay) {
    INDEX(len)
    float update = momentum * velocity[i] + (gradient[i] + weight_decay * value[i]);
    velocity[i] = update;
    value[i] -= rate * update;
}
