#!/bin/sh
# Builds the native core with AddressSanitizer and UBSan and runs tests on it.
#
#   tools/test_sanitized.sh [pytest arguments]
#
# PYTHON names the interpreter of an environment that has the test requirements; ISAS which kernels are
# built (scalar;avx2). The build stays in build/sanitize.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
build=build/sanitize
stage=$build/stage

cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 -DTONNAGE_SANITIZE=ON \
  -DTONNAGE_ISAS="${ISAS:-scalar;avx2}" \
  -DPython_EXECUTABLE="$("$python" -c 'import sys; print(sys.executable)')"
cmake --build $build
rm -rf $stage
mkdir -p $stage
cp -r src/tonnage $stage/
cp $build/_native*.so $stage/tonnage/

[ $# -gt 0 ] || set -- tests/kernels tests/native tests/unit/test_sampler.py tests/system/test_bit_identity.py

# A sanitizer's report goes to the real stderr, so pytest captures no more than sys.stdout and sys.stderr.
# An editable install would come before any path, so its import hook is taken away.
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
  "$python" - "$stage" "$@" <<'PY'
import sys

stage, *arguments = sys.argv[1:]
sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
sys.path.insert(0, stage)
import pytest
import tonnage._native

assert stage in tonnage._native.__file__
sys.exit(pytest.main(["-q", "--capture=sys", "-p", "no:cacheprovider", *arguments]))
PY
