import re
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from lib.command_line import run_script
from lib.engine.weights import load_flow
from lib.errors import InputError
from lib.models.flownet_s import FlowNetS
from tests.pretraining.test_flying_chairs import write_flo
from tools.make_synthetic_vid import main as make_synthetic_vid
from tools.pretrain_flownet import main, parse_arguments, settings_of

SIZE = ["--width", "0.05", "--size", "96x64", "--epoch-pairs", "8", "--batch", "4", "--held-out-clips", "2"]
SMALL = [*SIZE, "--workers", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def errors_said(output, source):
    return [float(number) for number in re.search(rf"^{source} +(.*)$", output, re.M)[1].split()]


def test_a_network_is_trained_written_drawn_and_resumed(tmp_path, capsys):
    out = tmp_path / "made" / "net.pth"
    arguments = ["--out", str(out), "--epochs", "3", *SMALL]
    main(arguments)
    output = capsys.readouterr().out
    said = errors_said(output, "clips")
    assert len(said) == 6
    assert all(0 < number < 10 for number in said)
    log = (tmp_path / "made" / "net_training" / "train.log").read_text()
    assert len(re.findall(r"validation at epoch \d\.000: clips_all", log)) == 3
    load_flow(FlowNetS(0.05), out)
    assert cv2.imread(str(tmp_path / "made" / "net_training" / "flow.png")).shape[0] > 100
    written = out.read_bytes()
    (tmp_path / "made" / "net_training" / "flownet-0003.pth").unlink()
    main([*arguments, "--resume"])  # from the second epoch on
    assert errors_said(capsys.readouterr().out, "clips") == said
    assert out.read_bytes() == written


def test_minutes_become_epochs_that_a_resumed_run_keeps(tmp_path, capsys):
    out = tmp_path / "net.pth"
    main(["--out", str(out), "--minutes", "0.000001", "--half", *SMALL])
    assert "1 epochs in 1e-06 minutes" in (tmp_path / "net_training" / "train.log").read_text()
    state = torch.load(out, weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16}
    load_flow(FlowNetS(0.05), out)
    main(["--out", str(out), "--minutes", "500", "--resume", *SMALL])
    assert "all 1 epochs are done" in (tmp_path / "net_training" / "train.log").read_text()


def test_clips_of_a_data_set_and_flying_chairs(tmp_path, capsys):
    counts = ["--train-videos", "2", "--val-videos", "1", "--stills", "0", "--frames", "3"]
    made = ["--out", str(tmp_path / "set"), "--size", "96x64", "--seed", "3", "--workers", "1", *counts]
    make_synthetic_vid(made)
    chairs = tmp_path / "chairs"
    chairs.mkdir()
    for n in range(20):
        for i in (1, 2):
            cv2.imwrite(str(chairs / f"{n:05d}_img{i}.ppm"), np.full((64, 96, 3), 10 * n, np.uint8))
        write_flo(chairs / f"{n:05d}_flow.flo", np.full((2, 64, 96), 16.0))
    data = ["--data", str(tmp_path / "set")]
    settings, clips, first = settings_of(parse_arguments(["--out", "x", "--size", "96x64", *data]))
    assert (settings.seed, settings.frames, settings.motion_mix, clips, first) == (3, 3, (27.0, 35.0, 37.0), 2, 1)
    out = tmp_path / "net.pth"
    main(["--out", str(out), "--epochs", "1", *data, "--chairs", str(chairs), *SMALL])
    output = capsys.readouterr().out
    assert errors_said(output, "chairs")[1] == pytest.approx(2**0.5, abs=1e-3)
    assert errors_said(output, "clips")[1] > 0


def test_a_trained_network_is_trained_on(tmp_path, capsys):
    start, out = tmp_path / "start.pth", tmp_path / "out.pth"
    main(["--out", str(start), "--epochs", "1", "--seed", "5", *SMALL])
    capsys.readouterr()
    main(["--out", str(out), "--start", str(start), "--epochs", "1", "--lr", "1e-9", *SMALL])
    begun, ended = (torch.load(path, weights_only=True) for path in (start, out))
    for name, value in begun.items():  # of another seed than --start's network, so that random weights would differ
        torch.testing.assert_close(ended[name], value, rtol=0, atol=1e-7)
    with pytest.raises(InputError, match=r"start\.pth: does not fit this model: network\.FLOW_WIDTH"):
        main(["--out", str(out), "--start", str(start), "--epochs", "1", *SMALL, "--width", "0.1"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere"], r"nowhere/synthetic\.json: there is no such file"),
        (["--start", "nowhere.pth"], r"nowhere\.pth: .*correct --start"),
        (["--chairs", "nowhere"], r"nowhere: 0 files"),
        (["--size", "wide"], r"--size is like 320x240, not 'wide'"),
        (["--size", "32x32"], r"32x32 is too small"),
        (["--width", "-1"], r"--width: must be a number above 0, not '-1'"),
        (["--epoch-pairs", "3"], r"one update takes 4 samples"),
        (["--batch", "0"], r"--batch: must be at least 1, not 0"),
        (["--held-out-clips", "0"], r"--held-out-clips: must be at least 1, not 0"),
        (["--epochs", "0"], r"--epochs: must be at least 1, not 0"),
        (["--device", "toaster"], r"--device toaster: there is no such device"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_script(partial(main, ["--out", "net.pth", "--epochs", "1", *SMALL, *arguments]))
    assert stop.value.code == 2
    assert re.fullmatch(rf".*error: .*{said}.*\n", capsys.readouterr().err.splitlines(keepends=True)[-1])
    assert not (tmp_path / "net.pth").exists()


def test_a_data_set_of_another_size_is_refused(tmp_path):
    counts = ["--train-videos", "1", "--val-videos", "0", "--stills", "0", "--frames", "2"]
    make_synthetic_vid(["--out", str(tmp_path / "set"), "--size", "64x64", "--workers", "1", *counts])
    with pytest.raises(InputError, match="1 training videos of 64x64 pixels, but --size is 96x64"):
        main(["--out", str(tmp_path / "net.pth"), "--data", str(tmp_path / "set"), *SMALL])
