"""A line of QEMU's, libvirt's or the kernel's and what it means: the form of the tables' rows.

A line is given as a template, ``{device}: data_fd out of sync``: what stands in braces changes from
line to line, and texts can take it. Behind a colon stands what it looks like (:data:`CLASSES`).
"""

from __future__ import annotations

import re

from ...osutil.light import NamedTuple

# Why something failed; that something failed, for another reason; and what failed nothing.
ROLES = (CAUSE, CONSEQUENCE, NOTE) = ("cause", "consequence", "note")
# Who prints a line, unless since and until say of which releases of QEMU it is.
NOT_NAMED = "(not named)"

# What a part looks like. No repetition is without a bound: lines of a log may have any length.
CLASSES = {
    # A host's device has a digit in its address or UUID: "domain: Migration disabled" is of none.
    "device": r"(?=[a-zA-Z_:.-]{0,63}[0-9])[0-9a-zA-Z_][0-9a-zA-Z_:.-]{0,63}",
    # A driver or type of QEMU's: vfio-pci.
    "type": r"[0-9a-zA-Z_][0-9a-zA-Z_:-]{0,63}",
    # What a kernel's driver says, unless it is what it says of every device.
    "complaint": r"(?!enabling device|vgaarb|vfio_e?cap_init: hiding|Relaying device request"
    r"|vfio_bar_restore|resetting|reset done|restoring|Removing from iommu|Adding to iommu"
    r"|firmware version)[^\r\n]{1,256}",
    "word": r"[^\s'\",]{1,128}",
    "number": r"-?\d{1,20}",
    "hex": r"(?:0x)?[0-9a-fA-F]{1,40}",
    "quoted": r"[^'\"\r\n]{1,256}",
    "short": r"[^\r\n]{1,128}?",
    "text": r"[^\r\n]{1,256}",
    "machine": r"[\w.+-]{1,64}",
    # What GnuTLS finds wrong with a certificate (virNetTLSSessionCheckCertificate).
    "defect": r"(?:[^\r\n ]{0,200} ?)(?:hasn't got a known issuer|is not trusted|has been revoked"
    r"|has expired|is not yet act(?:ive|ivated)|uses an insecure algorithm)",
    # Nova repeats an error behind its type: "…: libvirt.libvirtError: …".
    "features": r"(?:(?!: libvirt)[^\r\n]){1,256}",
    # What a migration is besides the common one.
    "mode": r"(?:postcopy migration|background snapshot)",
    # A hook's path, its guest and operation, as libvirt puts them into a command line.
    "hook": r"/[^\s()]{1,256}",
    "guest": r"'[^'\r\n]{1,256}'|[^\s()]{1,256}",
    "hooked": r"[a-z]{1,16}",
    "vmiop": r"\(0x[0-9a-f]{1,8}\)",
    # A vmstate and its field: PCIDevice:config, virtio-net:virtio.
    "vmstate": r"[\w./-]{1,64}:[\w/ .\[\]-]{1,64}",
}
_PART = re.compile(r"\{(\w+)(?::(\w+))?\}")
# QEMU names a VFIO device before whatever it says of realising it (VFIO_MSG_PREFIX).
_VFIO = r"(?:vfio (?P<vfio_device>[0-9a-zA-Z_:.-]{1,64}): )?"
# A line that was cut off is known by a piece of so many characters.
TELLING = 18


class Line(NamedTuple):
    """A line as QEMU's releases ``since`` to ``until`` print it.

    ``since`` is ``8.0`` also for older releases, and empty for a line that is not QEMU's; ``until``
    is empty where the newest release has it.
    """

    template: str
    since: str = "8.0"
    until: str = ""


class Message(NamedTuple):
    """What lines mean: what happened, why, and what to do; texts take what the templates name."""

    kind: str
    what: str
    why: str
    remedy: str
    lines: tuple[Line, ...]
    role: str = CAUSE


class Part(NamedTuple):
    """A piece of a template: fixed text, or, with a ``name``, what changes."""

    text: str
    name: str = ""


def parts(template: str) -> list[Part]:
    """The pieces of a template, in order."""
    found, at = [], 0
    for part in _PART.finditer(template):
        if part.start() > at:
            found.append(Part(template[at : part.start()]))
        looks = part[2] or (part[1] if part[1] in CLASSES else "word")
        found.append(Part(CLASSES[looks], part[1]))
        at = part.end()
    if at < len(template):
        found.append(Part(template[at:]))
    return found


def core(template: str) -> str:
    """The longest fixed piece of a template, in lower case."""
    return max((part.text for part in parts(template) if not part.name), key=len).lower()


def whole(template: str) -> re.Pattern[str]:
    """What a whole line looks like."""
    text = "".join(map(_expression, parts(template)))
    return re.compile(_VFIO + text)


def cut(template: str) -> re.Pattern[str]:
    """What is left of a line that was cut off before its longest fixed piece, or behind it."""
    pieces = parts(template)
    fixed = core(template)
    at = next(n for n, part in enumerate(pieces) if part.text.lower() == fixed)
    head = "".join(map(_expression, pieces[:at]))
    tail = ""
    for part in reversed(pieces[at + 1 :]):
        # Nobody knows where a part ends that nothing stands behind.
        tail = f"(?:{_expression(part).replace('}?)', '})')}{tail})?"
    return re.compile(f"(?:{head})?{_expression(pieces[at])}{tail}")


def _expression(part: Part) -> str:
    if part.name:
        return f"(?P<{part.name}>{part.text})"
    # Of the fixed text alone: compiling a class that ignores case takes a millisecond.
    return f"(?i:{re.escape(part.text)})"
