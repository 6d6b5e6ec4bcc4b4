"""Asks the destination's own hook about a guest, without migrating anything (see ``probe``).

A stopped placeholder domain, defined temporarily on the source, carries the guest's VFIO devices,
machine type and record to the destination as an offline migration. The hook there refuses it with
the answer. Without a hook, libvirt defines the placeholder on the destination: it is removed again
and the answer is that there is no hook.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from lxml import etree

from ..guest.domain import Guest, parse_domain, read_guest, to_bytes
from ..guest.metadata import ELEMENT, NAMESPACE, PREFIX, PROBE, PROBE_NAME_PREFIX, find_ours
from ..hook.probe import MARK, decode
from ..judge import codes
from ..judge.checks.machine import machine_missing
from ..judge.checks.unjudged import check_unjudged
from ..judge.findings import Finding, Report
from ..judge.policy import Decision
from ..judge.verdicts import ALLOW, ALWAYS, BLOCK
from ..osutil.light import TYPE_CHECKING
from ..qemu.emulator.machines import EmulatorFacts, MachineType
from ..report.schema import ReportDict, as_dict, completed
from ..report.text import blocked
from .connection import LibvirtError, library
from .leftovers import marks
from .workers import ENDING, defining

if TYPE_CHECKING:
    from typing import Any

# What the placeholder keeps: all that determines the VFIO devices, their places and their names.
# Everything else is removed, and with it what refers to it: libvirt would not define that.
KEPT = ("metadata", "memory", "iommufd", "os", "devices")
KEPT_DEVICES = (
    "emulator",
    "controller[@type='pci']",
    "hostdev",
    "interface[@type='hostdev']",
    "interface[@type='network']",
    "iommu",
)
# What counts of an IOMMU's driver: the bus that it serves. The rest would need features, of the
# interrupt controller for one, that are removed. PASID may be any attribute's (guest.viommu).
KEPT_OF_IOMMU = ("pciBus", "pasid")
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
MAX_PARTS = 1000
# How often an answer is asked for whose parts do not fit together.
ATTEMPTS = 3


def ask(
    source: Any,  # noqa: ANN401 - libvirt-python
    destination: Any,  # noqa: ANN401
    xml: str,
    trial: bool = False,
    bandwidth: int = 0,
    otherwise: Callable[[Any], ReportDict | str] = lambda _destination: "",
) -> ReportDict:
    """The destination's report on the guest whose migratable XML is ``xml``.

    ``bandwidth`` is the migration's, in MiB/s, 0 where it is not known. ``otherwise`` judges where
    no hook answers, or says why it cannot.
    """
    # No networks: the destination's networks decide, and its hook looks them up.
    guest = read_guest(parse_domain(xml.encode()))
    # The machine type first: libvirt checks it before it calls the hook.
    lacking = _machine_lacking(destination, guest)
    if lacking is not None:
        return lacking
    # Nothing to ask about: what is not judged here is not judged there.
    if not guest.devices and not guest.unresolved:
        return _nothing_judged(guest)
    stand_in = _StandIn(source, destination, xml, trial, bandwidth)
    report = _answered(stand_in)
    if report is None:
        judged = otherwise(destination)
        return _no_hook(guest, judged) if isinstance(judged, str) else judged
    # The report is about the placeholder; name and UUID are those of the guest that was asked for.
    return completed({**report, "guest": guest.name, "uuid": guest.uuid}, guest)


def _answered(stand_in: _StandIn) -> ReportDict | None:
    """The report of which a hook gives a part at a time; None where none answers."""
    for _ in range(ATTEMPTS):
        text, part, parts = "", 0, 1
        while part < parts:
            answer = stand_in.ask(part)
            if answer is None:
                return None
            _part, parts, piece = answer
            text, part = text + piece, part + 1
        try:
            return decode(text)
        # Parts of two reports: a device was taken, or a file changed, between two questions.
        except ValueError as error:
            unreadable = error
    raise LibvirtError(
        f"the destination's answer cannot be read: {unreadable}; it may have changed meanwhile:"
        " ask again"
    )


class _StandIn:
    """The stopped domain that is sent; it is gone from both hosts after each question."""

    def __init__(
        self,
        source: Any,  # noqa: ANN401
        destination: Any,  # noqa: ANN401
        xml: str,
        trial: bool,
        bandwidth: int,
    ) -> None:
        self.libvirt = library()
        self.source, self.destination = source, destination
        # A new UUID: libvirt refuses a second domain with the guest's own.
        self.uuid = str(uuid.uuid4())
        self._xml = partial(stand_in_xml, xml, self.uuid, trial=trial, bandwidth=bandwidth)

    def ask(self, part: int) -> tuple[int, int, str] | None:
        """One part of the answer: its number, how many there are, its text; None without a hook."""
        # Until the placeholder is removed: a signal in between would leave it on both hosts.
        with _uninterrupted():
            return self._ask(part)

    def _ask(self, part: int) -> tuple[int, int, str] | None:
        libvirt = self.libvirt
        # Offline: no QEMU is started; it requires PERSIST_DEST.
        flags = libvirt.VIR_MIGRATE_OFFLINE | libvirt.VIR_MIGRATE_PERSIST_DEST
        try:
            domain = self.source.defineXML(self._xml(part=part))
        except libvirt.libvirtError as error:
            raise LibvirtError(f"the stand-in for the guest cannot be defined: {error}") from error
        try:
            domain.migrate3(self.destination, {}, flags)
        except libvirt.libvirtError as error:
            return _answer(str(error))
        finally:
            # Also after success: without a hook the destination has defined the placeholder.
            self._remove()
        return None

    def _remove(self) -> None:
        for connection in (self.source, self.destination):
            # On one of the two there normally is none.
            with suppress(self.libvirt.libvirtError):
                connection.lookupByUUIDString(self.uuid).undefine()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay signals that end the program until the domain defined in here is removed again.

    No question takes longer than the destination's hook may (``[hook] deadline``). Python itself
    would not see a signal before libvirt returns either.
    """
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    # Python-level handlers run only when libvirt's C function has returned.
    before = {number: signal.signal(number, note) for number in ENDING}
    try:
        with defining:
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _answer(message: str) -> tuple[int, int, str]:
    """Find the hook's answer in libvirt's message. Raises :class:`LibvirtError` if it has none."""
    # libvirt puts the hook's stderr into its error message, behind words of its own.
    words = message.split(MARK, 1)[1].split() if MARK in message else []
    refused = message.partition(f"{blocked('migration')}: ")[2]
    if not words and refused:
        raise LibvirtError(f"the destination's hook could not answer: {refused.splitlines()[0]}")
    if len(words) < 3 or not words[0].isdigit() or not words[1].isdigit():
        raise LibvirtError(f"the destination refused before its hook could answer: {message}")
    return int(words[0]), min(int(words[1]), MAX_PARTS), words[2]


def stand_in_xml(
    xml: str, identifier: str, part: int, trial: bool = False, bandwidth: int = 0
) -> str:
    """The placeholder's XML: the guest's, without everything that the check does not need."""
    root = parse_domain(xml.encode())
    for child in list(root):
        # qemu:commandline and qemu:override stay: they add devices and properties.
        if child.tag not in KEPT and not str(child.tag).startswith(QEMU):
            root.remove(child)
    _reduce_os(root.find("os"))
    _reduce_devices(root.find("devices"))
    name = etree.Element("name")
    name.text = PROBE_NAME_PREFIX + identifier
    number = etree.Element("uuid")
    number.text = identifier
    root.insert(0, name)
    root.insert(1, number)
    probe = etree.SubElement(_ours(root), f"{{{NAMESPACE}}}{PROBE}", part=str(part))
    for attribute, value in marks().items():
        probe.set(attribute, value)
    if trial:
        probe.set("trial", ALWAYS)
    if bandwidth:
        probe.set("bandwidth", str(bandwidth))
    return to_bytes(root).decode()


def _reduce_os(system: etree._Element | None) -> None:
    if system is not None:
        _keep_only(system, ("type",))
        # firmware='efi' has libvirt look for one that fits, and that needs what was removed.
        system.attrib.clear()


def _reduce_devices(devices: etree._Element | None) -> None:
    if devices is None:
        return
    display = _display(devices)
    _keep_only(devices, KEPT_DEVICES)
    # The NUMA nodes that expander buses refer to were removed.
    for target in devices.findall("controller/target"):
        _remove(target, "node")
    for driver in devices.findall("iommu/driver"):
        for attribute in list(driver.attrib):
            if not any(name.lower() in str(attribute).lower() for name in KEPT_OF_IOMMU):
                del driver.attrib[attribute]
    # Devices on other buses count for aliases only; libvirt gives them new addresses, and what
    # these need: theirs may name a hub or a controller that is gone.
    for hostdev in devices.findall("hostdev"):
        if hostdev.get("type") in ("usb", "scsi"):
            _remove(hostdev, "address")
    # Without one libvirt adds a USB controller, whose address could clash with a kept one.
    if devices.find("hostdev[@type='usb']") is None:
        etree.SubElement(devices, "controller", type="usb", model="none")
    # Without one libvirt adds a memory balloon, with an address of its own.
    etree.SubElement(devices, "memballoon", model="none")
    devices.extend(display)


def _display(devices: etree._Element) -> list[etree._Element]:
    """Graphics, reduced to the type: libvirt refuses ``display='on'`` without."""
    graphics = devices.find("graphics")
    if graphics is None or devices.find("hostdev[@display='on']") is None:
        return []
    # model type='none': libvirt otherwise adds a video device, with an address of its own.
    video = etree.Element("video")
    etree.SubElement(video, "model", type="none")
    return [etree.Element("graphics", type=graphics.get("type", "")), video]


def _remove(element: etree._Element, tag: str) -> None:
    for child in element.findall(tag):
        element.remove(child)


def _keep_only(element: etree._Element, paths: tuple[str, ...]) -> None:
    kept = {child for path in paths for child in element.findall(path)}
    for child in list(element):
        if child not in kept:
            element.remove(child)


def _ours(root: etree._Element) -> etree._Element:
    ours = find_ours(root)
    if ours is not None:
        return ours
    metadata = root.find("metadata")
    if metadata is None:
        metadata = etree.SubElement(root, "metadata")
    return etree.SubElement(metadata, f"{{{NAMESPACE}}}{ELEMENT}", nsmap={PREFIX: NAMESPACE})


def _machine_lacking(destination: Any, guest: Guest) -> ReportDict | None:  # noqa: ANN401
    """libvirt refuses a machine type that it lacks before it calls the hook, so ask libvirt."""
    # domcapabilities would need a call for each emulator; capabilities list all machines.
    names = _machines(parse_capabilities(destination.getCapabilities()), guest)
    if not names or guest.machine in names:
        return None
    types = {name: MachineType(name, None, False, False, ()) for name in names}
    facts = EmulatorFacts(guest.emulator, "", "", types, {}, {}, False)
    whose = f"emulator {guest.emulator}"
    finding = machine_missing(guest, facts, whose)
    return _report(guest, (finding,), Decision(BLOCK))


def parse_capabilities(xml: str) -> etree._Element:
    """libvirt's capabilities, which are long and trusted."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(xml.encode(), parser)


def _machines(capabilities: etree._Element, guest: Guest) -> set[str]:
    found: set[str] = set()
    for arch in capabilities.iterfind("guest/arch"):
        if guest.arch and arch.get("name") != guest.arch:
            continue
        emulators = {node.text for node in arch.iter("emulator")}
        # Another emulator of the destination may have other machine types.
        if guest.emulator and guest.emulator not in emulators:
            continue
        for machine in arch.iter("machine"):
            # An alias such as "q35" has the name that it stands for in the canonical attribute.
            found.update(name for name in (machine.text, machine.get("canonical")) if name)
    return found


def _nothing_judged(guest: Guest) -> ReportDict:
    return _report(guest, check_unjudged(guest), Decision(ALLOW))


def _no_hook(guest: Guest, why: str) -> ReportDict:
    more = f"; nor can its facts be had: {why}" if why else ""
    finding = Finding(
        codes.DESTINATION_UNKNOWN,
        f"no hook answers there{more}",
        "install vfio-preflight there",
    )
    # Nobody is there to decide.
    return _report(guest, (finding,), None)


def _report(guest: Guest, findings: tuple[Finding, ...], decision: Decision | None) -> ReportDict:
    head = (guest.name, guest.uuid, guest.machine, guest.emulator)
    report = Report(*head, findings, (), guest.unjudged)
    return as_dict(report, decision)
