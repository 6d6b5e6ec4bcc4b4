"""``/etc/vfio-preflight.conf``: what the operator wants.

Every key has a default; an unknown section or key, or a value that is not among the choices, is an
error that names file and key: a typo must not silently mean something else. The hook answers such
an error with the ``on-error`` policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .errors import PreflightError
from .judge.verdicts import (
    ALLOW,
    ALWAYS,
    BLOCK,
    CHOICES,
    DEFAULT_POLICY,
    NEVER,
    OVERRIDES,
    SECOND_GATES,
    STRICTER,
    TRIAL_MODES,
    WHEN_UNSURE,
    WHEN_UNVERIFIED,
)
from .osutil.light import NamedTuple
from .osutil.regular import read_regular
from .pci.state import ANY_EVIDENCE, EVIDENCE

DEFAULT_PATH = "/etc/vfio-preflight.conf"
# on-error = block, also in a file that is broken elsewhere; configparser takes keys in any case.
_BLOCKS = r"(?im)^[ \t]*on-error[ \t]*=[ \t]*block[ \t]*(?:#.*)?$"
# Not none: a configuration that does not count is worth a line.
_FILE = r"/[^#\n\ud800-\udfff]*[^#\s\ud800-\udfff]"
_LOG = rf"(?im)^[ \t]*log[ \t]*=[ \t]*({_FILE})[ \t]*(?:#.*)?$"
_AUDIT_LOG = rf"(?im)^[ \t]*audit-log[ \t]*=[ \t]*({_FILE}|none)[ \t]*(?:#.*)?$"
# What can be done about a guest that was blocked because it could not be checked.
UNCHECKED_REMEDY = (
    f"correct that; or set on-error = allow in {DEFAULT_PATH} on the destination, which lets guests"
    " that cannot be checked pass"
)
LOGS = ("syslog", "none")
# The audit log and the metrics, where they are not wanted.
NONE = "none"
# The values of a section, by key in lower case.
Sections = Mapping[str, Mapping[str, str]]


class ConfigurationError(PreflightError):
    """A configuration that is invalid or cannot be read.

    ``on_error``, ``log`` and ``audit_log`` are the file's own, as far as they could be read: what
    comes of the error is told where the operator looks for it.
    """

    on_error = ALLOW
    log = "syslog"
    audit_log = "/var/log/vfio-preflight/audit.jsonl"


class Configuration(NamedTuple):
    """Settings as in ``etc/vfio-preflight.conf``; deadlines in seconds of work (``hook.turns``).

    ``policy`` maps verdicts to actions; ``vsc_tolerant`` are ``vendor:device`` patterns in lower
    case. ``evidence`` is the weakest that counts. ``log`` is ``syslog``, ``none`` or an absolute
    path; ``audit_log`` and ``metrics`` are ``none`` or an absolute path.
    """

    policy: Mapping[str, str] = DEFAULT_POLICY
    guest_override: str = STRICTER
    vsc_tolerant: tuple[str, ...] = ()
    evidence: str = ANY_EVIDENCE
    on_error: str = ALLOW
    deadline: float = 10.0
    annotate: str = ALWAYS
    log: str = "syslog"
    trial: str = WHEN_UNVERIFIED
    second_gate: str = WHEN_UNSURE
    second_gate_deadline: float = 3.0
    open_devices: tuple[str, ...] = ()
    states: str = "/var/lib/vfio-preflight/states"
    catalogue: str = "/var/lib/vfio-preflight/catalogue"
    history: str = "/var/lib/vfio-preflight/history"
    cache: str = "/var/cache/vfio-preflight"
    vendor_rules: str = "/etc/vfio-preflight/vendor-rules.d"
    audit_log: str = "/var/log/vfio-preflight/audit.jsonl"
    metrics: str = "/var/lib/prometheus/node-exporter"
    runtime: str = "/run/vfio-preflight"
    totals: str = "/var/lib/vfio-preflight/metrics"


def load(path: str = DEFAULT_PATH) -> Configuration:
    """Read ``path``; a missing file means the defaults. Raises :class:`ConfigurationError`."""
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return Configuration()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    # What is not UTF-8 is kept for parse() to complain of, after it has looked for on-error.
    # Not "utf-8-sig", for which Python would import a module.
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    return parse(text, path)


def parse(text: str, path: str = DEFAULT_PATH) -> Configuration:
    """INI text to settings. Raises :class:`ConfigurationError`."""
    try:
        _require_text(text, path)
        sections = plain(text)
        return _settings(parsed(text, path) if sections is None else sections, path)
    except ConfigurationError as error:
        if re.search(_BLOCKS, text):
            error.on_error = BLOCK
        log, audit_log = re.search(_LOG, text), re.search(_AUDIT_LOG, text)
        error.log = log[1] if log else error.log
        error.audit_log = audit_log[1] if audit_log else error.audit_log
        raise


def _require_text(text: str, path: str) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if any("\ud800" <= char <= "\udfff" for char in line):
            raise ConfigurationError(f"{path}: cannot be read: line {number} is not UTF-8 text")


def plain(text: str) -> Sections | None:
    """What :func:`parsed` returns for text of nothing but comments, sections and ``key = value``.

    None for all other text, right or wrong. To load configparser is a twentieth of a check.
    """
    sections: dict[str, dict[str, str]] = {}
    values: dict[str, str] | None = None
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        name, equals, value = stripped.partition("=")
        key = name.rstrip().lower()
        # Continued values, comments behind values, and what configparser complains of.
        if line[0].isspace() or "#" in stripped:
            return None
        if stripped[0] == "[":
            section = stripped[1:-1]
            if stripped[-1] != "]" or not section or "]" in section or section in sections:
                return None
            values = sections[section] = {}
        elif values is None or not equals or not key or key in values:
            return None
        else:
            values[key] = value.lstrip()
    return sections


def parsed(text: str, path: str) -> Sections:
    """The sections of INI text. Raises :class:`ConfigurationError`."""
    import configparser

    parser = configparser.ConfigParser(
        interpolation=None,
        delimiters=("=",),
        inline_comment_prefixes=("#",),
        default_section="",
        empty_lines_in_values=False,
    )
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _settings(sections: Sections, path: str) -> Configuration:
    settings: dict[str, object] = {}
    policy = dict(DEFAULT_POLICY)
    for section, values in sections.items():
        if section not in _SECTIONS:
            raise ConfigurationError(
                f"{path}: no section [{section}]; known: {', '.join(_SECTIONS)}"
            )
        for key, value in values.items():
            where = f"{path}: [{section}] {key}"
            if section == "policy" and key in CHOICES:
                policy[key] = _choice(CHOICES[key])(value, where)
            else:
                name, read = _setting(section, key, where)
                settings[name] = read(value, where)
    return Configuration(policy=policy, **settings)  # type: ignore[arg-type]


def _setting(section: str, key: str, where: str) -> tuple[str, Callable[[str, str], object]]:
    try:
        return _SETTINGS[section, key]
    except KeyError:
        known = [
            *(CHOICES if section == "policy" else ()),
            *(k for s, k in _SETTINGS if s == section),
        ]
        raise ConfigurationError(
            f"{where}: no such setting; known there: {', '.join(known)}"
        ) from None


def _choice(choices: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(value: str, where: str) -> str:
        if value not in choices:
            raise ConfigurationError(f"{where}: '{value}' is none of: {', '.join(choices)}")
        return value

    return read


def _seconds(value: str, where: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.1 <= seconds <= 600:
        raise ConfigurationError(f"{where}: '{value}' is not a number of seconds from 0.1 to 600")
    return seconds


def _identities(value: str, where: str) -> tuple[str, ...]:
    names = tuple(value.lower().replace(",", " ").split())
    for name in names:
        vendor, _, device = name.partition(":")
        if not (_is_id(vendor) and (device == "*" or _is_id(device))):
            raise ConfigurationError(
                f"{where}: '{name}' is not vendor:device in hexadecimal (10de:2236, 10de:*)"
            )
    return names


def _openable(value: str, where: str) -> tuple[str, ...]:
    """``vendor:device`` patterns and mdev types, which have no colon."""
    names = value.replace(",", " ").split()
    patterns = _identities(" ".join(name for name in names if ":" in name), where)
    return (*patterns, *(name for name in names if ":" not in name))


def _is_id(text: str) -> bool:
    return len(text) == 4 and all(digit in "0123456789abcdef" for digit in text)


def _path(value: str, where: str) -> str:
    if not value.startswith("/"):
        raise ConfigurationError(f"{where}: '{value}' is not an absolute path")
    return value


def _optional(value: str, where: str) -> str:
    return value if value == NONE else _path(value, where)


def _log(value: str, where: str) -> str:
    return value if value in LOGS else _path(value, where)


_SETTINGS: dict[tuple[str, str], tuple[str, Callable[[str, str], object]]] = {
    ("policy", "guest-override"): ("guest_override", _choice(OVERRIDES)),
    ("policy", "vsc-tolerant"): ("vsc_tolerant", _identities),
    ("policy", "evidence"): ("evidence", _choice(EVIDENCE)),
    ("hook", "on-error"): ("on_error", _choice((ALLOW, BLOCK))),
    ("hook", "deadline"): ("deadline", _seconds),
    ("hook", "annotate"): ("annotate", _choice((ALWAYS, NEVER))),
    ("hook", "log"): ("log", _log),
    ("hook", "trial"): ("trial", _choice(TRIAL_MODES)),
    ("hook", "second-gate"): ("second_gate", _choice(SECOND_GATES)),
    ("hook", "second-gate-deadline"): ("second_gate_deadline", _seconds),
    ("hook", "open-devices"): ("open_devices", _openable),
    ("paths", "states"): ("states", _path),
    ("paths", "catalogue"): ("catalogue", _path),
    ("paths", "history"): ("history", _path),
    ("paths", "cache"): ("cache", _path),
    ("paths", "vendor-rules"): ("vendor_rules", _path),
    ("paths", "audit-log"): ("audit_log", _optional),
    ("paths", "metrics"): ("metrics", _optional),
}
_SECTIONS = sorted({section for section, _ in _SETTINGS})
