#!/usr/bin/env bash
# Builds the simulated CUDA device: `tests/cuda/simulator.sh FOLDER`. Then `LD_LIBRARY_PATH=FOLDER wbc train --device
# cuda:0`, or the tests of a build with CUDA, run on it.
set -eu
folder=$(realpath -m "$1")
here=$(dirname "$(realpath "$0")")
kernels=$here/../../src/nn/cuda/kernels.cu
mkdir -p "$folder"
flags=(-std=c++17 -O2 -march=native -fPIC -fvisibility=hidden -w "-I$here")
for stored in "" bf16_; do
    {
        echo '#include "simulator.h"'
        cat "$kernels"
        sed -n "s/^KERNEL(\([a-z0-9_]*\)).*/ADD_KERNEL(wbc_$stored\1)/p" "$kernels"
    } >"$folder/kernels.cpp"
    g++ "${flags[@]}" ${stored:+-DBF16} -c "$folder/kernels.cpp" -o "$folder/kernels_$stored.o"
done
g++ "${flags[@]}" -O3 -c "$here/driver.cpp" -o "$folder/driver.o"
g++ -shared -o "$folder/libcuda.so.1" -Wl,-soname,libcuda.so.1 "$folder/driver.o" "$folder"/kernels_*.o
g++ -shared -o "$folder/libcublas.so.13" -Wl,-soname,libcublas.so.13 -Wl,--no-as-needed "-L$folder" -l:libcuda.so.1
