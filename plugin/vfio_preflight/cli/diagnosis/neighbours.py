"""Other hooks: libvirt runs ``qemu``, then every executable of ``qemu.d`` by strcmp(), whatever it
is called (``virHookCall`` in src/util/virhook.c)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ...osutil.regular import read_regular
from ..installation import reload
from ..installation.payload import HOOK
from .finding import Fact, Found, found
from .here import Here

# What editors and package managers put behind, or before, a file's name: vi, Emacs, patch, dpkg,
# rpm, ucf, people.
_COPY = (
    r"(bak|old|orig|swp|swo|disabled|dpkg-[a-z]+|rpm(save|new|orig)|ucf-[a-z]+|pacsave|pacnew)"
    r"[0-9]*"
)
_PERHAPS = r"(backup|save|saved|tmp|temp|copy|off)[0-9]*"
COPIES = re.compile(rf"(?is)\..*|#.*#|.*(~|[.-]{_COPY}|\.{_PERHAPS})")
# A hook may well be called "90-vm-backup" or "10-power-off": a copy of what is there without it.
PERHAPS = re.compile(rf"(?is)(.+)-{_PERHAPS}")
# Words that a hook of ours has, of this version or an older one.
OURS = (b"vfio-preflight/current/hook", b"vfio_preflight.hook.entry")
# By a word in it, whose a hook is.
PROJECTS = (
    (b"cloudstack", "CloudStack"),
    (b"vdsm", "oVirt"),
    (b"kubevirt", "KubeVirt"),
    (b"PassthroughPOST", "VFIO-Tools"),
    (b"GUEST_NAME", "VFIO-Tools"),
)


def others(here: Here) -> list[str]:
    """The paths of the hooks that are not this one, in the order in which libvirt runs them."""
    return [hook.path for hook in reload.hooks(here.root) if hook.path != here.path(HOOK)]


def order(here: Here) -> Iterator[Found | Fact]:
    """Which hooks there are, and whether one of them is a copy that is not meant to be run."""
    told = []
    for hook in reload.hooks(here.root):
        text, ours = _text(hook.path), hook.path == here.path(HOOK)
        told.append({"path": hook.path, "of": "vfio-preflight" if ours else _project(text)})
        if ours:
            continue
        if is_copy(hook.path):
            yield found("backup-runs", path=hook.path)
        elif any(word in text for word in OURS):
            yield found("hook-twice", path=hook.path)
    yield Fact("hooks", told)


def is_copy(path: str) -> bool:
    """Whether a hook's name is that of a copy of something."""
    directory, name = os.path.split(path)
    perhaps = PERHAPS.fullmatch(name)
    return bool(COPIES.fullmatch(name)) or (
        perhaps is not None and os.path.lexists(os.path.join(directory, perhaps[1]))
    )


def _text(path: str) -> bytes:
    try:
        return read_regular(path)
    # A large one is a program, and none of those that are known.
    except OSError:
        return b""


def _project(text: bytes) -> str:
    return next((name for word, name in PROJECTS if word.lower() in text.lower()), "")
