"""Vendors' rules: the ``*.ini`` files of ``/etc/vfio-preflight/vendor-rules.d``.

    [firmware]
    drivers = mlx5_vfio_pci
    vendor = 15b3
    trait = firmware
    condition = differs
    text = the destination may refuse the device's state
    remedy = use the same firmware on both hosts
    source = DOCA 2.9.3
    date = read 2026-11

A section is a rule, see :class:`VendorRule`. A file that cannot be read, or has a rule that is
wrong, is ignored as a whole and told of: it stops no check, since rules decide nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ..guest.traits import ALWAYS, CONDITIONS, NAMES, VendorRule, module_of
from ..osutil.light import NamedTuple
from ..osutil.regular import read_regular
from ..osutil.text import printable
from .sources.file import require_operators
from .sysfs import HostError

SUFFIX = ".ini"
_REQUIRED = ("drivers", "vendor", "condition", "text", "source", "date")
_OPTIONAL = ("trait", "devices", "remedy", "verdict")
# "fail" is not among them: what a source says is likely must not block a migration.
_VERDICTS = ("pass", "unknown")


class Rules(NamedTuple):
    """Rules, and what is wrong with the files that could not be read, each with its path."""

    rules: tuple[VendorRule, ...] = ()
    problems: tuple[str, ...] = ()


def read_rules(drivers: Iterable[str], directory: str, root: str = "/") -> Rules:
    """The rules of the files in ``directory``, below ``root``, that name one of ``drivers``."""
    names = {module_of(driver).encode() for driver in drivers}
    place = os.path.join(root, directory.lstrip("/"))
    rules: list[VendorRule] = []
    problems: list[str] = []
    try:
        paths = _paths(place)
    except HostError as error:
        return Rules((), (printable(str(error)),))
    for path in paths:
        try:
            rules += _read(path, names)
        # Only this file is ignored, the others are as good as before.
        except HostError as error:
            problems.append(printable(str(error)))
    return Rules(tuple(rules), tuple(problems))


def _paths(place: str) -> list[str]:
    try:
        names = sorted(os.listdir(place))
    except FileNotFoundError:
        return []  # an operator may do without rules
    except OSError as error:
        raise HostError(f"{place}: cannot be read: {error.strerror}") from error
    # Without any file in it, too: whoever can write to it can take them away.
    require_operators(place)
    # Hidden files are what editors and install leave for a moment.
    shown = (name for name in names if name.endswith(SUFFIX) and not name.startswith("."))
    return [os.path.join(place, name) for name in shown]


def _read(path: str, drivers: set[bytes]) -> tuple[VendorRule, ...]:
    """The file's rules; none if it names none of ``drivers``. Raises HostError."""
    require_operators(path)
    try:
        data = read_regular(path)
    except OSError as error:
        raise HostError(f"{path}: cannot be read: {error.strerror}") from error
    # Searched first: parsing takes far longer, and one vendor of all is concerned.
    text = data.replace(b"-", b"_")
    if not any(driver in text for driver in drivers):
        return ()
    try:
        return parse_rules(data.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise HostError(f"{path}: cannot be read: it is not UTF-8 text") from error


def parse_rules(text: str, path: str) -> tuple[VendorRule, ...]:
    """The rules in the text of a file. Raises HostError, naming ``path`` and section."""
    # Imported here: few checks come this far.
    import configparser

    parser = configparser.ConfigParser(
        interpolation=None,
        delimiters=("=",),
        comment_prefixes=("#",),
        default_section="",
        empty_lines_in_values=False,
    )
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise HostError(f"{path}: {' '.join(str(error).split())}") from error
    return tuple(
        _rule({key: " ".join(value.split()) for key, value in parser[name].items()}, path, name)
        for name in parser.sections()
    )


def _rule(values: Mapping[str, str], path: str, section: str) -> VendorRule:
    where = f"{path}: [{section}]"
    _require_keys(values, where)
    condition = _choice(values, "condition", CONDITIONS, where)
    # A reminder need not be about something that both hosts report.
    if condition != ALWAYS and "trait" not in values:
        raise HostError(f"{where} has no trait, which condition = {condition} compares")
    vendor, devices = _identities(values, where)
    return VendorRule(
        tuple(module_of(driver) for driver in values["drivers"].split()),
        vendor,
        devices,
        _choice(values, "trait", NAMES, where) if "trait" in values else "",
        condition,
        printable(values["text"]),
        printable(values.get("remedy", "")),
        printable(values["source"]),
        printable(values["date"]),
        _choice({"verdict": "pass", **values}, "verdict", _VERDICTS, where) == "unknown",
    )


def _require_keys(values: Mapping[str, str], where: str) -> None:
    for key in values:
        if key not in (*_REQUIRED, *_OPTIONAL):
            known = ", ".join((*_REQUIRED, *_OPTIONAL))
            raise HostError(f"{where} {key}: no such key; known: {known}")
    for key in _REQUIRED:
        if not values.get(key):
            raise HostError(f"{where} has no {key}")


def _choice(values: Mapping[str, str], key: str, choices: tuple[str, ...], where: str) -> str:
    value = values[key]
    if value not in choices:
        raise HostError(f"{where} {key}: '{value}' is none of: {', '.join(choices)}")
    return value


def _identities(values: Mapping[str, str], where: str) -> tuple[str, tuple[str, ...]]:
    """The vendor, and the devices, in lower case as traits have them."""
    vendor, devices = values["vendor"].lower(), values.get("devices", "").lower().split()
    for text in (vendor, *devices):
        if len(text) != 4 or any(digit not in "0123456789abcdef" for digit in text):
            raise HostError(f"{where}: '{text}' is not an ID of four hexadecimal digits")
    return vendor, tuple(devices)
