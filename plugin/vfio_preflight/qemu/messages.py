"""QEMU's and libvirt's lines about failed migrations, found in any text and put into plain words.

A table of patterns, in old and new wording: 11.1 says "Failed to load vmstate version_id" where
older releases write "Failed to load PCIDevice:config", and hands to libvirt what else stands in the
guest's log alone. Lines that belong together are joined: the byte that is wrong, then the device
it was wrong in.

Pure: text in, values out. Sources: QEMU 10.0.2 and 11.1, ``hw/pci/pci.c``, ``migration/savevm.c``,
``migration/vmstate.c``, ``hw/vfio/migration.c``; libvirt 11.3, ``src/qemu/qemu_capabilities.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..osutil.light import NamedTuple
from ..pci.registers import locate
from ..pci.space import PCI_CONFIG_SPACE_SIZE
from .model.vfio_pci import Mismatch


class Explanation(NamedTuple):
    """One line (``line`` counted from 1) in plain words: what it says, why, what to do."""

    line: int
    quote: str
    kind: str
    what: str
    why: str
    remedy: str


class Message(NamedTuple):
    """A kind of line: how to find it, and what it means; texts take the pattern's groups.

    ``literal`` is a piece that every such line has. Only around it is there a search for
    ``pattern``, in which no repetition is without a bound: lines of a log may have any length.
    """

    kind: str
    literal: str
    pattern: re.Pattern[str]
    what: str
    why: str
    remedy: str


# Characters around its literal in which a pattern is looked for.
_AROUND = 512
_DEVICE = r"(?:(?P<device>[0-9a-fA-F:.-]{1,64}): )?"
_QUOTED = r"'(?P<{}>[^']{{1,256}})'"
_WHY_LACKING = (
    "it is older than the QEMU the guest was started with, or so new that it has dropped the type,"
    " or another distributor's"
)
_REMEDY_LACKING = "migrate to a host whose QEMU has the machine type"
_UNSUPPORTED = "[Uu]nsupported machine type"
_MACHINE = r"(?P<machine>[\w.+-]{1,64})"

# pci.c prints with %x, so a byte has one digit or two.
_BAD_CONFIG_DATA = re.compile(
    r"get_pci_config_device: Bad config data: i=0x(?P<offset>[0-9a-f]{1,3})"
    r" read: (?P<stream>[0-9a-f]{1,2}) device: (?P<device>[0-9a-f]{1,2})"
    r" cmask: (?P<cmask>[0-9a-f]{1,2}) wmask: (?P<wmask>[0-9a-f]{1,2})"
    r" w1cmask: ?(?P<w1cmask>[0-9a-f]{1,2})"
)
_LOADING = re.compile(
    r"error while loading state (?:for instance 0x[0-9a-f]{1,8} of device|section id \d{1,10})"
    r" ?[('](?P<device>[^')]{1,256})[')]"
)

_EQUAL = (
    "use equal drivers, firmware and device configuration on both hosts; 'vfio-preflight check' on"
    " the guest predicts this before a migration"
)

MESSAGES: tuple[Message, ...] = (
    Message(
        "unknown-section",
        "Unknown savevm section",
        re.compile(
            rf"Unknown savevm section or instance {_QUOTED.format('device')}"
            r" (?P<instance>\d{1,10})"
        ),
        "the source sent the state of '{device}', which the destination's guest does not have",
        "source and destination were started with different devices, or with the same ones at other"
        " PCI addresses, or a VFIO device there has no migration support",
        "compare the guest's XML on both hosts, hot-plugged devices included",
    ),
    Message(
        "vfio-not-supported",
        "VFIO migration is not supported",
        re.compile(rf"{_DEVICE}VFIO migration is not supported(?: in kernel)?"),
        "the kernel driver of VFIO device {device} does not support migration",
        "it does not answer VFIO_DEVICE_FEATURE_MIGRATION: plain vfio-pci never does, and a"
        " vendor's driver only for some devices and settings",
        "bind the device to its vendor's VFIO driver (mlx5_vfio_pci, a vGPU manager, …), or detach"
        " it from the guest before migrating",
    ),
    Message(
        "vfio-not-supported",
        "VFIO device doesn't support migration",
        re.compile(rf"{_DEVICE}VFIO device doesn't support migration"),
        "VFIO device {device} does not support migration",
        "QEMU before 8.0 knows only the first VFIO migration protocol, which kernels have dropped",
        "use a newer QEMU, or detach the device before migrating",
    ),
    Message(
        "vfio-disabled",
        "Migration is disabled for VFIO device",
        re.compile(rf"{_DEVICE}Migration is disabled for VFIO device"),
        "migration of VFIO device {device} was switched off",
        "the guest has enable-migration=off for it",
        "remove the property, or detach the device before migrating",
    ),
    Message(
        "vfio-no-dirty-tracking",
        "VFIO device doesn't support device and IOMMU dirty",
        re.compile(rf"{_DEVICE}VFIO device doesn't support device and IOMMU dirty"),
        "neither VFIO device {device} nor the IOMMU tracks which memory the device writes",
        "without that QEMU would have to send all memory in the time the guest stands still",
        "use an IOMMU with dirty tracking (iommufd), or accept the pause with enable-migration=on",
    ),
    Message(
        "machine-differs",
        "Machine type received is",
        re.compile(
            rf"Machine type received is {_QUOTED.format('received')}"
            rf" and local is {_QUOTED.format('local')}"
        ),
        "the guest runs with machine type {received} on the source and {local} on the destination",
        "a guest's machine type cannot change while it runs",
        "start the destination with machine type {received}; give the guest a versioned name",
    ),
    Message(
        "machine-missing",
        "does not support machine type",
        re.compile(
            rf"[Ee]mulator {_QUOTED.format('emulator')} does not support machine type"
            rf" {_QUOTED.format('machine')}"
        ),
        "{emulator} on the destination has no machine type {machine}",
        _WHY_LACKING,
        _REMEDY_LACKING,
    ),
    *(
        Message(
            "machine-missing",
            "nsupported machine type",
            re.compile(pattern),
            f"the emulator {lacks}",
            _WHY_LACKING,
            _REMEDY_LACKING,
        )
        for pattern, lacks in (
            # Today's QEMU names it, some older repeat the option, and some (7.2) say no more.
            (rf"{_UNSUPPORTED}:? ['\"]{_MACHINE}['\"]", "has no machine type {machine}"),
            (
                rf"-(?:machine|M) (?:type=)?{_MACHINE}(?:,[^:]{{0,256}})?: {_UNSUPPORTED}",
                "has no machine type {machine}",
            ),
            (_UNSUPPORTED, "lacks the guest's machine type, or its accelerator"),
        )
    ),
    Message(
        "not-realised",
        ": failed to add PCI capability ",
        re.compile(
            r"vfio (?P<device>[0-9a-fA-F:.-]{1,64}): failed to add PCI capability"
            r" (?P<id>0x[0-9a-f]{1,2})\[0x[0-9a-f]{1,4}\]@(?P<offset>0x[0-9a-f]{1,4}):"
            r" (?P<reason>[^\r\n]{1,256})"
        ),
        "QEMU refuses VFIO device {device} for its PCI capability {id} at {offset}: {reason}",
        "QEMU cannot present it to a guest at that place of the configuration space",
        "look at it ('vfio-preflight state {device}'); repair the device's driver or firmware, or"
        " choose another device",
    ),
    Message(
        "load-failed",
        ": Failed to load device config space",
        re.compile(r"(?P<device>[0-9a-fA-F:.-]{1,64}): Failed to load device config space"),
        "the configuration space of VFIO device {device} was not accepted",
        "the line before it says which byte; with QEMU before 11.1 it stands in the guest's log on"
        " the destination alone",
        _EQUAL,
    ),
    Message(
        "load-failed",
        "Failed to load ",
        re.compile(
            r"Failed to load (?P<what>vmstate version_id: ?\d{1,10}|[\w/-]{1,64}:[\w/ -]{1,64})"
        ),
        "QEMU could not take over a part of the guest's state ({what})",
        "it is what encloses the failure that another line names",
        "look for 'Bad config data' or another first cause above it",
    ),
    Message(
        "migration-failed",
        "load of migration failed",
        re.compile(r"load of migration failed(?:: (?P<detail>[^\r\n]{1,256}))?"),
        "QEMU on the destination stopped loading; the guest kept running on the source",
        "the cause stands in /var/log/libvirt/qemu/GUEST.log on the destination",
        "run 'vfio-preflight explain' on that log",
    ),
)


def explain(text: str, config: bytes | None = None) -> Iterator[Explanation]:
    """Explain every line of ``text`` that is known, in order; lines end with ``\\n`` alone.

    ``config`` is the configuration space of the device in question, source's or destination's: with
    it, bytes behind the header are given the names of their capability and register.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        bad = _BAD_CONFIG_DATA.search(line)
        if bad is not None:
            # pci.c knows the byte, savevm.c the section: the device's name comes some lines later.
            device = _device_named_after(lines[number : number + 8])
            yield _bad_config_data(number + 1, bad, device, config)
            continue
        loading = _LOADING.search(line)
        if loading is not None:
            yield _loading(number + 1, loading)
        yield from _known(number + 1, line)


def _known(number: int, line: str) -> Iterator[Explanation]:
    for message in MESSAGES:
        at = line.find(message.literal)
        if at < 0:
            continue
        end = at + len(message.literal) + _AROUND
        found = message.pattern.search(line, max(0, at - _AROUND), end)
        if found is not None:
            groups = {name: value or "(not named)" for name, value in found.groupdict().items()}
            yield Explanation(number, found[0], message.kind, *_filled(message, groups))
            return


def _filled(message: Message, groups: Mapping[str, str]) -> tuple[str, str, str]:
    texts = (message.what, message.why, message.remedy)
    what, why, remedy = (text.format(**groups) for text in texts)
    return what, why, remedy


def _device_named_after(lines: list[str]) -> str:
    """The device that the lines behind a bad byte name; the next bad byte is another's."""
    for line in lines[1:]:
        if _BAD_CONFIG_DATA.search(line):
            break
        found = _LOADING.search(line)
        if found is not None:
            return guest_device(found["device"])
    return ""


def guest_device(path: str) -> str:
    """``0000:00:01.0:00.0/vfio`` in words: the path from the root bus down to the device.

    QEMU's ids are slot and function on each bridge's way (``pcibus_get_dev_path``), and bus numbers
    only of the root, because the guest may renumber all others.
    """
    place, _, name = path.partition("/")
    steps = place.split(":")
    if len(steps) < 3:
        return f"'{path}'"
    domain, bus, *hops = steps
    way = (
        f"slot {hops[-1]}"
        if len(hops) == 1
        else f"slot {hops[-1]} behind {' and '.join(hops[:-1])}"
    )
    return (
        f"the {name or 'PCI'} device in {way} of root bus {domain}:{bus} (guest's view, '{path}')"
    )


def _loading(number: int, found: re.Match[str]) -> Explanation:
    return Explanation(
        number,
        found[0],
        "load-failed",
        f"the state of {guest_device(found['device'])} was not accepted",
        "the line before it says why",
        _EQUAL,
    )


def _bad_config_data(
    number: int, found: re.Match[str], device: str, config: bytes | None
) -> Explanation:
    values = {name: int(value, 16) for name, value in found.groupdict().items()}
    mismatch = Mismatch(**values)
    subject = f" of {device}" if device else ""
    what = (
        f"{_register(mismatch, config)}{subject}: the source sent"
        f" {mismatch.stream:02x}, the destination's device has {mismatch.device:02x}"
    )
    why, remedy = _reason(mismatch, config)
    return Explanation(number, found[0], "bad-config-data", what, why, remedy)


def _register(mismatch: Mismatch, config: bytes | None) -> str:
    # Up to 0x3f all devices have the same registers; beyond, only their lists tell.
    if config is None and mismatch.offset >= 0x40:
        area = (
            "capabilities" if mismatch.offset < PCI_CONFIG_SPACE_SIZE else "extended capabilities"
        )
        return f"byte {mismatch.offset:#x}, among the {area}"
    if mismatch.offset >= len(config or bytes(PCI_CONFIG_SPACE_SIZE)):
        return f"byte {mismatch.offset:#x}, beyond the given config state"
    place = locate(config or bytes(PCI_CONFIG_SPACE_SIZE), mismatch.offset)
    shift = 8 * (mismatch.offset - place.start)
    fields = place.fields((mismatch.stream ^ mismatch.device) << shift)
    named = f" ({', '.join(fields)})" if fields else ""
    return f"byte {mismatch.offset:#x}, {place.where}, {place.register}{named}"


def _reason(mismatch: Mismatch, config: bytes | None) -> tuple[str, str]:
    if config is None and mismatch.offset >= 0x40:
        return (
            "QEMU compares it because the guest's driver may rely on it",
            f"give the device's config state (--state FILE) to see which register it is; {_EQUAL}",
        )
    if config is not None and _is_vsc_body(mismatch.offset, config):
        return (
            "it is Vendor Specific Information, which QEMU 9.1 and newer skip (skip-vsc-check),"
            " unless the machine type is 9.0 or older",
            "use equal drivers on both hosts, or, if the vendor promises that running guests may"
            " meet other Vendor Specific Information, let the hook mend it (fail = mend)",
        )
    return "the guest has seen the source's value and may rely on it", _EQUAL


def _is_vsc_body(offset: int, config: bytes) -> bool:
    if offset >= min(len(config), PCI_CONFIG_SPACE_SIZE):
        return False
    place = locate(config, offset)
    return (
        place.capability is not None
        and place.capability.name == "VSC"
        # ID, next pointer and length stay compared (vfio_add_vendor_specific_cap).
        and offset >= place.capability.offset + 3
    )
