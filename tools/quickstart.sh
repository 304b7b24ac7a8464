#!/usr/bin/env bash
# From a fresh clone to an annotated clip: set up, make the synthetic data set, train the small R-FCN on it, test, show.
# Re-runnable: finished steps are not done again, an interrupted training goes on. Example: SEED=1 bash tools/quickstart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SEED="${SEED:-0}"
# Threads that wait sleep instead of spinning: where other programs want the cores too, spinning costs several times the work.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
CFG=configs/rfcn/resnet_v1_18_synthetic_vid.yaml
OUT="output/quickstart/seed_$SEED"
step() { printf '\n== %s (%ss since the start)\n' "$1" "$SECONDS"; }

bash tools/setup_env.sh
PY=.venv/bin/python

step "Making the synthetic data set (data/synthetic_vid)"
$PY tools/make_synthetic_vid.py --out data/synthetic_vid --preview output/quickstart/data.png

step "Training, testing and evaluating the small R-FCN (seed $SEED)"
$PY experiments/rfcn/rfcn_end2end_train_test.py --cfg "$CFG" TRAIN.RESUME=true "TRAIN.SEED=$SEED" "output_path=$OUT"

step "Drawing its detections on a clip it was not trained on"
$PY rfcn/demo.py --cfg "$CFG" "output_path=$OUT" --source data/synthetic_vid/Data/VID/val/syn_val_00000013 --out "$OUT/demo"

printf '\nDone in %ss. Look at:\n' "$SECONDS"
printf '  %s\n' output/quickstart/data.png "$OUT"/demo/demo.mp4 "$OUT"/demo/contact_sheet.png
