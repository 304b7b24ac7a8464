"""Detectron's `.pkl` files: dictionaries, lists, numbers, text and NumPy arrays out of a pickle, without running it.

A pickle is a program, and Python's own reader calls any function that it names. Here the standard library's
`pickletools` only splits the file into instructions, and the few that make plain data are executed below. Nothing is
imported or called for the file: the functions with which NumPy writes arrays are recognised by name and reimplemented
here; any other function is an error. Values are bytes of the file, so memory stays within a small multiple of its size.
"""

from __future__ import annotations

import math
import os
import pickletools
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import InputError

LARGEST = 4 * 2**30  # bytes of a file; Detectron's largest have a fifth of it

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_MOST_COPIES = 4
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class PickleError(InputError):
    """A pickle that is damaged or holds more than plain data; the message names the file."""


class _Mark:
    """Where a sequence begins on the stack."""


class _Stack(list):
    """The values on the stack. budget: bytes that may still be created from existing parts, so that a part that is used
    a million times does not take a million times its memory."""

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.budget = budget

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise ValueError("it uses its parts again and again, which no file of weights does")


@dataclass(frozen=True)
class _Name:
    """A function or class that the file names; it is never looked up."""

    name: str


class _Array:
    """An array that the file announces first and fills later; `value` is None until then."""

    value: np.ndarray | None = None


@dataclass
class _Type:
    """A NumPy type that the file announces first and may give a byte order later."""

    code: str
    order: str = "<"

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


def read_pickle(path: str | os.PathLike) -> Any:
    """The content of the pickle at `path`, if it consists of plain data. Text of Python 2 is read as Latin-1.

    Raises PickleError for a file that is missing, damaged or too large, or that would run anything.
    """
    path = Path(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise PickleError(f"{path}: not a file")
        if status.st_size > LARGEST:
            raise PickleError(f"{path}: {status.st_size} bytes are too many for a file of weights")
        content = path.read_bytes()
    except OSError as error:
        raise PickleError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return _finished(_run(content), {})
    except _Refused as refusal:
        raise PickleError(
            f"{path}: wants {refusal} and is not read any further; only dictionaries, lists, numbers, text and NumPy "
            "arrays are read from a pickle, and nothing in it was run"
        ) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise PickleError(f"{path}: not a readable pickle ({str(error) or type(error).__name__})") from error


class _Refused(Exception):
    """An instruction or call in the file that goes beyond plain data."""


def _run(content: bytes) -> Any:
    stack = _Stack(_MOST_COPIES * len(content))
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name == "STOP":
            (result,) = stack
            return result
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_Name(argument.replace(" ", ".")))
        elif name in _STEPS:
            _STEPS[name](stack)
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"the instruction {name}")
    raise ValueError("it has no end")


def _since_mark(stack: _Stack) -> list[Any]:
    """Pop the last mark and everything above it from the stack."""
    values = []
    while not isinstance(top := stack.pop(), _Mark):
        values.append(top)
    return values[::-1]


def _pushes(make: Callable[[_Stack], Any]) -> Callable[[_Stack], None]:
    return lambda stack: stack.append(make(stack))


def _last(count: int) -> Callable[[_Stack], tuple]:
    """Pop `count` values from the stack."""

    def take(stack: _Stack) -> tuple:
        if len(stack) < count:
            raise IndexError("too few values")
        return tuple([stack.pop() for _ in range(count)][::-1])

    return take


def _fill_list(values: Callable[[_Stack], Any]) -> Callable[[_Stack], None]:
    def step(stack: _Stack) -> None:
        new = values(stack)
        _of_type(stack[-1], list).extend(new)

    return step


def _fill_dict(values: Callable[[_Stack], Any]) -> Callable[[_Stack], None]:
    def step(stack: _Stack) -> None:
        new = values(stack)
        _of_type(stack[-1], dict).update(_pairs(new))

    return step


def _pairs(flat: Any) -> dict[Any, Any]:
    if len(flat) % 2 or not all(isinstance(key, (str, bytes, int, float)) for key in flat[::2]):
        raise ValueError("the keys of a dictionary are neither text nor numbers")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"a {kind.__name__} was expected, not a {type(value).__name__}")
    return value


def _name_from_stack(stack: _Stack) -> _Name:
    module, name = _last(2)(stack)
    return _Name(f"{_of_type(module, str)}.{_of_type(name, str)}")


def _reduce(stack: _Stack) -> Any:
    """A call in the file, executed here if it is one of those that create NumPy's arrays."""
    function, arguments = _last(2)(stack)
    name = _of_type(function, _Name).name.replace("numpy._core.", "numpy.core.")
    _of_type(arguments, tuple)
    if name == "numpy.core.multiarray._reconstruct":
        return _Array()
    if name == "numpy.dtype":
        return _Type(_known_code(arguments[0]))
    if name == "numpy.core.multiarray.scalar":
        return _array(_of_type(arguments[0], _Type), (), _raw(stack, arguments[1]), "C")[()]
    if name == "numpy.core.numeric._frombuffer":
        data, kind, shape, order = arguments
        return _array(_of_type(kind, _Type), shape, _raw(stack, data), order)
    if name == "_codecs.encode" and arguments[1] in ("latin1", "latin-1"):
        return _raw(stack, _of_type(arguments[0], str))
    if name == "collections.OrderedDict":
        pairs = arguments[0] if arguments else []
        stack.spend(16 * len(pairs))
        return _pairs([value for pair in pairs for value in _of_type(pair, list)])
    raise _Refused(f"to call {function.name}")


def _known_code(code: Any) -> str:
    code = code.decode("ascii") if isinstance(code, bytes) else _of_type(code, str)
    if code not in _DTYPES:
        raise _Refused(f"an array of type {code!r}")
    return code


def _raw(stack: _Stack, data: Any) -> bytes:
    """The bytes of an array; Python 2 wrote them as text."""
    if type(data) not in (str, bytes, bytearray):
        raise TypeError(f"the values of an array are a {type(data).__name__}")
    if type(data) is bytes:
        return data
    stack.spend(len(data))
    return data.encode("latin-1") if type(data) is str else bytes(data)


def _build(stack: _Stack) -> None:
    """Fill in an announced object: an array's shape, type and values, or a type's byte order."""
    (state,) = _last(1)(stack)
    target = stack[-1]
    if isinstance(target, _Type):
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if state[2:5] != (None, None, None) or order not in ("<", ">", "|", "="):
            raise _Refused("an array with fields")
        target.order = order
    elif isinstance(target, _Array):
        _, shape, kind, fortran, data = state
        target.value = _array(_of_type(kind, _Type), shape, _raw(stack, data), "F" if fortran else "C")
    else:
        raise _Refused("to set the state of an object")


def _array(kind: _Type, shape: Any, data: bytes, order: str) -> np.ndarray:
    shape = tuple(_of_type(n, int) for n in _of_type(shape, tuple))
    dtype = kind.dtype()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data) or len(shape) > 32:
        raise ValueError(f"an array of shape {shape}, {dtype}, does not have {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


_STEPS: dict[str, Callable[[_Stack], Any]] = {
    "MARK": _pushes(lambda stack: _Mark()),
    "POP": lambda stack: stack.pop(),
    "POP_MARK": _since_mark,
    "DUP": lambda stack: stack.append(stack[-1]),
    "EMPTY_LIST": _pushes(lambda stack: []),
    "EMPTY_DICT": _pushes(lambda stack: {}),
    "EMPTY_TUPLE": _pushes(lambda stack: ()),
    "LIST": _pushes(_since_mark),
    "TUPLE": _pushes(lambda stack: tuple(_since_mark(stack))),
    "TUPLE1": _pushes(_last(1)),
    "TUPLE2": _pushes(_last(2)),
    "TUPLE3": _pushes(_last(3)),
    "DICT": _pushes(lambda stack: _pairs(_since_mark(stack))),
    "APPEND": _fill_list(_last(1)),
    "APPENDS": _fill_list(_since_mark),
    "SETITEM": _fill_dict(_last(2)),
    "SETITEMS": _fill_dict(_since_mark),
    "STACK_GLOBAL": _pushes(_name_from_stack),
    "REDUCE": _pushes(_reduce),
    "BUILD": _build,
}


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """`value` with announced arrays replaced by the arrays themselves; parts that are used repeatedly are made once."""
    if isinstance(value, (_Name, _Type, _Mark)):
        raise _Refused(f"to hand over {value.name}" if isinstance(value, _Name) else "more than data")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without values")
        return value.value
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) in done:
        if done[id(value)] is None:
            raise ValueError("it contains itself")
        return done[id(value)]
    done[id(value)] = None
    if isinstance(value, dict):
        result: Any = {key: _finished(inner, done) for key, inner in value.items()}
    else:
        result = type(value)(_finished(inner, done) for inner in value)
    done[id(value)] = result
    return result
