#!/usr/bin/env bash
# From a fresh clone to pictures, and to the table of all methods: set up; show and test the detectors that come with the
# repository; then train small ones anew on a synthetic data set (R-FCN, and from it DFF and FGFA), test, compare, show.
# Re-runnable: what is set up, made and trained stays, an interrupted training goes on; tests and pictures are made anew.
# Example: SEED=1 bash tools/quickstart.sh
# TRAIN=0 ends before the training. SHIPPED_VIDEOS=100 tests the shipped detectors on as many videos (20).
# FLOW_BOUNDS=1 also tests DFF and FGFA with zero flow and with the generator's true flow in place of the learned one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SEED="${SEED:-0}"
# Threads that wait spin for a moment only and then sleep: where other programs want the cores too, spinning on costs
# several times the work.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"
OUT=output/quickstart
RUN="$OUT/seed_$SEED"
RFCN=resnet_v1_18_synthetic_vid
VIDEO=resnet_v1_18_flownet_synthetic_vid
CLIP=data/synthetic_vid/Data/VID/val/syn_val_00000037 # one on which the methods differ
SHIPPED_DATA=data/synthetic_vid_480_val
step() { printf '\n== %s (%ss since the start)\n' "$1" "$SECONDS"; }

bash tools/setup_env.sh
PY=.venv/bin/python
# Each method's results lie under its own folder; the scripts find its checkpoint there.
run() { # method, script, further arguments
    local method=$1 script=$2
    shift 2
    local cfg=(--cfg "configs/$method/$VIDEO.yaml" --preset configs/presets/from_rfcn.yaml)
    if [ "$method" = rfcn ]; then cfg=(--cfg "configs/rfcn/$RFCN.yaml"); fi
    $PY "$script" "${cfg[@]}" "output_path=$RUN/$method" "TRAIN.SEED=$SEED" "$@"
}

# Where a test of a shipped detector left its results: below the name of the run that trained it.
shipped_test() { echo "$OUT"/shipped/"$1"/*/VID_val_videos"${2:-}"; }

if [ -f model/demo_rfcn.pth ] && [ -f model/demo_dff.pth ] && [ -f model/demo_fgfa.pth ] && [ -d data/demo ]; then
    for method in rfcn dff fgfa; do
        step "$method on the clips in data/demo"
        $PY $method/demo.py
    done
    step "The methods side by side on the first clip"
    $PY tools/side_by_side.py --methods rfcn dff fgfa --out output/demo/methods.mp4
    printf 'Look at output/demo/methods.mp4 and at demo.mp4 below output/demo/rfcn, dff and fgfa\n'

    step "Videos that the shipped detectors were not trained on ($SHIPPED_DATA)"
    $PY tools/make_synthetic_vid.py --out "$SHIPPED_DATA" --size 480x360 --seed 7 --train-videos 0 --stills 0 \
        --val-videos "${SHIPPED_VIDEOS:-20}" --overwrite
    step "Testing the shipped detectors"
    test_shipped() { # method, further arguments
        local method=$1
        shift
        $PY "$method/test.py" --weights "model/demo_$method.pth" "output_path=$OUT/shipped/$method" \
            "dataset.dataset_path=$SHIPPED_DATA" dataset.test_image_set=VID_val_videos "$@"
    }
    for method in rfcn dff fgfa; do test_shipped $method; done
    test_shipped fgfa TEST.SEQ_NMS=true
    step "The shipped detectors, timed in turns"
    $PY tools/compare_methods.py --turns 3 --json "$OUT/shipped.json" "R-FCN=$(shipped_test rfcn)" \
        "DFF=$(shipped_test dff)" "FGFA=$(shipped_test fgfa)" "FGFA + Seq-NMS=$(shipped_test fgfa _seq_nms)"
else
    step "No shipped detectors (model/demo_*.pth) or clips (data/demo): going on to the training"
fi
if [ "${TRAIN:-1}" = 0 ]; then exit; fi

step "Making the synthetic data set (data/synthetic_vid)"
$PY tools/make_synthetic_vid.py --out data/synthetic_vid --preview "$OUT/data.png"

step "R-FCN, one frame at a time: training, testing, evaluating (seed $SEED)"
run rfcn experiments/rfcn/rfcn_end2end_train_test.py TRAIN.RESUME=true
START="$RUN/rfcn/$RFCN/DET_train_30classes+VID_train_15frames/rfcn_synthetic-0002.pth"

step "Deep Feature Flow, from that R-FCN and the flow network in model/"
run dff experiments/dff/dff_end2end_train_test.py TRAIN.RESUME=true "network.pretrained_model=$START"

step "Flow-Guided Feature Aggregation, from the same"
run fgfa experiments/fgfa/fgfa_end2end_train_test.py TRAIN.RESUME=true "network.pretrained_model=$START"

step "Flow-Guided Feature Aggregation with Seq-NMS: testing once more"
run fgfa fgfa/test.py TEST.SEQ_NMS=true

step "The methods side by side on a clip that none was trained on"
TRAINED="DET_train_30classes+VID_train_15frames"
$PY tools/side_by_side.py --methods "rfcn=$START" "dff=$RUN/dff/${VIDEO}_from_rfcn/$TRAINED/dff_rfcn_synthetic-0001.pth" \
    "fgfa=$RUN/fgfa/${VIDEO}_from_rfcn/$TRAINED/fgfa_rfcn_synthetic-0001.pth" --source "$CLIP" --out "$RUN/methods.mp4"

DFF_TEST="$RUN/dff/${VIDEO}_from_rfcn/VID_val_videos"
FGFA_TEST="$RUN/fgfa/${VIDEO}_from_rfcn/VID_val_videos"
RFCN_TEST="$RUN/rfcn/$RFCN/VID_val_videos"
if [ "${FLOW_BOUNDS:-0}" != 0 ]; then
    for flow in zero true; do
        step "DFF and FGFA with $flow flow"
        run dff dff/test.py --flow $flow
        run fgfa fgfa/test.py --flow $flow
    done
    step "What a flow can give: zero, learned and true flow (seed $SEED)"
    $PY tools/compare_methods.py --seed "$SEED" --json "$OUT/flow_bounds.json" "R-FCN=$RFCN_TEST" \
        "DFF, zero flow=${DFF_TEST}_zero_flow" "DFF, learned flow=$DFF_TEST" "DFF, true flow=${DFF_TEST}_true_flow" \
        "FGFA, zero flow=${FGFA_TEST}_zero_flow" "FGFA, learned flow=$FGFA_TEST" "FGFA, true flow=${FGFA_TEST}_true_flow"
fi

step "All methods (seed $SEED)"
$PY tools/compare_methods.py --turns 3 --seed "$SEED" --json "$OUT/results.json" \
    "R-FCN=$RFCN_TEST" "DFF=$DFF_TEST" "FGFA=$FGFA_TEST" "FGFA + Seq-NMS=${FGFA_TEST}_seq_nms"

step "A report on all of them"
$PY tools/report.py "$RFCN_TEST" "$DFF_TEST" "$FGFA_TEST" "${FGFA_TEST}_seq_nms" --names R-FCN DFF FGFA "FGFA + Seq-NMS" \
    --dataset-path data/synthetic_vid --speeds "$OUT/results.json" --out "$RUN/report.html"

printf '\nDone in %ss. Look at:\n' "$SECONDS"
printf '  %s\n' "$OUT/data.png" "$OUT/results.json" "$RUN/methods.mp4" "$RUN/methods.png" "$RUN/report.html"
