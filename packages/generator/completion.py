"""Completion of the command line for bash, zsh and fish, with nothing to run as it completes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .commandline import Argument, Command

PROGRAM = "vfio-preflight"
# By metavar: what the shell offers in its place. Anything else is the operator's to write.
FILES = ("FILE", "GUEST", "SOURCE", "DESTINATION", "DEVICE", "PATH", "STATE")
DIRECTORIES = ("DIR",)
NOTICE = "made of the command's own parsers: see packages/generator in its sources"


def _place(argument: Argument) -> str:
    """``files``, ``directories``, ``choices`` or ``none``."""
    if argument.choices:
        return "choices"
    name = argument.values[0].strip("[]|-") if argument.values else ""
    if name in DIRECTORIES:
        return "directories"
    return "files" if name.split("|")[0] in FILES else "none"


def _names(command: Command) -> str:
    return " ".join(below.words[-1] for below in command.commands)


# --- bash ----------------------------------------------------------------------------------------

BASH = """# bash completion of vfio-preflight; @NOTICE@
_vfio_preflight()
{
    local cur prev words=() command="" word i
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    # The commands so far; options and their values are none.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "$command $word" in
@COMMANDS@
        esac
    done
    case "$command $prev" in
@VALUES@
    esac
    case $command in
@WORDS@
    esac
}
complete -F _vfio_preflight vfio-preflight
"""


def bash(top: Command) -> str:
    """The file for bash-completion's directory."""
    commands: list[str] = []
    values: list[str] = []
    words: list[str] = []
    for each in top.walk():
        name = " ".join(each.words[1:])
        if name:
            above = " ".join(each.words[1:-1])
            commands.append(f'        "{above} {each.words[-1]}") command="{name}" ;;')
        values += _bash_values(name, each.options)
        words += _bash_words(name, each)
    text = BASH.replace("@NOTICE@", NOTICE).replace("@COMMANDS@", "\n".join(commands))
    return text.replace("@VALUES@", "\n".join(values)).replace("@WORDS@", "\n".join(words))


def _bash_values(name: str, options: Iterable[Argument]) -> Iterator[str]:
    for option in options:
        if option.values:
            patterns = " | ".join(f'"{name} {flag}"' for flag in option.flags)
            yield f"    {patterns}) {_bash_reply(option)}; return ;;"


def _bash_reply(argument: Argument) -> str:
    words = {
        "choices": f"COMPREPLY=($(compgen -W '{' '.join(argument.choices)}' -- \"$cur\"))",
        "directories": 'compopt -o dirnames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur"))',
        "files": 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))',
        "none": ":",
    }
    return words[_place(argument)]


def _bash_words(name: str, each: Command) -> Iterator[str]:
    flags = " ".join(flag for option in each.options for flag in option.flags)
    yield f'    "{name}")'
    yield "        case $cur in"
    yield f"        -*) COMPREPLY=($(compgen -W '{flags}' -- \"$cur\")) ;;"
    if each.commands:
        yield f"        *) COMPREPLY=($(compgen -W '{_names(each)}' -- \"$cur\")) ;;"
    elif each.positionals:
        yield f"        *) {_bash_reply(each.positionals[0])} ;;"
    yield "        esac"
    yield "        ;;"


# --- zsh -----------------------------------------------------------------------------------------


def zsh(top: Command) -> str:
    """The file for a directory of zsh's ``fpath``."""
    functions = "\n".join(_zsh_function(each) for each in top.walk())
    return f'#compdef {PROGRAM}\n# zsh completion; {NOTICE}\n{functions}\n_vfio-preflight "$@"\n'


def _zsh_function(each: Command) -> str:
    specs = [_zsh_option(option) for option in each.options]
    if not each.commands:
        specs += [_zsh_positional(argument) for argument in each.positionals]
        return _zsh_named(each, f"    _arguments -s {' '.join(_joined(specs))}")
    listed = "\n".join(
        f"                {_quoted(f'{below.words[-1]}:{below.help}')}" for below in each.commands
    )
    cases = "\n".join(
        f"        {below.words[-1]}) {_zsh_name(below)} ;;" for below in each.commands
    )
    specs += ["'1:command:->command'", "'*::argument:->arguments'"]
    return _zsh_named(
        each,
        f"""    local line state
    local -a commands
    _arguments -s -C {" ".join(_joined(specs))}
    case $state in
    command)
        commands=(
{listed}
        )
        _describe command commands
        ;;
    arguments)
        case $line[1] in
{cases}
        esac
        ;;
    esac""",
    )


def _zsh_named(each: Command, body: str) -> str:
    return f"{_zsh_name(each)}() {{\n{body}\n}}"


def _zsh_name(each: Command) -> str:
    return "_" + "_".join(each.words)


def _joined(specs: list[str]) -> Iterator[str]:
    """One a line."""
    return (f"\\\n        {spec}" for spec in specs)


def _zsh_option(option: Argument) -> str:
    shown = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    value = f":{_zsh_value(option)}" if option.values else ""
    flags, star = option.flags, "*" if option.repeated else ""
    if len(flags) == 1:
        return _quoted(f"{star}{flags[0]}[{shown}]{value}")
    either = _quoted(f"({' '.join(flags)})")
    return f"{either}{{{','.join(flags)}}}{_quoted(f'[{shown}]{value}')}"


def _zsh_positional(argument: Argument) -> str:
    optional = ":" if argument.optional else ""
    return _quoted(f"{'*' if argument.repeated else ''}:{optional}{_zsh_value(argument)}")


def _zsh_value(argument: Argument) -> str:
    name = re.sub(r"[^\w|=-]", "", argument.values[0]).lower().replace("|", " or ")
    actions = {
        "choices": f"({' '.join(argument.choices)})",
        "directories": "_files -/",
        "files": "_files",
        "none": " ",
    }
    return f"{name}:{actions[_place(argument)]}"


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "'\\''") + "'"


# --- fish ----------------------------------------------------------------------------------------


def fish(top: Command) -> str:
    """The file for fish's directory of completions."""
    lines = [f"# fish completion of {PROGRAM}; {NOTICE}", f"complete -c {PROGRAM} -f"]
    for each in top.walk():
        lines += _fish_command(each)
    return "\n".join(lines) + "\n"


def _fish_command(each: Command) -> Iterator[str]:
    here = _fish_condition(each)
    for below in each.commands:
        yield f"complete -c {PROGRAM} -n {here} -a {below.words[-1]} -d {_fish(below.help)}"
    for option in each.options:
        yield f"complete -c {PROGRAM} -n {here} {' '.join(_fish_option(option))}"
    for argument in each.positionals:
        if _place(argument) == "choices":
            yield f"complete -c {PROGRAM} -n {here} -a {_fish(' '.join(argument.choices))}"
        elif _place(argument) == "files":
            yield f"complete -c {PROGRAM} -n {here} -F"
        elif _place(argument) == "directories":
            yield f"complete -c {PROGRAM} -n {here} -a '(__fish_complete_directories)'"


def _fish_condition(each: Command) -> str:
    """Where one is in this command, and in none of those below it."""
    seen = [f"__fish_seen_subcommand_from {word}" for word in each.words[1:]]
    if each.commands:
        seen.append(f"not __fish_seen_subcommand_from {_names(each)}")
    return _fish("; and ".join(seen) or "true")


def _fish_option(option: Argument) -> Iterator[str]:
    for flag in option.flags:
        yield f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
    if option.values:
        yield "-r -F" if _place(option) == "files" else "-x"
        if _place(option) == "choices":
            yield f"-a {_fish(' '.join(option.choices))}"
        elif _place(option) == "directories":
            yield "-a '(__fish_complete_directories)'"
    if option.help:
        yield f"-d {_fish(option.help)}"


def _fish(words: str) -> str:
    return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"
