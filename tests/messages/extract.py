"""The lines that C sources print: every string literal that a reporting function is given.

A literal is what the sources have, with adjacent strings joined: ``"%s: data_fd " "out of sync"``
is ``%s: data_fd out of sync``; where the first value is ``__func__`` it has the function's name.
Macros between strings become ``%x`` (``PRIx64`` and its like), or what the same sources define them
as.

Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# Position (from 0) of the format among a function's arguments. ``include/qapi/error.h``,
# ``include/qemu/error-report.h``; the last ones are local to one file.
FORMAT_AT = {
    "error_report": 0,
    "error_report_once": 0,
    "warn_report": 0,
    "warn_report_once": 0,
    "info_report": 0,
    "error_vreport": 0,
    "hw_error": 0,
    "error_printf": 0,
    "warn_reportf_err": 1,
    "error_reportf_err": 1,
    "error_prepend": 1,
    "error_append_hint": 1,
    "error_setg": 1,
    "error_setg_errno": 2,
    "error_setg_win32": 2,
    "error_setg_file_open": 3,
    "qemu_file_set_error_obj": -1,
    "fprintf": 1,
    "virtio_error": 1,
}
_CALL = re.compile(r"\b(" + "|".join(sorted(FORMAT_AT, key=len, reverse=True)) + r")\s*\(")
# A string, which is kept, or a comment.
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|/\*.*?\*/|//[^\n]*', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/|//[^\n]*|\'(?:[^\'\\]|\\.)*\'|.', re.DOTALL)
_DEFINE = re.compile(
    r'^#define[ \t]+(\w+)[ \t]+((?:"(?:[^"\\\n]|\\.)*"[ \t\\\n]*)+)$', re.MULTILINE
)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FUNCTION = re.compile(
    r"^[A-Za-z_][\w \t*]*?\b(\w+)\([^;{}()]*(?:\([^)]*\)[^;{}()]*)*\)\s*\{", re.MULTILINE
)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "'": "'"}
_LONGEST = 4000  # characters of one call


def definitions(source: str) -> dict[str, str]:
    """Macros of ``source`` that stand for a string alone."""
    return {name: _joined(text, {}) for name, text in _DEFINE.findall(source)}


def literals(source: str, defined: Mapping[str, str]) -> Iterator[str]:
    """What a file with text ``source`` prints, in order, one line each."""
    source = _COMMENT.sub(lambda found: found[1] or " ", source)
    for call in _CALL.finditer(source):
        name = call[1]
        if _is_definition(source, call.start()):
            continue
        arguments = _arguments(source, call.end())
        at = FORMAT_AT[name]
        if name == "fprintf" and arguments[:1] != ["stderr"]:
            continue
        chosen = arguments if at < 0 else arguments[at : at + 1]
        for argument in chosen:
            text = _joined(argument, defined)
            if arguments[at + 1 : at + 2] == ["__func__"]:
                text = text.replace("%s", _function(source, call.start()), 1)
            yield from (line.strip() for line in text.split("\n") if _says_something(line))


def _function(source: str, at: int) -> str:
    """The function that stands around a place."""
    found = _FUNCTION.findall(source, 0, at)
    return str(found[-1]) if found else "%s"


def _is_definition(source: str, at: int) -> bool:
    """Whether the function is declared or defined there, or in a comment that names it."""
    line = source[source.rfind("\n", 0, at) + 1 : at]
    return bool(re.match(r"\s*(?:\*|//|#define|(?:static |extern )?(?:void|int|bool) )", line))


def _says_something(line: str) -> bool:
    return len(re.sub(r"%[-+ #0-9.*]*(?:hh|h|ll|l|z|j)?[a-zA-Z]|[\W\d_]", "", line)) >= 3


def _arguments(source: str, at: int) -> list[str]:
    """The arguments of a call whose opening parenthesis ends at ``at``."""
    found, depth, current = [], 1, ""
    for token in _TOKEN.finditer(source, at, at + _LONGEST):
        text = token[0]
        if text.startswith(("/*", "//")):
            continue
        depth += (text in "([{") - (text in ")]}")
        if depth == 0:
            break
        if text == "," and depth == 1:
            found.append(current.strip())
            current = ""
        else:
            current += text
    return [*found, current.strip()]


def _joined(argument: str, defined: Mapping[str, str]) -> str:
    """The string literals of an argument, joined; both branches of a condition, one a line."""
    parts: list[str] = []
    at = 0
    for string in _STRING.finditer(argument):
        between = argument[at : string.start()]
        parts += _macros(between, defined, "".join(parts))
        parts.append(re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), string[1]))
        at = string.end()
    parts += _macros(argument[at:], defined, "".join(parts))
    return "".join(parts)


def _macros(between: str, defined: Mapping[str, str], before: str) -> list[str]:
    """What stands for the macros between two strings."""
    found = []
    for name in re.findall(r"\w+", between):
        if name in defined:
            found.append(defined[name])
        elif "PRI" in name:
            # "%" PRIx64: the per cent sign stands in the string already.
            found.append("x" if name.rstrip("0123456789").lower().endswith("x") else "u")
        elif "FMT" in name:
            found.append("x" if before.endswith("%") else "%x")
    if before and re.search(r"[?:]", between):
        found.append("\n")
    return found
