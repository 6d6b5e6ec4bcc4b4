"""A known line in plain words: what it says, why, what to do.

Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...osutil.light import NamedTuple
from .decode import DECODERS, Context, Texts
from .devices import NO_VFIO, guest_device, is_vfio
from .find import Found
from .message import CAUSE, NOT_NAMED


class Explanation(NamedTuple):
    """One line (``line`` counted from 1) in plain words: what it says, why, what to do.

    ``role`` is ``cause``, ``consequence`` (it only says that something else failed) or ``note``
    (nothing failed). ``since`` and ``until`` are the releases of QEMU that print such a line, empty
    for one that is not QEMU's, and for what the newest still prints.
    """

    line: int
    quote: str
    kind: str
    what: str
    why: str
    remedy: str
    role: str = CAUSE
    since: str = ""
    until: str = ""


# Kinds whose lines name the device in QEMU's words, as '0000:00:02.0/vfio'.
_OF_SECTIONS = (
    *("section-footer", "unknown-section", "version-id", "subsection", "hook-failed"),
    *("not-migratable", "load-failed", "field-not-equal"),
)
# What their texts say of VFIO devices, and not of others.
_OF_VFIO = (
    ", or, of a VFIO device, its driver has no migration support",
    ", or a VFIO device there has no migration support",
    "; a VFIO device needs its vendor's driver",
    "; a VFIO device then needs its vendor's driver",
)
# What libvirt calls such devices.
_NOT_VFIO = ("vdpa", "usb", "scsi", "scsi_host", "vhostuser")
_HOST = re.compile(r"(?:host=|\"host\": ?\")([0-9a-f:.]{4,12})")
_TO_DO = re.compile(r"(?:; |\n  )to do(?: for [^:\n]{1,256})?: ")


def explained(line: int, found: Found, text: str, context: Context) -> Explanation:
    """What was found in line ``line`` of a text; ``text`` is that line."""
    decoder = DECODERS.get(found.message.kind)
    texts = decoder(found.groups, context) if decoder else None
    if found.message.kind == "hook-refused":
        texts = _own(text, found.groups.get("operation", ""))
    if texts is None:
        texts = _filled(found, text, context)
    # The refusal's own words are the reason; the quote does not repeat them.
    quote = found.quote
    if found.message.kind == "hook-refused":
        quote = quote[: quote.find("blocked: ") + len("blocked")]
    return Explanation(
        line,
        quote,
        found.message.kind,
        *texts,
        found.message.role,
        found.line.since,
        found.line.until,
    )


def _filled(found: Found, text: str, context: Context) -> Texts:
    """The table's texts, with what the line names."""
    groups: dict[str, str] = _Named(found.groups)
    device = found.groups.get("device") or found.device or _host(text, found)
    section = found.groups.get("path") or device
    if found.message.kind in _OF_SECTIONS and "/" in section:
        groups["path"] = groups["device"] = guest_device(section)
    elif device:
        groups["device"] = device
    message = found.message
    what, why, remedy = (
        each.format_map(groups) for each in (message.what, message.why, message.remedy)
    )
    if found.message.kind in _OF_SECTIONS and "/" in section and not is_vfio(section):
        why = f"{why}; it is an emulated device, {NO_VFIO}"
    if found.message.kind == "unknown-section" and "/" not in section:
        why = f"{why}; it is no PCI device: most often QEMU's builds or machine types differ"
    what = what.replace(f": error {NOT_NAMED}", "")
    if device in _NOT_VFIO:
        remedy = remedy.replace(_OF_VFIO[-1], "")
    if found.message.kind in _OF_SECTIONS and section and not is_vfio(section):
        for clause in _OF_VFIO:
            why, remedy = why.replace(clause, ""), remedy.replace(clause, "")
    return Texts(what, why.strip(), remedy)


class _Named(dict[str, str]):
    def __init__(self, groups: Mapping[str, str]) -> None:
        super().__init__(groups)

    def __missing__(self, name: str) -> str:
        return NOT_NAMED


def _host(text: str, found: Found) -> str:
    """The device on this host that a line names before what is said of it (-device …,host=…)."""
    named = _HOST.search(text, max(0, found.start - 2048), found.start)
    return named[1] if named else ""


def _own(text: str, operation: str) -> Texts:
    """Our own refusal: its reason and its remedy once, in its own words."""
    reason = text.partition("blocked: ")[2] or text.partition("vfio-preflight: ")[2]
    first = reason.partition("\n")[0]
    parts = _TO_DO.split(reason)
    remedy = parts[1].partition("\n")[0] if len(parts) > 1 else "see the whole of its message"
    restoring = operation == "restore"
    left = "the saved image is still there" if restoring else "the guest runs on at the source"
    return Texts(
        f"vfio-preflight's own hook refused this {operation or 'migration'}, before anything was"
        f" {'loaded' if restoring else 'copied'}: {left}",
        _TO_DO.split(first)[0].strip(" ;"),
        remedy.strip(),
    )
