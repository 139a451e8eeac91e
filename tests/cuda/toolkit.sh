#!/usr/bin/env bash
# Makes the smallest CUDA toolkit with which `cargo build --features cuda` works, also on a machine without a GPU:
#
#   tests/cuda/toolkit.sh FOLDER && . FOLDER/environment && cargo build --release --features cuda
#
# nvcc and its headers are NVIDIA's packages on PyPI (100 MB). The libraries are empty ones to link with: wbc loads the
# real ones when it runs. nvidia-smi is a script that answers dfdx's build script, which asks it even where
# CUDA_COMPUTE_CAP is set. Status 3: the packages are not available.
set -eu
folder=$(realpath -m "$1")
cap=${CUDA_COMPUTE_CAP:-80}
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
packages="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.88
nvidia-cuda-cccl==13.0.85"
# shellcheck disable=SC2086
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" $packages || exit 3
# cudarc's declarations are read below.
cargo fetch --quiet --locked --manifest-path "$(dirname "$(realpath "$0")")/../../Cargo.toml"
mkdir -p "$folder/lib64" "$folder/stub"
for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$wheels/all"; done
cp -a "$wheels/all/nvidia/cu13/." "$folder/"
chmod -R u+x "$folder/bin" "$folder/nvvm/bin"
for library in cuda:1 cublas:13 cublasLt:13 nvrtc:13; do
    name=lib${library%:*}.so
    # cudarc's declarations of the library's functions, as functions that do nothing.
    sources=("${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.9.15/src/*/sys.rs)
    cat "${sources[@]}" | grep -ohE 'pub fn (cu|nvrtc)[A-Za-z0-9_]+' | sort -u |
        sed 's/pub fn \(.*\)/int \1(void) { return 100; }/' |
        gcc -shared -fPIC -w -x c -Wl,-soname,"$name.${library#*:}" -o "$folder/lib64/$name" -
done
printf '#!/bin/sh\necho compute_cap\necho %s.%s\n' "${cap%?}" "${cap#"${cap%?}"}" >"$folder/stub/nvidia-smi"
chmod +x "$folder/stub/nvidia-smi"
cat >"$folder/environment" <<END
export CUDA_PATH=$folder CUDA_COMPUTE_CAP=$cap
export PATH=$folder/bin:\$PATH:$folder/stub
END
if [ "$cap" -lt 80 ]; then
    here=$(dirname "$(realpath "$0")")
    echo "export NVCC_PREPEND_FLAGS='-include $here/half_nan.h'" >>"$folder/environment"
fi
