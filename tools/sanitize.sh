#!/usr/bin/env bash
# Build the CPU kernels and the loops of evaluation with the sanitizers for addresses and undefined behaviour, in a copy
# of the sources (build/sanitize), and run their tests there. The first finding ends the run with its place in the
# source and a status other than 0. Needs g++ and the installed packages; arguments go to pytest.
# Example: bash tools/sanitize.sh tests/ops/test_extreme_input.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=$(realpath -s "${PYTHON:-.venv/bin/python}")
compiler=${CXX:-g++}
here=$PWD/build/sanitize
[ $# -gt 0 ] || set -- tests/ops tests/evaluation tests/models/test_postprocess.py tests/models/test_detector.py \
  tests/test_properties.py --ignore tests/ops/test_cuda_build.py --ignore tests/evaluation/test_compiled.py \
  --ignore tests/ops/test_instruction_sets.py --ignore tests/evaluation/test_mat_cells.py

# Only what changed is copied: the compiled objects of the rest stay
mkdir -p "$here"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ ! -f "$file" ] || cmp -s "$file" "$here/$file" || cp --parents "$file" "$here"
done
cd "$here"
export PYTHONPATH=$here OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
printf '== building\n'
SANITIZE=1 FORCE_CUDA=0 "$python" setup.py -q build_ext --inplace
for library in lib/ops/_C*.so lib/evaluation/_*.so; do
  grep -q __asan_report "$library" || { echo "$library was built without the sanitizers" >&2; exit 1; }
done

# The second because the first looks for it when it is loaded, and Python itself is not C++. Python does not free
# everything at its end; torch's own allocations and frees are not paired. Findings go to files: pytest keeps what is
# printed during a test until its end, which a finding does not let it reach.
findings=$here/finding
rm -f "$findings".*
LD_PRELOAD="$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libstdc++.so)"
export LD_PRELOAD ASAN_OPTIONS="detect_leaks=0:alloc_dealloc_mismatch=0:log_path='$findings'"
export UBSAN_OPTIONS="print_stacktrace=1:log_path='$findings'"
printf '== %s\n' "pytest $*"
status=0
"$python" -m pytest -p no:cacheprovider -p no:faulthandler "$@" || status=$?
unset LD_PRELOAD
for finding in "$findings".*; do
  [ ! -f "$finding" ] || { printf '\n== a finding\n'; cat "$finding"; status=1; } >&2
done
[ "$status" -ne 0 ] || printf '== no finding\n'
exit "$status"
