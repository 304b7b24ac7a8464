"""Numbers of the configuration that cannot work: each is refused at once, by name."""

import pytest

from lib.config import ConfigError, load_config

KEYS = [f"TRAIN.{key}" for key in ("WORKERS", "SEED", "begin_epoch", "lr", "wd", "momentum")]
KEYS += ["TEST.test_epoch", "TEST.NMS"]


@pytest.mark.parametrize("key", KEYS)
def test_no_negative(key):
    with pytest.raises(ConfigError, match=f"'{key}' must be 0 or more"):
        load_config(None, [f"{key}=-1"])
    load_config(None, [f"{key}=0"])


@pytest.mark.parametrize("setting", ["TRAIN.lr=nan", "TRAIN.wd=inf", "TRAIN.SEED=4294967296"])
def test_numbers_are_finite(setting):
    with pytest.raises(ConfigError, match=f"'{setting.split('=')[0]}' must be 0 or more, and finite"):
        load_config(None, [setting])
