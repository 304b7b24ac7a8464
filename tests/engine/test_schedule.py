import numpy as np
import pytest

from lib.config import ConfigError, load_config
from lib.engine.schedule import Schedule, schedule_from_config, updates_per_epoch


def test_golden_rates(golden):
    recorded = golden("layers_public")["lr_by_num_update"]
    schedule = Schedule(base_lr=0.00025, steps=(10, 20), warmup_lr=0.00005, warmup_step=4)
    np.testing.assert_allclose([schedule(n) for n in range(1, 31)], recorded, rtol=1e-12)


def test_golden_rates_of_the_optimiser_recording(golden):
    recorded = golden("layers_public")["sgd_lr_after_step"]
    schedule = Schedule(base_lr=0.001, steps=(3, 6), warmup_lr=0.0001, warmup_step=2)
    np.testing.assert_allclose([schedule(n) for n in range(1, 10)], recorded, rtol=1e-12)


def test_epochs_become_updates_as_in_the_originals():
    # 222,944 entries (57,834 + 53,638 frames, mirrored) on four GPUs of one image each
    cfg = load_config(
        None,
        ["gpus='0,1,2,3'", "TRAIN.BATCH_IMAGES=1", "TRAIN.lr=0.00025", "TRAIN.lr_step='1.333'", "TRAIN.end_epoch=2"],
    )
    schedule = schedule_from_config(cfg, 222944)
    assert schedule.steps == (int(1.333 * 222944 / 4),)
    last_of_the_high_rate = schedule.steps[0]
    assert schedule(last_of_the_high_rate) == 0.00025
    assert schedule(last_of_the_high_rate + 1) == pytest.approx(0.000025)
    assert schedule.total == 2 * 222944 // 4


def test_warmup_only_when_it_is_on():
    one_image = ["TRAIN.BATCH_IMAGES=1", "TRAIN.BATCHES_PER_UPDATE=1", "TRAIN.end_epoch=1"]
    texts = ["TRAIN.lr=0.1", *one_image, "TRAIN.warmup_lr=0.01", "TRAIN.warmup_step=3"]
    off = schedule_from_config(load_config(None, texts), 10)
    on = schedule_from_config(load_config(None, [*texts, "TRAIN.warmup=true"]), 10)
    assert [off(n) for n in (1, 2, 3)] == [0.1, 0.1, 0.1]
    assert [on(n) for n in (1, 2, 3)] == [0.01, 0.01, 0.1]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_falling_schedules_start_at_the_base_and_end_just_above_zero(kind):
    schedule = Schedule(base_lr=2.0, steps=(4,), kind=kind, total=14)
    rates = [schedule(n) for n in range(1, 16)]
    assert rates[:5] == [2.0] * 5
    assert all(later < earlier for earlier, later in zip(rates[4:14], rates[5:15], strict=True))
    assert rates[13] > 0
    assert rates[14] == 0.0
    if kind == "linear":
        np.testing.assert_allclose(np.diff(rates[4:15]), -0.2)
    else:
        assert rates[9] == pytest.approx(1.0)  # half way


def test_a_tail_shorter_than_an_update_is_not_used():
    cfg = load_config(None, ["TRAIN.BATCH_IMAGES=4", "TRAIN.BATCHES_PER_UPDATE=2"])
    assert updates_per_epoch(cfg, 23) == 2
    with pytest.raises(ConfigError, match=r"8 samples .* has 7"):
        updates_per_epoch(cfg, 7)


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["TRAIN.lr=0"], "TRAIN.lr"), (["TRAIN.lr=0.1", "TRAIN.lr_step='2,1'"], "TRAIN.lr_step")],
)
def test_settings_that_cannot_work(texts, message):
    with pytest.raises(ConfigError, match=message):
        schedule_from_config(load_config(None, ["TRAIN.end_epoch=3", *texts]), 10)


def test_unknown_kind():
    with pytest.raises(ValueError, match="'triangle'"):
        Schedule(base_lr=1.0, kind="triangle")
