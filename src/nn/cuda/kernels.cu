// Kernels for training on CUDA devices. Activations are [n, h, w, c]. A kernel computes `len` values, one per thread,
// except those that sum: these have one block per channel. Sums are taken in a fixed order, without atomic operations, so
// that the same device gives the same bytes again.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define INDEX(len) \
    u32 i = blockIdx.x * blockDim.x + threadIdx.x; \
    if (i >= len) return;

// Threads of a block that sums.
#define LANES 128

// Shape of a convolution.
struct Conv {
    u32 h, w, c_in, kernel, stride, pad, oh, ow;
};

static __device__ float add(float a, float b) { return a + b; }
static __device__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// The window of every output pixel, [n * oh * ow, kernel * kernel * c]; V is one channel or four.
template <typename V>
static __device__ void windows(u32 i, Conv s, const V *x, V *columns, V zero) {
    u32 channel = i % s.c_in, rest = i / s.c_in;
    u32 tap = rest % (s.kernel * s.kernel), row = rest / (s.kernel * s.kernel);
    u32 oy = row / s.ow % s.oh, ox = row % s.ow, image = row / (s.ow * s.oh);
    int y = int(oy * s.stride + tap / s.kernel) - int(s.pad), xx = int(ox * s.stride + tap % s.kernel) - int(s.pad);
    bool inside = y >= 0 && y < int(s.h) && xx >= 0 && xx < int(s.w);
    columns[i] = inside ? x[((image * s.h + y) * s.w + xx) * s.c_in + channel] : zero;
}

extern "C" __global__ void wbc_windows(u32 len, Conv s, const float *x, float *columns) {
    INDEX(len)
    windows<float>(i, s, x, columns, 0.0f);
}

extern "C" __global__ void wbc_windows4(u32 len, Conv s, const float4 *x, float4 *columns) {
    INDEX(len)
    windows<float4>(i, s, x, columns, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}

// The sum over the windows that a pixel is in: the gradient of `x`; with `more`, added to what is there.
template <typename V>
static __device__ void windows_backward(u32 i, Conv s, const V *columns, V *dx, u32 more, V sum) {
    u32 channel = i % s.c_in, xx = i / s.c_in % s.w, y = i / (s.c_in * s.w) % s.h, image = i / (s.c_in * s.w * s.h);
    for (u32 ky = 0; ky < s.kernel; ky++) {
        int ty = int(y + s.pad) - int(ky);
        if (ty < 0 || ty % s.stride || ty / s.stride >= s.oh) continue;
        for (u32 kx = 0; kx < s.kernel; kx++) {
            int tx = int(xx + s.pad) - int(kx);
            if (tx < 0 || tx % s.stride || tx / s.stride >= s.ow) continue;
            u32 row = (image * s.oh + ty / s.stride) * s.ow + tx / s.stride;
            sum = add(sum, columns[(row * s.kernel * s.kernel + ky * s.kernel + kx) * s.c_in + channel]);
        }
    }
    dx[i] = more ? add(dx[i], sum) : sum;
}

extern "C" __global__ void wbc_windows_backward(u32 len, Conv s, const float *columns, float *dx, u32 more) {
    INDEX(len)
    windows_backward<float>(i, s, columns, dx, more, 0.0f);
}

extern "C" __global__ void wbc_windows4_backward(u32 len, Conv s, const float4 *columns, float4 *dx, u32 more) {
    INDEX(len)
    windows_backward<float4>(i, s, columns, dx, more, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
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
// 0 or dropped. Of equal values it is the first.
extern "C" __global__ void wbc_pool2(u32 len, u32 h, u32 w, u32 c, const float *z, const float *bias, Dropout drop,
                                     float *y, u8 *codes) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2, each = oh * ow * c;
    u32 channel = i % c, ox = i / c % ow, oy = i / (c * ow) % oh, image = i / each;
    const float *window = z + ((image * h + 2 * oy) * w + 2 * ox) * c + channel;
    float b = bias[channel], best = window[0] + b;
    u8 code = 0;
    for (u32 k = 1; k < 4; k++) {
        float value = window[(k / 2 * w + k % 2) * c] + b;
        if (value > best) {
            best = value;
            code = u8(k);
        }
    }
    bool kept = best > 0.0f && keeps(drop, image, i % each);
    y[i] = kept ? best * drop.scale : 0.0f;
    codes[i] = kept ? code : 4;
}

// The gradient of z; see wbc_pool2.
extern "C" __global__ void wbc_pool2_backward(u32 len, u32 h, u32 w, u32 c, const float *dy, const u8 *codes,
                                              float scale, float *dz) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2;
    u32 channel = i % c, ox = i / c % ow, oy = i / (c * ow) % oh, image = i / (c * ow * oh);
    float *window = dz + ((image * h + 2 * oy) * w + 2 * ox) * c + channel;
    u8 code = codes[i];
    float d = dy[i] * scale;
    for (u32 k = 0; k < 4; k++) window[(k / 2 * w + k % 2) * c] = code == k ? d : 0.0f;
}

// W-Net's first block: wbc_pool2 of the 3x3 convolution of images with three channels, padded with zeros. Each thread
// computes sixteen channels of one pooled pixel.
#define GROUP 16

extern "C" __global__ void wbc_first_block(u32 len, u32 h, u32 w, u32 c, const float *x, const float *weight,
                                           const float *bias, Dropout drop, float *y, u8 *codes) {
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
    float values[GROUP];
    u32 packed[GROUP / 4] = {0};
#pragma unroll
    for (int k = 0; k < GROUP; k++) {
        float b = bias[first + k], best = sums[0][k] + b;
        u32 code = 0;
#pragma unroll
        for (int p = 1; p < 4; p++)
            if (sums[p][k] + b > best) {
                best = sums[p][k] + b;
                code = p;
            }
        bool kept = best > 0.0f && keeps(drop, image, (start + k) % each);
        values[k] = kept ? best * drop.scale : 0.0f;
        packed[k / 4] |= (kept ? code : 4) << (8 * (k % 4));
    }
    // Four values at a time: `start` is a multiple of 16.
#pragma unroll
    for (int k = 0; k < GROUP; k += 4) {
        *(float4 *)(y + start + k) = make_float4(values[k], values[k + 1], values[k + 2], values[k + 3]);
        *(u32 *)(codes + start + k) = packed[k / 4];
    }
}

// The gradients of weight and bias, [28, c], summed over `each` pooled pixels at a time: [parts, 28, c]. Only one pixel of
// each window has a gradient.
extern "C" __global__ void wbc_first_block_backward(u32 len, u32 pixels, u32 h, u32 w, u32 c, u32 each, const float *x,
                                                    const float *dy, const u8 *codes, float scale, float *sums) {
    INDEX(len)
    u32 oh = h / 2, ow = w / 2, channel = i % c, part = i / c;
    u32 first = part * each, last = min(first + each, pixels);
    float sum[28];
#pragma unroll
    for (int k = 0; k < 28; k++) sum[k] = 0.0f;
    for (u32 pixel = first; pixel < last; pixel++) {
        u32 code = codes[pixel * c + channel];
        if (code == 4) continue;
        float d = dy[pixel * c + channel] * scale;
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
extern "C" __global__ void wbc_bias(u32 len, u32 width, const float *bias, float *y) {
    INDEX(len)
    y[i] += bias[i % width];
}

// y = dropout(relu(y + bias)), in place: [n, width].
extern "C" __global__ void wbc_relu(u32 len, u32 width, const float *bias, Dropout drop, float *y) {
    INDEX(len)
    u32 position = i % width;
    float value = y[i] + bias[position];
    y[i] = value > 0.0f && keeps(drop, i / width, position) ? value * drop.scale : 0.0f;
}

// d = scale * d where y is above 0, and 0 elsewhere.
extern "C" __global__ void wbc_relu_backward(u32 len, const float *y, float scale, float *d) {
    INDEX(len)
    d[i] = y[i] > 0.0f ? d[i] * scale : 0.0f;
}

// Sums of `each` rows at a time: [rows, c] to [len / c, c].
extern "C" __global__ void wbc_sum_rows(u32 len, u32 rows, u32 c, u32 each, const float *x, float *sums) {
    INDEX(len)
    u32 channel = i % c, first = i / c * each, last = min(first + each, rows);
    float sum = 0.0f;
    for (u32 row = first; row < last; row++) sum += x[u64(row) * c + channel];
    sums[i] = sum;
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
extern "C" __global__ void wbc_totals(u32 parts, u32 c, const float *x, float *totals) {
    __shared__ double shared[LANES];
    u32 channel = blockIdx.x;
    double sum = 0.0;
    for (u32 part = threadIdx.x; part < parts; part += LANES) sum += x[u64(part) * c + channel];
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) totals[channel] = float(sum);
}

// The totals of a block's channel over the parts of wbc_moments or wbc_norm_sums, in the first thread.
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

// Sums and sums of squares of `each` rows at a time: [rows, c] to [2, parts, c].
extern "C" __global__ void wbc_moments(u32 len, u32 rows, u32 c, u32 each, const float *z, float *sums) {
    INDEX(len)
    u32 channel = i % c, first = i / c * each, last = min(first + each, rows);
    float sum = 0.0f, square = 0.0f;
    for (u32 row = first; row < last; row++) {
        float value = z[u64(row) * c + channel];
        sum += value;
        square += value * value;
    }
    sums[i] = sum;
    sums[len + i] = square;
}

// The arrays of a batch normalisation, and the bias of the convolution before it: [c] each.
struct NormArrays {
    const float *gamma, *beta, *bias;
    float *running_mean, *running_variance;
};

// The normalisation by the moments of a batch, and the running moments after it.
extern "C" __global__ void wbc_norm(u32 parts, u32 c, u32 rows, const float *sums, NormArrays arrays, float epsilon,
                                    float momentum, float *norm) {
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
extern "C" __global__ void wbc_running_norm(u32 c, NormArrays arrays, float epsilon, float *norm) {
    INDEX(c)
    float mean = arrays.running_mean[i] - arrays.bias[i];
    set_norm(norm, c, i, arrays.gamma[i], arrays.beta[i], mean, arrays.running_variance[i], epsilon);
}

// relu(norm(z)).
extern "C" __global__ void wbc_norm_relu(u32 len, u32 c, const float *z, const float *norm, float *y) {
    INDEX(len)
    y[i] = fmaxf(norm[i % c] * z[i] + norm[c + i % c], 0.0f);
}

// relu(norm(z) + shortcut), where the shortcut is normalised too unless its norm is 0.
extern "C" __global__ void wbc_shortcut(u32 len, u32 c, const float *z, const float *norm, const float *shortcut,
                                        const float *shortcut_norm, float *y) {
    INDEX(len)
    u32 channel = i % c;
    float other = shortcut[i];
    if (shortcut_norm) other = shortcut_norm[channel] * other + shortcut_norm[c + channel];
    y[i] = fmaxf(norm[channel] * z[i] + norm[c + channel] + other, 0.0f);
}

// The gradient before ReLU, where that is asked for.
static __device__ float before_relu(u32 relu, const float *norm, u32 c, u32 channel, float z, float d) {
    return relu && !(norm[channel] * z + norm[c + channel] > 0.0f) ? 0.0f : d;
}

// Sums of d and of d * z of `each` rows at a time, as wbc_moments.
extern "C" __global__ void wbc_norm_sums(u32 len, u32 rows, u32 c, u32 each, u32 relu, const float *z,
                                         const float *norm, const float *d, float *sums) {
    INDEX(len)
    u32 channel = i % c, first = i / c * each, last = min(first + each, rows);
    float sum = 0.0f, dot = 0.0f;
    for (u32 row = first; row < last; row++) {
        float value = z[u64(row) * c + channel];
        float slope = before_relu(relu, norm, c, channel, value, d[u64(row) * c + channel]);
        sum += slope;
        dot += slope * value;
    }
    sums[i] = sum;
    sums[len + i] = dot;
}

// The gradients of gamma and beta, and for wbc_norm_backward the slope and the offset of each channel: [2, c].
extern "C" __global__ void wbc_norm_totals(u32 parts, u32 c, u32 rows, const float *sums, const float *norm,
                                           float *gamma, float *beta, float *slopes) {
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

// Replaces the gradient of the output by that of z.
extern "C" __global__ void wbc_norm_backward(u32 len, u32 c, u32 relu, const float *z, const float *norm,
                                             const float *slopes, float *d) {
    INDEX(len)
    u32 channel = i % c;
    float value = z[i];
    float slope = before_relu(relu, norm, c, channel, value, d[i]);
    d[i] = norm[channel] * slope + slopes[channel] * value + slopes[c + channel];
}

// y = max_pool_3x3(relu(norm(z))), stride 2, padded by 1. The code is the place in the window, or 9 where y is 0.
extern "C" __global__ void wbc_pool3(u32 len, u32 h, u32 w, u32 c, const float *z, const float *norm, float *y,
                                     u8 *codes) {
    INDEX(len)
    u32 oh = (h + 1) / 2, ow = (w + 1) / 2;
    u32 channel = i % c, ox = i / c % ow, oy = i / (c * ow) % oh, image = i / (c * ow * oh);
    float best = 0.0f;
    u8 code = 9;
    for (u32 k = 0; k < 9; k++) {
        u32 row = 2 * oy + k / 3, column = 2 * ox + k % 3;
        if (row < 1 || row > h || column < 1 || column > w) continue;
        float value = norm[channel] * z[((image * h + row - 1) * w + column - 1) * c + channel] + norm[c + channel];
        if (value > best) {
            best = value;
            code = u8(k);
        }
    }
    y[i] = best;
    codes[i] = code;
}

// The gradient of norm(z); see wbc_pool3.
extern "C" __global__ void wbc_pool3_backward(u32 len, u32 h, u32 w, u32 c, const float *dy, const u8 *codes,
                                              float *dx) {
    INDEX(len)
    u32 oh = (h + 1) / 2, ow = (w + 1) / 2;
    u32 channel = i % c, x = i / c % w, y = i / (c * w) % h, image = i / (c * w * h);
    float sum = 0.0f;
    // Windows whose place k is this pixel: 2 * o + k - 1 is its row or column.
    for (u32 ky = (y + 1) % 2; ky < 3; ky += 2) {
        u32 oy = (y + 1 - ky) / 2;
        if (y + 1 < ky || oy >= oh) continue;
        for (u32 kx = (x + 1) % 2; kx < 3; kx += 2) {
            u32 ox = (x + 1 - kx) / 2;
            if (x + 1 < kx || ox >= ow) continue;
            u32 at = ((image * oh + oy) * ow + ox) * c + channel;
            if (codes[at] == 3 * ky + kx) sum += dy[at];
        }
    }
    dx[i] = sum;
}

// Mean over the pixels of each image: [n, pixels, c] to [n, c].
extern "C" __global__ void wbc_mean_pool(u32 len, u32 pixels, u32 c, const float *x, float *y) {
    INDEX(len)
    const float *image = x + u64(i / c) * pixels * c + i % c;
    float sum = 0.0f;
    for (u32 pixel = 0; pixel < pixels; pixel++) sum += image[pixel * c];
    y[i] = sum / pixels;
}

// The gradient of x; see wbc_mean_pool.
extern "C" __global__ void wbc_mean_pool_backward(u32 len, u32 pixels, u32 c, const float *dy, float *dx) {
    INDEX(len)
    dx[i] = dy[i / (pixels * c) * c + i % c] / pixels;
}

// One step of Adam; see nn/kernel/adam.rs.
extern "C" __global__ void wbc_adam(u32 len, float *value, float *m, float *v, const float *gradient, float rate,
                                    float beta1, float beta2, float second, float epsilon) {
    INDEX(len)
    float g = gradient[i];
    float first = beta1 * m[i] + (1.0f - beta1) * g, square = beta2 * v[i] + (1.0f - beta2) * g * g;
    m[i] = first;
    v[i] = square;
    value[i] -= rate * first / (sqrtf(square * second) + epsilon);
}

// One step of SGD with momentum; see nn/optim.rs.
extern "C" __global__ void wbc_sgd(u32 len, float *value, float *velocity, const float *gradient, float rate,
                                   float momentum, float weight_decay) {
    INDEX(len)
    float update = momentum * velocity[i] + (gradient[i] + weight_decay * value[i]);
    velocity[i] = update;
    value[i] -= rate * update;
}
