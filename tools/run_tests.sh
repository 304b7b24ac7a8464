#!/usr/bin/env bash
# Set up where needed, then run the whole test suite. Arguments go to pytest. Example: bash tools/run_tests.sh tests/ops
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh
exec .venv/bin/python -m pytest "$@"
