"""What ``<qemu:commandline>`` adds: ``-device``, ``-set`` and ``-global``, parsed as QEMU does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lxml import etree

from ..osutil.light import NamedTuple
from ..qemu.model.properties import BOOLEAN, NULL, NUMBER, STRING
from .xml import QEMU_NS, GuestError

ARGUMENTS = f"{{{QEMU_NS}}}commandline/{{{QEMU_NS}}}arg"
# qemu_set_option() and qemu_global_option(): everything after the first "=" is the value.
# 63 is the field width in their sscanf() formats: a longer word does not match.
_SET = r"(?s)([^.]{1,63})\.([^.]{1,63})\.([^=]{1,63})=(.*)"
_GLOBAL = r"(?s)([^.=]{1,63})\.([^=]{1,63})=(.*)"
# Both kinds of string are matched, so that a quote inside the other kind is left alone.
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


class Device(NamedTuple):
    """``-device``: its options, driver included, and JSON's types of those if it is in JSON form.

    All values are in the notation of QEMU's k=v form: ``on`` and ``off`` for JSON's booleans.
    """

    options: Mapping[str, str]
    forms: Mapping[str, str] = {}


class CommandLine(NamedTuple):
    """The arguments of a guest that bear on devices."""

    devices: tuple[Device, ...]
    settings: tuple[Setting, ...]
    globals: tuple[Global, ...]


def read_command_line(root: etree._Element) -> CommandLine:
    """Return the device options in a ``<domain>``'s ``<qemu:commandline>``.

    Raises GuestError for a VFIO device in JSON form that cannot be read. What QEMU refuses
    otherwise is left out: a guest with it cannot run.
    """
    devices: list[Device] = []
    settings: list[Setting] = []
    globals_: list[Global] = []
    for option, value in _options(root):
        if option == "device":
            devices.append(_read_device(value))
        # QEMU creates devices after it has read all arguments: -set and -global count for earlier
        # ones.
        elif option == "set":
            settings.extend(_parse_set(value))
        elif option == "global":
            globals_.extend(parse_global(value))
    return CommandLine(tuple(devices), tuple(settings), tuple(globals_))


def parse_device(text: str) -> dict[str, str]:
    """Return the options of a ``-device`` argument, in JSON or in k=v form, with ``driver``."""
    return dict(_read_device(text).options)


def _read_device(text: str) -> Device:
    # As in QEMU's qemu_init(): -device is JSON if and only if it begins with a brace.
    if text.startswith("{"):
        return _parse_json(text)
    return Device(parse_options(text, implied="driver"))


def parse_options(text: str, implied: str | None = None) -> dict[str, str]:
    """Return the options of a k=v argument (QEMU's ``opts_do_parse``); of equal keys the last wins.

    ``,,`` in a value is a comma. A first word without ``=`` is the value of ``implied``; a later
    one is a flag, on, or off if it begins with ``no``.
    """
    options: dict[str, str] = {}
    for position, word in enumerate(_words(text)):
        key, equals, value = word.partition("=")
        # QemuOptsList.implied_opt_name: "-device vfio-pci,..." means driver=vfio-pci.
        if not equals and position == 0 and implied:
            key, value = implied, word
        elif not equals:
            key, value = (word[2:], "off") if word.startswith("no") else (word, "on")
        options[key] = value
    return options


def as_option(value: object) -> str:
    """Return a JSON value in the notation of QEMU's k=v form."""
    # bool first: in Python it is a subclass of int.
    if isinstance(value, bool):
        return "on" if value else "off"
    return "null" if value is None else str(value)


def from_option(text: str, form: str) -> object:
    """Return the JSON value of type ``form`` that :func:`as_option` gave ``text`` for."""
    if form == BOOLEAN:
        return text == "on"
    if form == NUMBER:
        # json reads numbers beyond 64 bits exactly; QEMU would refuse them, not this parser.
        return int(text) if re.fullmatch("-?[0-9]{1,40}", text) else float(text)
    return None if form == NULL else text


def _form(value: object) -> str:
    if isinstance(value, bool):
        return BOOLEAN
    if value is None:
        return NULL
    return STRING if isinstance(value, str) else NUMBER


def _words(text: str) -> list[str]:
    """Split at single commas; two are one that is meant. XML has no NUL to confuse this."""
    # A NUL serves as a placeholder, as XML text cannot contain one.
    words = [word.replace("\0", ",") for word in text.replace(",,", "\0").split(",")]
    # QEMU ignores a trailing comma.
    return words if words[-1] else words[:-1]


def _options(root: etree._Element) -> Iterator[tuple[str, str]]:
    """Yield each of our options with its argument; QEMU takes one dash or two."""
    # Each argument is an element of its own, so an option and its value are two <qemu:arg>.
    arguments = iter([element.get("value", "") for element in root.iterfind(ARGUMENTS)])
    for argument in arguments:
        option = argument[2:] if argument.startswith("--") else argument[1:]
        if argument.startswith("-") and option in ("device", "set", "global"):
            # The next argument is the value even if it begins with a dash, as QEMU's lookup_opt()
            # takes it.
            yield option, next(arguments, "")


def _parse_json(text: str) -> Device:
    import json

    try:
        options = json.loads(re.sub(_STRING, _double_quoted, text))
    except (ValueError, RecursionError) as error:
        # A device that is certainly no VFIO device does not matter, even if it cannot be read;
        # JSON's escapes can stand for any letter of its name.
        if "vfio" not in text and "\\u" not in text:
            return Device({})
        raise GuestError("a -device argument in <qemu:commandline> is not JSON") from error
    # QEMU accepts nothing but an object here, so a guest with anything else cannot run.
    if not isinstance(options, dict):
        return Device({})
    # Nested values do not occur among the properties that are examined.
    plain = {k: v for k, v in options.items() if not isinstance(v, (dict, list))}
    return Device(
        {key: as_option(value) for key, value in plain.items()},
        {key: _form(value) for key, value in plain.items()},
    )


def _double_quoted(match: re.Match[str]) -> str:
    """QEMU's JSON also knows strings in single quotes; json does not."""
    if match[1] is None:
        return match[0]
    # The content keeps its escapes, except for the two kinds of quote.
    return '"' + match[1].replace("\\'", "'").replace('"', '\\"') + '"'


def _parse_set(text: str) -> Iterator[Setting]:
    match = re.fullmatch(_SET, text)
    # -set also changes other groups (drive, chardev, ...), which have no VFIO properties.
    if match and match[1] == "device":
        yield Setting(match[2], match[3], match[4])


def parse_global(text: str) -> Iterator[Global]:
    """The ``-global`` of an argument in either form; nothing for one that QEMU refuses."""
    match = re.fullmatch(_GLOBAL, text)
    if match:
        yield Global(match[1], match[2], match[3])
        return
    # The long form: -global driver=vfio-pci,property=NAME,value=VALUE.
    options = parse_options(text)
    if options.keys() >= {"driver", "property", "value"}:
        yield Global(options["driver"], options["property"], options["value"])
