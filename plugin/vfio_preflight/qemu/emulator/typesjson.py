"""The device types of a build as JSON: kept in a file of ours, or sent by another host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from ...osutil.light import TYPE_CHECKING
from .types import TypeFacts

if TYPE_CHECKING:
    from typing import Any

_MAX_JSON = 8 << 20


def to_json(facts: TypeFacts) -> dict[str, Any]:
    """``facts`` as JSON has them."""
    return facts._asdict()


def from_json(packed: Mapping[str, Any]) -> TypeFacts:
    """What :func:`to_json` made, of a file of ours. Raises LookupError, TypeError or AttributeError
    for what it did not make."""
    return TypeFacts(*(packed[name] for name in TypeFacts._fields))


def checked(facts: TypeFacts) -> TypeFacts:
    """``facts`` of a foreigner, all of which can be taken apart.

    Raises ValueError, TypeError or AttributeError if that is not so.
    """
    texts = (facts.version, facts.package, *facts.types, *facts.machines)
    triples = (*facts.entries, *(each[:2] for each in facts.listed))
    words = (*texts, *chain(*triples), *chain(*facts.parents.items()), *facts.roms)
    words = (*words, *facts.directories)
    if not all(isinstance(word, str) and word.isprintable() for word in words):
        raise ValueError("a name that is not printable text")
    shapes = {*map(len, facts.listed), *map(len, facts.entries)}
    numbers = (*facts.types.values(), *facts.roms.values())
    if not shapes <= {3} or not all(type(each) is int and each >= 0 for each in numbers):
        raise ValueError("a list or a number of another form")
    if not all(isinstance(each[2], (str, int, type(None))) for each in facts.listed):
        raise ValueError("a default that is no plain value")
    _require_below(len(facts.sets), facts.types.values())
    _require_below(len(facts.listed), map(int, " ".join(facts.sets).split()))
    _require_below(len(facts.entries), map(int, " ".join(facts.machines.values()).split()))
    return facts


def _require_below(limit: int, numbers: Iterable[int]) -> None:
    if any(not 0 <= number < limit for number in numbers):
        raise ValueError("a number that nothing has")


def compressed(facts: TypeFacts) -> str:
    """``facts`` as text for JSON: some 35 kB, a third of what they are otherwise."""
    import binascii
    import json
    import zlib

    data = zlib.compress(json.dumps(to_json(facts), separators=(",", ":")).encode(), 9)
    return binascii.b2a_base64(data, newline=False).decode()


def decompressed(text: str) -> TypeFacts:
    """What :func:`compressed` made a text of. Raises what :func:`from_json` and :func:`checked`
    do."""
    import binascii
    import json
    import zlib

    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(binascii.a2b_base64(text), _MAX_JSON)
        packed = json.loads(data)
    except (zlib.error, binascii.Error, RecursionError) as error:
        raise ValueError(f"device types that cannot be decoded ({error})") from error
    if not isinstance(packed, dict):
        raise ValueError("device types that are none")
    return checked(from_json(packed))
