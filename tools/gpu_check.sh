#!/usr/bin/env bash
# Everything worth knowing about this code on a GPU, in one command of under ten minutes: build, tests, parity, speed,
# profiles, training in reduced precision. tools/gpu_check.py says what is run and what is written.
# Example: bash tools/gpu_check.sh --device cuda --out output/gpu_check
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PY="${PYTHON:-.venv/bin/python}"
if [ ! -x "$PY" ]; then PY=python3; fi
exec "$PY" tools/gpu_check.py "$@"
