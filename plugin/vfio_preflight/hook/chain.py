"""Hooks that libvirt runs before this one, and what they did to the domain's XML.

At ``migrate`` and ``restore`` libvirt takes what a hook prints for the guest's new XML and gives it
to the next: first ``qemu``, then the executables in ``qemu.d`` by ``strcmp()``. One that prints a
message thereby replaces the XML by it. libvirt then refuses the guest, whatever comes later, with
its XML parser's words.

Source: libvirt, ``virHookCall()`` in ``src/util/virhook.c``; ``qemuMigrationDstPrepareAny()``.
"""

from __future__ import annotations

import os
import re

from ..osutil.text import printable
from ..report.firstline import compose, cut, to_do
from ..report.text import blocked

HOOKS = "/etc/libvirt/hooks"
OURS = "50-vfio-preflight"
REMEDY = "let that hook write to a log, not to stdout"
_FULL = (
    "libvirt takes what a hook prints for the guest's XML, so that it refuses the guest in any case"
)
# What may stand before the root element of a document.
_PROLOGUE = rb"(?s)(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE)*"
_ROOT = rb"<domain[\s>]"
_END = b"</domain>"
# Bytes of foreign text that are quoted: it can be anything.
_QUOTED = 32


def earlier(directory: str = "") -> list[str]:
    """The hooks of this host that libvirt runs before this one, in their order."""
    directory = directory or HOOKS
    try:
        names = sorted(os.listdir(f"{directory}/qemu.d"), key=os.fsencode)
    except OSError:
        names = []
    listed = [name for name in names if os.fsencode(name) < os.fsencode(OURS)]
    paths = [f"{directory}/qemu", *(f"{directory}/qemu.d/{name}" for name in listed)]
    # virFileIsExecutable()
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]


def printed(xml: bytes) -> str:
    """The text that stands in place of a domain's XML, or beside it; empty if there is none.

    XML that is cut short or malformed has none: that can have other reasons.
    """
    start = re.match(_PROLOGUE, xml)
    text = xml[start.end() if start else 0 :].strip()
    root = re.search(_ROOT, text)
    if root is None or root.start():
        return _quoted(text[: root.start() if root else None])
    return _quoted(text.rpartition(_END)[2]) if _END in text else ""


def refusal(hooks: list[str], text: str) -> list[str]:
    """What is printed when a migration is blocked because one of ``hooks`` printed ``text``."""
    said = f'another hook before this one printed "{text}"'
    names = ", ".join(hooks)
    short = ", ".join(path.removeprefix(f"{HOOKS}/") for path in hooks)
    fitting = (told(hooks, text), f"{said}: {names}", f"{said}: {short}", said)
    return [
        compose(blocked("migration"), ("",), fitting, to_do(REMEDY)),
        f"  hooks that ran before this one: {printable(names)}",
        f"  to do: {REMEDY}: {_FULL}",
    ]


def told(hooks: list[str], text: str) -> str:
    """What happened, in one sentence."""
    names = ", ".join(hooks)
    return f'another hook before this one printed "{text}" in place of the guest\'s XML: {names}'


def suspicion(hooks: list[str]) -> str:
    """What is added to a complaint of malformed XML."""
    return f"; hooks that run before this one may have changed it: {', '.join(hooks)}"


def _quoted(text: bytes) -> str:
    line = text.strip().partition(b"\n")[0].decode("utf-8", "replace")
    return printable(cut(line.rstrip(), _QUOTED))
