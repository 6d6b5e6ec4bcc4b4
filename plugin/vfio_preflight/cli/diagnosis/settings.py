"""The configuration and the vendors' rules: valid, and the operator's alone."""

from __future__ import annotations

import configparser
import os
import re
import stat
from collections.abc import Iterator

from ...configuration import LOGS, NONE, ConfigurationError, parse
from ...errors import PreflightError
from ...host.vendor_rules import SUFFIX, parse_rules
from ...osutil.regular import read_regular
from ..installation.payload import CONFIGURATION
from .finding import Fact, Found, found
from .here import Here, aside, opened, way_to
from .lines import placed

# Errors in one file that are mended at once.
_MOST = 50


def configuration(here: Here) -> Iterator[Found | Fact]:
    """Whether the configuration can be read, and only root can change it."""
    path = here.path(CONFIGURATION)
    if not os.path.lexists(path):
        return  # all defaults
    try:
        text = read_regular(path).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        why = f"{path}: cannot be read: {error.strerror}"
        yield found("configuration-unreadable", path=path, why=why, aside=aside(path))
        return
    problem = opened(path)
    if problem:
        yield found("configuration-open", path=problem[0], why=problem[1])
    try:
        parse(text, path)
    except ConfigurationError as error:
        yield _invalid(path, text, error)


def _invalid(path: str, text: str, error: ConfigurationError) -> Found:
    edits = edits_for(text, path)
    values = {"path": path, "why": str(error)}
    if not edits:
        return found("configuration-unreadable", **values, aside=aside(path))
    lines = ", ".join(str(number) for number in sorted(edits))
    script = ";".join(f"{number}{edits[number]}" for number in sorted(edits))
    return found("configuration-invalid", **values, lines=lines, edit=script)


COMMENT, DELETE = "s/^/#/", "d"


def edits_for(text: str, path: str) -> dict[int, str]:
    """What to do with which lines, numbered from 1, so that a configuration is valid.

    Empty if that is not found. A line that is no text is deleted, any other becomes a comment.
    """
    lines, edits = text.split("\n"), dict[int, str]()
    for _ in range(_MOST):
        try:
            parse("\n".join(lines), path)
        except ConfigurationError as error:
            wrong = [n for n in _wrong(lines, error) if n not in edits and n <= len(lines)]
            if not wrong:
                return {}
            for number in wrong:
                is_text = lines[number - 1].isprintable() or "\t" in lines[number - 1]
                edits[number] = COMMENT if is_text else DELETE
                # An empty line is to the parser what a line is that is not there.
                lines[number - 1] = f"#{lines[number - 1]}" if is_text else ""
        else:
            return edits
    return {}


def _wrong(lines: list[str], error: ConfigurationError) -> list[int]:
    """The numbers of the lines that an error is about."""
    cause = error.__cause__
    if isinstance(cause, configparser.MissingSectionHeaderError):
        return [cause.lineno]
    if isinstance(cause, configparser.ParsingError):
        return [number for number, _ in cause.errors]
    if isinstance(cause, (configparser.DuplicateOptionError, configparser.DuplicateSectionError)):
        return [cause.lineno] if cause.lineno else []
    message = str(error)
    if found := re.search(r": line (\d+) is not UTF-8 text$", message):
        return [int(found[1])]
    if found := re.search(r": no section \[(.*?)\]; known: ", message):
        return [number for number, section, _ in placed(lines) if section == found[1]]
    if found := re.search(r": \[([a-z]+)\] (.*?): ", message):
        return [n for n, section, key in placed(lines) if (section, key) == (found[1], found[2])]
    return []


def rules(here: Here) -> Iterator[Found | Fact]:
    """Whether each file of vendors' rules counts."""
    place = here.path(here.settings.vendor_rules)
    wrong = way_to(place)
    if wrong:
        yield found("directory-none", path=wrong, aside=aside(wrong))
        return
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        path = os.path.join(place, name)
        if not name.endswith(SUFFIX) or name.startswith("."):
            continue
        problem = _opened(path)
        if problem:
            yield found("rules-open", path=problem[0], why=problem[1])
            continue
        why = _unread(path)
        if why:
            yield found("rules-unread", path=path, why=why, aside=aside(path))


def _opened(path: str) -> tuple[str, str] | None:
    try:
        return opened(path)
    except OSError:
        return None  # reading it fails as well


def _unread(path: str) -> str:
    try:
        parse_rules(read_regular(path).decode("utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        return f"{path}: cannot be read: {getattr(error, 'strerror', '') or 'it is not UTF-8 text'}"
    except PreflightError as error:
        return str(error)
    return ""


def log(here: Here) -> Iterator[Found | Fact]:
    """Whether the log's directory is there, and the audit log one that is written (hook.audit)."""
    name = here.settings.log
    directory = os.path.dirname(here.path(name))
    if name not in LOGS and not os.path.isdir(directory):
        yield found("log-nowhere", log=name, directory=directory)
    if here.settings.audit_log != NONE:
        yield from _audit(here, here.settings.audit_log)


def _audit(here: Here, log: str) -> Iterator[Found]:
    path = here.path(log)
    directory = os.path.dirname(path)
    wrong = way_to(directory)
    if wrong:
        yield found("audit-unfit", path=wrong, why="it is not a directory", aside=aside(wrong))
    elif not os.path.isdir(os.path.dirname(directory)):
        yield found("audit-nowhere", log=log, directory=directory)
    elif os.path.lexists(path):
        info = os.lstat(path)
        why = "" if stat.S_ISREG(info.st_mode) else "it is not a regular file"
        if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            why = why or "others than root may write to it"
        if why:
            yield found("audit-unfit", path=path, why=why, aside=aside(path))
