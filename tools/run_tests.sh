#!/usr/bin/env bash
# Set up where needed, then run the whole test suite. Arguments go to pytest. Example: bash tools/run_tests.sh tests/ops
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Threads that wait spin for a moment only and then sleep: where other programs want the cores too, spinning on costs
# several times the work.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"
bash tools/setup_env.sh
exec .venv/bin/python -m pytest "$@"
