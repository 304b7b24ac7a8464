#!/usr/bin/env bash
# Make or refresh .venv: the pinned packages of requirements.txt and the built extension. Re-runnable; does only what changed.
# Example: bash tools/setup_env.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf '\nset-up: %s\n' "$1" >&2; exit 1; }
step() { printf '\n== %s (%ss since the start)\n' "$1" "$SECONDS"; }

PYTHON="${PYTHON:-python3}"
command -v "$PYTHON" >/dev/null || fail "'$PYTHON' not found: install it (sudo apt install python3 python3-venv python3-dev)"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or newer is needed; name one: PYTHON=python3.12 bash $0"
command -v g++ >/dev/null || fail "'g++' not found: install it (sudo apt install g++)"

if [ ! -x .venv/bin/python ]; then
  step "Making .venv"
  "$PYTHON" -m venv .venv || { rm -rf .venv; fail "'$PYTHON -m venv' failed: sudo apt install python3-venv"; }
fi
.venv/bin/python - <<'PY' || fail "Python's C headers are missing: sudo apt install python3-dev"
import os, sys, sysconfig
sys.exit(not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
PY

# A stamp says what the last finished set-up was made from, so that a second run has nothing to do.
wanted=$(sha256sum requirements.txt | cut -d' ' -f1)
if [ "$(cat .venv/requirements.sha256 2>/dev/null)" != "$wanted" ]; then
  step "Installing the pinned packages (about 6 GB on disk: torch comes with its CUDA libraries)"
  .venv/bin/python -m pip install --disable-pip-version-check --progress-bar on -r requirements.txt
  # opencv-python wants the system's libGL and glib even where no window is ever opened.
  if ! .venv/bin/python -c "import cv2" 2>/dev/null; then
    echo "OpenCV does not load here (no libGL or glib: sudo apt install libgl1 libglib2.0-0). Taking its headless build, the same without windows."
    .venv/bin/python -m pip uninstall --disable-pip-version-check -q -y opencv-python
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps \
      "$(sed -n 's/^opencv-python==/opencv-python-headless==/p' requirements.txt)"
    .venv/bin/python -c "import cv2" || fail "OpenCV does not load; its message is above"
  fi
  echo "$wanted" > .venv/requirements.sha256
fi
built=$(cat setup.py pyproject.toml $(find csrc lib -type f \( -path 'csrc/*' -o -name '*.pyx' \) | LC_ALL=C sort) | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/extension.sha256 2>/dev/null)" != "$built:$PWD" ] || ! ls lib/ops/_C*.so lib/evaluation/_seq_nms*.so >/dev/null 2>&1; then
  step "Building the extensions"
  .venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e . \
    || fail "the extensions did not build; the compiler's message is above (docs/troubleshooting.md)"
  echo "$built:$PWD" > .venv/extension.sha256
fi
