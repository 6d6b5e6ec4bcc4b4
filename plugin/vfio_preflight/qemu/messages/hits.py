"""All known lines of a text: in lines as they are, and in such as were wrapped."""

from __future__ import annotations

from collections.abc import Iterator

from ...osutil.light import NamedTuple
from .find import Found, beginning, find, words_of
from .lines import NARROWEST, WRAPPED, Piece, is_program, joined, starts_record

# Lines that say something, the last of them; a log that has more is not read to its beginning.
_MOST_LINES = 10_000
# A text that is not wrapped has next to none of them.
_MOST_BLOCKS = 1000
# What shows that a line was cut off.
_CUT = ("...", "\u2026", "...'", '..."')
# How libvirt's lines of a command begin: an option, a variable, the program.
_COMMAND = ("-", "LC_ALL=", "PATH=", "HOME=", "USER=", "XDG_", "QEMU_", "/")
_REFUSAL = "hook-refused"
_HOOKS = ("hook-refused", "hook-failed")


class Known(NamedTuple):
    """What lines say, by their number in the list of lines, and the lines that belong to that.

    ``words`` are those of each line; ``texts`` what lines that were wrapped are together. Lines
    before number ``begin`` were not looked at.
    """

    found: dict[int, list[Found]]
    covered: set[int]
    words: list[str]
    texts: dict[int, str]
    begin: int


def known(lines: list[Piece]) -> Known:
    """What is known of ``lines``."""
    words = words_of("\n".join(line.text for line in lines)).split("\n")
    found, begin = _alone(lines, words)
    result = Known(found, set(), words, {}, begin)
    blocks = [*_blocks(lines, begin)][::-1]
    # A line that was wrapped at a fixed column has spaces in wrong places if taken for the other.
    for separator in ("", " "):
        for number, block in blocks:
            _unwrap(number, block, separator, result)
    for number in [number for number, found in result.found.items() if _refusal(found)]:
        _keep_refusal(number, lines, result)
    return result


def _alone(lines: list[Piece], words: list[str]) -> tuple[dict[int, list[Found]], int]:
    """What each line says by itself, and from which line on they were looked at."""
    result: dict[int, list[Found]] = {}
    last = next((n for n in range(len(lines) - 1, -1, -1) if lines[n].text.strip()), -1)
    for number in range(len(lines) - 1, -1, -1):
        text = lines[number].text
        # Most of a log are the lines of a command, which say nothing.
        is_argument = text.endswith(" \\") and text.startswith(_COMMAND)
        found = [] if is_argument else find(text, words[number].split())
        if not found and (number == last or text.endswith(_CUT) or is_program(text)):
            found = beginning(text, words[number].split())
        if found:
            result[number] = found
            if len(result) == _MOST_LINES:
                return result, number
    return result, 0


def _blocks(lines: list[Piece], begin: int) -> Iterator[tuple[int, list[str]]]:
    """Lines that may be one that was wrapped: the number of the first, and their text."""
    count = 0
    # A block may begin in what was taken for the middle of one; the end is what matters.
    for number in range(len(lines) - 2, begin - 1, -1):
        end = number + 1
        if len(lines[number].text) >= NARROWEST and not lines[number].text.endswith("\\"):
            while (
                end < min(len(lines), number + WRAPPED)
                and not starts_record(lines[end].text)
                and (end == number + 1 or len(lines[end - 1].text) >= NARROWEST)
            ):
                end += 1
        if end > number + 1:
            count += 1
            yield number, [line.text for line in lines[number:end]]
        if count == _MOST_BLOCKS:
            return


def _unwrap(number: int, block: list[str], separator: str, result: Known) -> None:
    """Add what the lines of ``block`` say together, and none alone."""
    text = joined(block, separator)
    for found in find(text, words_of(text).split()):
        first, last = _span(block, separator, found)
        if first == last or not found.is_whole:
            continue
        spanned = range(number + first, number + last + 1)
        alone = [other for at in spanned for other in result.found.get(at, [])]
        if any(other.is_whole and other.message.kind == found.message.kind for other in alone):
            continue
        for at in spanned:
            kept = [other for other in result.found.pop(at, []) if other.is_whole]
            if kept:
                result.found[at] = kept
        result.found.setdefault(number + first, []).append(found)
        result.covered.update(spanned)
        result.texts[number + first] = text


def _span(block: list[str], separator: str, found: Found) -> tuple[int, int]:
    """The lines of a block in which what was found begins and ends."""
    ends, end = [], 0
    for count in range(1, len(block) + 1):
        end = len(joined(block[:count], separator))
        ends.append(end)
    first = next(n for n, end in enumerate(ends) if found.start < end)
    last = next((n for n, end in enumerate(ends) if found.end <= end), len(block) - 1)
    return first, last


def _refusal(found: list[Found]) -> bool:
    return any(hit.message.kind == _REFUSAL for hit in found)


def _keep_refusal(number: int, lines: list[Piece], result: Known) -> None:
    """Of our own refusal nothing else is to be explained: what it quotes did not happen."""
    found = result.found.get(number, [])
    at = next((hit for hit in found if hit.message.kind == _REFUSAL), None)
    if at is None:
        return
    before = [hit for hit in found if hit.start < at.start and hit.message.kind not in _HOOKS]
    result.found[number] = [*before, at]
    end = number + 1
    while end < len(lines) and not starts_record(lines[end].text):
        result.found.pop(end, None)
        result.covered.add(end)
        end += 1
    own = [lines[number].text, *(line.text for line in lines[number + 1 : end])]
    result.texts[number] = "\n".join([own[0][_begin(own[0], at) :], *own[1:]])


def _begin(text: str, at: Found) -> int:
    return max(0, text.find("vfio-preflight: ", max(0, at.start - 1)))
