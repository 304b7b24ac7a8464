"""Rewrites CUDA C++ as C++: what g++ cannot read is replaced, everything else stays, line by line.

    kernel<T><<<grid, block, bytes, stream>>>(a, b)   emulation::Launch("kernel<T>", ...)(a, b)
    __shared__ T name[n];                             static T name[n]; with a record of where it is
    extern __shared__ T name[];                       T* const name = emulation::dynamic_shared<T>();
    TORCH_LIBRARY_IMPL(vod, CUDA, m)                  TORCH_LIBRARY_IMPL(vod_emulated, CPU, m)

The rest of CUDA (keywords, threadIdx, __syncthreads, atomics, shuffles) is ordinary C++ in the folder `device`.
"""

from __future__ import annotations

import re

NAMESPACE = "vod_emulated"

_NO_CODE = re.compile(
    r"""//[^\n]* | /\*.*?\*/                    # comments
      | R"(?P<mark>\w*)\(.*?\)(?P=mark)"        # raw strings
      | "(?:\\.|[^"\\\n])*"                     # strings
      | (?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])*'    # characters, but no marks between digits""",
    re.VERBOSE | re.DOTALL,
)
_ALIGNMENT = r"(?:__align__|alignas)\s*\([^()]*\)"
_DYNAMIC = re.compile(
    rf"\bextern\s+__shared__\s+(?:{_ALIGNMENT}\s+)?(?P<type>[^;\[]+?)\s*\b(?P<name>\w+)\s*\[\s*\]\s*;"
)
_STATIC = re.compile(r"(?:\bstatic\s+)?(?P<volatile>\bvolatile\s+)?\b__shared__\b")
_REGISTRATION = re.compile(r"\bTORCH_LIBRARY_IMPL\s*\(\s*\w+\s*,\s*CUDA\s*,")
_CLOSING = {"(": ")", "[": "]", "{": "}"}

Edit = tuple[int, int, str]  # where it begins, where it ends, what replaces it


class TranslationError(Exception):
    """The source has a form that this translation does not know."""


def translate(source: str, name: str) -> str:
    """C++ for a CUDA source or header; `name` is what the compiler and the emulation call the file."""
    code = _blank(source)
    edits: list[Edit] = []
    try:
        edits += [_dynamic_edit(source, match) for match in _DYNAMIC.finditer(code)]
        taken = [(begin, end) for begin, end, _ in edits]
        for match in _STATIC.finditer(code):
            if not any(begin <= match.start() < end for begin, end in taken):
                edits.append(_static_edit(source, code, match))
        edits += [_launch_edit(source, code, match.start()) for match in re.finditer("<<<", code)]
        edits += [(m.start(), m.end(), f"TORCH_LIBRARY_IMPL({NAMESPACE}, CPU,") for m in _REGISTRATION.finditer(code)]
    except TranslationError as error:
        raise TranslationError(f"{name}:{error}") from None
    for begin, end, text in sorted(edits, reverse=True):
        lines = source.count("\n", begin, end) - text.count("\n")
        source = source[:begin] + text + "\n" * lines + source[end:]
    return f'#line 1 "{name}"\n{source}'


def _blank(source: str) -> str:
    """The source with blanks for comments and strings, every character of code at its place."""
    return _NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)


def _stop(code: str, position: int, message: str) -> TranslationError:
    return TranslationError(f"{code.count(chr(10), 0, position) + 1}: {message}")


def _dynamic_edit(source: str, match: re.Match) -> Edit:
    kind, name = (source[slice(*match.span(group))] for group in ("type", "name"))
    return (*match.span(), f"{kind}* const {name} = ::emulation::dynamic_shared<{kind}>();")


def _static_edit(source: str, code: str, match: re.Match) -> Edit:
    end = _find(code, match.end(), ";")
    declaration = source[match.end() : end].strip()
    names = [_declared_name(part) for part in _split(code[match.end() : end])]
    if None in names:
        raise _stop(code, match.start(), f"cannot read the declaration '__shared__ {' '.join(declaration.split())}'")
    alignment = re.match(_ALIGNMENT, declaration)
    prefix = alignment[0] + " " if alignment else ""
    volatile = match["volatile"] or ""
    text = f"{prefix}static {volatile}{declaration[len(prefix) :]};"
    for name in names:
        text += (
            f" static_assert(std::is_trivially_default_constructible_v<decltype({name})>);"
            f" static constinit ::emulation::SharedVariable emulation_{name}"
            f'("{name}", const_cast<const decltype({name})*>(&{name}), sizeof({name})); emulation_{name}.enter();'
        )
    return match.start(), end + 1, text


def _declared_name(declarator: str) -> str | None:
    match = re.match(r"(?:.*[\s>*&])?([A-Za-z_]\w*)\s*(?:\[.*\]\s*)?$", declarator.split("[")[0], re.DOTALL)
    return match[1] if match else None


def _launch_edit(source: str, code: str, position: int) -> Edit:
    begin = _kernel_begin(code, position)
    end = _find(code, position + 3, ">>>")
    if not re.match(r"\s*\(", code[end + 3 :]):
        raise _stop(code, position, "a launch without arguments in parentheses")
    kernel = " ".join(source[begin:position].split())
    call = f"[](auto... emulation_arguments) {{ {kernel}(emulation_arguments...); }}"
    configuration = f"::emulation::Configuration({source[position + 3 : end]})"
    return begin, end + 3, f'::emulation::Launch("{kernel}", {configuration}, {call})'


def _kernel_begin(code: str, position: int) -> int:
    """Where the name of the kernel begins that is launched at `position`: an identifier, maybe with <...> after it."""
    begin = len(code[:position].rstrip())
    if begin and code[begin - 1] == ">":
        depth = 0
        while begin:
            begin -= 1
            depth += (code[begin] == ">") - (code[begin] == "<")
            if depth == 0:
                break
    match = re.search(r"[A-Za-z_:][\w:]*\s*$", code[:begin])
    if not match:
        raise _stop(code, position, "a launch without the name of a kernel")
    return match.start()


def _find(code: str, position: int, text: str) -> int:
    """Where `text` comes next outside all brackets that open after `position`."""
    closing = []
    for i in range(position, len(code)):
        if not closing and code.startswith(text, i):
            return i
        if code[i] in _CLOSING:
            closing.append(_CLOSING[code[i]])
        elif closing and code[i] == closing[-1]:
            closing.pop()
    raise _stop(code, position, f"'{text}' is missing")


def _split(declaration: str) -> list[str]:
    """The parts between commas that are outside all brackets, <...> among them."""
    parts, depth = [""], 0
    for character in declaration:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
