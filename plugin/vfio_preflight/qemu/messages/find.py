"""Finding the lines of the tables in text of any size: whole, cut off, or several in one line.

A log of 16 MiB has some hundred thousand lines, the tables some hundred. Each template has an
anchor, a word of its own: only where a line has that word is anything else looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

from ...osutil.light import NamedTuple
from .message import (
    CAUSE,
    CONSEQUENCE,
    NOT_NAMED,
    NOTE,
    TELLING,
    Line,
    Message,
    core,
    cut,
    parts,
    whole,
)
from .table import MESSAGES

# Characters around its core in which a template is looked for.
_AROUND = 640
# How often a line is looked for in one line of text, which may be a whole log in one string.
_TIMES = 16
# So many words are nobody else's.
_OWN_WORDS = 5
# Words of the longest core, and some more.
_MOST_WORDS = 40
_WORDS = {n: " " for n in range(128) if not (chr(n).isalnum() or chr(n) in "_\n")}
# As many characters as before, so that places in the one are places in the other.
_LOWER = {n: n + 32 for n in range(ord("A"), ord("Z") + 1)}
# What stands behind a line in JSON.
_STRING_ENDS = re.compile(r'"(?:, ?"\w{1,64}":.*|[}\]"\']{0,9})$')
_WARNING = "warning: "
_END = " .\u2026\"'\\"


class Form(NamedTuple):
    """A line of a table, ready to be looked for: its longest fixed piece, and the words in that."""

    message: Message
    line: Line
    core: str
    words: frozenset[str]
    names: tuple[str, ...]


class Found(NamedTuple):
    """A piece of text that is a line of a table; ``start`` and ``end`` are its place in the text.

    ``is_whole`` is whether all of the line is there, and nothing was cut off;
    ``fixed`` the length of its longest fixed piece.
    """

    message: Message
    line: Line
    groups: Mapping[str, str]
    quote: str
    start: int
    end: int
    device: str
    fixed: int
    is_whole: bool = True


def words_of(text: str) -> str:
    """``text`` in lower case, with spaces for all that is neither letter, digit nor end of line."""
    return text.lower().translate(_WORDS)


def find(text: str, words: list[str]) -> list[Found]:
    """What ``text``, one line that has ``words``, says, in the order in which it is said."""
    have = {*words}
    forms = [form for word in _by_anchor().keys() & have for form in _by_anchor()[word]]
    if not forms:
        return []
    forms = [form for form in forms if form.words <= have]
    lower = text.translate(_LOWER) if forms else ""
    hits = [found for form in forms for found in _occurrences(form, text, lower)]
    return _apart([_trimmed(hit, hits, text) for hit in hits]) if hits else []


def beginning(text: str, words: list[str]) -> list[Found]:
    """What ``text``, one line that has ``words``, was going to say where it was cut off."""
    lower = ""
    # It has to stand at the end.
    words = words[-_MOST_WORDS:]
    for pair in zip(words, words[1:]):
        for form in _by_beginning().get(pair, ()):
            lower = lower or text.translate(_LOWER)
            found = [*_beginning(form, text, lower)]
            if found:
                return found
    return []


@lru_cache(maxsize=1)
def _by_beginning() -> dict[tuple[str, str], list[Form]]:
    """All forms, by the first two words of theirs."""
    forms: dict[tuple[str, str], list[Form]] = {}
    for form in _forms():
        words = words_of(form.core).split()
        if len(words) > 1:
            forms.setdefault((words[0], words[1]), []).append(form)
    return forms


@lru_cache(maxsize=1)
def _forms() -> list[Form]:
    rows = [
        Form(
            message,
            line,
            core(line.template),
            frozenset(_own_words(line.template)),
            tuple(part.name for part in parts(line.template) if part.name),
        )
        for message in MESSAGES
        for line in message.lines
    ]
    return rows


@lru_cache(maxsize=1)
def _by_anchor() -> dict[str, list[Form]]:
    """All forms, by the word of theirs that the fewest others have."""
    often = Counter(word for form in _forms() for word in form.words)
    forms: dict[str, list[Form]] = {}
    for form in _forms():
        anchor = min(form.words, key=lambda word: (often[word], -len(word), word))
        forms.setdefault(anchor, []).append(form)
    return forms


def _own_words(template: str) -> list[str]:
    """Words of the template's core that stand in every line that it tells."""
    text = core(template)
    pieces = [part.text.lower() if not part.name else "" for part in parts(template)]
    at = pieces.index(text)
    # A word that touches what changes may go on there.
    found = words_of(text)
    if at > 0 and found[0] != " ":
        found = found.partition(" ")[2]
    if at < len(pieces) - 1 and found and found[-1] != " ":
        found = found.rpartition(" ")[0]
    return list(dict.fromkeys(found.split()))


# Compiling all of them would cost the time of a whole hook; most are never needed.
_whole = lru_cache(maxsize=None)(whole)
_cut = lru_cache(maxsize=None)(cut)


def _occurrences(form: Form, text: str, lower: str) -> Iterator[Found]:
    at, times = lower.find(form.core), 0
    while at >= 0 and times < _TIMES:
        end = at + len(form.core) + _AROUND
        found = _whole(form.line.template).search(text, max(0, at - _AROUND), end)
        if found is None and len(form.core) >= TELLING:
            found = _cut(form.line.template).search(text, max(0, at - _AROUND), end)
            if found is not None and found.start() == at and _is_anothers(form, text, at):
                found = None
        if found is not None:
            is_whole = found.re is _whole(form.line.template)
            yield _as_said(_found(form, found)._replace(is_whole=is_whole), text)
        after = max(at + len(form.core), found.end() if found else 0)
        at, times = lower.find(form.core, after), times + 1


def _as_said(found: Found, text: str) -> Found:
    """After what QEMU only warns of it goes on (warn_report): it is no cause."""
    if (
        found.message.role == CAUSE
        and text[max(0, found.start - len(_WARNING)) : found.start].lower() == _WARNING
    ):
        return found._replace(message=found.message._replace(role=NOTE))
    return found


def _is_anothers(form: Form, text: str, at: int) -> bool:
    """Whether a piece without its beginning is the end of another sentence.

    "the lookup failed: Device or resource busy" is not what is left of "failed to open NODE: …".
    """
    begins = form.line.template.lower().startswith(form.core)
    return not begins and len(form.words) < _OWN_WORDS and text[:at].rstrip()[-1:].isalpha()


def _beginning(form: Form, text: str, lower: str) -> Iterator[Found]:
    """A line of which nothing but the beginning of its core is left, at the end of the text."""
    at = lower.rfind(form.core[:TELLING], -_AROUND)
    left = lower[at : at + len(form.core)].rstrip(_END)
    if at < 0 or len(left) < TELLING or not form.core.startswith(left):
        return
    # "VFIO migration is disabled" is not the beginning of "Migration is disabled when …".
    continues = text[:at].rstrip()[-1:].isalnum()
    if continues or lower[at + len(left) :].strip(_END):
        return
    groups = dict.fromkeys(form.names, NOT_NAMED)
    quote = text[at : at + len(left)]
    yield Found(
        form.message, form.line, groups, quote, at, at + len(left), "", len(form.core), False
    )


def _found(form: Form, found: re.Match[str]) -> Found:
    groups = dict.fromkeys(form.names, NOT_NAMED)
    groups.update({name: value for name, value in found.groupdict().items() if value})
    device = groups.pop("vfio_device", "")
    quote = found[0].rstrip()
    # The line ended before the string did that it stands in.
    if form.line.template.endswith(":text}"):
        behind = _STRING_ENDS.search(quote)
        if behind is not None:
            quote = quote[: behind.start()]
            groups[form.names[-1]] = groups[form.names[-1]].rstrip().replace(behind[0], "")
    return Found(
        form.message,
        form.line,
        groups,
        quote,
        found.start(),
        found.end(),
        device,
        len(form.core),
    )


def _trimmed(hit: Found, hits: list[Found], text: str) -> Found:
    """What only encloses another line ("operation failed: job failed: CAUSE") gives way to it."""
    if hit.message.role != CONSEQUENCE or not hit.is_whole:
        return hit
    inner = [
        other.start
        for other in hits
        if hit.start + TELLING <= other.start < hit.end and other.is_whole
    ]
    if not inner:
        return hit
    end = min(inner)
    quote = text[hit.start : end].rstrip(" :")
    groups = {name: _left(value, quote) for name, value in hit.groups.items()}
    return hit._replace(end=end, quote=quote, groups=groups)


def _left(value: str, quote: str) -> str:
    """What is left of a value in a quote that ends earlier."""
    if value in quote:
        return value
    at = quote.find(value[:TELLING])
    return quote[at:] if at >= 0 else NOT_NAMED


def _apart(hits: list[Found]) -> list[Found]:
    """Those that do not overlap: of two that do, the longer one, which says more."""
    kept: list[Found] = []
    for hit in sorted(hits, key=_rank):
        if all(hit.end <= other.start or hit.start >= other.end for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit.start)


def _rank(hit: Found) -> tuple[bool, bool, bool, int, int]:
    # Our own refusal quotes what QEMU would have said.
    own = hit.message.kind == "hook-refused"
    follows = hit.message.role == CONSEQUENCE
    return not own, not hit.is_whole, follows, hit.start - hit.end, -hit.fixed
