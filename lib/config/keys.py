"""Every configuration key, section by section. The defaults are the originals' settings for ImageNet VID.

docs/configuration.md is made from this table (tools/update_docs.py).
"""

from __future__ import annotations

from lib.config.values import (
    all_or_some,
    ascending_epochs,
    choice,
    entries,
    flag,
    integer,
    not_empty,
    number,
    plain_name,
    set_name,
    set_names,
    text,
)

_CHANNELS = 2**16
_FRACTION = {"least": 0.0, "most": 1.0}
# Wide enough for any use, and narrow enough that float32 does not overflow and no anchor is less than a pixel wide
_MEAN = number(0.0, "", least=-1000.0, most=1000.0)
_STD = number(1.0, "", least=1e-4, most=1000.0)
_WEIGHT = number(1.0, "", least=0.0, most=1000.0)
_RATIO = number(1.0, "", least=0.05, most=20.0)
_SCALE = number(8.0, "", least=0.5, most=1000.0)


def _four(default: list[float], item, meaning: str):
    return entries(default, item, (4, 4), meaning, original=True)


SECTIONS: dict = {
    "output_path": text("", "Runs go to `<output_path>/<configuration>/<image set>/`.", original=True),
    "SCALES": entries(
        [[600, 1000]],
        entries([600, 1000], integer(600, "", least=1, most=2**15), (2, 2), ""),
        (1, 1),
        "One pair: length in pixels that the short side of a frame is resized to, and the most that its long side may "
        "then have.",
        original=True,
    ),
    "PRECISION": choice(
        "float32",
        ("float32", "tf32", "bfloat16", "float16", "int8"),
        "Precision of the convolutions in training and testing; `float32` has TF32 off. Boxes, flow grids, warping, "
        "pooling and losses are float32 in each. `int8`: testing on a CPU with AVX-512 VNNI; backbone, embedding "
        "and the flow network's encoder in 8 bits, all else that `bfloat16` reduces in bfloat16, or in float32 where "
        "the CPU has no instructions for bfloat16.",
    ),
    "COMPILE": choice(
        "off",
        ("off", "on", "graphs"),
        "Testing: compile backbone, flow network and embedding by torch.compile; `graphs`: with CUDA graphs on a GPU. "
        "The first frame of each size then takes up to a minute.",
    ),
    "default": {
        "frequent": integer(100, "Updates between two lines of the training log.", original=True, least=1),
    },
    "network": {
        "DEPTH": choice(101, (18, 34, 50, 101, 152), "Layers of the ResNet backbone."),
        "STYLE": choice(
            "caffe",
            ("caffe", "pytorch"),
            "Stride of bottlenecks: `caffe`: on the first 1x1 convolution, as in the originals; `pytorch`: on the 3x3, "
            "as in torchvision's ResNets.",
        ),
        "WIDTH": integer(64, "Channels of its first convolution; 64 is ResNet's own.", least=1, most=1024),
        "NORM": choice(
            "frozen",
            ("frozen", "trained"),
            "Batch normalisation: `frozen` uses the stored statistics, as the originals do; `trained` updates them, "
            "for networks without pre-training.",
        ),
        "BN_EPS": number(
            0.0, "Epsilon of batch normalisation; 0: 1e-5 in R-FCN and DFF, 2e-5 in FGFA.", least=0.0, most=1.0
        ),
        "FEAT_DIM": integer(
            1024, "Channels of feat_conv_3x3: half for the RPN, half for the R-FCN head.", least=2, most=_CHANNELS
        ),
        "FGFA_FEAT_DIM": integer(
            3072, "FGFA: channels of feature and embedding together.", original=True, least=6, most=_CHANNELS
        ),
        "FLOW_WIDTH": number(1.0, "Factor on the number of channels of FlowNet-S.", least=0.01, most=16.0),
        "PIXEL_MEANS": entries(
            [103.06, 115.9, 123.15], _MEAN, (3, 3), "Means of B, G, R that are subtracted from a frame.", original=True
        ),
        "PIXEL_STDS": entries(
            [1.0, 1.0, 1.0],
            _STD,
            (3, 3),
            "Standard deviations of B, G, R that a frame is then divided by; 1, as in the originals: not divided.",
        ),
        "IMAGE_STRIDE": integer(
            0, "Pad the network input to a multiple of this many pixels; 0: do not pad.", original=True, most=4096
        ),
        "ANCHOR_RATIOS": entries([0.5, 1.0, 2.0], _RATIO, (1, 64), "Height / width of the anchors.", original=True),
        "ANCHOR_SCALES": entries(
            [8.0, 16.0, 32.0], _SCALE, (1, 64), "Sides of the anchors in feature cells of 16 pixels.", original=True
        ),
        "ANCHOR_MEANS": _four([0.0] * 4, _MEAN, "Means of the RPN's box deltas."),
        "ANCHOR_STDS": _four([0.1, 0.1, 0.4, 0.4], _STD, "Standard deviations of the RPN's box deltas."),
        "FIXED_PARAMS": entries(
            ["conv1", "bn_conv1", "res2", "bn2", "gamma", "beta"],
            text("", "", check=not_empty, rule="not empty"),
            (0, 1000),
            "Parameters whose original name begins with one of these are not trained. `gamma` and `beta` match "
            "nothing, as in the originals.",
            original=True,
        ),
        "pretrained_model": text(
            "",
            "A trained detector to begin from, of any method and any classes; what it lacks comes from the two files "
            "below.",
        ),
        "pretrained": text(
            "",
            "Backbone weights to begin from: a file, the originals' prefix, or the name of torchvision's weights, "
            "`torchvision:ResNet101_Weights.IMAGENET1K_V1`.",
            original=True,
        ),
        "pretrained_epoch": integer(0, "Epoch of such a prefix.", original=True),
        "pretrained_flow": text("", "FlowNet-S weights to begin from.", original=True),
    },
    "dataset": {
        "dataset_path": text("./data/ILSVRC2015", "Folder with Data, Annotations and ImageSets.", original=True),
        "root_path": text("./data", "The parsed annotations are cached in `<root_path>/cache`.", original=True),
        "image_set": text(
            "DET_train_30classes+VID_train_15frames",
            "Lists to train on, joined with +.",
            original=True,
            check=set_names,
            rule="names of lists",
        ),
        "test_image_set": text(
            "VID_val_videos", "List to test on.", original=True, check=set_name, rule="name of a list"
        ),
        "CLASSES": text("", "Class file; empty: `<dataset_path>/classes.txt`, or else ImageNet VID's 30 classes."),
        "NUM_CLASSES": integer(
            0, "Classes with the background, checked against the class list; 0: not checked.", original=True
        ),
        "motion_iou_path": text("", "File of motion IoUs; empty: computed from the track ids.", original=True),
        "enable_detailed_eval": flag(True, "Evaluate slow, medium and fast objects too.", original=True),
    },
    "TRAIN": {
        "BATCH_IMAGES": integer(
            1, "Samples of one batch, which go through the network together.", original=True, least=1, most=4096
        ),
        "BATCHES_PER_UPDATE": integer(
            4, "Batches whose gradients one update sums; the originals' `gpus: '0,1,2,3'` means 4.", least=1, most=4096
        ),
        "GRADIENTS": choice(
            "sum",
            ("sum", "mean"),
            "`sum`: an update follows the sum of its batches' gradients, as in the originals; `mean`: their mean, at a "
            "rate of lr times BATCHES_PER_UPDATE.",
        ),
        "WORKERS": integer(2, "Processes that read images; 0: read in the training process.", most=512),
        "PREFETCH": integer(2, "Batches that each of these processes reads ahead.", least=1, most=64),
        "CACHE_MB": number(
            0.0, "Decoded frames that each of these processes keeps, in megabytes.", least=0.0, most=1e6
        ),
        "CORRUPT_IMAGES": choice(
            "stop",
            ("stop", "skip"),
            "An image that cannot be read ends the training (`stop`), or the next training entry takes its place, and "
            "the log counts it (`skip`).",
        ),
        "SEED": integer(0, "Seed of everything that is random.", most=2**32 - 1),
        "RESUME": flag(False, "Go on from the newest checkpoint of the run's folder.", original=True),
        "begin_epoch": integer(
            0, "With RESUME: go on from the checkpoint of this epoch; 0: the newest.", original=True
        ),
        "end_epoch": integer(2, "Epochs to train.", original=True, least=1),
        "model_prefix": text(
            "model", "Beginning of the checkpoints' names.", original=True, check=plain_name, rule="a file name"
        ),
        "CHECKPOINT_MINUTES": number(
            10.0, "Minutes between two checkpoints inside an epoch; 0: only at its end.", least=0.0, most=1e6
        ),
        "KEEP_CHECKPOINTS": integer(0, "Checkpoints of epochs that are kept, the newest ones; 0: all."),
        "VALIDATE_EPOCHS": number(
            0.0, "Epochs between two validations, fractions allowed; the best checkpoint is kept; 0: none.", least=0.0
        ),
        "VALIDATE_VIDEOS": integer(20, "Validate on the first videos of the test set; 0: all."),
        "OPTIMIZER": choice(
            "sgd", ("sgd", "adamw"), "`sgd`: the originals' rule; `adamw`: for small networks without pre-training."
        ),
        "lr": number(0.00025, "Learning rate.", original=True, above=0.0, most=1000.0),
        "lr_step": text(
            "1.333",
            "Epochs after which the rate is multiplied by lr_factor, separated by commas; fractions are allowed.",
            original=True,
            numeric=True,
            check=ascending_epochs,
            rule="ascending epochs",
        ),
        "lr_factor": number(0.1, "Factor on the rate at each of them.", original=True, least=0.0, most=1000.0),
        "LR_SCHEDULE": choice(
            "step",
            ("step", "linear", "cosine"),
            "`linear`, `cosine`: from the first of lr_step down to 0 at the end of the training, in place of steps.",
        ),
        "warmup": flag(False, "Begin with warmup_lr for warmup_step updates.", original=True),
        "warmup_lr": number(0.0, "Rate of these updates.", original=True, least=0.0, most=1000.0),
        "warmup_step": integer(0, "Number of the update that warm-up ends with.", original=True),
        "momentum": number(0.9, "Momentum of SGD.", original=True, least=0.0, most=0.9999),
        "wd": number(0.0005, "Weight decay of weights and batch-norm scales.", original=True, least=0.0, most=1000.0),
        "CLIP_GRADIENT": number(0.0, "Largest L2 norm of an update's gradient; 0: any.", least=0.0, most=1e9),
        "FLIP": flag(True, "Add a mirrored copy of every training entry.", original=True),
        "SHUFFLE": flag(True, "Visit the entries in a random order.", original=True),
        "ASPECT_GROUPING": flag(True, "Keep landscape and portrait images in batches of their own.", original=True),
        "ENABLE_OHEM": flag(True, "Train the head on the hardest RoIs only.", original=True),
        "BATCH_ROIS": integer(
            -1,
            "RoIs per image; -1: all proposals and the ground truth.",
            original=True,
            least=-1,
            most=10**6,
            check=all_or_some,
            rule="not 0",
        ),
        "BATCH_ROIS_OHEM": integer(128, "RoIs per image that OHEM keeps.", original=True, least=1, most=10**6),
        "FG_FRACTION": number(0.25, "Largest share of foreground RoIs, with BATCH_ROIS.", original=True, **_FRACTION),
        "FG_THRESH": number(0.5, "A RoI with this IoU or more is foreground.", original=True, **_FRACTION),
        "BG_THRESH_HI": number(0.5, "A RoI below this IoU is background.", original=True, **_FRACTION),
        "BG_THRESH_LO": number(0.0, "A RoI below this IoU is not used.", original=True, **_FRACTION),
        "BBOX_MEANS": _four([0.0] * 4, _MEAN, "Means of the head's box deltas."),
        "BBOX_STDS": _four([0.1, 0.1, 0.2, 0.2], _STD, "Standard deviations of the head's box deltas."),
        "BBOX_WEIGHTS": _four([1.0] * 4, _WEIGHT, "Weights of the four deltas in the head's box loss."),
        "MIN_OFFSET": integer(
            0,
            "Reference frames are drawn from MIN_OFFSET to MAX_OFFSET frames away; both 0: as far as the method looks "
            "in testing.",
            original=True,
            least=-100000,
            most=100000,
        ),
        "MAX_OFFSET": integer(0, "See MIN_OFFSET.", original=True, least=-100000, most=100000),
        "AGGREGATE_CURRENT": flag(False, "FGFA: average the current frame too."),
        "EMBED_AFTER_WARP": flag(True, "FGFA: compute embeddings of warped features, instead of warping embeddings."),
        "RPN_BATCH_SIZE": integer(256, "Anchors per image in the RPN's losses.", original=True, least=1, most=10**6),
        "RPN_FG_FRACTION": number(0.5, "Largest share of foreground anchors.", original=True, **_FRACTION),
        "RPN_POSITIVE_OVERLAP": number(
            0.7, "An anchor with this IoU or more is foreground.", original=True, **_FRACTION
        ),
        "RPN_NEGATIVE_OVERLAP": number(0.3, "An anchor below this IoU is background.", original=True, **_FRACTION),
        "RPN_CLOBBER_POSITIVES": flag(False, "Background wins over being an object's best anchor.", original=True),
        "RPN_BBOX_WEIGHTS": _four([1.0] * 4, _WEIGHT, "Weights of the four deltas in the RPN's box loss."),
        "RPN_NMS_THRESH": number(0.7, "Proposals: NMS drops boxes above this IoU.", original=True, **_FRACTION),
        "RPN_PRE_NMS_TOP_N": integer(6000, "Proposals: boxes before NMS; 0: all.", original=True, most=10**7),
        "RPN_POST_NMS_TOP_N": integer(300, "Proposals per image.", original=True, least=1, most=10**6),
        "RPN_MIN_SIZE": integer(
            0, "Proposals: smallest side in pixels of the original frame.", original=True, most=10**5
        ),
    },
    "TEST": {
        "BATCH_IMAGES": integer(1, "Frames that go through the network together.", original=True, least=1, most=4096),
        "test_epoch": integer(0, "Epoch whose checkpoint is tested; 0: TRAIN.end_epoch.", original=True),
        "SCORE_THRESH": number(
            -1.0, "Detections need a higher score; below 0: 1e-3 in R-FCN and FGFA, 1e-4 in DFF.", least=-1.0, most=1.0
        ),
        "KEY_FRAME_INTERVAL": integer(
            0,
            "DFF: frames from one key frame to the next; FGFA: K of the 2K + 1 frames averaged; 0: 10 and 9.",
            original=True,
            most=100000,
        ),
        "KEY_FRAME_POLICY": choice(
            "fixed",
            ("fixed", "adaptive"),
            "DFF: `fixed`: every KEY_FRAME_INTERVAL-th frame is a key frame; `adaptive`: a frame also becomes one "
            "where its flow to the latest one is longer than KEY_FRAME_FLOW.",
        ),
        "KEY_FRAME_FLOW": number(2.0, "DFF, adaptive: that length, in feature cells of 16 pixels.", above=0.0),
        "KEY_FRAME_POSITION": choice(
            "first",
            ("first", "middle"),
            "DFF: place of the key frame in its segment; `middle` halves the distances, and answers come up to half an "
            "interval late.",
        ),
        "PROPAGATE_FROM": choice(
            "own",
            ("own", "both", "both_by_similarity"),
            "DFF: key frames that features come from: that of the frame's `own` segment, or `both` neighbouring ones, "
            "weighted by nearness in time; answers come up to an interval late. `both_by_similarity` weighs them at "
            "each cell also by how much they look like the frame.",
        ),
        "CAUSAL": flag(False, "FGFA: average past frames only."),
        "AGGREGATE_CURRENT": flag(True, "FGFA: average the current frame too."),
        "EMBED_AFTER_WARP": flag(False, "FGFA: compute embeddings of warped features, instead of warping embeddings."),
        "NMS": number(0.3, "NMS of each class drops boxes above this IoU.", original=True, **_FRACTION),
        "SEQ_NMS": flag(
            False,
            "Re-score boxes along tracks, then NMS; TEST.max_per_image does not apply then.",
            original=True,
        ),
        "max_per_image": integer(
            300, "Most detections of a frame; 0 or less: any number.", original=True, least=-(10**7), most=10**7
        ),
        "RPN_NMS_THRESH": number(0.7, "Proposals: NMS drops boxes above this IoU.", original=True, **_FRACTION),
        "RPN_PRE_NMS_TOP_N": integer(6000, "Proposals: boxes before NMS; 0: all.", original=True, most=10**7),
        "RPN_POST_NMS_TOP_N": integer(300, "Proposals per frame.", original=True, least=1, most=10**6),
        "RPN_MIN_SIZE": integer(
            0, "Proposals: smallest side in pixels of the original frame.", original=True, most=10**5
        ),
    },
}
