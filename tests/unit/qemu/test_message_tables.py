"""The tables, held against the lines that QEMU's sources print, and the page of the docs."""

from __future__ import annotations

import pytest

from messages import document
from messages.coverage import KNOWN, STATES, Told, told
from messages.extract import definitions, literals
from messages.scan import NEWEST, RELEASES, Candidate, load, merged
from vfio_preflight.qemu.messages.table import MESSAGES

ORDER = [*RELEASES]


@pytest.fixture(scope="module")
def candidates() -> list[tuple[Candidate, Told]]:
    # told() fails for a line that explain neither knows nor quotes.
    return [(candidate, told(candidate)) for candidate in load()]


def test_none_is_ignored(candidates: list[tuple[Candidate, Told]]) -> None:
    assert len(candidates) > 1000
    assert all(found.state in STATES for _, found in candidates)


@pytest.mark.parametrize(
    "part",
    [
        *("hw/vfio/migration.c", "hw/vfio/migration-multifd.c", "get_pci_config_device"),
        *("irq state", "Failed to load PCI", "Failed to load %s:%s", "error while loading"),
        *("Missing section footer", "load of migration failed", "Size mismatch"),
    ],
)
def test_all_of_vfio_migration_and_around_the_check_is_known(
    part: str, candidates: list[tuple[Candidate, Told]]
) -> None:
    rows = [(c, t) for c, t in candidates if part in (c.file, "") or part in c.literal]
    assert [c.literal for c, t in rows if t.state != KNOWN] == []
    assert rows or part == "Failed to load PCI"


def test_releases_are_the_sources(candidates: list[tuple[Candidate, Told]]) -> None:
    """A line's ``since`` and ``until`` are those of the candidates that it tells."""
    found: dict[str, list[Candidate]] = {}
    for candidate, result in candidates:
        if result.found:
            found.setdefault(result.found.line.template, []).append(candidate)
    lines = {line.template: line for message in MESSAGES for line in message.lines}
    for template, rows in found.items():
        line = lines[template]
        since = min((row.since for row in rows), key=ORDER.index)
        untils = [row.until or NEWEST for row in rows]
        until = max(untils, key=ORDER.index)
        assert (line.since, line.until or NEWEST) == (since, until), template


def test_page_of_the_docs() -> None:
    assert document.PAGE.read_text() == document.page(), "python -m messages page"


# --- finding the candidates ----------------------------------------------------------------------

SOURCE = r"""
#define ERR_PREFIX "frob %s: "
static void frob_load(Frob *f, Error **errp)
{
    error_report("%s: bad frob: 0x%" PRIx64 ", "
                 "size %zu", __func__, f->at, f->size); /* error_report("not this") */
    error_setg_errno(errp, -ret, "cannot %s \"it\"", g(f, "x"));
    error_prepend(errp, ERR_PREFIX, f->name);
    error_setg(errp, f->is ? "one thing" : "another thing");
    error_append_hint(errp, "try again\nor not\n");
    fprintf(stderr, "to a terminal");
    fprintf(file, "elsewhere");
    error_report("%s", error_get_pretty(err));
    warn_report("features 0x" FEATURES_FMT " odd", f->bits);
}
"""


def test_literals_of_a_source() -> None:
    assert [*literals(SOURCE, definitions(SOURCE))] == [
        "frob_load: bad frob: 0x%x, size %zu",
        'cannot %s "it"',
        "frob %s:",
        "one thing",
        "another thing",
        "try again",
        "or not",
        "to a terminal",
        "features 0x%x odd",
    ]


def test_releases_are_merged_by_line_not_by_file() -> None:
    releases = {"1": [("a.c", "x"), ("a.c", "y")], "2": [("b.c", "x")], "3": [("b.c", "x")]}
    assert merged(releases) == [Candidate("a.c", "1", "1", "y"), Candidate("b.c", "1", "", "x")]
