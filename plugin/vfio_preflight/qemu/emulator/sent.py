"""What the source's build made of a guest's devices, in a kilobyte: what travels in the record.

    >>> sent = describe(facts, "pc-q35-9.0", {"pcie-root-port": {"chassis"}}, {})
    >>> sent.types["pcie-root-port"]["x-pcie-ext-tag"]
    Value(text='off', origin='pci-device')
    >>> len(pack(sent))
    236

Of each type that the guest uses it has all properties that the guest does not set itself, so that
another build can be held against it without the source being asked. That is some 20 kB of JSON. A
dictionary that both ends have (``typical.json``, what QEMU 10.0.2 says for a guest of the usual
sort) leaves of it what is not usual. The dictionary is a part of the format and never changes:
another one gets another number.
"""

from __future__ import annotations

import binascii
import json
import os
import zlib
from collections.abc import Collection, Mapping

from ...errors import PreflightError
from ...osutil.light import TYPE_CHECKING, NamedTuple
from .roms import ROMS, bar_size
from .types import TypeFacts, Value, effective

if TYPE_CHECKING:
    from typing import Any

ENCODING = "typical1+zlib+base64"
DICTIONARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "typical.json")
MAX_TEXT = 1 << 16  # of the packed form
_MAX_JSON = 1 << 20
_MAX_TYPES, _MAX_PROPERTIES = 500, 2000
_MAX_WORD = 80  # characters of a name or a value that go into a report
# OverflowError: JSON as Python reads it has Infinity.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


class SentError(PreflightError):
    """A packed form that cannot be read."""


class Sent(NamedTuple):
    """The types that a guest uses, as its build has them under its machine type.

    ``types`` are, by type, the values of the properties that the guest leaves alone; ``given`` are
    the types that the guest names, with the properties that it sets on any device of the type.
    ``roms`` are the sizes of option ROMs' BARs, by type. ``version`` is the build's release,
    ``package`` its builder's own version.
    """

    version: str
    package: str
    machine: str
    types: Mapping[str, Mapping[str, Value]]
    given: Mapping[str, tuple[str, ...]] = {}
    roms: Mapping[str, int] = {}


def describe(
    facts: TypeFacts,
    machine: str,
    uses: Mapping[str, Collection[str]],
    given: Mapping[str, Collection[str]],
) -> Sent:
    """What a build makes of a guest of type ``machine``.

    ``uses`` are the types that the guest uses, each with the properties that it sets on every
    device of the type; ``given`` the types that it names, with those that it sets on any.
    """
    own = {name: given for name, given in sorted(uses.items()) if facts.has(name)}
    types = {name: _left_alone(effective(facts, machine, name), own[name]) for name in own}
    sizes = {name: rom_size(facts, name, own[name], types[name]) for name in own}
    return Sent(
        facts.version,
        facts.package,
        machine,
        types,
        {name: _known(facts, name, each) for name, each in given.items() if name in own},
        {name: size for name, size in sizes.items() if size},
    )


def _left_alone(values: Mapping[str, Value], given: Collection[str]) -> dict[str, Value]:
    return {name: value for name, value in sorted(values.items()) if name not in given}


def _known(facts: TypeFacts, qom_type: str, given: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(set(given) & facts.properties(qom_type).keys()))


def rom_size(
    facts: TypeFacts, qom_type: str, given: Collection[str], values: Mapping[str, Value]
) -> int | None:
    """The size of the option ROM's BAR of a type, 0 for one that has none, None if not known."""
    # What the guest sets may be a file of the host's, or none.
    if {"romfile", "romsize", "rombar"} & set(given) or qom_type not in ROMS:
        return None
    file = values["romfile"].text if "romfile" in values else ROMS[qom_type]
    if not file:
        return 0
    size = facts.roms.get(file)
    unset = Value("")
    return None if size is None else bar_size(size, values.get("romsize", unset).text)


# --- packed -------------------------------------------------------------------------------------


def to_text(sent: Sent) -> str:
    """``sent`` as JSON, always the same for the same facts."""
    value = {
        "given": {name: list(given) for name, given in sorted(sent.given.items())},
        "roms": dict(sorted(sent.roms.items())),
        # The longest part last: a dictionary's end is found best.
        "types": {
            name: {key: _value(each) for key, each in sorted(values.items())}
            for name, values in sorted(sent.types.items())
        },
    }
    return json.dumps(value, separators=(",", ":"))


def _value(value: Value) -> str | list[str]:
    return list(value) if value.origin else value.text


def pack(sent: Sent) -> str:
    """``sent`` in a form for XML; its version, package and machine type are told elsewhere."""
    packer = zlib.compressobj(9, zdict=_dictionary())
    data = packer.compress(to_text(sent).encode()) + packer.flush()
    return binascii.b2a_base64(data, newline=False).decode()


def unpack(text: str, version: str, package: str, machine: str) -> Sent:
    """What :func:`pack` made a text of. Raises :class:`SentError`."""
    if len(text) > MAX_TEXT:
        raise SentError(f"its text has {len(text)} characters; the most is {MAX_TEXT}")
    inflate = zlib.decompressobj(zdict=_dictionary())
    try:
        # max_length: a few KB of zlib data can expand to megabytes.
        data = inflate.decompress(binascii.a2b_base64(text), _MAX_JSON)
        if not inflate.eof:
            raise SentError("its text is cut short, or holds too much")
        value = json.loads(data)
        return Sent(version, package, machine, *_parts(value))
    except (zlib.error, binascii.Error, RecursionError, *_MALFORMED) as error:
        raise SentError(f"its text cannot be decoded ({type(error).__name__})") from error


def _parts(
    value: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Value]], dict[str, tuple[str, ...]], dict[str, int]]:
    types = {
        _word(name): {_word(key): _read(each) for key, each in values.items()}
        for name, values in value["types"].items()
    }
    if len(types) > _MAX_TYPES or any(len(each) > _MAX_PROPERTIES for each in types.values()):
        raise ValueError("too many")
    given = {_word(name): tuple(map(_word, names)) for name, names in value["given"].items()}
    roms = {_word(name): int(size) for name, size in value["roms"].items()}
    return types, given, roms


def _read(value: object) -> Value:
    text, origin = value if isinstance(value, list) else (value, "")
    return Value(_word(text), _word(origin))


def _word(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError("not a text")
    return text[:_MAX_WORD]


def _dictionary() -> bytes:
    with open(DICTIONARY, "rb") as file:
        return file.read()
