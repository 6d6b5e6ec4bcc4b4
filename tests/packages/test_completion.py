"""Completion, asked of the shells themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from generator import commandline, completion

TOP = commandline.read()
NAMES = {command.words[-1] for command in TOP.commands}
# Presses Tab in an interactive zsh, on a terminal of its own; compadd tells what it is given.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
input() { zpty -w shell "$1" }
input "PROMPT= ; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; cd $2"
input 'LISTMAX=1000; COLUMNS=200; bindkey "^I" complete-word'
input 'zle -C complete-word complete-word listed; listed() { compadd() { local -a told
    builtin compadd -O told "$@"; print -rl -- "candidate:"${^told}; builtin compadd "$@" }
    _main_complete }'
input 'print ready-"$((1+1))"'
while zpty -r shell line; do [[ $line = *ready-2* ]] && break; done
zpty -w -n shell "$3"$'\t'
sleep 1
input ''
zpty -w -n shell $'\x15'
input 'print done-"$((1+1))"'
while zpty -r shell line; do print -r -- "$line"; [[ $line = *done-2* ]] && break; done
"""


def bash(line: str, script: Path, place: Path) -> set[str]:
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
        ' _vfio_preflight; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return asked(["bash", "--norc", "-c", program], place)


def zsh(line: str, script: Path, place: Path) -> set[str]:
    printed = asked(["zsh", "-f", "-c", ZSH, "zsh", str(script.parent), str(place), line], place)
    return {text.partition("candidate:")[2] for text in printed if "candidate:" in text}


def fish(line: str, script: Path, place: Path) -> set[str]:
    program = f"source {script}; complete -C '{line}'"
    return {text.split("\t")[0] for text in asked(["fish", "--no-config", "-c", program], place)}


def asked(command: list[str], place: Path) -> set[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(place), "TERM": "dumb", "LANG": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


SHELLS: dict[str, tuple[Callable[[str, Path, Path], set[str]], str, str]] = {
    "bash": (bash, completion.bash(TOP), "vfio-preflight"),
    "zsh": (zsh, completion.zsh(TOP), "_vfio-preflight"),
    "fish": (fish, completion.fish(TOP), "vfio-preflight.fish"),
}


class Shell:
    def __init__(self, name: str, directory: Path) -> None:
        self._ask, text, file = SHELLS[name]
        self._script = directory / "script" / file
        self._script.parent.mkdir()
        self._script.write_text(text)
        self.place = directory / "place"
        (self.place / "below").mkdir(parents=True)
        (self.place / "guest.xml").write_text("")

    def __call__(self, line: str) -> set[str]:
        return self._ask(line, self._script, self.place)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


def test_commands(shell: Shell) -> None:
    assert shell("vfio-preflight ") >= NAMES


def test_begun_command(shell: Shell) -> None:
    assert {word.strip() for word in shell("vfio-preflight ca")} == {"catalogue"}


def test_options(shell: Shell) -> None:
    check = next(command for command in TOP.commands if command.words[-1] == "check")
    flags = {flag for option in check.options for flag in option.flags if flag.startswith("--")}
    assert shell("vfio-preflight check --") >= flags
    assert "--disagreements" not in shell("vfio-preflight check --")


def test_words_that_an_option_takes(shell: Shell) -> None:
    assert shell("vfio-preflight check --format ") == {"text", "json"}
    assert shell("vfio-preflight check guest --to there --format ") == {"text", "json"}


def test_commands_below_a_command(shell: Shell) -> None:
    assert shell("vfio-preflight catalogue ") >= {"list", "forget", "export", "import"}
    assert "--format" in shell("vfio-preflight catalogue import --f")


def test_files(shell: Shell) -> None:
    assert {word.rstrip("/") for word in shell("vfio-preflight check ")} >= {"guest.xml"}
    assert {word.rstrip("/") for word in shell("vfio-preflight install --root ")} == {"below"}
