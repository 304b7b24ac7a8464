import logging
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.config import ConfigError
from lib.data.classes import IMAGENET_VID, Classes, ClassListError
from lib.engine.checkpoint import CheckpointError, Identity, load_checkpoint, read_identity
from lib.engine.meters import RunningMeans
from lib.engine.non_finite import NonFiniteError
from lib.engine.seeding import batch_rng
from lib.engine.train import train
from lib.errors import InputError
from lib.version import commit
from tests.engine.stand_ins import NUM_SAMPLES, TinyModel, config, loader_of, points_of

KINDS = ["sgd", "adamw"]


def run(folder, cfg, loader=loader_of, model=None, **more):
    model = model or TinyModel()
    path = train(model, loader, cfg, folder, num_samples=NUM_SAMPLES, **more)
    return model, path


def same_content(a, b, where=""):
    """Every tensor, number and string of two checkpoints, bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            same_content(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            same_content(*pair, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def without_resume(path):
    content = load_checkpoint(path)
    content["config"]["TRAIN"].pop("RESUME")
    return content


def test_learns_and_writes_what_it_says(tmp_path):
    cfg = config("TRAIN.end_epoch=20", "TRAIN.lr_step=''", "TRAIN.lr=0.02")
    model, path = run(tmp_path, cfg, model=TinyModel(dropout=0.0))
    assert path == tmp_path / "tiny-0020.pth"
    assert [p.name for p in sorted(tmp_path.glob("*.pth"))] == [f"tiny-{epoch:04d}.pth" for epoch in range(1, 21)]
    log = (tmp_path / "train.log").read_text()
    losses = [float(found) for found in re.findall(r"square_loss (\S+)", log)]
    assert losses[-1] < 0.6 * losses[0]
    assert "torch " + torch.__version__ in log
    assert "end_epoch: 20" in log
    assert list((tmp_path / "tensorboard").iterdir())
    same_content(dict(load_checkpoint(path)["model"]), dict(model.state_dict()))


def test_gradients_of_an_update_are_summed_over_its_batches(tmp_path):
    cfg = config("TRAIN.BATCHES_PER_UPDATE=3", "TRAIN.end_epoch=1", "TRAIN.lr_step=''", "TRAIN.wd=0.01")
    trained, _ = run(tmp_path, cfg, model=TinyModel(dropout=0.0))

    model = TinyModel(dropout=0.0)  # the same two updates in plain autograd and NumPy
    weights = dict(model.named_parameters())
    buffers = {name: np.zeros(w.shape) for name, w in weights.items()}
    for update in (1, 2):
        total = 0.0
        for i in range(3):
            losses = model.losses(points_of(0, 0, 3 * (update - 1) + i), batch_rng(3, update, i))
            total = total + losses["square_loss"] + losses["l1_loss"]
        gradients = torch.autograd.grad(total, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            decay = 0.01 if name.endswith("weight") else 0.0  # of the batch norm too, whose weight is its gamma
            value = weight.detach().double().numpy()
            buffers[name] = 0.9 * buffers[name] - 0.05 * (gradient.double().numpy() + decay * value)
            weight.data = torch.from_numpy(value + buffers[name]).float()
    for name, weight in trained.named_parameters():
        np.testing.assert_allclose(weight.detach(), weights[name].detach(), rtol=1e-4, atol=1e-6, err_msg=name)


class Interrupting:
    """The stand-in loader, which sends `number` to this process before batch `at` of the training."""

    def __init__(self, number, at):
        self.number, self.left = number, at

    def __call__(self, epoch, start_batch):
        for batch in loader_of(epoch, start_batch):
            if self.left == 0:
                os.kill(os.getpid(), self.number)
            self.left -= 1
            yield batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 3, 6, 9])
@pytest.mark.parametrize("batches", [1, 2])
def test_resuming_after_a_signal_equals_never_stopping(tmp_path, caplog, kind, at, batches):
    settings = [f"TRAIN.OPTIMIZER={kind}", f"TRAIN.BATCHES_PER_UPDATE={batches}", "TRAIN.lr=0.01"]
    straight, path = run(tmp_path / "straight", config(*settings))
    number = {0: signal.SIGTERM, 3: signal.SIGINT, 6: signal.SIGHUP, 9: signal.SIGINT}[at]
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit_status:
        run(tmp_path / "stopped", config(*settings), loader=Interrupting(number, at))
    assert exit_status.value.code == 128 + number
    assert signal.getsignal(number) is before
    log = (tmp_path / "stopped" / "train.log").read_text()
    assert re.search(rf"stopped by {signal.Signals(number).name} .* TRAIN.RESUME=true", log)
    resumed, resumed_path = run(tmp_path / "stopped", config(*settings, "TRAIN.RESUME=true"))
    same_content(dict(straight.state_dict()), dict(resumed.state_dict()))
    same_content(without_resume(path), without_resume(resumed_path))
    assert "configuration changed" not in caplog.text
    assert not (tmp_path / "stopped" / "tiny-latest.pth").exists()


def test_a_signal_that_was_ignored_stays_ignored(tmp_path):
    """nohup starts a program with SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _, path = run(tmp_path, config(), loader=Interrupting(signal.SIGHUP, 3))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert load_checkpoint(path)["iteration"] == 12


@pytest.mark.parametrize(("at", "saved"), [(0, None), (3, "tiny-latest.pth"), (6, "tiny-0001.pth")])
@pytest.mark.parametrize("batches", [1, 2])
def test_an_error_of_the_data_costs_no_update(tmp_path, at, saved, batches):
    """The error is the user's to mend; what was learnt until then is not lost."""

    def broken(epoch, start_batch):
        for i, batch in enumerate(loader_of(epoch, start_batch), start_batch):
            if 6 * epoch + i == at:
                raise InputError("image 7 cannot be read")
            yield batch

    settings = [f"TRAIN.BATCHES_PER_UPDATE={batches}"]
    straight, _ = run(tmp_path / "straight", config(*settings))
    with pytest.raises(InputError, match="^image 7 cannot be read$"):
        run(tmp_path / "broken", config(*settings), loader=broken)
    found = sorted(path.name for path in (tmp_path / "broken").glob("*.pth"))
    assert found == ([] if saved is None else [saved])
    log = (tmp_path / "broken" / "train.log").read_text()
    assert ("stopped by the error below after" in log) == (saved is not None)
    resumed, _ = run(tmp_path / "broken", config(*settings, "TRAIN.RESUME=true"))
    same_content(dict(straight.state_dict()), dict(resumed.state_dict()))


def test_checkpoints_say_what_they_are(tmp_path):
    identity = Identity("tiny", {"TRAIN": {"lr": 0.05}}, IMAGENET_VID, "a_run")
    run(tmp_path, config(), identity=identity)
    for epoch in (1, 2):
        found = read_identity(tmp_path / f"tiny-{epoch:04d}.pth")
        assert found == replace(identity, commit=commit())


def test_resuming_with_other_classes_is_refused(tmp_path):
    """As many of them: the checkpoint would load, and mean something else."""
    run(tmp_path, config(), identity=Identity("tiny", {}, Classes(("cat", "dog"), ("n1", "n2"))))
    other = Identity("tiny", {}, Classes(("cat", "fox"), ("n1", "n2")))
    with pytest.raises(ClassListError, match=r"class 2 is 'dog' .* in .*tiny-0002\.pth, and 'fox'"):
        run(tmp_path, config("TRAIN.RESUME=true", "TRAIN.end_epoch=3"), identity=other)


def test_resuming_after_every_single_update(tmp_path):
    """A checkpoint after each update, and a crash (no chance to save) in the middle of the second epoch."""
    cfg = config("TRAIN.CHECKPOINT_MINUTES=1e-9")
    straight, _ = run(tmp_path / "straight", config())

    def crashing(epoch, start_batch):
        for i, batch in enumerate(loader_of(epoch, start_batch)):
            if (epoch, i) == (1, 4):
                raise OSError("the disk is gone")
            yield batch

    with pytest.raises(OSError, match="disk is gone"):
        run(tmp_path / "crashed", cfg, loader=crashing)
    latest = load_checkpoint(tmp_path / "crashed" / "tiny-latest.pth")
    assert (latest["epoch"], latest["batch"], latest["iteration"]) == (1, 4, 10)
    assert latest["metrics"]["square_loss"][1] == 4
    resumed, _ = run(tmp_path / "crashed", config("TRAIN.RESUME=true"))
    same_content(dict(straight.state_dict()), dict(resumed.state_dict()))


def test_running_means_go_on_after_a_resume(tmp_path):
    straight = tmp_path / "straight"
    stopped = tmp_path / "stopped"
    run(straight, config())
    with pytest.raises(SystemExit):
        run(stopped, config(), loader=Interrupting(signal.SIGINT, 9))
    run(stopped, config("TRAIN.RESUME=true"))

    def last_means(folder):
        lines = re.findall(r"epoch 2\.000 .* ETA \S+  (square_loss .*)", (folder / "train.log").read_text())
        assert len(lines) == 1
        return lines[0]

    assert last_means(straight) == last_means(stopped)


def test_a_complete_training_is_left_alone(tmp_path):
    _, path = run(tmp_path, config())
    written = path.read_bytes()

    def no_loader(epoch, start_batch):
        raise AssertionError("nothing was to be loaded")

    assert run(tmp_path, config("TRAIN.RESUME=true"), loader=no_loader)[1] == path
    assert path.read_bytes() == written


def test_resume_without_a_checkpoint_begins_anew(tmp_path):
    fresh, _ = run(tmp_path / "fresh", config())
    resumed, _ = run(tmp_path / "empty", config("TRAIN.RESUME=true"))
    same_content(dict(fresh.state_dict()), dict(resumed.state_dict()))


def test_begin_epoch_resumes_that_epoch(tmp_path):
    straight, _ = run(tmp_path, config())
    (tmp_path / "tiny-0002.pth").rename(tmp_path / "elsewhere.pth")
    again, _ = run(tmp_path, config("TRAIN.RESUME=true", "TRAIN.begin_epoch=1"))
    same_content(dict(straight.state_dict()), dict(again.state_dict()))
    (tmp_path / "tiny-0001.pth").unlink()
    with pytest.raises(CheckpointError, match=r"tiny-0001\.pth: there is no such file"):
        run(tmp_path, config("TRAIN.RESUME=true", "TRAIN.begin_epoch=1"))


def test_beginning_anew_sets_earlier_checkpoints_aside(tmp_path):
    _, path = run(tmp_path, config())
    written = path.read_bytes()
    with pytest.raises(SystemExit):
        run(tmp_path, config("TRAIN.SEED=4"), loader=Interrupting(signal.SIGINT, 2))
    assert (tmp_path / "earlier-1" / "tiny-0002.pth").read_bytes() == written
    assert [p.name for p in tmp_path.glob("*.pth")] == ["tiny-latest.pth"]


def test_another_training_s_folder_is_refused_and_left_as_it_is(tmp_path):
    _, path = run(tmp_path, config())
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name != "train.log"}
    for more in ((), ("TRAIN.RESUME=true",)):
        with pytest.raises(CheckpointError, match=rf"{path.name}: is of another training"):
            run(tmp_path, config("TRAIN.model_prefix=other", *more))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name != "train.log"} == files


def test_a_changed_configuration_is_named_on_resume(tmp_path, caplog):
    run(tmp_path, config())
    with caplog.at_level(logging.WARNING):
        run(tmp_path, config("TRAIN.RESUME=true", "TRAIN.end_epoch=3", "TRAIN.lr=0.01"))
    assert "TRAIN.lr 0.05 -> 0.01" in caplog.text
    assert load_checkpoint(tmp_path / "tiny-0003.pth")["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["TRAIN.BATCHES_PER_UPDATE=2"], "another number of samples"), (["TRAIN.OPTIMIZER=adamw"], "momentum_buffer")],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, overrides, message):
    run(tmp_path, config())
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, config("TRAIN.RESUME=true", "TRAIN.end_epoch=3", *overrides))


class Diverging(TinyModel):
    """The loss, or only the gradient, is no longer finite at the batch whose `extra` says 3."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def losses(self, batch, rng):
        found = super().losses(batch, rng)
        if int(batch.extra[0]) == 3:
            if self.how == "loss":
                found["l1_loss"] = found["l1_loss"] * float("nan")
            else:
                # sqrt at 0: value 0, derivative infinite
                found["l1_loss"] = found["l1_loss"] + torch.sqrt((self.second.bias * 0).sum())
        return found


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("batches", [1, 3])
def test_not_finite_stops_and_leaves_the_batch(tmp_path, caplog, how, batches):
    model = Diverging(how)
    pattern = r"nan" if how == "loss" else r"gradient .* of second\.bias"
    with pytest.raises(NonFiniteError, match=pattern) as error:
        run(tmp_path, config(f"TRAIN.BATCHES_PER_UPDATE={batches}"), model=model)
    assert "square_loss" in str(error.value)
    assert "l1_loss" in caplog.text
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    content = torch.load(tmp_path / "non_finite_batch.pth", weights_only=True)
    assert content["update"] == (2 if batches == 3 else 4)
    guilty = [batch for batch in content["batches"] if int(batch["extra"][0]) == 3]
    assert len(guilty) == 1
    assert torch.equal(guilty[0]["inputs"], points_of(0, 0, 3).inputs)


def test_a_metric_may_be_nan():
    means = RunningMeans()
    means.add({"a": 1.0, "b": float("nan")})
    means.add({"a": 2.0, "b": 4.0})
    assert means.means() == {"a": 1.5, "b": 4.0}
    again = RunningMeans(means.state())
    again.add({"a": 6.0})
    assert again.means()["a"] == 3.0


def test_gradient_clipping(tmp_path):
    """The first step of momentum SGD is -lr * gradient: with clipping its norm is lr * the largest norm allowed."""
    cfg = config("TRAIN.CLIP_GRADIENT=0.01", "TRAIN.end_epoch=1", "TRAIN.wd=0", "TRAIN.BATCH_IMAGES=24")
    model = TinyModel()
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    run(tmp_path, cfg, model=model, loader=lambda epoch, start: iter([points_of(0, 0, 0, size=24)]))
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert float(moved.norm()) == pytest.approx(0.05 * 0.01, rel=1e-3)


@pytest.mark.parametrize(("every", "updates"), [(0, [6, 12]), (0.5, [3, 6, 9, 12]), (1, [6, 12])])
def test_a_validation_may_leave_the_model_in_evaluation_mode_and_training_goes_on(tmp_path, every, updates):
    calls = []

    def validate(training):
        training.model.eval()
        calls.append(training.update)
        return {"accuracy": training.update / 24}

    cfg = config(f"TRAIN.VALIDATE_EPOCHS={every}")
    trained, _ = run(tmp_path, cfg, validate=validate)
    plain, _ = run(tmp_path / "plain", config())
    assert calls == updates
    assert "accuracy 0.5000" in (tmp_path / "train.log").read_text()
    same_content(dict(plain.state_dict()), dict(trained.state_dict()))


def test_a_loader_that_ends_early_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="ended after 4 updates and 0 batches of epoch 0; 6 updates were to come"):
        run(tmp_path, config(), loader=lambda epoch, start: (points_of(0, 0, i) for i in range(4)))


def test_a_model_without_a_loss_is_an_error(tmp_path):
    class Lossless(TinyModel):
        def losses(self, batch, rng):
            return {"largest": super().losses(batch, rng)["largest"]}

    with pytest.raises(ValueError, match="_loss"):
        run(tmp_path, config(), model=Lossless())


def test_nothing_to_do_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="end_epoch"):
        run(tmp_path, config("TRAIN.end_epoch=0"))
