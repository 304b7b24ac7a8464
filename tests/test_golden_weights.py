import hashlib
import json

import numpy as np

from tools.parity.golden_weights import golden_weight


def test_rule_gives_the_recorded_weights(golden_dir):
    recorded = json.loads((golden_dir / "weights_check.json").read_text())
    parameters = {name: entry for name, entry in recorded.items() if "first8" in entry}
    assert parameters
    for name, entry in parameters.items():
        value = golden_weight(name, tuple(entry["shape"]), 20170713)
        np.testing.assert_array_equal(value.ravel()[:8], np.array(entry["first8"], np.float32), err_msg=name)
        assert (
            hashlib.sha256(value.astype("<f4").tobytes()).hexdigest()
            == (entry["sha256_of_little_endian_float32_bytes"])
        ), name
