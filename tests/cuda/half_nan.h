// For GPUs of a compute capability below 8.0 and CUDA 12.2 or later, which have two functions that dfdx 0.13 then defines
// once more: NVCC_PREPEND_FLAGS="-include tests/cuda/half_nan.h".
#include <cuda_fp16.h>
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define __hmax_nan dfdx_hmax_nan
#define __hmin_nan dfdx_hmin_nan
#endif
