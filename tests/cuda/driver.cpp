// A CUDA driver and a cuBLAS for tests on machines without a GPU: device memory is host memory, and a kernel is a C++
// function that is called for one thread after the other. It finds wrong results, values that are read before they are
// written, and copies and matrix products outside arrays. It cannot find races, and tells nothing about speed.
//
// SIMULATOR_COUNTS=FILE: at the end, appends a line of counts to FILE.
// SIMULATOR_COMPUTES=no: counts only; all results are 0. For networks of full size.
// SIMULATOR_MEMORY=BYTES: the size of the device's memory.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <ucontext.h>
#include <vector>
#include "simulator.h"

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

Position threadIdx, blockIdx, blockDim, gridDim;

static std::map<std::string, Run> &kernels() {
    static std::map<std::string, Run> all;
    return all;
}
void add_kernel(const char *name, Run run) { kernels()[name] = run; }

static const bool computes = !getenv("SIMULATOR_COMPUTES") || strcmp(getenv("SIMULATOR_COMPUTES"), "no");

// What a program asked for.
struct Counts {
    size_t launches, products, copies_in, bytes_in, copies_out, bytes_out, copies, bytes, sets, bytes_set, waits, allocs, live, peak;
    std::map<std::string, size_t> by_kernel;
    ~Counts() {
        const char *path = getenv("SIMULATOR_COUNTS");
        FILE *file = path ? fopen(path, "a") : nullptr;
        if (!file) return;
        fprintf(file,
                "{\"launches\": %zu, \"products\": %zu, \"copies_in\": %zu, \"bytes_in\": %zu, \"copies_out\": %zu, "
                "\"bytes_out\": %zu, \"copies\": %zu, \"bytes\": %zu, \"sets\": %zu, \"bytes_set\": %zu, \"waits\": %zu, "
                "\"allocs\": %zu, \"peak_bytes\": %zu, \"kernels\": {",
                launches, products, copies_in, bytes_in, copies_out, bytes_out, copies, bytes, sets, bytes_set, waits,
                allocs, peak);
        const char *comma = "";
        for (auto &kernel : by_kernel) {
            fprintf(file, "%s\"%s\": %zu", comma, kernel.first.c_str(), kernel.second);
            comma = ", ";
        }
        fprintf(file, "}}\n");
        fclose(file);
    }
};
static Counts counts{};

// Allocations: start and size. Without computing, addresses are only numbers.
static std::map<size_t, size_t> allocations;
static size_t next_address = size_t(1) << 44;
static const size_t memory = getenv("SIMULATOR_MEMORY") ? strtoull(getenv("SIMULATOR_MEMORY"), nullptr, 10) : size_t(80) << 30;

static bool inside(size_t start, size_t size) {
    auto after = allocations.upper_bound(start);
    if (after == allocations.begin()) return size == 0;
    --after;
    return start + size <= after->first + after->second;
}

// Threads of a block with barriers: each has a stack, and a barrier goes on with the next thread. They are made once, and
// run one block after the other.
struct Thread {
    ucontext_t start;
    jmp_buf at;
    bool started, done;
    char stack[1 << 14];
};
static std::vector<std::unique_ptr<Thread>> threads;
static jmp_buf block;
static int running = -1;
static Run running_kernel;
static void **running_parameters;

static void leave() {
    if (!_setjmp(threads[running]->at)) _longjmp(block, 1);
}

static void run_thread() {
    for (;;) {
        running_kernel(running_parameters);
        threads[running]->done = true;
        leave();
    }
}

void __syncthreads() {
    if (running < 0) {
        fprintf(stderr, "simulator: a barrier in a kernel whose PTX has none\n");
        abort();
    }
    leave();
}

static void run_block(Run kernel, void **parameters, unsigned count) {
    running_kernel = kernel;
    running_parameters = parameters;
    while (threads.size() < count) {
        threads.emplace_back(new Thread{});
        Thread &thread = *threads.back();
        getcontext(&thread.start);
        thread.start.uc_stack.ss_sp = thread.stack;
        thread.start.uc_stack.ss_size = sizeof thread.stack;
        makecontext(&thread.start, run_thread, 0);
    }
    for (unsigned i = 0; i < count; i++) threads[i]->done = false;
    // volatile: they are changed between setjmp and longjmp.
    volatile bool more = true;
    while (more) {
        more = false;
        for (volatile unsigned i = 0; i < count; i++) {
            if (threads[i]->done) continue;
            threadIdx = {i, 0, 0};
            running = int(i);
            if (!_setjmp(block)) {
                if (threads[i]->started) _longjmp(threads[i]->at, 1);
                threads[i]->started = true;
                setcontext(&threads[i]->start);
            }
            if (!threads[i]->done) more = true;
        }
    }
    running = -1;
}

struct Module {
    std::string ptx;
};
struct Function {
    std::string name;
    Run run;
    bool has_barrier;
};

#define API extern "C" __attribute__((visibility("default"))) int

// One thread of the program at a time.
static std::recursive_mutex mutex;
#define ALONE std::lock_guard<std::recursive_mutex> alone(mutex);

// For wbc's tests: see simulated_counts in src/nn/cuda/driver.rs.
API simulatorCounts(size_t *to) {
    size_t values[] = {counts.launches, counts.products, counts.bytes_in, counts.waits, counts.peak};
    std::copy(values, values + 5, to);
    return SUCCESS;
}

API cuInit(unsigned) { return SUCCESS; }
API cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
API cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
API cuDeviceGet(int *device, int ordinal) { *device = 0; return ordinal ? INVALID_DEVICE : SUCCESS; }
API cuDeviceGetName(char *name, int len, int) { snprintf(name, len, "simulated device"); return SUCCESS; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
    const int COMPUTE_CAPABILITY_MAJOR = 75;
    *value = attribute == COMPUTE_CAPABILITY_MAJOR ? 8 : 1;
    return SUCCESS;
}
API cuDevicePrimaryCtxRetain(void **context, int) { *context = (void *)1; return SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(void *) { return SUCCESS; }
API cuGetErrorName(int, const char **name) { *name = "CUDA_ERROR"; return SUCCESS; }
API cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == LAUNCH_FAILED ? "unspecified launch failure" : "an error";
    return SUCCESS;
}
API cuEventCreate(void **event, unsigned) { *event = (void *)2; return SUCCESS; }
API cuEventDestroy_v2(void *) { return SUCCESS; }
API cuEventSynchronize(void *) { ALONE counts.waits++; return SUCCESS; }
API cuEventRecord(void *, void *) { return SUCCESS; }
API cuStreamCreate(void **stream, unsigned) { *stream = (void *)3; return SUCCESS; }
API cuStreamDestroy_v2(void *) { return SUCCESS; }
API cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
API cuStreamSynchronize(void *) { ALONE counts.waits++; return SUCCESS; }
API cuDeviceGetDefaultMemPool(void **pool, int) { *pool = (void *)4; return SUCCESS; }
API cuMemPoolSetAttribute(void *, int, void *) { return SUCCESS; }
API cuMemHostAlloc(void **start, size_t size, unsigned) { *start = malloc(size); return *start ? SUCCESS : OUT_OF_MEMORY; }
API cuMemFreeHost(void *start) { free(start); return SUCCESS; }

API cuMemAlloc_v2(size_t *start, size_t size) {
    ALONE
    if (counts.live + size > memory) return OUT_OF_MEMORY;
    size_t rounded = (size + 511) / 256 * 256;
    if (computes) {
        *start = size_t(aligned_alloc(256, rounded));
        // Not a number, so that a value that is read before it is written shows.
        memset((void *)*start, 0xff, rounded);
    } else {
        *start = next_address;
        next_address += rounded;
    }
    allocations[*start] = size;
    counts.allocs++;
    counts.live += size;
    counts.peak = max(counts.peak, counts.live);
    return SUCCESS;
}
API cuMemAllocAsync(size_t *start, size_t size, void *) { return cuMemAlloc_v2(start, size); }
API cuMemFree_v2(size_t start) {
    ALONE
    auto found = allocations.find(start);
    if (found == allocations.end()) return INVALID_VALUE;
    counts.live -= found->second;
    allocations.erase(found);
    if (computes) free((void *)start);
    return SUCCESS;
}
API cuMemFreeAsync(size_t start, void *) { return cuMemFree_v2(start); }

API cuMemcpyHtoD_v2(size_t to, const void *from, size_t size) {
    ALONE
    if (!inside(to, size)) return INVALID_VALUE;
    if (computes) memcpy((void *)to, from, size);
    counts.copies_in++;
    counts.bytes_in += size;
    return SUCCESS;
}
API cuMemcpyHtoDAsync_v2(size_t to, const void *from, size_t size, void *) { return cuMemcpyHtoD_v2(to, from, size); }
API cuMemcpyDtoH_v2(void *to, size_t from, size_t size) {
    ALONE
    if (!inside(from, size)) return INVALID_VALUE;
    computes ? (void)memcpy(to, (void *)from, size) : (void)memset(to, 0, size);
    counts.copies_out++;
    counts.bytes_out += size;
    return SUCCESS;
}
API cuMemcpyDtoHAsync_v2(void *to, size_t from, size_t size, void *) { return cuMemcpyDtoH_v2(to, from, size); }
API cuMemcpyDtoD_v2(size_t to, size_t from, size_t size) {
    ALONE
    if (!inside(to, size) || !inside(from, size)) return INVALID_VALUE;
    if (computes) memcpy((void *)to, (void *)from, size);
    counts.copies++;
    counts.bytes += size;
    return SUCCESS;
}
API cuMemcpyDtoDAsync_v2(size_t to, size_t from, size_t size, void *) { return cuMemcpyDtoD_v2(to, from, size); }
API cuMemsetD8_v2(size_t start, unsigned char value, size_t size) {
    ALONE
    if (!inside(start, size)) return INVALID_VALUE;
    if (computes) memset((void *)start, value, size);
    counts.sets++;
    counts.bytes_set += size;
    return SUCCESS;
}
API cuMemsetD8Async(size_t start, unsigned char value, size_t size, void *) { return cuMemsetD8_v2(start, value, size); }

API cuModuleLoadData(Module **module, const char *ptx) { *module = new Module{ptx}; return SUCCESS; }
API cuModuleLoad(Module **, const char *) { return NOT_FOUND; }
API cuModuleUnload(Module *module) { delete module; return SUCCESS; }
API cuModuleGetFunction(Function **function, Module *module, const char *name) {
    const std::string &ptx = module->ptx;
    size_t start = ptx.find(std::string(".entry ") + name + "(");
    if (start == std::string::npos) return NOT_FOUND;
    std::string body = ptx.substr(start, ptx.find(".entry ", start + 1) - start);
    auto kernel = kernels().find(name);
    *function = new Function{name, kernel == kernels().end() ? nullptr : kernel->second, body.find("bar.sync") != std::string::npos};
    return SUCCESS;
}
API cuLaunchKernel(Function *function, unsigned blocks, unsigned, unsigned, unsigned count, unsigned, unsigned, unsigned, void *, void **parameters, void **) {
    ALONE
    if (!blocks || !count) return INVALID_VALUE;
    counts.launches++;
    counts.by_kernel[function->name]++;
    if (!computes) return SUCCESS;
    if (!function->run) {
        fprintf(stderr, "simulator: %s is not among the compiled kernels\n", function->name.c_str());
        return NOT_FOUND;
    }
    gridDim = {blocks, 1, 1};
    blockDim = {count, 1, 1};
    for (unsigned b = 0; b < blocks; b++) {
        blockIdx = {b, 0, 0};
        if (function->has_barrier) {
            run_block(function->run, parameters, count);
            continue;
        }
        for (unsigned t = 0; t < count; t++) {
            threadIdx = {t, 0, 0};
            function->run(parameters);
        }
    }
    return SUCCESS;
}

API cublasCreate_v2(void **handle) { *handle = (void *)5; return SUCCESS; }
API cublasDestroy_v2(void *) { return SUCCESS; }
API cublasSetStream_v2(void *, void *) { return SUCCESS; }
API cublasSetMathMode(void *, int) { return SUCCESS; }
// How the numbers of a matrix are stored, and the only way to add products.
enum { F32 = 0, BF16 = 14, ADDED_IN_F32 = 68 };
static size_t width(int type) { return type == BF16 ? 2 : 4; }
static float number(const void *start, int type, size_t i) {
    return type == BF16 ? __uint_as_float(unsigned(((const uint16_t *)start)[i]) << 16) : ((const float *)start)[i];
}
static void put_number(void *start, int type, size_t i, float value) {
    if (type == F32) {
        ((float *)start)[i] = value;
        return;
    }
    unsigned bits = __float_as_uint(value);
    ((uint16_t *)start)[i] = value != value ? 0x7FFF : uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
// c = alpha * op(a) * op(b) + beta * c, stored by columns.
API cublasGemmEx(void *, int op_a, int op_b, int m, int n, int k, const float *alpha, const void *a, int type_a, int lda, const void *b, int type_b, int ldb, const float *beta, void *c, int type_c, int ldc, int added, int) {
    ALONE
    counts.products++;
    size_t rows_a = op_a ? k : m, columns_a = op_a ? m : k, rows_b = op_b ? n : k, columns_b = op_b ? k : n;
    auto fits = [](const void *start, int type, size_t rows, size_t columns, size_t stride) {
        return (type == F32 || type == BF16) && rows <= stride && inside(size_t(start), width(type) * ((columns - 1) * stride + rows));
    };
    if (!fits(a, type_a, rows_a, columns_a, lda) || !fits(b, type_b, rows_b, columns_b, ldb) || !fits(c, type_c, m, n, ldc)) return 7;
    // cuBLAS's table of types: both factors are alike, and products of float are stored as float.
    if (added != ADDED_IN_F32 || type_a != type_b || (type_a == F32 && type_c != F32)) return 15;
    if (!computes) return SUCCESS;
    // Rows of op(a), a tile of them at a time and with the numbers of a column side by side, so that sums stay in registers.
    const int TILE = 64;
    std::vector<float> rows(size_t(m + TILE) * k), factors(k);
    for (int i = 0; i < m; i++)
        for (int l = 0; l < k; l++)
            rows[(size_t(i / TILE) * k + l) * TILE + i % TILE] = number(a, type_a, op_a ? size_t(i) * lda + l : size_t(l) * lda + i);
    for (int j = 0; j < n; j++) {
        for (int l = 0; l < k; l++) factors[l] = number(b, type_b, op_b ? size_t(l) * ldb + j : size_t(j) * ldb + l);
        for (int first = 0; first < m; first += TILE) {
            float sums[TILE] = {0};
            const float *column = rows.data() + size_t(first) * k;
            for (int l = 0; l < k; l++, column += TILE)
                for (int i = 0; i < TILE; i++) sums[i] += column[i] * factors[l];
            for (int i = 0; i < min(TILE, m - first); i++) {
                size_t at = size_t(j) * ldc + first + i;
                put_number(c, type_c, at, *alpha * sums[i] + (*beta == 0 ? 0 : *beta * number(c, type_c, at)));
            }
        }
    }
    return SUCCESS;
}
API cublasSgemmStridedBatched(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha, const float *a, int lda, long long stride_a, const float *b, int ldb, long long stride_b, const float *beta, float *c, int ldc, long long stride_c, int count) {
    int status = SUCCESS;
    for (int i = 0; i < count && status == SUCCESS; i++)
        status = cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a + i * stride_a, F32, lda, b + i * stride_b, F32, ldb, beta, c + i * stride_c, F32, ldc, ADDED_IN_F32, 0);
    counts.products -= count - 1;
    return status;
}
