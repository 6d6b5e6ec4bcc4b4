"""``doctor --self-test``: the hooks of this host called as libvirt calls them, for made-up guests.

Ours judges two guests with a device that no host has: one of which record and state file say the
same, one that differs in a byte. Emulator, configuration and policy are the host's own; state
files, history and what is left in /run are not (:mod:`.private`), so that nothing of it stays. The
other hooks are called for a guest without devices, at ``migrate`` and ``restore begin``, as a dry
run (``check --to``) has libvirt call them.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

from lxml import etree

from ...gather.here import ask_emulator
from ...guest.metadata import set_record, write_record
from ...guest.record import Record, RecordEntry
from ...guest.traits import Traits
from ...guest.xml import parse_domain
from ...hook.chain import printed
from ...judge.checks.evidence import is_weaker
from ...judge.verdicts import BLOCK, FAIL, MEND, PASS, UNKNOWN
from ...osutil.light import NamedTuple
from ...osutil.text import printable
from ...pci.formats import to_json
from ...pci.state import ConfigState
from ...qemu.emulator.facts import EmulatorFacts
from ...qemu.emulator.machines import newest_machine
from ...qemu.model.boards import BOARDS
from ..installation import proof
from ..installation.payload import HOOK
from .devices import WITHIN, becomes_of_saves, emulators_of, release_of
from .finding import Fact, Found, UnseenError, found
from .here import Here
from .neighbours import others
from .private import privately

NAME = "vfio-preflight-self-test"
# No mediated device has it: it is not of any version of RFC 9562.
DEVICE = "00000000-0000-0000-8000-5e1f7e570000"
UUID = "00000000-0000-4000-8000-5e1f7e570000"
KEY = "0000:00:05.0"
# Seconds for another hook: nobody would have libvirt wait for longer.
PATIENCE = 10
# Vendor and device of QEMU's own bridge, with no capability: all there is to compare is the header.
CONFIG = bytes.fromhex("361b0100 00000000 01000006 00000000").ljust(256, b"\0")
REVISION = 0x08
DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>65536</memory>
  <os><type arch='{arch}' machine='{machine}'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
      <source><address uuid='{device}'/></source>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>
    </hostdev>
  </devices>
</domain>
"""


class Case(NamedTuple):
    """A made-up guest: what is said of it, whether its source's device differs, and the verdict."""

    what: str
    differs: bool
    verdict: str


CASES = (
    Case("has the same device here", False, PASS),
    Case("has a device here that differs in a byte", True, FAIL),
)


class Machine(NamedTuple):
    """What a made-up guest runs on."""

    emulator: str
    machine: str
    arch: str


def judged(here: Here) -> Iterator[Found | Fact]:
    """Whether the hook lets pass and blocks as the configuration has it; and how long it takes."""
    machine = _machine(here)
    settings = here.settings
    # Only root looks in there, as whoever makes it first.
    os.makedirs(here.path(settings.runtime), mode=0o700, exist_ok=True)
    kept = (settings.states, settings.catalogue, settings.history, settings.runtime)

    def work() -> list[tuple[int, float, str]]:
        path = here.path(settings.states, f"{DEVICE}.json")
        with open(path, "w", encoding="ascii") as file:
            file.write(to_json(ConfigState(CONFIG, (), "vfio", "made up")))
        return [_call(here, case, machine) for case in CASES]

    told = []
    for case, (status, seconds, said) in zip(CASES, privately(map(here.path, kept), work)):
        wanted = _wanted(here, case)
        told.append({"guest": case.what, "status": status, "seconds": seconds, "said": said})
        if status != wanted:
            did = f"ended with {status} for a made-up guest that {case.what}"
            values = {"did": did, "wanted": str(wanted), "said": said or "nothing"}
            yield found("hook-wrong", **values, reinstall=here.reinstall)
    yield Fact("self-test", told)


def _machine(here: Here) -> Machine:
    deadline = time.monotonic() + WITHIN
    for path in emulators_of(here).values():
        facts = ask_emulator(path, here.settings, deadline)
        if not isinstance(facts, EmulatorFacts):
            continue
        for board in (board for board in BOARDS if path in board.emulators and board.tried):
            newest = newest_machine(facts, like=f"{board.name}-0.0")
            if newest is not None:
                return Machine(path, newest.name, board.target.architectures[0])
    raise UnseenError("the self-test needs an emulator that answers, and this host has none")


def _wanted(here: Here, case: Case) -> int:
    """The exit status by the host's policy."""
    settings = here.settings
    given = ConfigState(CONFIG, (), "file", "")
    # Of a state that does not count nothing is known.
    verdict = UNKNOWN if is_weaker(given, settings.evidence) else case.verdict
    return 1 if settings.policy[verdict] in (BLOCK, MEND) else 0


def _call(here: Here, case: Case, machine: Machine) -> tuple[int, float, str]:
    sent = bytearray(CONFIG)
    sent[REVISION] ^= case.differs
    names = {"name": NAME, "uuid": UUID, "device": DEVICE}
    root = parse_domain(DOMAIN.format(**names, **machine._asdict()).encode())
    state = ConfigState(bytes(sent), (), "vfio", "made up")
    entry = RecordEntry(state, DEVICE, NAME, traits=Traits("1b36", "0001", driver="made-up"))
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = Record({KEY: entry}, NAME, when)
    set_record(root, write_record(record))
    begun = time.monotonic()
    done = _run(here.path(HOOK), "migrate", etree.tostring(root), proof.SECONDS)
    seconds = round(time.monotonic() - begun, 4)
    said = done.stderr.decode("utf-8", "replace").partition("\n")[0]
    return done.returncode, seconds, printable(said, 300)


def _run(
    hook: str, operation: str, document: bytes, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - what libvirt would run
        (hook, NAME, operation, "begin", "-"),
        input=document,
        capture_output=True,
        timeout=seconds,
        cwd="/",
        env=proof.ENVIRONMENT,
        check=False,
    )


def chain(here: Here) -> Iterator[Found | Fact]:
    """What the other hooks do with a guest that is none of theirs."""
    release = release_of(here)
    becomes = becomes_of_saves(release)
    loses = f", and libvirt {release} then {becomes} its managed save" if release else ""
    told = []
    for path in others(here):
        for operation in ("migrate", "restore"):
            begun = time.monotonic()
            out, how = _tried(path, operation)
            seconds = round(time.monotonic() - begun, 4)
            told.append({"path": path, "operation": operation, "how": how, "seconds": seconds})
            names = {"path": path, "operation": operation}
            if how:
                lost = loses if operation == "restore" else ""
                yield found("other-hook-fails", **names, how=how, loses=lost)
                break
            text = printed(out) if out.strip() else ""
            if text:
                yield found("other-hook-prints", **names, text=text)
                break
            if operation == "migrate" and path > here.path(HOOK) and _changes(out):
                yield found("later-hook-changes", path=path, earlier=_earlier(path))
    yield Fact("other-hooks", told)


def _tried(path: str, operation: str) -> tuple[bytes, str]:
    """What a hook printed; and how it failed, empty if it did not."""
    document = proof.PLAIN.replace(proof.PLAIN_NAME, NAME).encode()
    try:
        done = _run(path, operation, document, PATIENCE)
    except subprocess.TimeoutExpired:
        return b"", f"did not end within {PATIENCE} s"
    except OSError as error:
        return b"", f"cannot be run ({error.strerror})"
    if done.returncode < 0:
        return done.stdout, f"was killed by signal {-done.returncode}"
    return done.stdout, f"ended with {done.returncode}" if done.returncode else ""


def _changes(out: bytes) -> bool:
    """Whether a hook's output is other XML than it was given."""
    if not out.strip():
        return False
    given = proof.PLAIN.replace(proof.PLAIN_NAME, NAME).encode()
    try:
        return bool(_plain(out) != _plain(given))
    except etree.LxmlError:
        return True


def _plain(document: bytes) -> bytes:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    return bytes(etree.tostring(etree.fromstring(document, parser), method="c14n"))


def _earlier(path: str) -> str:
    """A name for a hook by which it runs before this one."""
    directory, name = os.path.split(path)
    made = os.path.join(directory, f"49-{name}")
    while os.path.lexists(made):
        made = os.path.join(directory, f"49-{os.path.basename(made)}")
    return made
