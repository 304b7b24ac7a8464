#!/usr/bin/env bash
# Make or refresh .venv: the pinned packages of requirements.txt and the built extension. Re-runnable; does only what changed.
# CPU_ONLY=1 takes torch without its CUDA libraries, which are most of the 6 GB. Example: bash tools/setup_env.sh
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
CPU_ONLY="${CPU_ONLY:-}"
wanted=$(sha256sum requirements.txt | cut -d' ' -f1)${CPU_ONLY:+-cpu}
if [ "$(cat .venv/requirements.sha256 2>/dev/null)" != "$wanted" ]; then
  if [ -n "$CPU_ONLY" ]; then
    step "Installing torch without CUDA"
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar on \
      --index-url https://download.pytorch.org/whl/cpu $(grep -E '^torch(vision)?==' requirements.txt) \
      || fail "PyTorch's index of CPU builds cannot be reached; without CPU_ONLY=1 torch comes from PyPI, with CUDA"
    step "Installing the other pinned packages"
  else
    step "Installing the pinned packages (about 6 GB on disk: torch comes with its CUDA libraries; CPU_ONLY=1 leaves them out)"
  fi
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
