# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The loops of `lib.evaluation.mean_ap` over the frames: which object each detection finds, and what it counts.

Arrays arrive as addresses (`ndarray.ctypes.data`), as in `_seq_nms.pyx` and for the same reason.
"""

from libc.math cimport fmax, fmin
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uintptr_t

ctypedef const double *Box  # x1, y1, x2, y2

cdef struct Data:
    bint any_class  # whether a detection may find an object of another class
    # Detections, n in all, by ascending frame
    int64_t n
    const int32_t *frames
    const int16_t *labels
    const double *scores
    const double *boxes
    # Objects, G in all; those of frame f are offsets[f] to offsets[f + 1]
    int64_t objects
    const int64_t *offsets
    const int64_t *object_labels
    const double *object_boxes
    const double *thresholds
    # Ranges, R of them, in F frames
    int64_t ranges
    int64_t num_frames
    const uint8_t *moves  # (R, G) whether the motion of the object lies in the range
    const uint8_t *inside  # (R, G) whether it counts
    const double *undecided  # (R, F)
    const double *areas  # (R, 2)
    # Room for the detections of one frame: those that reach an object; the object that each of them finds, -1: none
    int64_t *rows
    int64_t *matched
    uint8_t *taken  # (G,) whether a detection has found the object already
    # What is worked out
    uint8_t *hit  # (R, n)
    double *miss  # (R, n)


cdef inline double area(Box box) noexcept nogil:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


cdef inline double overlap(Box a, Box b) noexcept nogil:
    """IoU, corners included; 0 where the boxes do not touch."""
    cdef double width = fmin(a[2], b[2]) - fmax(a[0], b[0]) + 1
    cdef double height = fmin(a[3], b[3]) - fmax(a[1], b[1]) + 1
    cdef double shared
    if width <= 0 or height <= 0:
        return 0
    shared = width * height
    return shared / (area(a) + area(b) - shared)


cdef void rank(const Data *d, int64_t *rows, int64_t count) noexcept nogil:
    """Order `rows`, which ascend, by descending score; equal scores stay in their order."""
    cdef int64_t i, j, row
    for i in range(1, count):
        row, j = rows[i], i
        while j > 0 and d.scores[rows[j - 1]] < d.scores[row]:
            rows[j] = rows[j - 1]
            j -= 1
        rows[j] = row


cdef inline bint may_find(const Data *d, int64_t row, int64_t i) noexcept nogil:
    return d.any_class or d.object_labels[i] == d.labels[row]


cdef void match(Data *d, int64_t start, int64_t end, int64_t *matched) noexcept nogil:
    """Fill `matched` for the detections `start` to `end` of one frame: by descending score each takes the free object
    of its class that it overlaps most among those whose threshold it reaches; of equal ones the first."""
    cdef int64_t first = d.offsets[d.frames[start]], last = d.offsets[d.frames[start] + 1]
    cdef int64_t count = 0, k, row, i, best
    cdef double iou, best_iou
    for row in range(start, end):
        matched[row - start] = -1
        for i in range(first, last):
            # Most detections reach no object at all: only the others have to be put in order
            if may_find(d, row, i):
                if overlap(d.boxes + 4 * row, d.object_boxes + 4 * i) >= d.thresholds[i]:
                    d.rows[count] = row
                    count += 1
                    break
    rank(d, d.rows, count)
    for k in range(count):
        row, best, best_iou = d.rows[k], -1, -1
        for i in range(first, last):
            if not d.taken[i] and may_find(d, row, i):
                iou = overlap(d.boxes + 4 * row, d.object_boxes + 4 * i)
                if iou >= d.thresholds[i] and iou > best_iou:
                    best, best_iou = i, iou
        if best >= 0:
            d.taken[best] = 1
        matched[row - start] = best


cdef int64_t end_of_frame(const Data *d, int64_t start) noexcept nogil:
    """The row behind the detections of the frame that begins with row `start`."""
    cdef int64_t end = start
    while end < d.n and d.frames[end] == d.frames[start]:
        end += 1
    return end


cdef void weigh_detection(Data *d, int64_t row, int64_t found) noexcept nogil:
    """For every range: whether a detection is a true positive, and its weight as a false one.

    found: its object, -1 for none.
    """
    cdef int64_t frame = d.frames[row], first = d.offsets[frame], last = d.offsets[frame + 1], r, i
    cdef double size = area(d.boxes + 4 * row), moving, other, iou
    for r in range(d.ranges):
        d.hit[r * d.n + row] = 0
        d.miss[r * d.n + row] = 0
        if found >= 0:
            d.hit[r * d.n + row] = d.inside[r * d.objects + found]
        elif d.areas[2 * r] <= size <= d.areas[2 * r + 1]:
            # An object in the wrong range excuses a detection that overlaps it most, whatever its class
            moving = other = -1
            for i in range(first, last):
                iou = overlap(d.boxes + 4 * row, d.object_boxes + 4 * i)
                if d.moves[r * d.objects + i]:
                    moving = fmax(moving, iou)
                else:
                    other = fmax(other, iou)
            d.miss[r * d.n + row] = d.undecided[r * d.num_frames + frame] if moving == other else moving > other


def weigh(
    int64_t n, uintptr_t frames, uintptr_t labels, uintptr_t scores, uintptr_t boxes,
    int64_t objects, uintptr_t offsets, uintptr_t object_labels, uintptr_t object_boxes, uintptr_t thresholds,
    int64_t ranges, int64_t num_frames, uintptr_t moves, uintptr_t inside, uintptr_t undecided, uintptr_t areas,
    uintptr_t rows, uintptr_t matched, uintptr_t taken, uintptr_t hit, uintptr_t miss,
):
    """Fill `hit` and `miss`; `Data` says what the arrays are. taken: all 0."""
    cdef Data d
    cdef int64_t start = 0, end, row
    d.any_class = False
    d.n, d.objects, d.ranges, d.num_frames = n, objects, ranges, num_frames
    d.frames, d.labels = <const int32_t *>frames, <const int16_t *>labels
    d.scores, d.boxes = <const double *>scores, <const double *>boxes
    d.offsets, d.object_labels = <const int64_t *>offsets, <const int64_t *>object_labels
    d.object_boxes, d.thresholds = <const double *>object_boxes, <const double *>thresholds
    d.moves, d.inside = <const uint8_t *>moves, <const uint8_t *>inside
    d.undecided, d.areas = <const double *>undecided, <const double *>areas
    d.rows, d.matched, d.taken = <int64_t *>rows, <int64_t *>matched, <uint8_t *>taken
    d.hit, d.miss = <uint8_t *>hit, <double *>miss
    with nogil:
        while start < n:
            end = end_of_frame(&d, start)
            match(&d, start, end, d.matched)
            for row in range(start, end):
                weigh_detection(&d, row, d.matched[row - start])
            start = end


def find_objects(
    int64_t n, uintptr_t frames, uintptr_t labels, uintptr_t scores, uintptr_t boxes,
    uintptr_t offsets, uintptr_t object_labels, uintptr_t object_boxes, uintptr_t thresholds,
    bint any_class, uintptr_t rows, uintptr_t taken, uintptr_t found,
):
    """Fill `found` (n,) int64: the object that each detection finds, -1 for none; the rest as for `weigh`."""
    cdef Data d
    cdef int64_t start = 0, end
    cdef int64_t *matched = <int64_t *>found
    d.any_class, d.n = any_class, n
    d.frames, d.labels = <const int32_t *>frames, <const int16_t *>labels
    d.scores, d.boxes = <const double *>scores, <const double *>boxes
    d.offsets, d.object_labels = <const int64_t *>offsets, <const int64_t *>object_labels
    d.object_boxes, d.thresholds = <const double *>object_boxes, <const double *>thresholds
    d.rows, d.taken = <int64_t *>rows, <uint8_t *>taken
    with nogil:
        while start < n:
            end = end_of_frame(&d, start)
            match(&d, start, end, matched + start)
            start = end
