#!/usr/bin/env bash
# Run the tests on the oldest and the newest Python and torch that docs/install.md states, each in an environment of its
# own, into which the package is installed as a user would. Takes some 6 GB for each in the folder given (default: .versions).
# Arguments after the folder go to pytest. Example: bash tools/test_versions.sh /var/tmp/versions tests/ops tests/data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

top=$(realpath -m "${1:-.versions}")
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- tests
source=$PWD
failed=0

# interpreter, file of pinned versions
run() {
  local python=$1 pins=$2 name="$1-$(basename "$2" .txt)"
  shift 2
  if ! command -v "$python" >/dev/null || ! "$python" --version >/dev/null 2>&1; then
    printf '\n== %s: not tried, there is no %s here\n' "$name" "$python"
    return
  fi
  local here=$top/$name
  [ -x "$here/bin/python" ] || "$python" -m venv "$here"
  printf '\n== %s: installing\n' "$name"
  "$here/bin/python" -m pip install --disable-pip-version-check -q -r "$pins" pytest hypothesis
  # pip builds in an environment of its own, with the same versions: the first name is for pip before 25.3
  PIP_CONSTRAINT=$source/$pins PIP_BUILD_CONSTRAINT=$source/$pins "$here/bin/python" -m pip install \
    --disable-pip-version-check -q --no-deps --no-cache-dir --force-reinstall "$source"
  (cd "$top" && "$here/bin/python" -c "
import cv2, lib, numpy, platform, torch, rfcn.demo, dff.demo, fgfa.demo
import lib.ops, lib.evaluation.seq_nms
print('installed, and imported from another folder:', 'Python', platform.python_version(), 'torch', torch.__version__,
      'numpy', numpy.__version__, 'OpenCV', cv2.__version__)")
  # The tests import from the clone, which needs builds of its own beside the sources: those of the installed package
  rm -rf "$here/source" && mkdir -p "$here/source"
  git ls-files -z | xargs -0 cp --parents -t "$here/source"
  local installed
  installed=$(cd "$top" && "$here/bin/python" -c "import lib, os; print(os.path.dirname(lib.__file__))")
  cp "$installed"/ops/_C*.so "$here/source/lib/ops/"
  cp "$installed"/evaluation/_*.so "$here/source/lib/evaluation/"
  # Where the recordings of the originals lie beside this clone, the tests look for them beside theirs
  [ ! -d "$source/../shared" ] || ln -sfn "$(realpath "$source/../shared")" "$here/shared"
  printf '== %s: testing\n' "$name"
  (cd "$here/source" && "$here/bin/python" -m pytest "$@") || failed=1
}

run python3.10 tools/install/oldest.txt "$@"
run python3.13 requirements.txt "$@"
exit $failed
