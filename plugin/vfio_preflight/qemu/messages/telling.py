"""What an attempt's lines come to: causes, what followed from each, and what is not known."""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter

from ...osutil.light import NamedTuple
from .decode import DECODERS, Context
from .entry import Explanation, explained
from .find import Found
from .hits import Known
from .lines import Piece, body, is_program
from .message import CAUSE, CONSEQUENCE, NOTE

# Lines without an explanation that are quoted, the last of them.
_MOST_QUOTES = 50
# How far behind a bad byte QEMU names the device: lines, and known ones.
_NEAR = 24
_EQUAL = re.compile(r"^(?:0x)?([0-9a-f]{1,16}) != (?:0x)?([0-9a-f]{1,16})$")
# What QEMU and libvirt say in any log, whether all goes well or not.
_NOISE = re.compile(
    r"device redirected to /dev|terminating on signal|^\{|^\}|libvirt version|^-{3}"
    r"|^at .{1,200}\.c:\d|debug|^\$ |^# |Traceback \(most|^  File \"|  File \""
)
# Of what is JSON, QMP's dialogue and command lines say nothing; a log's record of an error does.
_RECORD = re.compile(
    r"\"(?:level|severity)\": ?\"(?:error|fatal|critical|warning)|\"error\": ?\{|virError\(",
    re.IGNORECASE,
)
_TROUBLE = re.compile(
    r"error|fail|cannot|can't|unable|not |n't |invalid|mismatch|refus|unexpected|denied|missing"
    r"|unknown|unsupported|block|lost|\bbad\b|warning|abort|assert|exceed|kill|timed? ?out|incompat"
    r"|corrupt|differ|no such|busy",
    re.IGNORECASE,
)
_POSTCOPY = (
    "in post-copy the guest's memory is on both hosts: it may wait on the destination, so destroy"
    " neither side"
)
_AFTERMATH = {
    "incoming": "of a migration, the guest kept running on the source; of a restore, the saved"
    " image is still there, and nothing runs",
    "start": "the guest did not start; if it had a saved state (managed save), that is still there",
    "restore": "it was a restore: the saved image is still there, and nothing runs",
    "revert": "the snapshot is still there, and the guest does not run",
    "migration": "the guest kept running on the source",
    "hot-plug": "the guest runs on without the device",
    "save": "the guest was not saved, and runs on",
}

# What says that loading failed, and causes with which no loading begins.
_LOADING = frozenset(("load-failed", "migration-failed"))
_BEFORE_LOADING = frozenset(
    (
        *(
            "libvirt-refused",
            "cpu-differs",
            "xml-differs",
            "hook-refused",
            "hook-failed",
            "machine-missing",
        ),
        *("group-not-viable", "device-busy", "device-not-opened", "device-missing", "iommu"),
        *("iommu-group", "not-realised", "not-ready", "interrupts", "property", "property-missing"),
        *("no-vfio", "mdev-type", "pci-address", "hot-plug", "failover", "rom-file", "sriov"),
        *("no-memory", "not-migratable", "guest-blocks", "environment", "manager-refused"),
        *("no-connection", "tls", "vfio-mode", "vfio-not-supported", "vfio-several"),
        *("vfio-viommu", "vfio-disabled", "vfio-no-dirty-tracking", "vfio-query-failed"),
        *("vhost-blocks", "cancelled", "lock", "rights", "migration-state"),
    )
)
# What is said of a migration's two sides, and what of an image and this host.
_RESTORE = (
    ("the source sent", "the image has"),
    ("the destination's guest", "the guest here"),
    ("before anything is copied", "before anything is loaded"),
    ("in the XML, ", "in the XML that is loaded, "),
    (" in the guest", " in the image"),
    ("the XML for the destination is not the running guest's", "the XML is not the image's"),
    (
        "give virsh migrate --xml that is the source's (virsh dumpxml --migratable)",
        "give virsh restore --xml that is the image's (virsh save-image-dumpxml)",
    ),
    ("compare the guest's XML on both hosts", "compare the guest's XML with the image's"),
    ("use the same QEMU package on both hosts", "use the QEMU package that saved the image"),
    ("the destination's device has", "the device on this host has"),
    ("on both hosts", "on this host as on the one that saved it"),
    ("on the source", "in the image"),
    ("on the destination", "on this host"),
    ("the source's value", "the image's value"),
    (
        "'vfio-preflight check' on the guest predicts this before a migration",
        "'vfio-preflight check --image' predicts this before a restore",
    ),
)


class Quote(NamedTuple):
    """A line that nothing is known of; ``number`` is its place among the text's lines."""

    line: int
    text: str
    number: int


class Cause(NamedTuple):
    """A cause, and what followed from it."""

    cause: Explanation
    consequences: tuple[Explanation, ...]


class Telling(NamedTuple):
    """What an attempt's lines come to.

    ``consequences`` are those of which no cause is known, ``unknown`` the lines without explanation
    that may be one (``omitted`` more were left out), ``notes`` what failed nothing; ``last`` is the
    last line without explanation.
    """

    causes: tuple[Cause, ...]
    consequences: tuple[Explanation, ...]
    notes: tuple[Explanation, ...]
    unknown: tuple[Quote, ...]
    omitted: int
    last: Quote | None = None

    def with_last(self) -> Telling:
        """The same, with the last line quoted."""
        return self._replace(unknown=(self.last,)) if self.last else self

    @property
    def has_cause(self) -> bool:
        """Whether it is known why it failed: of all that failed, if it did several times."""
        return bool(self.causes) and not any(entry.kind in _LOADING for entry in self.consequences)

    @property
    def has_failed(self) -> bool:
        """Whether any line says that something failed."""
        return bool(self.causes or self.consequences or self.unknown)

    def explanations(self) -> list[Explanation]:
        """All that is known, in no order."""
        below = [entry for cause in self.causes for entry in (cause.cause, *cause.consequences)]
        return [*below, *self.consequences, *self.notes]


def tell(
    kind: str,
    events: list[tuple[int, Found]],
    quotes: list[Quote],
    source: tuple[list[Piece], Known],
    config: bytes | None,
) -> Telling:
    """Put an attempt's ``events`` in order: number of the line in ``source``, and what it says."""
    lines, facts = source
    around = _Around(events, config)
    entries = [
        (number, _entry(kind, around, at, lines[number], facts))
        for at, (number, _) in enumerate(events)
    ]
    entries += [(quote.number, entry) for quote in quotes for entry in _bare(quote)]
    entries = _once(sorted(entries, key=lambda entry: entry[0]))
    causes, loose = _sorted(entries)
    notes = tuple(entry for _, entry in entries if entry.role == NOTE)
    explained_lines = {entry.line for _, entry in entries}
    left = [quote for quote in quotes if quote.line not in explained_lines]
    unknown = _worth_quoting(left, [number for number, entry in entries if entry.role != NOTE])
    return Telling(
        tuple(causes),
        tuple(loose),
        notes,
        tuple(unknown[-_MOST_QUOTES:]),
        max(0, len(unknown) - _MOST_QUOTES),
        next((quote for quote in reversed(left) if not _is_noise(quote.text)), None),
    )


def _entry(kind: str, around: _Around, at: int, line: Piece, facts: Known) -> Explanation:
    number, found = around.events[at]
    text = facts.texts.get(number, line.text)
    context = around.context(at) if found.message.kind in DECODERS else Context()
    entry = explained(line.line, found, text, context)
    # A start loads something only where the guest has a managed save.
    if kind == "restore" or (kind == "start" and _may_load(entry)):
        entry = _of_restore(entry)
    if entry.kind == "migration-failed":
        aftermath = _AFTERMATH.get(kind, _AFTERMATH["incoming"])
        if around.kinds["postcopy"]:
            aftermath = _POSTCOPY
        return entry._replace(what=f"{entry.what}; {aftermath}")
    return entry


def _of_restore(entry: Explanation) -> Explanation:
    """The same, where the source is an image."""
    texts = [entry.what, entry.why, entry.remedy]
    for of_migration, of_restore in _RESTORE:
        texts = [text.replace(of_migration, of_restore) for text in texts]
    what, why, remedy = texts
    return entry._replace(what=what, why=why, remedy=remedy)


class _Around:
    """What the lines around a line say of its device: pci.c knows the byte, savevm.c which one."""

    def __init__(self, events: list[tuple[int, Found]], config: bytes | None) -> None:
        self.events, self.config = events, config
        paths = {event.groups["path"] for _, event in events if _names_device(event)}
        # QEMU 11.1 gives it to libvirt, whose error may stand before, or in another place.
        self.only_path = paths.pop() if len(paths) == 1 else ""
        self.kinds = Counter(event.message.kind for _, event in events)

    def context(self, at: int) -> Context:
        """What is known of the device that event ``at`` is about."""
        behind = self._behind(at)
        path = next((event.groups["path"] for event in behind if _names_device(event)), "")
        if not path and self.kinds[self.events[at][1].message.kind] == 1:
            path = self.only_path
        about = " ".join(event.quote for event in behind)
        is_vfio = any("device config space" in event.quote for event in behind)
        return Context(path, is_vfio, about, self.config)

    def _behind(self, at: int) -> list[Found]:
        number, found = self.events[at]
        behind = []
        for other, event in self.events[at + 1 : at + _NEAR]:
            # The next such line is another device's.
            if event.message.kind == found.message.kind:
                break
            if other - number < _NEAR:
                behind.append(event)
        return behind


def _names_device(event: Found) -> bool:
    return (
        event.message.kind == "load-failed"
        and event.groups.get("path", "/") != "ram"
        and ("path" in event.groups)
    )


def _bare(quote: Quote) -> list[Explanation]:
    """``qemu-kvm: 2 != 4``: all that QEMU says of a value that must be equal (vmstate-types.c)."""
    found = _EQUAL.match(body(quote.text)) if is_program(quote.text) else None
    if found is None:
        return []
    return [
        Explanation(
            quote.line,
            found[0],
            "field-not-equal",
            f"a value that both sides must have equal is {found[1]} in the stream and {found[2]}"
            f" here,"
            " or the other way round",
            "the next lines say of which part of which device: it follows from QEMU's build, the"
            " machine type or the device's properties",
            "use the same QEMU package on both hosts; compare the guest's XML and qemu:commandline",
            CAUSE,
            "8.0",
        )
    ]


def _once(entries: list[tuple[int, Explanation]]) -> list[tuple[int, Explanation]]:
    """Each line once: logs and errors repeat each other."""
    kept: dict[tuple[str, str, str], tuple[int, Explanation]] = {}
    for number, entry in entries:
        kept.setdefault((entry.kind, entry.quote, entry.what), (number, entry))
    return list(kept.values())


def _sorted(entries: list[tuple[int, Explanation]]) -> tuple[list[Cause], list[Explanation]]:
    """Causes, each with what followed, and what is left.

    To a cause belongs what encloses it in its own line, what stands behind it, or before all.
    """
    causes = [(number, entry) for number, entry in entries if entry.role == CAUSE]
    below: list[list[Explanation]] = [[] for _ in causes]
    places = {(number, entry.quote): n for n, (number, entry) in enumerate(causes)}
    owners = _Owners(causes), _Owners([cause for cause in causes if _may_load(cause[1])])
    loose = []
    for number, entry in entries:
        if entry.role == CONSEQUENCE:
            owner = owners[entry.kind in _LOADING].of(number)
            if owner is None:
                loose.append(entry)
            else:
                below[places[owner[0], owner[1].quote]].append(entry)
    return [Cause(entry, tuple(b)) for (_, entry), b in zip(causes, below)], loose


class _Owners:
    """Causes that a line may follow from, by their lines."""

    def __init__(self, causes: list[tuple[int, Explanation]]) -> None:
        self.causes = causes
        self.numbers = [number for number, _ in causes]

    def of(self, number: int) -> tuple[int, Explanation] | None:
        """The last one in line ``number`` or before it, or else the first."""
        at = bisect(self.numbers, number)
        return self.causes[max(0, at - 1)] if self.causes else None


def _may_load(cause: Explanation) -> bool:
    """Whether loading may fail for it: what ended before any loading made none fail."""
    return cause.kind not in _BEFORE_LOADING


def _is_noise(text: str) -> bool:
    said = body(text)
    if text.lstrip().startswith("{") and _RECORD.search(text, 0, 4096):
        return False
    return bool(_NOISE.search(said) or _NOISE.search(text.strip())) or (
        " " not in said and not is_program(text)
    )


def _worth_quoting(quotes: list[Quote], numbers: list[int]) -> list[Quote]:
    """Lines that may say why: of trouble, or of QEMU, and the one before the first known."""
    told = [quote for quote in quotes if not _is_noise(quote.text)]
    first = min(numbers, default=None)
    before = [quote.number for quote in told if first is not None and quote.number < first][-1:]
    chosen = [
        quote
        for quote in told
        if quote.number in before or _TROUBLE.search(quote.text) or is_program(quote.text)
    ]
    return chosen
