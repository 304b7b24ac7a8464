"""The report's definitions written out one detection and one object at a time: slow, and easy to check."""

CORRECT, CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(6)


def size(box):
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (size(a) + size(b) - width * height)


def threshold(box):
    return min(0.5, size(box) / ((box[2] - box[0] + 11) * (box[3] - box[1] + 11)))


def matches(truth, table, any_class):
    """{row of the table: object}, by descending score, rows of a frame in their order."""
    taken, found = set(), {}
    for row in sorted(range(len(table)), key=lambda r: -table.scores[r]):
        best, best_iou = None, -1.0
        frame = table.frames[row]
        for i in range(truth.offsets[frame], truth.offsets[frame + 1]):
            overlap = iou(table.boxes[row], truth.boxes[i])
            fits = any_class or truth.labels[i] == table.labels[row]
            if fits and i not in taken and overlap >= threshold(truth.boxes[i]) and overlap > best_iou:
                best, best_iou = i, overlap
        if best is not None:
            taken.add(best)
            found[row] = best
    return found


def nearest(pairs):
    """The object of the largest IoU, of equal ones the first; pairs: [(IoU, object)]."""
    return max(pairs, key=lambda pair: (pair[0], -pair[1]))[1]


def outcomes(truth, table):
    """[(kind, object or -1)] of every row."""
    found = matches(truth, table, any_class=False)
    result = []
    for row in range(len(table)):
        if row in found:
            result.append((CORRECT, found[row]))
            continue
        frame, box = table.frames[row], table.boxes[row]
        near = [(iou(box, truth.boxes[i]), i) for i in range(truth.offsets[frame], truth.offsets[frame + 1])]
        own = [pair for pair in near if truth.labels[pair[1]] == table.labels[row]]
        other = [pair for pair in near if truth.labels[pair[1]] != table.labels[row]]
        reached_own = [pair for pair in own if pair[0] >= threshold(truth.boxes[pair[1]])]
        reached_other = [pair for pair in other if pair[0] >= threshold(truth.boxes[pair[1]])]

        if own and max(own)[0] >= 0.1 and not reached_own:
            result.append((LOCALISATION, nearest(own)))
        elif reached_other:
            result.append((CLASSIFICATION, nearest(reached_other)))
        elif reached_own:
            result.append((DUPLICATE, -1))
        elif all(overlap <= 0.1 for overlap, _ in near):
            result.append((BACKGROUND, -1))
        else:
            result.append((BOTH, -1))
    return result


def fixed_ap(truth, table, kind, label):
    """AP of class `label` with the errors of `kind` (a number, "missed", "false positives", "not found") fixed."""
    result = outcomes(truth, table)
    found = {i for k, i in result if k == CORRECT}
    meant = {i for k, i in result if k in (CORRECT, CLASSIFICATION, LOCALISATION)}
    entries, fixed = [], set()  # (score, row, label, true)
    for row in sorted(range(len(table)), key=lambda r: (-table.scores[r], r)):
        own, (outcome, i) = int(table.labels[row]), result[row]
        if outcome == CORRECT:
            entries.append((own, True))
        elif kind == "false positives":
            continue
        elif outcome != kind:
            entries.append((own, False))
        elif kind in (CLASSIFICATION, LOCALISATION) and i not in found | fixed:
            fixed.add(i)
            entries.append((int(truth.labels[i]), True))
    objects = [i for i in range(len(truth.labels)) if truth.labels[i] == label]
    if kind == "missed":
        objects = [i for i in objects if i in meant]
    if kind == "not found":
        objects = [i for i in objects if i in found]
    return area([true for own, true in entries if own == label], len(objects)) if objects else 1.0


def curve(hits, objects):
    """[(recall, precision)] after each detection, highest scores first."""
    points, true = [], 0
    for n, hit in enumerate(hits, 1):
        true += hit
        points.append((true / objects, true / n))
    return points


def best_precision(points, recall):
    return max((p for r, p in points if r >= recall - 1e-9), default=0.0)


def area(hits, objects):
    points, total, before = curve(hits, objects), 0.0, 0.0
    for recall, _ in points:
        if recall > before:
            total += (recall - before) * best_precision(points, recall)
            before = recall
    return total
