#!/usr/bin/env bash
# Set up where needed, then run the whole test suite. Arguments go to pytest. Example: bash tools/run_tests.sh tests/ops
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Threads that wait sleep instead of spinning: where other programs want the cores too, spinning costs several times the work.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
bash tools/setup_env.sh
exec .venv/bin/python -m pytest "$@"
