#!/usr/bin/env bash
# Builds the simulated CUDA device: `tests/cuda/simulator.sh FOLDER`. Then `LD_LIBRARY_PATH=FOLDER wbc train --device
# cuda:0`, or the tests of a build with CUDA, run on it. The kernels are wbc's own and the few of dfdx's that it uses.
set -eu
folder=$(realpath -m "$1")
here=$(dirname "$(realpath "$0")")
dfdx=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/dfdx-0.13.0/src/tensor_ops)
mkdir -p "$folder/objects"
flags=(-std=c++17 -O2 -march=native -fPIC -fvisibility=hidden -w "-I$here" "-I$folder/objects")
# g++ has no half precision, which wbc does not use: it is left out.
touch "$folder/objects/compatibility.cuh" "$folder/objects/cuda_fp16.h"
for header in cuda_utils binary_op_macros; do sed '/__half/d; s/extern "C" //' "$dfdx/utilities/$header.cuh" >"$folder/objects/$header.cuh"; done
objects=()
for source in "$here/../../src/nn/cuda/kernels.cu" "$dfdx"/{add/binary_add,mul/binary_mul,sum_to/sum_to}.cu; do
    name=$(basename "$source" .cu)
    {
        echo '#include "simulator.h"'
        echo 'namespace {'
        tr -d '\r' <"$source" | sed 's/extern "C" //; /^BINARY_OP(__half/,/^ *$/d; /^SUM(__half/d; /^__device__ void chunk_sum_amp_f16/,$d'
        echo '}'
        grep -oE 'extern "C" __global__ void wbc_[a-z0-9_]+' "$source" | sed 's/.* \(.*\)/KERNEL(\1)/'
        grep -E '^[A-Z_]+\(float,' "$source" | grep -oE '[a-z_]+_f32' | sort -u | sed 's/.*/KERNEL(&)/'
    } >"$folder/objects/$name.cpp"
    g++ "${flags[@]}" -c "$folder/objects/$name.cpp" -o "$folder/objects/$name.o"
    objects+=("$folder/objects/$name.o")
done
g++ "${flags[@]}" -O3 -c "$here/driver.cpp" -o "$folder/objects/driver.o"
g++ -shared -o "$folder/libcuda.so.1" -Wl,-soname,libcuda.so.1 "$folder/objects/driver.o" "${objects[@]}"
g++ -shared -o "$folder/libcublas.so.13" -Wl,-soname,libcublas.so.13 -Wl,--no-as-needed "-L$folder" -l:libcuda.so.1
