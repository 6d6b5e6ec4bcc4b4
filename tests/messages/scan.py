"""Candidates: what QEMU's sources print while a guest is realised, saved or loaded.

They are kept in ``candidates.tsv``, a line each: file, first and last release with it, literal.
A file of QEMU's that moved has the name that it has in the newest release.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from messages.extract import definitions, literals

LIST = Path(__file__).with_name("candidates.tsv")
# What is looked through, in every release that has it.
FILES = re.compile(
    r"hw/vfio/[\w-]+\.c|hw/pci/[\w-]+\.c|backends/iommufd\.c|migration/(?:savevm|vmstate|vmstate-types"
    r"|migration|ram|qemu-file|global_state|multifd|multifd-device-state|multifd-nocomp)\.c"
    r"|hw/virtio/(?:virtio[\w-]*|vhost)\.c|(?:system|softmmu)/physmem\.c"
)
# Where strings stand that these files print by a macro's name.
HEADERS = re.compile(r"hw/vfio/[\w-]+\.h|include/hw/vfio/[\w-]+\.h")
RELEASES = {
    "8.0": "v8.0.0",
    "8.1": "v8.1.0",
    "8.2": "v8.2.0",
    "9.0": "v9.0.0",
    "9.1": "v9.1.0",
    "9.2": "v9.2.0",
    "10.0": "v10.0.0",
    "10.1": "v10.1.0",
    "10.2": "v10.2.0",
    "11.0": "v11.0.0",
    "11.1": "v11.1.0",
}
NEWEST = [*RELEASES][-1]


class Candidate(NamedTuple):
    """A line of QEMU's: its ``literal`` is the format with which ``file`` prints it.

    ``until`` is empty where the newest release that was looked through has it; ``since`` is ``8.0``
    for that release and all before.
    """

    file: str
    since: str
    until: str
    literal: str


class Tree:
    """The sources of one release: a directory, or a commit of a git repository."""

    def __init__(self, place: str, commit: str = "") -> None:
        self.place, self.commit = place, commit

    def names(self) -> list[str]:
        """All of its C files."""
        if self.commit:
            return self._git("ls-tree", "-r", "--name-only", self.commit).split("\n")
        top = Path(self.place)
        return sorted(str(path.relative_to(top)) for path in top.rglob("*.[ch]"))

    def text(self, name: str) -> str:
        """The text of one of them."""
        if self.commit:
            return self._git("show", f"{self.commit}:{name}")
        return Path(self.place, name).read_text(errors="replace")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.place, *arguments], capture_output=True, check=True
        )
        return done.stdout.decode(errors="replace")


def printed(tree: Tree) -> Iterator[tuple[str, str]]:
    """File and literal of every line that a release prints, in the order of the sources."""
    names = tree.names()
    defined: dict[str, str] = {}
    for name in filter(HEADERS.fullmatch, names):
        defined.update(definitions(tree.text(name)))
    for name in filter(FILES.fullmatch, names):
        source = tree.text(name)
        known = {**defined, **definitions(source)}
        yield from dict.fromkeys((name, literal) for literal in literals(source, known))


def merged(releases: Mapping[str, list[tuple[str, str]]]) -> list[Candidate]:
    """What all releases print, oldest release first in ``releases``.

    A line that moved to another file is one: it has the file of the last release with it.
    """
    order = [*releases]
    seen: dict[str, list[str]] = {}
    where: dict[str, str] = {}
    for release, lines in releases.items():
        for name, literal in lines:
            seen.setdefault(literal, []).append(release)
            where[literal] = name
    return sorted(
        Candidate(
            where[literal],
            found[0],
            "" if found[-1] == order[-1] else found[-1],
            literal,
        )
        for literal, found in seen.items()
    )


def load() -> list[Candidate]:
    """The committed candidates."""
    lines = LIST.read_text().splitlines()
    return [Candidate(*line.split("\t")) for line in lines if not line.startswith("#")]


def store(candidates: list[Candidate]) -> None:
    """Write the file that is committed."""
    head = f"# QEMU {next(iter(RELEASES))} to {NEWEST}: file, since, until, literal"
    LIST.write_text("\n".join([head, *map("\t".join, candidates)]) + "\n")
