// What kernels need of CUDA's language, on a CPU: one thread runs after the other.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define __device__
#define __global__
#define __shared__ static
using std::max;
using std::min;

struct Position {
    unsigned x, y, z;
};
extern Position threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();

struct float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct uint2 {
    unsigned x, y;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
struct uint4 {
    unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}

// A kernel under its name: `run` takes the addresses of its parameters, as cuLaunchKernel does.
typedef void (*Run)(void **parameters);
void add_kernel(const char *name, Run run);

template <auto kernel>
struct Kernel;
template <typename... A, void (*kernel)(A...)>
struct Kernel<kernel> {
    template <size_t... I>
    static void call(void **p, std::index_sequence<I...>) {
        kernel(*(std::remove_const_t<A> *)p[I]...);
    }
    static void run(void **p) { call(p, std::index_sequence_for<A...>{}); }
};
#define ADD_KERNEL(name) static const bool added_##name = (add_kernel(#name, Kernel<name>::run), true);
