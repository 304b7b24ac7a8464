"""The whole path on a tiny synthetic set: data, training, testing, evaluation, demo; and that it can be repeated."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.rfcn.rfcn_end2end_train_test import main as train_and_test
from lib import load_detector
from lib.config import load_config
from lib.errors import InputError
from rfcn.demo import main as demo
from rfcn.demo_batch import main as demo_batch
from rfcn.model import RFCN
from rfcn.test import main as run_test_script
from tools.evaluate import main as evaluate

CFG = str(Path(__file__).resolve().parents[1] / "configs/rfcn/resnet_v1_18_synthetic_vid.yaml")
CLASSES = 10


def overrides(dataset, out, seed=0):
    return [
        "--device=cpu",  # on a GPU sums are not repeated bit for bit
        f"dataset.dataset_path={dataset}",
        f"dataset.root_path={out}",
        f"output_path={out}",
        "SCALES=[[128, 160]]",
        "TRAIN.end_epoch=1",
        "TRAIN.BATCH_IMAGES=4",
        "TRAIN.WORKERS=0",
        f"TRAIN.SEED={seed}",
    ]


@pytest.fixture(scope="module")
def trained(tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train_and_test(["--cfg", CFG, *overrides(tiny_dataset, out)])
    return out


VIDEO_METHODS = {
    "dff": "configs/dff/resnet_v1_18_flownet_synthetic_vid.yaml",
    "fgfa": "configs/fgfa/resnet_v1_18_flownet_synthetic_vid.yaml",
}


def assert_same_but_for_rounding(found, wanted):
    """Boxes that are rounded before Seq-NMS and after it may differ in the last digit, and one that overlaps another
    just as much as the threshold may be suppressed in one of the two: nearly all rows of each have a partner.
    """
    for rows, others in ((found, wanted), (wanted, found)):
        partners = [np.abs(others[others[:, 0] == row[0]] - row).max(axis=1).min() <= 0.0101 for row in rows]
        assert np.mean(partners) > 0.99


def test_a_broken_test_set_shows_before_the_training(tiny_dataset, tmp_path):
    common = ["--cfg", CFG, *overrides(tiny_dataset, tmp_path), "dataset.test_image_set=VID_val_absent"]
    with pytest.raises(InputError, match="VID_val_absent"):
        train_and_test(common)
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.parametrize("method", VIDEO_METHODS)
def test_video_methods_train_test_and_show(method, tiny_dataset, tmp_path):
    cfg = Path(__file__).resolve().parents[1] / VIDEO_METHODS[method]
    common = [
        "--cfg",
        str(cfg),
        *overrides(tiny_dataset, tmp_path),
        "TRAIN.BATCH_IMAGES=2",
        "TEST.KEY_FRAME_INTERVAL=3",
    ]
    importlib.import_module(f"experiments.{method}.{method}_end2end_train_test").main(common)
    run = tmp_path / cfg.stem
    evaluation = json.loads((run / "VID_val_videos" / "evaluation.json").read_text())
    assert evaluation["frames"] == 2 * 6
    assert evaluation["detections"] > 0
    timing = json.loads((run / "VID_val_videos" / "timing.json").read_text())
    assert timing["frames"] == 2 * 6
    assert timing["ms_per_frame"] > 0
    importlib.import_module(f"{method}.test").main([*common, "TEST.SEQ_NMS=true"])
    rescored = json.loads((run / "VID_val_videos_seq_nms" / "evaluation.json").read_text())
    assert 0 < rescored["detections"] != evaluation["detections"]
    importlib.import_module(f"{method}.test").main([*common, "--raw"])
    raw = run / "VID_val_videos" / "raw_detections.txt"
    out = tmp_path / "rescored.txt"
    data = ["--dataset-path", str(tiny_dataset), "--cache", str(tmp_path / "cache"), "--results", str(raw)]
    evaluate([*data, "--seq-nms", "--save-results", str(out)])
    assert_same_but_for_rounding(np.loadtxt(out), np.loadtxt(run / "VID_val_videos_seq_nms" / "detections.txt"))
    importlib.import_module(f"{method}.test").main([*common, "--flow", "true"])
    assert json.loads((run / "VID_val_videos_true_flow" / "evaluation.json").read_text())["frames"] == 2 * 6
    clip = tiny_dataset / "Data/VID/val/syn_val_00000000"
    weights = next((run / load_config(cfg).dataset.image_set).glob("*-0001.pth"))
    found = []
    for name in ("demo", "demo_batch"):
        out = tmp_path / name
        script = importlib.import_module(f"{method}.{name}")
        # The checkpoint says what it is: no --cfg
        script.main(["--weights", str(weights), "--source", str(clip), "--out", str(out), "--min-score", "0"])
        found.append(json.loads((out / "detections.json").read_text())["frames"])
    for one, other in zip(*found, strict=True):
        assert one["labels"] == other["labels"]
        assert torch.allclose(torch.tensor(one["boxes"]), torch.tensor(other["boxes"]), atol=0.02)
    answers = load_detector(weights, device="cpu", score_threshold=0)(clip)
    assert [(f.index, d.labels.tolist()) for f, d in answers] == [(f["index"], f["labels"]) for f in found[0]]


def files_of(out):
    cfg = load_config(CFG)
    run = out / Path(CFG).stem
    test = run / cfg.dataset.test_image_set
    checkpoint = run / cfg.dataset.image_set / f"{cfg.TRAIN.model_prefix}-0001.pth"
    return checkpoint, test / "detections.txt", test / "evaluation.json"


def weights_of(path):
    return torch.load(path, weights_only=True)["model"]


def test_a_run_leaves_weights_log_results_and_evaluation(trained):
    checkpoint, results, evaluation = files_of(trained)
    content = json.loads(evaluation.read_text())
    assert len(content["ap"]) == CLASSES
    assert [r["range"] for r in content["motion"]] == [[0, 1], [0, 0.7], [0.7, 0.9], [0.9, 1]]
    assert content["detections"] == len(results.read_text().splitlines())
    assert content["frames"] == 2 * 6
    log = (checkpoint.parent / "train.log").read_text()
    assert "rpn_cls_loss" in log
    assert "of 4 frames are used" in log, "the account of what was filtered"
    assert list((checkpoint.parent / "tensorboard").iterdir())


def test_evaluating_the_saved_results_gives_the_same_numbers(tiny_dataset, trained, tmp_path):
    _, results, evaluation = files_of(trained)
    arguments = ["--dataset-path", str(tiny_dataset), "--image-set", "VID_val_videos", "--results", str(results)]
    evaluate([*arguments, "--json", str(tmp_path / "again.json")])
    again, first = json.loads((tmp_path / "again.json").read_text()), json.loads(evaluation.read_text())
    assert again["ap"] == first["ap"]
    assert again["motion"] == first["motion"]


def test_a_run_can_be_repeated_bit_for_bit(tiny_dataset, trained, tmp_path):
    train_and_test(["--cfg", CFG, *overrides(tiny_dataset, tmp_path)])
    (checkpoint, results, _), (other_checkpoint, other_results, _) = files_of(trained), files_of(tmp_path)
    weights, other = weights_of(checkpoint), weights_of(other_checkpoint)
    assert weights.keys() == other.keys()
    assert all(torch.equal(weights[name], other[name]) for name in weights)
    assert results.read_bytes() == other_results.read_bytes()


def test_an_interrupted_test_goes_on_where_it_was(tiny_dataset, trained, tmp_path, monkeypatch):
    checkpoint, results, _ = files_of(trained)
    arguments = ["--cfg", CFG, *overrides(tiny_dataset, tmp_path), "--weights", str(checkpoint)]
    tested = []

    def begin_clip(self, *arguments):
        tested.append(1)
        if len(tested) == 2:
            raise KeyboardInterrupt
        return whole_begin_clip(self, *arguments)

    whole_begin_clip = RFCN.begin_clip
    monkeypatch.setattr(RFCN, "begin_clip", begin_clip)
    with pytest.raises(KeyboardInterrupt):
        run_test_script(arguments)
    run_test_script(arguments)
    assert len(tested) == 3, "the first of the two videos is not done again"
    assert files_of(tmp_path)[1].read_bytes() == results.read_bytes()


def test_a_try_on_a_few_videos_leaves_the_results_of_all(tiny_dataset, trained):
    checkpoint, results, evaluation = files_of(trained)
    before = [file.read_bytes() for file in (results, evaluation)]
    run_test_script(["--cfg", CFG, *overrides(tiny_dataset, trained), "--weights", str(checkpoint), "--videos", "1"])
    assert [file.read_bytes() for file in (results, evaluation)] == before
    folder = results.parent.with_name(f"{results.parent.name}_first_1")
    assert json.loads((folder / evaluation.name).read_text())["frames"] == 6


def test_a_flow_that_cannot_be_is_said_before_the_training(tiny_dataset, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_and_test(["--cfg", CFG, *overrides(tiny_dataset, tmp_path), "--flow", "zero"])
    assert stop.value.code == 2
    assert "--flow zero" in capsys.readouterr().err
    assert not files_of(tmp_path)[0].exists()


def test_another_seed_trains_another_model(tiny_dataset, trained, tmp_path):
    train_and_test(["--cfg", CFG, *overrides(tiny_dataset, tmp_path, seed=1)])
    name = "features.resnet.conv1.weight"
    assert not torch.equal(weights_of(files_of(trained)[0])[name], weights_of(files_of(tmp_path)[0])[name])


def test_demo_and_batch_demo_show_the_same_detections(tiny_dataset, trained, tmp_path):
    clip = tiny_dataset / "Data/VID/val/syn_val_00000000"
    found = []
    for script, name in ((demo, "single"), (demo_batch, "batch")):
        out = tmp_path / name
        common = ["--cfg", CFG, "--source", str(clip), "--out", str(out), "--min-score", "0"]
        script([*common, *overrides(tiny_dataset, trained)])
        assert (out / "demo.mp4").stat().st_size > 0
        assert (out / "contact_sheet.png").stat().st_size > 0
        found.append(json.loads((out / "detections.json").read_text())["frames"])
    single, batch = found
    assert [frame["name"] for frame in single] == [f"{i:06d}.JPEG" for i in range(6)]
    assert sum(len(frame["boxes"]) for frame in single) > 0, "nothing to compare"
    for one, other in zip(single, batch, strict=True):
        assert one["labels"] == other["labels"]
        assert torch.allclose(torch.tensor(one["boxes"]), torch.tensor(other["boxes"]), atol=0.02)
        assert torch.allclose(torch.tensor(one["scores"]), torch.tensor(other["scores"]), atol=2e-4)
