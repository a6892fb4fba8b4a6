#!/usr/bin/env bash
# Tests of the native core under sanitizers: run.sh address|thread [pytest arguments].
#
# In a copy of the checkout under build/, so that the ordinary core stays. PYTHON is the interpreter
# of an environment with the package's dependencies.
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=$1
shift
copy=build/sanitized/$kind
mkdir -p "$copy"
rm -rf "$copy/csrc" "$copy/tests"
git ls-files -z --cached --others --exclude-standard |
  tar --create --null --files-from=- | tar --extract --directory "$copy"
PYTHON=$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")
cd "$copy"

common="-g1 -O1 -fno-omit-frame-pointer"
case $kind in
  address)
    flags="-fsanitize=address,undefined"
    link=""
    runtime="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)"
    # Python frees little at its end, hence no search for leaks.
    export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    # What measures time or memory, or builds, or trains.
    tests=(tests --ignore=tests/training --ignore=tests/cuda --ignore=tests/test_build.py
      --ignore=tests/test_bench.py --ignore=tests/test_memory.py
      --ignore=tests/test_kernels_compiled.py --ignore=tests/test_operations.py
      --ignore=tests/test_device_backends.py
      --deselect=tests/test_backends.py::test_interrupt_is_answered)
    ;;
  thread)
    flags="-fsanitize=thread"
    g++ -std=c++17 -fPIC -fvisibility=hidden $common $flags -c tests/sanitize/gomp.cpp -o gomp.o
    link=$PWD/gomp.o
    runtime=$(g++ -print-file-name=libtsan.so)
    export TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1
    export OMP_NUM_THREADS=4 OPENBLAS_NUM_THREADS=1
    tests=(tests/test_filter.py tests/test_sketch.py tests/test_greedy_select.py
      tests/test_greedy_entropy.py tests/test_threshold_decay_select.py tests/test_refine.py
      tests/test_knn.py)
    ;;
  *)
    echo "usage: $0 address|thread [pytest arguments]" >&2
    exit 2
    ;;
esac

FASTSEL_BUILD=cpu CXXFLAGS="$common $flags" LDFLAGS="$flags $link" \
  "$PYTHON" setup.py -q build_ext --inplace
# Fixed addresses, which ThreadSanitizer needs; -s, as pytest would swallow a report.
LD_PRELOAD=$runtime OMP_WAIT_POLICY=passive setarch --addr-no-randomize \
  "$PYTHON" -m pytest -q -s "${tests[@]}" "$@"
