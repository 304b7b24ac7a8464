#!/usr/bin/env bash
# Make model/demo_rfcn.pth, demo_dff.pth and demo_fgfa.pth and the clips in data/demo, from nothing but the generator.
# Plan some hours on two CPU cores: the trainings alone took 2 hours with one thread each on a busy machine (model/README.md,
# which also says what the detectors know and how well).
# Re-runnable: what is made stays, an interrupted training goes on.
# METHODS="dff" makes that detector anew, from the R-FCN in model/ as it is; MODEL=DIR writes to another folder than model/.
# Example: METHODS="dff fgfa" MODEL=/tmp/again bash tools/train_demo_detectors.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"
PY="${PY:-.venv/bin/python}"
OUT=output/demo_detectors
DATA=data/synthetic_vid_480
METHODS="${METHODS:-rfcn dff fgfa}"
MODEL="${MODEL:-model}"
CLIPS="syn_val_00000000 syn_val_00000016 syn_val_00000036" # one on which the methods agree, two on which they differ
step() { printf '\n== %s (%ss since the start)\n' "$1" "$SECONDS"; }

for method in $METHODS; do
    case $method in rfcn | dff | fgfa) ;; *)
        echo "METHODS names '$method'; it takes rfcn, dff and fgfa" >&2
        exit 2
        ;;
    esac
done
wanted() { [[ " $METHODS " == *" $1 "* ]]; }
mkdir -p "$MODEL"

step "700 videos of 480x360: 600 to train on, 100 to test on"
$PY tools/make_synthetic_vid.py --out "$DATA" --size 480x360 --seed 7 --train-videos 600 --val-videos 100 --stills 1000

# Method, further arguments: train, and write the weights in half the bytes, to be used in float32
train() {
    local method=$1 cfg=resnet_v1_18_flownet_synthetic_vid prefix=$1_rfcn_synthetic
    shift
    if [ "$method" = rfcn ]; then cfg=resnet_v1_18_synthetic_vid prefix=rfcn_synthetic; fi
    $PY "$method/train_end2end.py" --cfg "configs/$method/$cfg.yaml" --preset configs/presets/demo_detectors.yaml \
        "output_path=$OUT/$method" TRAIN.RESUME=true "$@"
    $PY tools/convert_weights.py "$OUT/$method"/*/*/"$prefix"-0001.pth "$MODEL/demo_$method.pth" --half --quiet \
        --set PRECISION=float32
}

START=model/demo_rfcn.pth # where Deep Feature Flow and FGFA begin
if wanted rfcn; then
    START="$MODEL/demo_rfcn.pth"
    step "6,000 stills of 30 classes, and ResNet-18 with half its channels from them"
    $PY tools/make_synthetic_vid.py --out data/synthetic_stills_6000 --classes 30 --train-videos 1 --val-videos 1 \
        --stills 6000 --seed 100
    if [ ! -f model/resnet_18_w32.pth ]; then
        $PY tools/pretrain_backbone.py --data data/synthetic_stills_6000 --image-set DET_train_30classes --depth 18 \
            --width 32 --epochs 12 --half --out model/resnet_18_w32.pth --resume
    fi
    step "R-FCN"
    train rfcn TRAIN.end_epoch=1 TRAIN.lr_step=0.7
fi
if wanted dff; then
    step "The flow network in model/, trained on with the training videos of this size, for Deep Feature Flow"
    if [ ! -f "$OUT/flownet_s_480.pth" ]; then
        $PY tools/pretrain_flownet.py --start model/flownet_s_w025.pth --width 0.25 --data "$DATA" --size 480x360 --lr 5e-4 \
            --schedule linear --epochs 20 --half --out "$OUT/flownet_s_480.pth" --resume
    fi
    step "Deep Feature Flow, from R-FCN and that flow network"
    train dff --preset configs/presets/from_rfcn.yaml "network.pretrained_model=$START" \
        "network.pretrained_flow=$OUT/flownet_s_480.pth"
fi
if wanted fgfa; then
    step "Flow-Guided Feature Aggregation, from R-FCN and the flow network in model/"
    # It needs fewer frames than R-FCN, from which it begins: six of each video in place of fifteen.
    $PY tools/make_image_sets.py --dataset-path "$DATA" --out "$OUT/lists" --only VID_train_15frames --frames-per-video 6 \
        --overwrite
    cp "$OUT/lists/VID_train_15frames.txt" "$DATA/ImageSets/VID_train_6frames.txt"
    train fgfa --preset configs/presets/from_rfcn.yaml dataset.image_set=DET_train_30classes+VID_train_6frames \
        "network.pretrained_model=$START"
fi

step "The clips of the demos"
for clip in $CLIPS; do
    mkdir -p "data/demo/$clip"
    for frame in "$DATA/Data/VID/val/$clip"/*.JPEG; do cp "$frame" "data/demo/$clip/$(basename "$frame" .JPEG).jpg"; done
done
for method in $METHODS; do sha256sum "$MODEL/demo_$method.pth"; done
