"""QEMU's and libvirt's lines about failed migrations, found in any text and put into plain words.

Lines that belong together are joined: the byte that is wrong, then the device it was wrong in. All
others are in ``table``.

Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ...osutil.light import NamedTuple
from ...pci.atomics import ALL, devcap2_bits
from ...pci.registers import locate
from ...pci.space import PCI_CONFIG_SPACE_SIZE
from ..model.atomics import DEVCAP2
from ..model.vfio_pci import Mismatch
from .table import EQUAL, MESSAGES, Message


class Explanation(NamedTuple):
    """One line (``line`` counted from 1) in plain words: what it says, why, what to do."""

    line: int
    quote: str
    kind: str
    what: str
    why: str
    remedy: str


# Characters around its literal in which a pattern is looked for.
_AROUND = 512
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
        EQUAL,
    )


def _bad_config_data(
    number: int, found: re.Match[str], device: str, config: bytes | None
) -> Explanation:
    values = {name: int(value, 16) for name, value in found.groupdict().items()}
    mismatch = Mismatch(**values)
    if _is_of_a_root(mismatch, device):
        return Explanation(number, found[0], "bad-config-data", *_of_a_root(mismatch, device))
    subject = f" of {device}" if device else ""
    what = (
        f"{_register(mismatch, config)}{subject}: the source sent"
        f" {mismatch.stream:02x}, the destination's device has {mismatch.device:02x}"
    )
    why, remedy = _reason(mismatch, config)
    return Explanation(number, found[0], "bad-config-data", what, why, remedy)


def _is_of_a_root(mismatch: Mismatch, device: str) -> bool:
    """Whether it is a root port's register, in which AtomicOps alone differ."""
    places = [at for name, at in DEVCAP2.items() if f" {name} device" in device]
    if not places or mismatch.offset < places[0]:
        return False
    bits = (mismatch.stream ^ mismatch.device) << 8 * (mismatch.offset - places[0])
    return not bits & ~devcap2_bits(ALL)


def _of_a_root(mismatch: Mismatch, device: str) -> tuple[str, str, str]:
    return (
        f"byte {mismatch.offset:#x}, Device Capabilities 2, AtomicOps of {device}: the source sent"
        f" {mismatch.stream:02x}, the destination's has {mismatch.device:02x}",
        "QEMU has the guest's root port say which AtomicOps the host's root completes for the VFIO"
        " device below it, and the two hosts differ in that",
        "choose a host whose root ports complete the same AtomicOps (lspci -vv: AtomicOpsCap)",
    )


def _register(mismatch: Mismatch, config: bytes | None) -> str:
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
            f"give the device's config state (--state FILE) to see which register it is; {EQUAL}",
        )
    if config is not None and _is_vsc_body(mismatch.offset, config):
        return (
            "it is Vendor Specific Information, which QEMU 9.1 and newer skip (skip-vsc-check),"
            " unless the machine type is 9.0 or older",
            "use equal drivers on both hosts, or, if the vendor promises that running guests may"
            " meet other Vendor Specific Information, let the hook mend it (fail = mend)",
        )
    return "the guest has seen the source's value and may rely on it", EQUAL


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
