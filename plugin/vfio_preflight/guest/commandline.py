"""What ``<qemu:commandline>`` adds: ``-device``, ``-set`` and ``-global``, read as by QEMU."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lxml import etree

from .xml import QEMU_NS, GuestError

_ARGUMENTS = f"{{{QEMU_NS}}}commandline/{{{QEMU_NS}}}arg"
# qemu_set_option() and qemu_global_option(): what stands behind the first "=" is taken as it is.
_SET = r"(?s)([^.]{1,63})\.([^.]{1,63})\.([^=]{1,63})=(.*)"
_GLOBAL = r"(?s)([^.=]{1,63})\.([^=]{1,63})=(.*)"
_STRING = r"""(?s)'((?:[^'\\]|\\.)*)'|"(?:[^"\\]|\\.)*\""""


class Global(NamedTuple):
    """``-global DRIVER.PROPERTY=VALUE``."""

    driver: str
    property: str
    value: str


class Setting(NamedTuple):
    """``-set device.DEVICE.PROPERTY=VALUE``; QEMU accepts it for ``-device`` in k=v form only."""

    device: str
    property: str
    value: str


class CommandLine(NamedTuple):
    """The arguments of a guest that bear on devices; each device is its options, driver included.

    All values are in the notation of QEMU's k=v form: ``on`` and ``off`` for JSON's booleans.
    """

    devices: tuple[Mapping[str, str], ...]
    settings: tuple[Setting, ...]
    globals: tuple[Global, ...]


def read_command_line(root: etree._Element) -> CommandLine:
    """Return what ``<qemu:commandline>`` of a ``<domain>`` says about devices.

    Raises GuestError for a VFIO device in JSON form that cannot be read. What QEMU refuses
    otherwise is left out: a guest with it cannot run.
    """
    devices: list[dict[str, str]] = []
    settings: list[Setting] = []
    globals_: list[Global] = []
    for option, value in _options(root):
        if option == "device":
            devices.append(parse_device(value))
        elif option == "set":
            settings.extend(_parse_set(value))
        elif option == "global":
            globals_.extend(_parse_global(value))
    return CommandLine(tuple(devices), tuple(settings), tuple(globals_))


def parse_device(text: str) -> dict[str, str]:
    """Return the options of a ``-device`` argument, in JSON or in k=v form, with ``driver``."""
    if text.startswith("{"):
        return _parse_json(text)
    return parse_options(text, implied="driver")


def parse_options(text: str, implied: str | None = None) -> dict[str, str]:
    """Return the options of a k=v argument (QEMU's ``opts_do_parse``); of equal keys the last wins.

    ``,,`` in a value is a comma. A first word without ``=`` is the value of ``implied``; a later
    one is a flag, on, or off if it begins with ``no``.
    """
    options: dict[str, str] = {}
    for position, word in enumerate(_words(text)):
        key, equals, value = word.partition("=")
        if not equals and position == 0 and implied:
            key, value = implied, word
        elif not equals:
            key, value = (word[2:], "off") if word.startswith("no") else (word, "on")
        options[key] = value
    return options


def as_option(value: object) -> str:
    """Return a JSON value in the notation of QEMU's k=v form."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _words(text: str) -> list[str]:
    """Split at single commas; two are one that is meant. XML has no NUL to confuse this."""
    words = [word.replace("\0", ",") for word in text.replace(",,", "\0").split(",")]
    return words if words[-1] else words[:-1]


def _options(root: etree._Element) -> Iterator[tuple[str, str]]:
    """Yield each of our options with its argument; QEMU takes one dash or two."""
    arguments = iter([element.get("value", "") for element in root.iterfind(_ARGUMENTS)])
    for argument in arguments:
        option = argument[2:] if argument.startswith("--") else argument[1:]
        if argument.startswith("-") and option in ("device", "set", "global"):
            yield option, next(arguments, "")


def _parse_json(text: str) -> dict[str, str]:
    import json

    try:
        options = json.loads(re.sub(_STRING, _double_quoted, text))
    except (ValueError, RecursionError) as error:
        if "vfio" not in text:
            return {}
        raise GuestError("a -device argument in <qemu:commandline> is not JSON") from error
    if not isinstance(options, dict):
        return {}
    return {
        key: as_option(value)
        for key, value in options.items()
        if not isinstance(value, (dict, list))
    }


def _double_quoted(match: re.Match[str]) -> str:
    """QEMU's JSON also knows strings in single quotes; json does not."""
    if match[1] is None:
        return match[0]
    return '"' + match[1].replace("\\'", "'").replace('"', '\\"') + '"'


def _parse_set(text: str) -> Iterator[Setting]:
    match = re.fullmatch(_SET, text)
    if match and match[1] == "device":
        yield Setting(match[2], match[3], match[4])


def _parse_global(text: str) -> Iterator[Global]:
    match = re.fullmatch(_GLOBAL, text)
    if match:
        yield Global(match[1], match[2], match[3])
        return
    options = parse_options(text)
    if options.keys() >= {"driver", "property", "value"}:
        yield Global(options["driver"], options["property"], options["value"])
