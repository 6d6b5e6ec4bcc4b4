"""The command line as data: commands, options and arguments, read from argparse's parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from vfio_preflight.cli.main import parser

# What argparse says of its own options.
HELP_OPTIONS = ("-h", "--help")


class Argument(NamedTuple):
    """An option (``flags``) or a positional argument (none).

    ``values`` are its metavars, ``choices`` the only words that it takes.
    """

    flags: tuple[str, ...]
    values: tuple[str, ...]
    choices: tuple[str, ...]
    help: str
    optional: bool
    repeated: bool

    @property
    def long(self) -> str:
        """The option's longest flag."""
        return max(self.flags, key=len)

    @property
    def usage(self) -> str:
        """As a synopsis shows it."""
        words = " ".join((*self.flags[-1:], *self.values))
        words = f"[{words}]" if self.optional else words
        return f"{words}..." if self.repeated else words


class Command(NamedTuple):
    """A command with its own ones; ``words`` are what is typed, the program's name first."""

    words: tuple[str, ...]
    help: str
    description: str
    epilog: str
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]

    @property
    def options(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.flags)

    @property
    def positionals(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if not argument.flags)

    def walk(self) -> Iterator[Command]:
        """This command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def read() -> Command:
    """The whole command line of ``vfio-preflight``."""
    return _command(parser(), ("vfio-preflight",), "")


# argparse has no public way to ask a parser what it takes.
def _command(parser: argparse.ArgumentParser, words: tuple[str, ...], text: str) -> Command:
    arguments, commands = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands = [
                _command(below, (*words, name), helps.get(name, ""))
                for name, below in action.choices.items()
            ]
        elif action.help != argparse.SUPPRESS:
            arguments.append(_argument(action))
    description = parser.description or ""
    return Command(words, text, description, parser.epilog or "", tuple(arguments), tuple(commands))


def _argument(action: argparse.Action) -> Argument:
    choices = tuple(map(str, action.choices or ()))
    name = f"{{{','.join(choices)}}}" if choices else action.dest.upper()
    values: tuple[str, ...] = ()
    if action.nargs != 0:
        values = action.metavar if isinstance(action.metavar, tuple) else (action.metavar or name,)
    optional = (bool(action.option_strings) and not action.required) or action.nargs in ("?", "*")
    repeated = action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction)
    text = (action.help or "") % {"default": action.default, "prog": "vfio-preflight"}
    return Argument(tuple(action.option_strings), values, choices, text, optional, repeated)
