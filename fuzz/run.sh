#!/usr/bin/env bash
# Builds fuzz targets with stable Rust, runs each for a number of executions, and prints a table of what was reached:
#
#     fuzz/run.sh [-n EXECUTIONS] [TARGET...]
#
# Without names it runs every target. What it learns stays in fuzz/corpus/, and what it finds is in fuzz/artifacts/;
# `fuzz/run.sh -n 0` repeats the corpus only. FUZZ_FLAGS are further options of libFuzzer.
set -euo pipefail
cd "$(dirname "$0")"

executions=1000000
while getopts n: option; do
    case $option in
        n) executions=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# Only four targets need the networks and classifiers, which take minutes to build.
features=--no-default-features
bins=()
for target in "${targets[@]}"; do
    bins+=(--bin "$target")
    case $target in checkpoint | classifier | pipeline | run_record) features= ;; esac
done

# What cargo-fuzz sets, without a sanitizer: there is hardly any unsafe code here.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
host=$(rustc -vV | sed -n 's/^host: //p')
# Given a target, cargo does not instrument build scripts.
cargo build --quiet --release --target "$host" $features "${bins[@]}"
built=${CARGO_TARGET_DIR:-target}/$host/release

# Files of the targets, in memory where that is possible.
TMPDIR=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/wbc-fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# Longest input of a target, bytes. Short inputs are fast, and small files hold everything that a format has.
length() {
    case $1 in
        jpeg | jpeg_pixels) echo 4096 ;;
        table | archive | checkpoint | classifier) echo 16384 ;;
        *) echo 2048 ;;
    esac
}

printf '%-14s %12s %8s %9s  %s\n' target executions seconds 'peak MB' findings
status=0
for target in "${targets[@]}"; do
    corpus=corpus/$target
    artifacts=artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    WBC_FUZZ_SEEDS=$corpus "$built/$target"
    log=$TMPDIR/log
    began=$SECONDS
    # Counts executions by -runs, which a corpus larger than that exceeds.
    # shellcheck disable=SC2086
    "$built/$target" -runs="$executions" -max_len="$(length "$target")" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$artifacts/" ${FUZZ_FLAGS:-} "$corpus" >"$log" 2>&1 ||
        { status=1 && tail -n 40 "$log" >&2; }
    value() { sed -n "s/^stat::$1: *//p" "$log"; }
    printf '%-14s %12s %8s %9s  %s\n' "$target" "$(value number_of_executed_units)" $((SECONDS - began)) \
        "$(value peak_rss_mb)" "$(find "$artifacts" -type f | wc -l)"
done
exit $status
