"""``python -m messages``: QEMU's lines, from its sources, held against the tables.

``print TREE`` prints what the sources in directory TREE can print, each line with what ``explain``
makes of it; exit status 1 if one of hw/vfio/migration*.c is not known. A new release is added to
``RELEASES`` and with ``candidates REPOSITORY``, a clone of QEMU's with its tags (or RELEASE=COMMIT
for one that has none), which writes candidates.tsv; then ``page`` writes docs/MESSAGES.md.
"""

from __future__ import annotations

import argparse
import sys

from messages import document
from messages.coverage import KNOWN, told
from messages.scan import RELEASES, Candidate, Tree, merged, printed, store


def main() -> int:
    """Carry a command out."""
    parser = argparse.ArgumentParser(prog="python -m messages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_tree = commands.add_parser("print", help="what one release prints, and what is known of it")
    of_tree.add_argument("tree", metavar="TREE")
    of_all = commands.add_parser("candidates", help="write candidates.tsv from all releases")
    of_all.add_argument("repository", metavar="REPOSITORY")
    of_all.add_argument("commits", metavar="RELEASE=COMMIT", nargs="*")
    commands.add_parser("page", help="write docs/MESSAGES.md")
    options = parser.parse_args()
    if options.command == "print":
        return _print(options.tree)
    if options.command == "candidates":
        commits = {**RELEASES, **dict(pair.split("=", 1) for pair in options.commits)}
        found = {name: [*printed(Tree(options.repository, at))] for name, at in commits.items()}
        store(merged(found))
        return 0
    document.PAGE.write_text(document.page())
    return 0


def _print(tree: str) -> int:
    missing = 0
    for file, literal in printed(Tree(tree)):
        result = told(Candidate(file, "", "", literal))
        print(file, result.state, result.detail or "-", literal, sep="\t")
        missing += result.state != KNOWN and file.startswith("hw/vfio/migration")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
