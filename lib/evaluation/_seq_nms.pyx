# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The loops of `lib.evaluation.seq_nms`, which says what they compute and checks what they are given.

Arrays arrive as addresses (`ndarray.ctypes.data`): buffers are in Python's stable ABI from 3.11 only, and the extension
is to serve 3.10 as well. The caller holds the arrays while a function runs; the GIL is free meanwhile.

Links are kept as bits, in both directions, so that what is left of them is counted and walked a machine word at a time.
The dynamic programme is not run anew for each path: removing boxes can only lower the sums of boxes whose own best
path led through them, so only these are looked at again. All sums are formed by the same additions, hence equal.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    #define count_bits(word) ((int64_t)__popcnt64(word))
    static inline int64_t next_bit(uint64_t *word)
    { unsigned long place; _BitScanForward64(&place, *word); *word &= *word - 1; return (int64_t)place; }
    #else
    #define count_bits(word) ((int64_t)__builtin_popcountll(word))
    static inline int64_t next_bit(uint64_t *word)
    { int64_t place = __builtin_ctzll(*word); *word &= *word - 1; return place; }
    #endif
    """
    int64_t count_bits(uint64_t word) nogil
    int64_t next_bit(uint64_t *word) nogil  # place of the lowest bit, which is cleared; the word is not 0

ctypedef const double *Column

cdef struct Video:  # one class of one video; only frames that have boxes, numbered from 0
    int64_t frames
    const int64_t *first  # (frames + 1,) first box of each frame, and the number of boxes
    const uint8_t *joined  # (frames,) whether the frame before this one is that of the video too
    Column columns[5]  # x1, y1, x2, y2 and area, each (boxes,)
    double *scores  # (boxes,)
    uint8_t *kept  # (boxes,)
    double *sums  # (boxes,) of the best path that ends here
    int64_t *source  # (boxes,) its box in the frame before, counted in that frame; -1: it begins here
    int64_t *leader  # (frames,) the open box of the largest sum, counted in its frame; -1: none is left
    int64_t *path  # (frames,) boxes of the path that is being taken, each counted in its frame
    int64_t *word  # (frames + 1,) first word of each frame in `open` and `changed`
    uint64_t *open  # bit: the box is on no path yet and not suppressed
    uint64_t *changed  # bit: the box's sum has fallen, or it is no longer open
    int64_t *ahead_at  # (frames,) where in `ahead` the rows of a frame's boxes begin; each is a set of the next frame
    uint64_t *ahead
    int64_t *behind_at  # the same, of the frame before
    uint64_t *behind
    int64_t links  # between open boxes
    double suppress


cdef inline int64_t width(const Video *v, int64_t t) noexcept nogil:
    """Words for a set of frame t's boxes."""
    return v.word[t + 1] - v.word[t]


cdef uint64_t overlapping(const Column *columns, int64_t box, int64_t first, int64_t n, double least) noexcept nogil:
    """Which of the n boxes from `first` on (at most 64) have an IoU of at least `least` with `box`, as bits."""
    cdef double x1 = columns[0][box], y1 = columns[1][box], x2 = columns[2][box], y2 = columns[3][box]
    cdef double area = columns[4][box], across, down, shared, left, top, right, bottom
    cdef Column x1s = columns[0] + first, y1s = columns[1] + first, x2s = columns[2] + first, y2s = columns[3] + first
    cdef Column areas = columns[4] + first
    cdef double[64] iou
    cdef uint64_t found = 0
    cdef int64_t k
    for k in range(n):
        left = x1s[k] if x1s[k] > x1 else x1
        top = y1s[k] if y1s[k] > y1 else y1
        right = x2s[k] if x2s[k] < x2 else x2
        bottom = y2s[k] if y2s[k] < y2 else y2
        across, down = right - left + 1, bottom - top + 1
        shared = (across if across > 0 else 0.0) * (down if down > 0 else 0.0)
        iou[k] = shared / (area + areas[k] - shared)
    for k in range(n):
        found |= (<uint64_t>(iou[k] >= least)) << k
    return found


cdef void link(Video *v, int64_t t, double least) noexcept nogil:
    """Enter the links between frames t - 1 and t."""
    cdef int64_t before = v.first[t] - v.first[t - 1], count = v.first[t + 1] - v.first[t], i, j, w
    cdef uint64_t bits
    for i in range(before):
        for w in range(width(v, t)):
            bits = overlapping(v.columns, v.first[t - 1] + i, v.first[t] + 64 * w, min(64, count - 64 * w), least)
            v.ahead[v.ahead_at[t - 1] + i * width(v, t) + w] = bits
            v.links += count_bits(bits)
            while bits:
                j = 64 * w + next_bit(&bits)
                v.behind[v.behind_at[t] + j * width(v, t - 1) + i // 64] |= (<uint64_t>1) << (i % 64)


cdef void reach(Video *v, int64_t t, int64_t j) noexcept nogil:
    """The best path to open box j of frame t from the sums of the frame before; of equal ones the first."""
    cdef int64_t box = v.first[t] + j, w, i, n = width(v, t - 1) if v.joined[t] else 0
    cdef const uint64_t *row = v.behind + v.behind_at[t] + j * n
    cdef double best = v.scores[box], total
    cdef uint64_t bits
    v.source[box] = -1
    for w in range(n):
        bits = row[w] & v.open[v.word[t - 1] + w]
        while bits:
            i = 64 * w + next_bit(&bits)
            total = v.sums[v.first[t - 1] + i] + v.scores[box]
            if total > best:
                best = total
                v.source[box] = i
    v.sums[box] = best


cdef void lead(Video *v, int64_t t) noexcept nogil:
    """Find frame t's open box of the largest sum, of equal ones the first."""
    cdef int64_t w, j
    cdef uint64_t bits
    v.leader[t] = -1
    for w in range(width(v, t)):
        bits = v.open[v.word[t] + w]
        while bits:
            j = 64 * w + next_bit(&bits)
            if v.leader[t] < 0 or v.sums[v.first[t] + j] > v.sums[v.first[t] + v.leader[t]]:
                v.leader[t] = j


cdef int64_t links_of(const Video *v, int64_t t, int64_t j) noexcept nogil:
    """How many open boxes box j of frame t is linked to."""
    cdef int64_t total = 0, n = width(v, t - 1) if v.joined[t] else 0, w
    for w in range(n):
        total += count_bits(v.behind[v.behind_at[t] + j * n + w] & v.open[v.word[t - 1] + w])
    n = width(v, t + 1) if t + 1 < v.frames and v.joined[t + 1] else 0
    for w in range(n):
        total += count_bits(v.ahead[v.ahead_at[t] + j * n + w] & v.open[v.word[t + 1] + w])
    return total


cdef void take(Video *v, int64_t t, int64_t chosen, double score) noexcept nogil:
    """Close box `chosen` of frame t with its new score, and suppress the frame's open boxes that overlap it."""
    cdef int64_t count = v.first[t + 1] - v.first[t], w, j
    cdef uint64_t bits
    for w in range(width(v, t)):
        bits = overlapping(v.columns, v.first[t] + chosen, v.first[t] + 64 * w, min(64, count - 64 * w), v.suppress)
        if chosen // 64 == w:
            bits |= (<uint64_t>1) << (chosen % 64)
        bits &= v.open[v.word[t] + w]
        v.open[v.word[t] + w] &= ~bits
        v.changed[v.word[t] + w] |= bits
        while bits:
            j = 64 * w + next_bit(&bits)
            v.links -= links_of(v, t, j)
            v.kept[v.first[t] + j] = j == chosen
    v.scores[v.first[t] + chosen] = score


cdef bint pass_on(Video *v, int64_t t) noexcept nogil:
    """Bring frame t up to date with the changes in itself and in the frame before; whether the next is to follow."""
    cdef int64_t w, j, source
    cdef bint changes = False
    cdef uint64_t bits
    cdef double old
    if v.joined[t]:
        for w in range(width(v, t)):
            bits = v.open[v.word[t] + w]
            while bits:
                j = 64 * w + next_bit(&bits)
                source = v.source[v.first[t] + j]
                if source >= 0 and v.changed[v.word[t - 1] + source // 64] >> (source % 64) & 1:
                    old = v.sums[v.first[t] + j]
                    reach(v, t, j)
                    if v.sums[v.first[t] + j] != old:
                        v.changed[v.word[t] + w] |= (<uint64_t>1) << (j % 64)
        memset(v.changed + v.word[t - 1], 0, width(v, t - 1) * sizeof(uint64_t))
    for w in range(width(v, t)):
        changes |= v.changed[v.word[t] + w] != 0
    j = v.leader[t]
    if j >= 0 and v.changed[v.word[t] + j // 64] >> (j % 64) & 1:
        lead(v, t)
    if t + 1 < v.frames and v.joined[t + 1]:
        return changes
    memset(v.changed + v.word[t], 0, width(v, t) * sizeof(uint64_t))
    return False


cdef bint take_best(Video *v, double stop) noexcept nogil:
    """Take the path with the largest sum, of equal ones that with the earliest end; False: none reaches `stop`."""
    cdef int64_t end = -1, begin, t
    cdef double best = 0
    for t in range(v.frames):
        if v.leader[t] >= 0 and (end < 0 or v.sums[v.first[t] + v.leader[t]] > best):
            end, best = t, v.sums[v.first[t] + v.leader[t]]
    if end < 0 or best < stop:
        return False
    begin, v.path[end] = end, v.leader[end]
    while v.source[v.first[begin] + v.path[begin]] >= 0:
        v.path[begin - 1] = v.source[v.first[begin] + v.path[begin]]
        begin -= 1
    for t in range(begin, end + 1):
        take(v, t, v.path[t], best / (end - begin + 1))
    t = begin
    while pass_on(v, t):
        t += 1
    return True


cdef void search(Video *v, double least, double stop) noexcept nogil:
    """Enter all links and the best path to every box, then take paths until no link or no worthy path is left."""
    cdef int64_t t, j
    for t in range(v.frames):
        for j in range(v.first[t + 1] - v.first[t]):
            v.open[v.word[t] + j // 64] |= (<uint64_t>1) << (j % 64)
        if v.joined[t]:
            link(v, t, least)
        for j in range(v.first[t + 1] - v.first[t]):
            reach(v, t, j)
        lead(v, t)
    while v.links > 0 and take_best(v, stop):
        pass


cdef uint64_t *lay_out(Video *v) noexcept nogil:
    """Give the working arrays of `v` their places in one piece of zeroed memory, which is returned; NULL: too much."""
    cdef int64_t n = v.first[v.frames], words = 0, ahead = 0, behind = 0, count = 0, before, t
    for t in range(v.frames):
        before, count = count, v.first[t + 1] - v.first[t]
        words += (count + 63) // 64
        if v.joined[t]:
            ahead += before * ((count + 63) // 64)
            behind += count * ((before + 63) // 64)
    cdef uint64_t *memory = <uint64_t *>calloc(2 * n + 5 * v.frames + 1 + 2 * words + ahead + behind, sizeof(uint64_t))
    if memory == NULL:
        return NULL
    v.sums = <double *>memory
    v.source = <int64_t *>memory + n
    v.leader = v.source + n
    v.path = v.leader + v.frames
    v.ahead_at = v.path + v.frames
    v.behind_at = v.ahead_at + v.frames
    v.word = v.behind_at + v.frames
    v.open = <uint64_t *>v.word + v.frames + 1
    v.changed = v.open + words
    v.ahead = v.changed + words
    v.behind = v.ahead + ahead
    for t in range(v.frames):
        v.word[t + 1] = v.word[t] + (v.first[t + 1] - v.first[t] + 63) // 64
    ahead = behind = 0
    for t in range(v.frames):
        count = v.first[t + 1] - v.first[t]
        v.ahead_at[t], v.behind_at[t] = ahead, behind
        if t + 1 < v.frames and v.joined[t + 1]:
            ahead += count * width(v, t + 1)
        if v.joined[t]:
            behind += count * width(v, t - 1)
    return memory


cdef void point_at(Column *columns, uintptr_t boxes, int64_t n) noexcept nogil:
    """The rows of a (5, n) array: x1, y1, x2, y2, area."""
    cdef int64_t k
    for k in range(5):
        columns[k] = <Column>boxes + k * n


def rescore(
    int64_t frames, uintptr_t first, uintptr_t joined, uintptr_t boxes, uintptr_t scores, uintptr_t kept,
    double link_threshold, double suppress_threshold, double stop,
):
    """Seq-NMS of one class of one video; changes `scores` and `kept`.

    frames: T, how many frames have boxes. first: (T + 1,) int64. joined: (T,) bool, the first False.
    boxes: (5, n) float64. scores: (n,) float64. kept: (n,) bool, all True. Raises MemoryError.
    """
    cdef Video v
    cdef uint64_t *memory
    v.frames, v.suppress, v.links = frames, suppress_threshold, 0
    v.first, v.joined = <const int64_t *>first, <const uint8_t *>joined
    v.scores, v.kept = <double *>scores, <uint8_t *>kept
    with nogil:
        point_at(v.columns, boxes, v.first[frames])
        memory = lay_out(&v)
        if memory != NULL:
            search(&v, link_threshold, stop)
        free(memory)
    if memory == NULL:
        raise MemoryError("the links of the boxes of one class of a video do not fit into memory")


def suppress(int64_t groups, uintptr_t first, uintptr_t boxes, uintptr_t kept, double least):
    """Greedy NMS of groups of boxes, each by descending score: drops what overlaps a kept box by `least` or more.

    first: (groups + 1,) int64. boxes: (5, n) float64. kept: (n,) bool, all True; changed.
    """
    cdef const int64_t *starts = <const int64_t *>first
    cdef uint8_t *keeps = <uint8_t *>kept
    cdef Column[5] columns
    cdef int64_t g, i, j
    cdef uint64_t bits
    with nogil:
        point_at(columns, boxes, starts[groups])
        for g in range(groups):
            for i in range(starts[g], starts[g + 1]):
                if keeps[i]:
                    for j in range(i + 1, starts[g + 1], 64):
                        bits = overlapping(columns, i, j, min(64, starts[g + 1] - j), least)
                        while bits:
                            keeps[j + next_bit(&bits)] = 0
