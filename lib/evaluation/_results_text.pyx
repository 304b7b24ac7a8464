# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The loop of `lib.evaluation.results_file` that turns lines of seven plain decimal numbers into rows.

Arrays arrive as addresses (`ndarray.ctypes.data`), as in `_seq_nms.pyx` and for the same reason.
"""

from libc.stdint cimport int64_t, uintptr_t

cdef enum:
    COLUMNS = 7
    DIGITS = 15  # a whole number of so many digits, and a power of ten up to 10**22, are exact in a double

cdef double[16] POWERS
for _power in range(16):
    POWERS[_power] = 10.0 ** _power


cdef const char *number(const char *place, double *value) noexcept nogil:
    """Read one number of the form -?digits(.digits)? into `value`: where it ends; NULL if it has another form.

    The quotient of two exact numbers is the double nearest to the decimal number, as Python's float() gives it.
    """
    cdef int64_t whole = 0
    cdef int digits = 0, before, negative = place[0] == c'-'
    place += negative
    while c'0' <= place[0] <= c'9':
        whole = 10 * whole + place[0] - c'0'
        digits += 1
        place += 1
        if digits > DIGITS:
            return NULL
    if digits == 0:
        return NULL
    before = digits
    if place[0] == c'.':
        place += 1
        while c'0' <= place[0] <= c'9':
            whole = 10 * whole + place[0] - c'0'
            digits += 1
            place += 1
            if digits > DIGITS:
                return NULL
        if digits == before:
            return NULL
    value[0] = whole / POWERS[digits - before]
    if negative:
        value[0] = -value[0]
    return place


def parse(uintptr_t text, int64_t length, uintptr_t rows):
    """Whether all `length` bytes of `text` are lines of seven plain decimal numbers with one blank between two of them.

    text: ends with a newline. rows: room for (lines, 7) float64, which are filled in; where the answer is False they
    mean nothing.
    """
    cdef const char *place = <const char *>text
    cdef const char *end = place + length
    cdef double *value = <double *>rows
    cdef int column
    with nogil:
        while place < end:
            for column in range(COLUMNS):
                place = number(place, value)
                if place == NULL or place[0] != (c'\n' if column == COLUMNS - 1 else c' '):
                    place = NULL
                    break
                place += 1
                value += 1
            if place == NULL:
                break
    return place != NULL
