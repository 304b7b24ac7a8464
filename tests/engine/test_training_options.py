"""Options of a training: precision, what an update sums, which checkpoints stay, what a new run sets aside."""

from __future__ import annotations

import json
import platform
import re

import pytest
import torch

from lib.engine.checkpoint import load_checkpoint
from lib.engine.train import train
from lib.models import precision as precision_module
from lib.models.precision import PrecisionError, set_precision
from tests.engine.stand_ins import config
from tests.engine.test_train import Interrupting, run
from tests.models.small import random_batch, small_config, small_rfcn


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def values(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def test_float32_means_float32():
    """PyTorch allows TF32 in cuDNN's convolutions by default."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    assert set_precision("float32", torch.device("cpu")) is None
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_a_precision_of_gpus_is_refused_on_the_cpu(tmp_path, precision):
    with pytest.raises(PrecisionError, match=f"PRECISION {precision} needs a GPU, not cpu; give float32 or bfloat16"):
        run(tmp_path, config(f"PRECISION={precision}"))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors have other instructions")
@pytest.mark.parametrize(("has_instructions", "warnings"), [(False, 1), (True, 0)])
def test_bfloat16_on_a_processor_without_it_is_warned_of_once(monkeypatch, caplog, has_instructions, warnings):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions)
    precision_module._warn_of_bfloat16.cache_clear()
    for _ in range(2):
        assert set_precision("bfloat16", torch.device("cpu")) is torch.bfloat16
    assert (
        sum("PRECISION bfloat16: this CPU has no instructions for it" in line for line in caplog.messages) == warnings
    )


def losses_of(folder, precision):
    """Losses of six updates on the same four batches, and the dtypes of features and of weights."""
    dtypes = set()
    model = small_rfcn()
    model.features.register_forward_hook(lambda module, given, found: dtypes.add(found.dtype))
    cfg = small_config(
        f"PRECISION={precision}", "TRAIN.BATCH_IMAGES=1", "TRAIN.BATCHES_PER_UPDATE=2", "TRAIN.end_epoch=3",
        "TRAIN.lr=0.0005", "TRAIN.lr_step=''", "default.frequent=1",
    )  # fmt: skip
    train(model, lambda epoch, start: (random_batch([2], seed=n) for n in range(4)), cfg, folder, num_samples=4)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return torch.tensor([[line[name] for name in line if name.endswith("_loss")] for line in lines]), dtypes


def test_training_in_bfloat16_follows_that_in_float32(tmp_path):
    plain, in_float32 = losses_of(tmp_path / "float32", "float32")
    reduced, in_bfloat16 = losses_of(tmp_path / "bfloat16", "bfloat16")
    assert (in_float32, in_bfloat16) == ({torch.float32}, {torch.bfloat16})
    assert not torch.equal(plain, reduced)
    torch.testing.assert_close(plain, reduced, rtol=0.1, atol=0.02)


def test_mean_gradients_at_the_scaled_rate_are_the_sum(tmp_path):
    """Without weight decay, which is not divided."""
    models = [
        run(tmp_path / kind, config("TRAIN.BATCHES_PER_UPDATE=3", "TRAIN.wd=0", f"TRAIN.GRADIENTS={kind}"))[0]
        for kind in ("sum", "mean")
    ]
    torch.testing.assert_close(values(models[0]), values(models[1]), rtol=1e-4, atol=1e-6)
    logs = [(tmp_path / kind / "train.log").read_text() for kind in ("sum", "mean")]
    said = r"one update: 12 images, 3 batches of 4 \(1 processes x 3 batches\), the {} of their gradients, rate {}"
    assert re.search(said.format("sum", r"0\.05\n"), logs[0])
    assert re.search(said.format("mean", r"0\.15\n"), logs[1])


def validation(figures):
    """Gives the next of `figures` as mean AP each time."""
    left = iter(figures)
    return lambda training: {"mean_ap": next(left)}


def test_the_last_checkpoints_and_the_best_one_are_kept(tmp_path):
    run(tmp_path, config("TRAIN.KEEP_CHECKPOINTS=1", "TRAIN.end_epoch=3"), validate=validation([0.3, 0.2, 0.1]))
    assert checkpoints(tmp_path) == ["tiny-0003.pth", "tiny-best.pth"]
    best = load_checkpoint(tmp_path / "tiny-best.pth")
    assert (best["iteration"], best["best"]) == (6, {"mean_ap": 0.3, "update": 6})


def test_the_best_so_far_is_known_after_a_resume(tmp_path):
    run(tmp_path, config("TRAIN.end_epoch=1"), validate=validation([0.3]))
    run(tmp_path, config("TRAIN.end_epoch=3", "TRAIN.RESUME=true"), validate=validation([0.2, 0.4]))
    assert load_checkpoint(tmp_path / "tiny-best.pth")["best"] == {"mean_ap": 0.4, "update": 18}
    run(tmp_path / "worse", config("TRAIN.end_epoch=1"), validate=validation([0.3]))
    run(tmp_path / "worse", config("TRAIN.end_epoch=2", "TRAIN.RESUME=true"), validate=validation([0.2]))
    assert load_checkpoint(tmp_path / "worse" / "tiny-best.pth")["iteration"] == 6


def test_a_new_run_sets_all_files_of_the_earlier_one_aside(tmp_path):
    """Logged figures and curves too: of two runs in one folder they would be mixed."""
    run(tmp_path, config("TRAIN.end_epoch=1"), validate=validation([0.3]))
    (tmp_path / "run.json").write_text("{}")
    earlier = (tmp_path / "metrics.jsonl").read_bytes()
    run(tmp_path, config("TRAIN.end_epoch=1", "TRAIN.SEED=4"))
    aside = tmp_path / "earlier-1"
    names = {"metrics.jsonl", "run.json", "tensorboard", "tiny-0001.pth", "tiny-best.pth"}
    assert {path.name for path in aside.iterdir()} >= names
    assert (aside / "metrics.jsonl").read_bytes() == earlier
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert checkpoints(tmp_path) == ["tiny-0001.pth"]


def test_every_logged_line_has_its_figures(tmp_path):
    run(tmp_path, config("default.frequent=1", "TRAIN.end_epoch=1"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["loss"] == pytest.approx(line["square_loss"] + line["l1_loss"])
        assert line["lr"] == 0.05
        assert min(line[name] for name in ("data_seconds", "compute_seconds", "samples_per_second")) > 0
        assert line["skipped_images"] == 0
    assert lines[-1]["seconds_left"] == 0
    said = r"epoch 0\.500  update 3/6  lr 0\.05  \S+ samples/s \(data \S+ s, compute \S+ s\).*ETA \S+  square_loss"
    assert re.search(said, (tmp_path / "train.log").read_text())


def test_resumed_figures_are_not_logged_twice(tmp_path):
    with pytest.raises(SystemExit):
        run(tmp_path, config("default.frequent=1"), loader=Interrupting(2, 9))
    run(tmp_path, config("default.frequent=1", "TRAIN.RESUME=true"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == list(range(1, 13))
