"""Properties that hold for any input: boxes, suppression, matching, schedules, samplers, configurations, results."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dff.key_frames import KeyFrameRule
from fgfa.window import Window
from lib import boxes as box_rules
from lib.config import ConfigError, load_config, to_dict
from lib.config.load import keys
from lib.data.sampling import epoch_order, one_reference, two_references
from lib.engine.sharing import share_videos
from lib.evaluation.mean_ap import MOTION_RANGES, mean_ap
from lib.evaluation.mean_ap_reference import mean_ap_reference
from lib.evaluation.results_file import DetectionTable, ResultsWriter, read_results
from lib.ops import nms, nms_padded
from lib.structures import GroundTruth

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis: pip install hypothesis")
HealthCheck, assume, given, settings = hypothesis.HealthCheck, hypothesis.assume, hypothesis.given, hypothesis.settings
st = hypothesis.strategies

# The same examples in every run; tmp_path is shared by the examples of a test, which write one file after the other
settings.register_profile(
    "here",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("here")

coordinates = st.integers(-40, 200).map(lambda n: n / 2)


@st.composite
def box_lists(draw, least=0, most=12):
    """Boxes with x2 >= x1 and y2 >= y1, on half pixels, so that equal overlaps occur."""
    corners = draw(st.lists(st.tuples(coordinates, coordinates), min_size=least, max_size=most))
    sides = draw(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=len(corners), max_size=len(corners))
    )
    return [(x, y, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(corners, sides, strict=True)]


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def plain_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    area = lambda c: (c[2] - c[0] + 1) * (c[3] - c[1] + 1)  # noqa: E731
    return shared / (area(a) + area(b) - shared)


@given(box_lists(1), box_lists(1))
def test_overlaps_are_those_of_plain_arithmetic(one, other):
    found = box_rules.overlaps(tensor(one), tensor(other))
    assert found.tolist() == [[plain_iou(a, b) for b in other] for a in one]
    assert torch.equal(found, box_rules.overlaps(tensor(other), tensor(one)).T)
    assert ((found >= 0) & (found <= 1)).all()


@given(box_lists(1, 6), st.data())
def test_decoding_undoes_encoding(one, data):
    other = data.draw(box_lists(len(one), len(one)))
    deltas = box_rules.encode(tensor(one), tensor(other))
    torch.testing.assert_close(box_rules.decode(tensor(one), deltas), tensor(other), rtol=0, atol=1e-9)


@given(box_lists(1), st.integers(1, 90), st.integers(1, 90))
def test_clipped_boxes_lie_in_the_image_and_stay(boxes, height, width):
    clipped = box_rules.clip(tensor(boxes), height, width)
    assert (clipped >= 0).all()
    assert (clipped[:, 0::2] <= width - 1).all()
    assert (clipped[:, 1::2] <= height - 1).all()
    assert torch.equal(box_rules.clip(clipped, height, width), clipped)
    inside = ((tensor(boxes) >= 0) & (tensor(boxes) <= torch.tensor([width, height] * 2) - 1)).all(1)
    assert torch.equal(clipped[inside], tensor(boxes)[inside])


def plain_nms(boxes, scores, threshold, groups, suppress_equal):
    """The sentence of the docstring, one box after the other."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        ious = [plain_iou(boxes[k], boxes[i]) for k in kept if groups is None or groups[k] == groups[i]]
        if not any(iou > threshold or (suppress_equal and iou == threshold) for iou in ious):
            kept.append(i)
    return kept


@given(box_lists(0, 16), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.booleans(), st.booleans(), st.data())
def test_suppression_keeps_what_the_rule_says(boxes, threshold, suppress_equal, grouped, data):
    n = len(boxes)
    scores = data.draw(st.lists(st.integers(0, 5).map(float), min_size=n, max_size=n))
    groups = data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)) if grouped else None
    wanted = plain_nms(boxes, scores, threshold, groups, suppress_equal)
    given_groups = None if groups is None else torch.tensor(groups, dtype=torch.int64)
    as_tensor = torch.tensor(scores, dtype=torch.float64)
    assert nms(tensor(boxes), as_tensor, threshold, given_groups, suppress_equal).tolist() == wanted
    batched_groups = None if given_groups is None else given_groups[None]
    kept, counts = nms_padded(tensor(boxes)[None], as_tensor[None], threshold, batched_groups, suppress_equal)
    assert counts.tolist() == [len(wanted)]
    assert kept[0].tolist() == wanted + [-1] * (n - len(wanted))


@st.composite
def evaluations(draw):
    """Ground truth and detections of a few frames, many of them on objects, with equal scores among them."""
    frames, classes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    counts = draw(st.lists(st.integers(0, 3), min_size=frames, max_size=frames))
    objects = draw(box_lists(sum(counts), sum(counts)))
    labels = draw(st.lists(st.integers(1, classes), min_size=len(objects), max_size=len(objects)))
    truth = GroundTruth(
        class_names=[f"class {k}" for k in range(classes)],
        videos=np.zeros(frames, np.int64),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        boxes=np.array(objects, np.float64).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        track_ids=np.arange(len(objects)),
    )
    where = truth.frame_of_object().tolist()
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        score, shift = draw(st.integers(0, 4)) / 4, draw(st.integers(-4, 4))
        if objects and draw(st.booleans()):
            i = draw(st.integers(0, len(objects) - 1))
            rows.append((where[i], labels[i], score, *(value + shift for value in objects[i])))
        else:
            frame, label = draw(st.integers(0, frames - 1)), draw(st.integers(1, classes))
            rows.append((frame, label, score, *draw(box_lists(1, 1))[0]))
    table = np.array(sorted(rows, key=lambda row: row[0]), np.float64).reshape(-1, 7)
    return truth, DetectionTable(
        table[:, 0].astype(np.int32), table[:, 1].astype(np.int16), table[:, 2].copy(), table[:, 3:].copy()
    )


@given(evaluations(), st.integers(0, 99))
def test_average_precision_is_that_of_the_reference(case, seed):
    truth, table = case
    motion = np.random.RandomState(seed).rand(len(truth.boxes))
    rows = np.column_stack((table.frames, table.labels, table.scores, table.boxes)).reshape(-1, 7)
    found = np.stack([result.ap for result in mean_ap(truth, table, motion, MOTION_RANGES)])
    np.testing.assert_allclose(found, mean_ap_reference(truth, rows, motion), rtol=0, atol=1e-12)
    assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()


@st.composite
def key_frame_rules(draw):
    interval = draw(st.integers(1, 12))
    return KeyFrameRule(interval, draw(st.integers(0, interval - 1)), draw(st.booleans()))


@given(key_frame_rules(), st.integers(0, 60))
def test_every_frame_has_a_key_frame_within_its_interval(rule, length):
    key_frames = rule.key_frames(length)
    assert key_frames == sorted(set(key_frames))
    assert all(0 <= key < length for key in key_frames)
    assert bool(key_frames) == bool(length)
    for index in range(length):
        assert min(abs(index - key) for key in key_frames) < rule.interval
        before = [key for key in key_frames if key <= index]
        after = [key for key in key_frames if key >= index]
        if index not in key_frames and before and after:
            shares = rule.shares(index, before[-1], after[0])
            assert sum(shares) == pytest.approx(1)
            assert min(shares) >= 0
    least, most = rule.training_offsets()
    assert 1 - rule.interval <= least <= most <= rule.interval - 1


@given(st.integers(0, 6), st.integers(0, 6), st.booleans(), st.integers(0, 25))
def test_a_window_answers_every_frame_once_with_its_neighbours(past, future, include_centre, length):
    assume(past + future or include_centre)
    window, answers = Window(past, future, include_centre), []
    for frame in range(length):
        if (answer := window.add(frame)) is not None:
            answers.append(answer)
        assert len(window.held) <= past + 1 + future
    answers += window.close()
    assert [answer.centre for answer in answers] == list(range(length))
    for answer in answers:
        offsets = [o for o in range(-past, future + 1) if o or include_centre]
        wanted = sorted(min(max(answer.centre + o, 0), length - 1) for o in offsets)
        found = sorted(f for f, count in zip(answer.averaged, answer.counts, strict=True) for _ in range(count))
        assert found == wanted
        assert len(set(answer.averaged)) == len(answer.averaged)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=40), st.integers(1, 7), st.integers(0, 99))
def test_an_epoch_visits_every_entry_once_and_mixes_few_batches(sizes, batch, seed):
    widths, heights = np.array(sizes, int).reshape(-1, 2).T
    for shuffle, grouping in ((True, True), (True, False), (False, True)):
        order = epoch_order(widths, heights, batch, np.random.RandomState(seed), shuffle, grouping)
        assert sorted(order.tolist()) == list(range(len(sizes)))
        if shuffle and grouping:
            wide = (widths >= heights)[order[: len(order) - len(order) % batch]].reshape(-1, batch)
            assert sum(0 < row.sum() < batch for row in wide) <= 1


@given(st.integers(1, 30), st.data(), st.integers(0, 99))
def test_references_lie_in_the_video(length, data, seed):
    frame = data.draw(st.integers(0, length - 1))
    low, high = data.draw(st.integers(-20, 0)), data.draw(st.integers(0, 20))
    rng = np.random.RandomState(seed)
    found = one_reference(frame, length, rng, low, high)
    if high > low:
        found += two_references(frame, length, rng, low, high)
    for reference in found:
        assert 0 <= reference < length
        assert low <= reference - frame <= high


@given(st.lists(st.integers(1, 500), max_size=30), st.integers(1, 9))
def test_videos_are_shared_without_loss_and_evenly(lengths, processes):
    shares = share_videos(lengths, processes)
    assert sorted(number for share in shares for number in share) == list(range(len(lengths)))
    assert all(share == sorted(share) for share in shares)
    frames = [sum(lengths[number] for number in share) for share in shares]
    assert max(frames) - min(frames) <= max(lengths, default=0)


def values_of(key):
    """Values that a key's declaration accepts."""
    if key.choices:
        return st.sampled_from(key.choices)
    if key.item is not None:
        return st.lists(values_of(key.item), min_size=key.length[0], max_size=min(key.length[1], 6))
    if isinstance(key.default, bool):
        return st.booleans()
    if isinstance(key.default, int):
        return st.integers(int(key.least), int(key.most))
    if isinstance(key.default, float):
        low = key.least if key.least is not None else key.above
        return st.floats(
            low,
            key.most,
            exclude_min=key.least is None and key.above is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    return st.just(key.default)


@given(st.data())
def test_a_configuration_comes_back_as_it_was(data):
    chosen = data.draw(st.lists(st.sampled_from([name for name, _ in keys()]), max_size=6, unique=True))
    tree = {}
    for name in chosen:
        *sections, last = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = data.draw(values_of(dict(keys())[name]))
    try:
        cfg = load_config(base=tree, base_name="base")
    except ConfigError:  # values that do not go together
        return
    assert load_config(base=to_dict(cfg), base_name="again") == cfg


results = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(1, 5),
        st.integers(0, 10_000).map(lambda n: n / 10_000),
        st.lists(st.integers(-10_000_000, 10_000_000).map(lambda n: n / 100), min_size=4, max_size=4),
    ),
    max_size=20,
)


@given(results, st.integers(0, 20))
def test_results_come_back_as_they_were(tmp_path, rows, split):
    rows = sorted(rows, key=lambda row: row[0])
    columns = np.array([(f, k, s, *box) for f, k, s, box in rows], np.float64).reshape(-1, 7)
    table = DetectionTable(
        columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int16), columns[:, 2].copy(), columns[:, 3:].copy()
    )
    path = tmp_path / "results.txt"
    with ResultsWriter(path) as writer:
        writer.add_table(table[:split])
        writer.add_table(table[split:])
    found = read_results(path, 10, 5)
    np.testing.assert_array_equal(np.column_stack((found.frames, found.labels, found.scores, found.boxes)), columns)
