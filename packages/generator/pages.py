"""The manual pages of the command (1), of its configuration (5) and of the hook (8)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vfio_preflight.cli.installation.payload import (
    CACHE,
    CONFIGURATION,
    HOOK,
    RULES,
    STATES,
    UNIT,
    data_file,
)

from . import changelog, roff
from .commandline import Argument, Command

MANUAL = "Migration of VFIO devices"
NAMES = {1: "vfio-preflight", 5: "vfio-preflight.conf", 8: "vfio-preflight-hook"}
FILES = (
    (CONFIGURATION, "what the hook does with what it finds"),
    (RULES, "what vendors' drivers check by themselves"),
    (HOOK, "what libvirt runs"),
    (STATES, "config states that the operator supplied"),
    ("var/lib/vfio-preflight", "what was seen of devices, predicted and learned"),
    (CACHE, "what emulators said of themselves"),
    ("run/vfio-preflight", "what the hook leaves for itself while a guest starts or arrives"),
    (UNIT, "records what guests' devices present as they start"),
)


def command(top: Command) -> str:
    """The page of the command, with a part for each of its commands."""
    return roff.page(_command(top))


def _head(section: int) -> str:
    release = changelog.newest()
    date, source = release.date.strftime("%Y-%m-%d"), f"vfio-preflight {release.version}"
    return roff.head(NAMES[section], section, date, source, MANUAL)


def _command(top: Command) -> Iterator[str]:
    yield _head(1)
    yield roff.section("NAME")
    yield f"{roff.text(NAMES[1])} \\- will QEMU accept a migrating guest's VFIO devices?"
    yield roff.section("SYNOPSIS")
    for each in (top, *top.commands):
        yield from _synopsis(each)
    yield roff.section("DESCRIPTION")
    yield from roff.paragraphs(top.description)
    yield roff.section("OPTIONS")
    yield from map(_argument, top.options)
    yield roff.section("COMMANDS")
    for each in top.commands:
        yield from _one(each)
    yield roff.section("EXIT STATUS")
    yield from roff.paragraphs(top.epilog.removeprefix("Exit status: ").capitalize())
    yield from _files()
    yield from _see_also(1)


def _synopsis(each: Command) -> Iterator[str]:
    yield f".TP\n{roff.bold(' '.join(each.words))}"
    words = [argument.usage for argument in (*each.options, *each.positionals)]
    if each.commands:
        words.append("COMMAND ..." if len(each.words) == 1 else "ACTION ...")
    yield roff.text(" ".join(words))


def _one(each: Command) -> Iterator[str]:
    yield roff.subsection(" ".join(each.words[1:]))
    yield from roff.paragraphs(_sentence(each.help))
    if each.description:
        yield from roff.paragraphs(each.description)
    yield from map(_argument, (*each.positionals, *_own(each)))
    if each.epilog:
        yield from roff.paragraphs(each.epilog)
    for below in each.commands:
        yield from _one(below)


def _own(each: Command) -> Iterator[Argument]:
    """The options but those that every command has."""
    return (option for option in each.options if "--help" not in option.flags)


def _argument(argument: Argument) -> str:
    values = " ".join(map(roff.italic, argument.values))
    flags = ", ".join(map(roff.bold, argument.flags))
    tag = f"{flags} {values}".strip()
    repeated = argument.repeated and "repeatable" not in argument.help
    return roff.tagged(tag, argument.help + ("; repeatable" if repeated else ""))


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('?', '.')) else '.'}"


def _files() -> Iterator[str]:
    yield roff.section("FILES")
    for path, what in FILES:
        yield roff.tagged(roff.italic(f"/{path}"), what)


def _see_also(this: int) -> Iterator[str]:
    yield roff.section("SEE ALSO")
    others = [f"{roff.bold(name)}({n})" for n, name in NAMES.items() if n != this]
    yield ", ".join((*others, f"{roff.bold('virsh')}(1)"))


# --- the configuration -----------------------------------------------------------------------

_SECTION = re.compile(r"\[(\w+)\]")
_SETTING = re.compile(r"#([a-z-]+) =[ ]?(.*)")


def configuration() -> str:
    """The page of the configuration file, made of that file."""
    return roff.page(_configuration(data_file("etc/vfio-preflight.conf").decode()))


def _configuration(shipped: str) -> Iterator[str]:
    yield _head(5)
    yield roff.section("NAME")
    yield f"{roff.text(NAMES[5])} \\- configuration of vfio\\-preflight's libvirt hook"
    yield roff.section("DESCRIPTION")
    for block in shipped.strip().split("\n\n"):
        yield from _block(block.split("\n"))
    yield from _see_also(5)


def _block(lines: list[str]) -> Iterator[str]:
    """Comments about the settings below them, or about the section or the file."""
    said: list[str] = []
    for line in lines:
        section, setting = _SECTION.fullmatch(line), _SETTING.fullmatch(line)
        if section:
            yield roff.section(f"SECTION [{section[1]}]")
        elif setting:
            tag = f"{roff.bold(setting[1])} = {roff.italic(setting[2])}".removesuffix("\\fI\\fR")
            yield roff.tagged(tag, " ".join(said))
            said = []
        else:
            said.append(line.removeprefix("#").strip())
    if said:
        yield from roff.paragraphs(" ".join(said))


# --- the hook --------------------------------------------------------------------------------


def hook(prose: str) -> str:
    """The page of the hook; ``prose`` has ``HEADING`` lines and paragraphs."""
    return roff.page(_hook(prose))


def _hook(prose: str) -> Iterator[str]:
    yield _head(8)
    for part in prose.strip().split("\n\n"):
        if part.isupper():
            yield roff.section(part)
        elif part.startswith(NAMES[8]):
            name, _, what = part.partition(" - ")
            yield f"{roff.text(name)} \\- {roff.text(what)}"
        elif "\n    " in part:
            tag, _, body = part.partition("\n")
            yield roff.tagged(roff.bold(tag), " ".join(body.split()))
        else:
            yield from roff.paragraphs(part)
    yield from _files()
    yield from _see_also(8)
