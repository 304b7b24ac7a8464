"""tools/check_parity.py: the recordings pass, whatever is changed in them does not, and sets of other sizes are taken.

The networks are compared by tests/{rfcn,dff,fgfa}/test_recorded_model.py, which need them anyway.
"""

from __future__ import annotations

import json
import logging
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from lib.command_line import run_script
from tests.recordings import changed
from tests.tools.other_layers import layers_of_other_sizes
from tools import check_parity as tool
from tools.parity import sets
from tools.parity.channels import channel_step
from tools.parity.detections import compare_rows, not_suppressed
from tools.parity.golden_weights import GoldenNetwork
from tools.parity.gradients import _sum_scale
from tools.parity.rows import EXACT, Recording, RecordingError, Tolerance, compare
from tools.parity.sets import NetworkForm, find_sets

CHEAP = ("layers_", "loops_", "eval_", "ckpt_", "param_shapes_rfcn", "weights_check")
FIELDS = {"set", "array", "max_abs", "max_rel", "tolerance", "measure", "note", "pass"}


def run(folder, *arguments):
    """The tool's exit status and its JSON rows."""
    out = folder.parent / "rows.json"
    out.unlink(missing_ok=True)
    status = tool.main(["--golden", str(folder), "--json", str(out), *arguments])
    return status, json.loads(out.read_text()) if out.exists() else None


def failing(rows):
    return {(row["set"], row["array"]) for row in rows if not row["pass"]}


@pytest.fixture
def some(golden_dir, tmp_path):
    """A function that copies the recorded files whose names begin with one of its arguments into a folder."""

    def copy(*beginnings):
        folder = tmp_path / "golden"
        folder.mkdir(exist_ok=True)
        for path in golden_dir.iterdir():
            if path.name.startswith(beginnings):
                shutil.copyfile(path, folder / path.name)
        return folder

    return copy


def change(path, array):
    """Change one number of an array of a .npz file."""
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    np.savez(path, **content | {array: changed(content[array])})


def test_cheap_sets_pass_and_the_rows_say_how_far_they_are(some, capsys):
    folder = some(*CHEAP)
    status, rows = run(folder)
    assert status == 0
    assert failing(rows) == set()
    assert {row["set"].split("_")[0] for row in rows} == {"layers", "loops", "eval", "ckpt", "param", "weights"}
    for row in rows:
        assert set(row) == FIELDS
        error = row["max_rel"] if row["measure"] == "rel" else row["max_abs"]
        assert 0 <= error <= row["tolerance"]
        assert row["pass"] is True
    with np.load(folder / "layers_public.npz", allow_pickle=False) as file:
        recorded = set(file.files)
    assert {row["array"] for row in rows if row["set"] == "layers_public"} <= recorded | {"bboxloss_out (sum)"}
    printed = capsys.readouterr().out
    assert "all within their tolerances" in printed
    assert printed.count("\n") == len({row["set"] for row in rows}) + 2


@pytest.mark.parametrize(
    ("name", "array"),
    [
        *(("layers_public", array) for array in ("warp_c_grad_flow", "psroi_b_out", "proposal_few_rois", "nms_keep_5")),
        *(("layers_public", array) for array in ("proposal_multimin_score", "post_dets", "ohem_out_labels")),
        *(("layers_public", array) for array in ("ptarget_out_bbox_target", "sgd_w_7_b_gamma", "lr_by_num_update")),
        *(("layers_public", array) for array in ("assign_256_label", "resize_maxed_out", "l2norm_out", "anchors_8_py")),
        *(("layers_public", array) for array in ("warp_a_data", "coding_deltas", "resize_up_in", "sgd_grad_2_a_bias")),
        *(("loops_dff_public", array) for array in ("loop_trace", "sampling_after_numpy_seed", "roidb_boxes")),
        *(("loops_dff_public", array) for array in ("roidb_kept", "order_n8_batch4_seed5", "key_frame_interval")),
        *(("loops_fgfa_public", array) for array in ("loop_trace", "sampling_seed", "getpair_boxes", "roidb_image")),
        *(("eval_public", array) for array in ("unique_ap", "unique_ap_motion_stable_sort", "ties_ap_stable_sort")),
        *(("eval_public", array) for array in ("gt", "seqnms_out", "seqnms_out_nms03", "dets_rows", "frames")),
        *(("ckpt_mx0.10.0", array) for array in ("a00", "a04", "a05", "names")),
        ("ckpt_list_mx1.6.0", "a02"),
    ],
)
def test_one_changed_number_is_noticed(some, name, array):
    folder = some(name.rsplit("-")[0])
    change(folder / f"{name}.npz", array)
    status, rows = run(folder)
    assert status == 1
    assert {row["set"] for row in rows} == {name}
    assert failing(rows)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("eval_public_dets_unique.txt", "0.3582", "0.3583"),
        ("weights_check.json", "0.9668211936950684", "0.9668311936950684"),
        ("param_shapes_rfcn.json", "1024", "1023"),
    ],
)
def test_one_changed_number_of_a_text_file_is_noticed(some, name, old, new):
    folder = some("eval_public", "weights_check", "param_shapes_rfcn")
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    assert run(folder)[0] == 1


def test_one_changed_byte_of_a_parameter_file_is_noticed(some):
    folder = some("ckpt_mx1.2.1")
    path = folder / "ckpt_mx1.2.1-0000.params"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert run(folder)[0] == 1


@pytest.mark.parametrize(
    "name",
    ["layer_public.npz", "net_other_public.npz", "loops_other_public.npz", "model-0000.params", "train_rfcn.npz"],
)
def test_a_set_of_an_unknown_name_fails(tmp_path, name):
    folder = tmp_path / "golden"
    folder.mkdir()
    (folder / "README.md").write_text("not a set")
    if name.endswith("npz"):
        np.savez(folder / name, a=np.zeros(3))
    else:
        (folder / name).write_bytes(b"")
    status, rows = run(folder)
    assert status == 1
    assert [row["array"] for row in rows] == ["(set)"]


def test_loops_of_rfcn_need_no_references_but_everything_else(some):
    folder = some("loops_dff")
    path = folder / "loops_dff_public.npz"
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    path.unlink()
    content["loop_trace"] = content["loop_trace"][:, 1:3]
    for name in ("sampling_after_numpy_seed", "sampling_seed", "key_frame_interval", "getpair_boxes"):
        del content[name]
    np.savez(folder / "loops_rfcn_x.npz", **content)
    status, rows = run(folder)
    assert (status, failing(rows)) == (0, set())
    for array in ("loop_trace", "getimage_boxes", "order_n8_batch4_seed5", "sampling_roidb_seg"):
        np.savez(folder / "loops_rfcn_x.npz", **content | {array: changed(content[array])})
        assert ("loops_rfcn_x", array) in failing(run(folder)[1])
    del content["roidb_kept"]
    np.savez(folder / "loops_rfcn_x.npz", **content)
    assert run(folder)[0] == 1


@pytest.mark.parametrize("array", ["post_scores", "psroi_a_head"])
def test_an_input_that_is_not_finite_is_noticed_although_it_has_no_influence(some, array):
    folder = some("layers_")
    with np.load(folder / "layers_public.npz", allow_pickle=False) as file:
        content = {name: file[name].copy() for name in file.files}
    content[array].reshape(-1)[0] = np.nan
    np.savez(folder / "layers_public.npz", **content)
    assert ("layers_public", array) in failing(run(folder)[1])


def test_tied_ap_may_be_what_some_order_gives_and_nothing_else(some):
    folder = some("eval_")
    with np.load(folder / "eval_public.npz", allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    recorded, stable = content["ties_ap_motion"], content["ties_ap_motion_stable_sort"]
    settled = np.argwhere((recorded == stable) & (recorded > 0) & (recorded < 1))
    place = tuple(next(p for p in settled if p[1] > 0))  # a range of areas, which the report does not print
    content["ties_ap_motion"] = recorded.copy()
    content["ties_ap_motion"][place] *= 1.3
    np.savez(folder / "eval_public.npz", **content)
    assert ("eval_public", "ties_ap_motion") in failing(run(folder)[1])


def test_a_changed_sum_of_a_gradient_is_noticed_where_entries_agree():
    wide = _sum_scale(norm=2.0, size=10**6, noise=1e-5)
    assert wide == pytest.approx(2.0 * 5e-3 / 1e-3)  # 0.01 at the most, where the root of the size would allow 2
    assert _sum_scale(2.0, 10**6, noise=0.01) == pytest.approx(2.0 * 0.2 / 1e-3)
    assert _sum_scale(2.0, 4, noise=0.01) == pytest.approx(4.0)
    assert _sum_scale(0.0, 4, noise=0.01) == 0


def test_an_unknown_array_fails_alone(some):
    folder = some("loops_dff")
    path = folder / "loops_dff_public.npz"
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    np.savez(path, **content, more=np.zeros(2))
    status, rows = run(folder)
    assert status == 1
    assert failing(rows) == {("loops_dff_public", "more")}


def test_a_lost_array_or_file_fails_with_its_name(some, capsys):
    folder = some("loops_fgfa", "eval_", "ckpt_v2")
    path = folder / "loops_fgfa_public.npz"
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files if name != "list_train"}
    np.savez(path, **content)
    (folder / "eval_public_motion_iou.mat").unlink()
    (folder / "ckpt_v2_gpu-0000.params").unlink()
    status, rows = run(folder)
    assert status == 1
    notes = {row["set"]: row["note"] for row in rows if row["array"] == "(set)"}
    assert "'list_train'" in notes["loops_fgfa_public"]
    assert "eval_public_motion_iou.mat" in notes["eval_public"]
    assert "0 files ckpt_v2_gpu-NNNN.params" in notes["ckpt_v2_gpu"]
    assert "more that fail" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_a_damaged_file_is_one_failing_row(tmp_path, content):
    folder = tmp_path / "golden"
    folder.mkdir()
    (folder / "layers_x.npz").write_bytes(content)
    status, (row,) = run(folder)
    assert status == 1
    assert "layers_x.npz cannot be read" in row["note"]
    assert row["max_abs"] is None


def test_a_set_without_arrays_fails(tmp_path):
    folder = tmp_path / "golden"
    folder.mkdir()
    np.savez(folder / "layers_x.npz")
    status, (row,) = run(folder)
    assert (status, row["array"], row["note"]) == (1, "(set)", "nothing in it to compare")


def test_nothing_found_is_a_failure(tmp_path, capsys):
    folder = tmp_path / "golden"
    folder.mkdir()
    level = logging.getLogger("lib").level
    assert run(folder) == (1, [])
    assert logging.getLogger("lib").level == level
    assert "holds no recorded set" in capsys.readouterr().err


def test_mistakes_of_the_user_end_with_status_2_and_one_line(tmp_path, capsys):
    for arguments in (["--golden", str(tmp_path / "none")], ["--golden", str(tmp_path), "--json", str(tmp_path)]):
        with pytest.raises(SystemExit) as stop:
            run_script(partial(tool.main, arguments))
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {arguments[-1]}: ")


def test_networks_are_compared_in_both_forms_and_other_sets_once(monkeypatch, tmp_path):
    for name in ("net_rfcn_a", "train_rfcn_a", "layers_a"):
        np.savez(tmp_path / f"{name}.npz", seed=np.array(1))
    seen = []
    monkeypatch.setattr(sets, "golden_network", lambda method, seed: GoldenNetwork(method, seed, None, None))
    monkeypatch.setattr(sets, "compare_network", lambda recording, network: seen.append((recording.name, network)))
    monkeypatch.setattr(sets, "compare_training", lambda recording, network: seen.append((recording.name, network)))
    found, _ = find_sets(tmp_path)
    forms = [NetworkForm(torch.device("cuda")), NetworkForm(torch.device("cuda"), optimised=True)]
    list(sets.compare_sets(found, forms))
    assert [(name, network.device.type, network.optimised) for name, network in seen] == [
        ("net_rfcn_a (cuda)", "cuda", False),
        ("net_rfcn_a (cuda, optimised)", "cuda", True),
        ("train_rfcn_a", "cpu", False),
    ]


def test_sets_that_share_a_network_are_neighbours(tmp_path):
    names = ["train_dff_b", "net_rfcn_b", "net_dff_a", "layers_z", "train_rfcn_a", "net_fgfa_q"]
    for name in names:
        np.savez(tmp_path / f"{name}.npz", seed=[0])
    sets, strays = find_sets(tmp_path)
    assert [one.name for one in sets] == [
        *("layers_z", "net_dff_a", "train_dff_b", "net_fgfa_q", "net_rfcn_b", "train_rfcn_a")
    ]
    assert strays == []


def test_layers_of_other_sizes_and_names_from_an_independent_rendering(tmp_path):
    folder = tmp_path / "golden"
    folder.mkdir()
    np.savez(folder / "layers_other.npz", **layers_of_other_sizes(np.random.RandomState(0)))
    status, rows = run(folder)
    assert failing(rows) == set()
    assert status == 0
    compared = {row["array"] for row in rows}
    assert {"warp_long_name_out", "psroi_c_grad_data", "nms_keep_45", "sgd_w_2_z_gamma", "smoothl1_out_2"} <= compared
    for array in ("warp_long_name_grad_flow", "psroi_c_out", "avgpool_big_grad", "deconv_q_grad_w"):
        shutil.copyfile(folder / "layers_other.npz", folder / "layers_changed.npz")
        change(folder / "layers_changed.npz", array)
        assert ("layers_changed", array) in failing(run(folder)[1])


@pytest.mark.parametrize(
    ("channels", "recorded", "usual", "step"),
    [(1024, 64, 16, 16), (1024, 1024, 8, 1), (1024, 342, 1, 3), (30, 8, 4, 4)],
)
def test_step_between_recorded_channels(channels, recorded, usual, step):
    assert channel_step(channels, recorded, usual) == step


def test_channels_that_no_step_gives():
    with pytest.raises(RecordingError, match="700 recorded channels"):
        channel_step(1024, 700, 1)


def test_rows_by_hand():
    a, b = np.array([1.0, 2.0, -4.0]), np.array([1.0, 2.1, -4.0])
    row = compare("s", "a", a, b, Tolerance(absolute=0.05, relative=0.02))
    assert (row.max_abs, row.max_rel) == (pytest.approx(0.1), pytest.approx(0.025))
    assert row.tolerance == pytest.approx(0.13)
    assert row.passed
    row = compare("s", "a", a, b, Tolerance(element=0.04))
    assert row.measure == "rel"
    assert row.max_rel == pytest.approx(0.1 / 2.1)
    assert not row.passed
    assert compare("s", "a", a, b, Tolerance(absolute=0.1, element=0.04)).passed
    assert not compare("s", "a", a, b, EXACT).passed
    assert not compare("s", "a", a[:2], b, Tolerance(absolute=9.0)).passed


def test_what_is_not_finite():
    nan, inf = np.array([np.nan, 1.0]), np.array([np.inf, 1.0])
    assert compare("s", "a", nan, nan, EXACT).passed
    assert compare("s", "a", inf, inf, EXACT).passed
    for a, b in ((nan, inf), (nan, np.ones(2)), (np.ones(2), nan), (inf, -inf)):
        row = compare("s", "a", a, b, Tolerance(absolute=1e30))
        assert not row.passed
        assert row.max_abs is None
        json.dumps(row.to_json(), allow_nan=False)


def test_detections_may_change_places_only_where_their_scores_nearly_tie():
    rows = np.array([[1, 0, 0, 9, 9, 0.9], [1, 20, 0, 29, 9, 0.500003], [1, 40, 0, 49, 9, 0.5], [2, 0, 0, 9, 9, 0.1]])
    assert compare_rows(Recording("s", {"d": rows}), "d", rows[[0, 2, 1, 3]])
    assert not compare_rows(Recording("s", {"d": rows}), "d", rows[[1, 0, 2, 3]])
    assert not compare_rows(Recording("s", {"d": rows}), "d", rows[:3])
    for column, error in ((1, 2e-3), (5, 2e-5), (0, 1)):
        other = rows.copy()
        other[2, column] += error
        assert not compare_rows(Recording("s", {"d": rows}), "d", other)


def test_what_nms_may_leave_where_scores_tie():
    boxes = np.array([[0, 0, 9, 9], [1, 0, 10, 9], [50, 0, 59, 9], [2, 0, 11, 9.0]])
    scores = np.array([0.5, 0.5, 0.5, 0.4])
    for kept in ([0, 2], [1, 2]):
        assert not_suppressed(boxes, scores, np.array(kept), 0.3, 0.1) == ""
    assert "suppress each other" in not_suppressed(boxes, scores, np.array([0, 1, 2]), 0.3, 0.1)
    assert "missing" in not_suppressed(boxes, scores, np.array([0]), 0.3, 0.1)
    assert "missing" in not_suppressed(boxes, scores, np.array([2, 3]), 0.3, 0.1)
