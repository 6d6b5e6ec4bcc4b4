"""What this host would judge by: its emulators, directories, state files and devices."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from ...errors import PreflightError
from ...gather.here import ask_emulator
from ...host import catalogue, history
from ...host.inventory import HostDevice, read_inventory
from ...host.sources import order
from ...host.sources.file import SUFFIXES
from ...host.sources.request import Request
from ...judge.verdicts import BLOCK, NEVER, UNKNOWN
from ...osutil import jsondir
from ...osutil.regular import read_regular
from ...pci.formats import MAX_FILE, parse
from ...pci.state import ConfigState, Missing
from ...qemu.emulator.machines import EmulatorFacts
from ...qemu.model.boards import BOARDS
from ..installation.launcher import quoted
from .finding import Fact, Found, Shell, UnseenError, found
from .here import Here, answer, aside, configured, install, opened, package_of, way_to

# Seconds for all emulators together; each takes some 0.1 the first time, and nothing after that.
WITHIN = 20.0
# Of libvirt's releases, whether a managed save is deleted when a hook fails at "restore begin": as
# was seen. What lies between two of them is not known.
SEEN_TO_LOSE = (((9, 0, 0), False), ((11, 3, 0), True), ((12, 8, 0), False))
LOSES, MAY_LOSE, KEEPS = "deletes", "may delete", "keeps"
DEFINITIONS = "etc/libvirt/qemu"
_MAX_FILE = 32 << 20
DAEMONS = ("/usr/sbin/virtqemud", "/usr/sbin/libvirtd")


def emulators_of(here: Here) -> dict[str, str]:
    """The emulators of this host, the usual ones and those of its guests: by what they are, the
    first path of each. Raises UnseenError if there is none."""
    usual = dict.fromkeys(path for board in BOARDS for path in board.emulators)
    listed: dict[str, str] = {}
    for path in (*usual, *_named(here)):
        if os.path.exists(here.path(path)):
            listed.setdefault(os.path.realpath(here.path(path)), path)
    if not listed:
        raise UnseenError("there is none at the usual places, nor one that a guest names")
    return listed


def _named(here: Here) -> Iterator[str]:
    """The emulators that the definitions of guests name."""
    place = here.path(DEFINITIONS)
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        with suppress(OSError):
            text = read_regular(os.path.join(place, name), _MAX_FILE)
            for path in re.findall(rb"<emulator>(/[^<&]*)</emulator>", text):
                yield path.decode("utf-8", "surrogateescape")


def emulators(here: Here) -> Iterator[Found | Fact]:
    """Whether each emulator may be run, and answers."""
    told, deadline = {}, time.monotonic() + WITHIN
    for real, path in emulators_of(here).items():
        known = ask_emulator(path, here.settings, deadline)
        if isinstance(known, EmulatorFacts):
            told[path] = known.version
            continue
        told[path] = ""
        culprit = _changeable(real)
        if culprit:
            yield found("emulator-open", emulator=path, path=culprit, why=known.reason)
        else:
            package = package_of(here, real)
            mended = f"# put one that works at {quoted(path)}: it is of no package"
            command = install(here, package) if package else Shell(mended)
            yield found("emulator-silent", why=known.reason, install=command)
    yield Fact("emulators", told)


def _changeable(path: str) -> str:
    """What on the way to an emulator others than root can change, as osutil.executable sees it."""
    while True:
        info = os.lstat(path)
        if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022:
            return path
        if path == "/":
            return ""
        path = os.path.dirname(path)


def libvirt(here: Here) -> Iterator[Found | Fact]:
    """Which release of libvirt there is."""
    release = release_of(here)
    if not release:
        raise UnseenError(f"there is none of {', '.join(DAEMONS)}: nobody calls the hook")
    yield Fact("libvirt", {"version": release, "managed-save": becomes_of_saves(release)})


def release_of(here: Here) -> str:
    """The release of libvirt's daemon; empty if it is not known."""
    for path in DAEMONS:
        if os.access(here.path(path), os.X_OK):
            return answer(path, "--version").stdout.strip().rpartition(" ")[2]
    return ""


def becomes_of_saves(release: str) -> str:
    """What this release of libvirt does with a managed save when a hook fails at its restore;
    empty for no release."""
    numbers = tuple(int(part) for part in release.split(".") if part.isdecimal())
    if not numbers:
        return ""
    # Of the same minor release, the one that was seen; before the first and behind the last, those.
    below = [seen for seen in SEEN_TO_LOSE if seen[0][:2] <= numbers[:2]] or [SEEN_TO_LOSE[0]]
    above = [seen for seen in SEEN_TO_LOSE if seen[0][:2] >= numbers[:2]] or [SEEN_TO_LOSE[-1]]
    loses = {below[-1][1], above[0][1]}
    return MAY_LOSE if len(loses) > 1 else LOSES if True in loses else KEEPS


def directories(here: Here) -> Iterator[Found | Fact]:
    """Whether the directories that are written are directories, and root's alone."""
    settings = here.settings
    kept = (settings.states, settings.catalogue, settings.history, settings.cache, settings.runtime)
    below = [os.path.join(settings.history, name) for name in history.SUBDIRECTORIES]
    for name in (*kept, *below):
        path = here.path(name)
        wrong = way_to(path)
        if wrong:
            yield found("directory-none", path=wrong, aside=aside(wrong))
            continue
        if not os.path.lexists(path):
            continue
        problem = opened(path)
        if problem:
            yield found("directory-open", path=problem[0], why=problem[1])


def entries(here: Here) -> Iterator[Found | Fact]:
    """Whether what was stored can be read."""
    seen = here.path(here.settings.catalogue)
    sound = {name for name, _ in catalogue.entries(seen)}
    damaged = [(seen, name) for name in catalogue.all_names(seen) if name not in sound]
    past = here.path(here.settings.history)
    known = {name for name, _ in history.entries(past)}
    for place in (os.path.join(past, name) for name in history.SUBDIRECTORIES):
        damaged += [(place, name) for name in jsondir.names(place) if name not in known]
    for place, name in damaged:
        yield found("entry-damaged", path=os.path.join(place, f"{name}.json"))


def states(here: Here) -> Iterator[Found | Fact]:
    """Whether each state file is believed, and can be read."""
    place = here.path(here.settings.states)
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        path = os.path.join(place, name)
        if os.path.splitext(name)[1] not in SUFFIXES and not _names_device(name):
            continue
        try:
            problem = opened(path)
            if problem:
                yield found("state-open", file=path, path=problem[0], why=problem[1])
                continue
            parse(read_regular(path, MAX_FILE), path)
        except OSError as error:
            why = f"{path}: cannot be read: {error.strerror}"
            yield found("state-unread", path=path, why=why, aside=aside(path))
        except PreflightError as error:
            yield found("state-unread", path=path, why=str(error), aside=aside(path))


def _names_device(name: str) -> bool:
    """Whether a file without one of the usual endings is one for a PCI address."""
    return name[-2:-1] == "." and name[-1:].isdigit()


def devices(here: Here) -> Iterator[Found | Fact]:
    """What is known of the devices that a guest could be given, and by which evidence."""
    told, settings = [], here.settings
    for name, device in read_inventory(here.root).devices.items():
        if not (device.group and device.bound):
            continue
        known = _presented(here, name)
        grade = known.evidence if isinstance(known, ConfigState) else ""
        told.append({"device": name, "evidence": grade, "held": device.holder})
        blocks = settings.policy[UNKNOWN] == BLOCK
        # Otherwise the second gate reads what it presents. To one in use no guest can come.
        matters = not device.holder and (blocks or settings.second_gate == NEVER)
        if isinstance(known, Missing) and matters:
            yield _unknown(here, device, known.reason, blocks=blocks)
    yield Fact("devices", told)
    yield Fact("kernel", _ways(here))


def _presented(here: Here, name: str) -> ConfigState | Missing:
    settings = here.settings
    request = Request(name, here.root, settings.states, settings.catalogue, settings.open_devices)
    try:
        answered = order.read(request)
    except PreflightError as error:
        return Missing(UNKNOWN, str(error))
    assert answered.state is not None  # order.read raises otherwise
    return answered.state


def _unknown(here: Here, device: HostDevice, why: str, *, blocks: bool) -> Found:
    consequence = (
        "[policy] unknown = block refuses every guest that comes to it"
        if blocks
        else "second-gate = never lets every guest that comes to it pass unjudged"
    )
    listed = device.traits.type or device.identity
    edit = configured(here, "open-devices", " ".join([*here.settings.open_devices, listed]))
    words = {"device": device.name, "why": why, "consequence": consequence}
    return found("device-unknown", edit=edit, **words)


def _ways(here: Here) -> dict[str, object]:
    """Which ways there are to a device that QEMU has open (``host.descriptors``)."""
    nodes = here.path("dev/vfio/devices")
    return {
        "release": os.uname().release,
        "iommufd": os.path.isdir(nodes) and bool(os.listdir(nodes)),
        "groups": os.path.exists(here.path("dev/vfio/vfio")),
        "vfio": _is_character(here.path("dev/vfio/vfio")),
    }


def _is_character(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False
