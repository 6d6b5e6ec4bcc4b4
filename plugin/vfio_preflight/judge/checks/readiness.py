"""Whether the destination's device is there, free, and such that QEMU can have it, as of now.

For dry runs. A migration is not judged by it: libvirt refuses a device that is missing or in use
before any memory is sent, and a hook or an agent may make the device ready at ``prepare``, after
``migrate begin``. So what of that a hook would do is not touched by these findings.

Source: libvirt 11.3, ``virHostdevPreparePCIDevices``, ``virHostdevPrepareMediatedDevices``,
``networkAllocatePort``; Linux ``drivers/vfio/group.c``; devlink-port(8); mdevctl(8).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from ...guest.addresses import is_mdev
from ...guest.domain import GuestDevice
from ...guest.traits import Traits
from ...osutil.light import TYPE_CHECKING
from .. import codes
from ..facts import Facts
from ..findings import Finding, Report
from ..policy import Decision
from ..verdicts import BLOCK, FAIL, MEND, UNKNOWN, worst

if TYPE_CHECKING:
    from ...host.inventory import HostDevice, Inventory
    from ...host.pools import Pool

# Free devices that a person is shown.
_LISTED = 4
PLAIN = "vfio-pci"
_MDEV_BUS = "/sys/class/mdev_bus"


def with_readiness(
    report: Report,
    decision: Decision | None,
    facts: Facts,
    inventory: Inventory,
    networks: Sequence[str],
    given: Collection[str] = (),
) -> tuple[Report, Decision | None]:
    """``report`` with these findings; ``networks`` are those that the guest's interfaces name.

    Devices with a key in ``given`` are left out: what they present is made up.

    The decision is None where it would not come about: libvirt refuses what the hook lets pass.
    """
    found = {known.device.key: check_readiness(known.device, _traits(known.entry), inventory)
             for known in facts.devices if known.device.key not in given}  # fmt: skip
    own = tuple(check_pools(networks, inventory))
    devices = tuple(
        each._replace(findings=(*each.findings, *found.get(each.device.key, ())))
        for each in report.devices
    )
    report = report._replace(findings=(*report.findings, *own), devices=devices)
    verdict = worst(f.verdict for each in (own, *found.values()) for f in each)
    vain = decision is not None and (
        (verdict == FAIL and decision.action != BLOCK)
        or (verdict == UNKNOWN and decision.action == MEND)
    )
    return report, None if vain else decision


def _traits(entry: object) -> Traits:
    """The traits of the source's device by the guest's record, empty without one."""
    return getattr(entry, "traits", None) or Traits()


def check_readiness(device: GuestDevice, sent: Traits, inventory: Inventory) -> tuple[Finding, ...]:
    """Findings on one device; ``sent`` are the traits of the source's."""
    # libvirt takes it from a pool at the start: that is a finding on the guest.
    if device.host is None:
        return ()
    here = inventory.devices.get(device.host)
    if here is None:
        return (_missing(device.host, sent, inventory),)
    return (*_held(here, sent, inventory), *_bound(here), *_kind(here, sent), *_place(here))


# --- there, and free ------------------------------------------------------------------------------


def _missing(name: str, sent: Traits, inventory: Inventory) -> Finding:
    if is_mdev(name):
        text = f"there is no mediated device {name}"
        return Finding(codes.DEVICE_ABSENT, *_creation(text, name, sent, inventory))
    others = _others(sent, inventory)
    told = f"; free ones like the source's: {others}" if others else ""
    return Finding(
        codes.DEVICE_ABSENT,
        f"there is no PCI device {name}{told}",
        "name a device that is there, by virsh migrate --xml; or create the VF",
    )


def _creation(text: str, name: str, sent: Traits, inventory: Inventory) -> tuple[str, str]:
    """What is missing, and the command that makes it where its type has a free instance."""
    fitting = [kind for kind in inventory.types if sent.type in ("", kind.type)]
    # -1: the driver does not say how many are left.
    left = [kind for kind in fitting if kind.available != 0]
    if not left:
        why = f"and no free instance of {sent.type}" if sent.type else "and none can be made"
        return f"{text}, {why}", "free an instance of its type, or choose another host"
    names = list(dict.fromkeys(kind.type for kind in left))
    # Without a record the source's type is not known; of one type there is no choice.
    if not sent.type and len(names) > 1:
        return (
            f"{text}; types with a free instance: {', '.join(names)[:200]}",
            "create it with the source's type: mdevctl start -u UUID -p PARENT -t TYPE",
        )
    parent, kind = left[0].parent, left[0].type
    count = f"{left[0].available} free instances" if left[0].available > 0 else "free instances"
    return (
        f"{text}; {parent} has {count} of {kind}",
        f"mdevctl start -u {name} -p {parent} -t {kind}, or:"
        f" echo {name} > {_MDEV_BUS}/{parent}/mdev_supported_types/{kind}/create",
    )


def _held(here: HostDevice, sent: Traits, inventory: Inventory) -> Iterator[Finding]:
    if here.holder:
        others = _others(sent if sent.vendor else here.traits, inventory)
        told = f"; free ones of its kind: {others}" if others else ""
        yield Finding(
            codes.DEVICE_IN_USE,
            f"{here.name} is in use there by {here.holder}{told}",
            "free it, or name another device by virsh migrate --xml",
        )


def _others(wanted: Traits, inventory: Inventory) -> str:
    """Free devices of the same model and type."""
    names = [
        device.name
        for device in inventory.devices.values()
        if wanted.vendor and device.bound and device.holder == "" and _equal(device, wanted)
    ]
    more = ", ..." if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _equal(device: HostDevice, wanted: Traits) -> bool:
    return all(getattr(device.traits, name) == getattr(wanted, name) for name in _KIND)


# --- such that QEMU can have it, and that it can migrate ------------------------------------------


def _bound(here: HostDevice) -> Iterator[Finding]:
    driver = here.traits.driver
    if not here.bound:
        bound = f"bound to {driver}, which is no VFIO driver" if driver else "bound to no driver"
        yield Finding(
            codes.DEVICE_UNBOUND,
            f"{here.name} is {bound}; with managed='yes' libvirt binds it as the guest starts",
            "bind it to its vendor's VFIO driver",
        )
    elif driver == PLAIN:
        yield Finding(
            codes.DEVICE_PLAIN_DRIVER,
            f"{here.name} is bound to {PLAIN}, which offers no migration in Linux",
            "bind it to its vendor's VFIO driver, if there is one",
        )
    if here.neighbours:
        yield Finding(
            codes.DEVICE_GROUP,
            f"IOMMU group {here.group} of {here.name} is shared with"
            f" {_some(here.neighbours)}: VFIO gives no device of such a group",
            "bind these to vfio-pci, or unbind them",
        )
    if here.migratable == "disable":
        yield Finding(
            codes.DEVICE_NOT_MIGRATABLE,
            f"{here.name}: devlink's port function has migratable disable, so its driver offers no"
            " migration",
            "unbind the VF, then: devlink port function set PORT migratable enable",
        )


_KIND = ("vendor", "device", "type")


def _kind(here: HostDevice, sent: Traits) -> Iterator[Finding]:
    """What both hosts tell, and is not the same."""
    # An empty type of a VF that vGPUs are made on: none is set yet.
    pairs = [(name, getattr(sent, name), getattr(here.traits, name)) for name in _KIND]
    other = [name for name, there, own in pairs if there and own and there != own]
    unset = bool(sent.type) and not here.traits.type
    if not other and not unset:
        return
    theirs = " ".join(filter(None, (f"{sent.vendor}:{sent.device}", sent.type)))
    yield Finding(
        codes.DEVICE_OTHER_KIND,
        f"the source's device is {theirs}; {here.name} is {here.identity}"
        f"{' without a vGPU type' if unset else ''}",
        "use a device of the same model and type",
    )


def _place(here: HostDevice) -> Iterator[Finding]:
    words = [f"NUMA node {here.numa}"] if here.numa else []
    words += [f"IOMMU group {here.group}"] if here.group else []
    words += [f"of {here.parent}"] if here.parent else []
    if words:
        yield Finding(codes.DEVICE_PLACE, f"{here.name}: {', '.join(words)}")


# --- libvirt's pools of VFs -----------------------------------------------------------------------


def check_pools(networks: Sequence[str], inventory: Inventory) -> Iterator[Finding]:
    """What is left in the pools that the guest's interfaces draw on."""
    for name in dict.fromkeys(networks):
        pool = inventory.pool(name)
        if pool is not None and pool.hands_out:
            yield _pool(pool, networks.count(name), _left(pool, inventory), inventory)


def _left(pool: Pool, inventory: Inventory) -> list[str]:
    known = ((name, inventory.devices.get(name)) for name in pool.devices)
    return [name for name, device in known if device is not None and not device.holder]


def _pool(pool: Pool, wanted: int, left: Sequence[str], inventory: Inventory) -> Finding:
    # Who has a device open is seen by root alone.
    at_most = "up to " if any(inventory.devices[name].holder is None for name in left) else ""
    count = f"network {pool.name} has {at_most}{len(left)} of {len(pool.devices)} VFs left"
    if len(left) >= wanted:
        return Finding(codes.POOL_LEFT, f"{count}: {_some(left)}")
    return Finding(
        codes.POOL_EXHAUSTED,
        f"{count}, and the guest needs {wanted}",
        "free a VF of the network, or choose another host",
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "")
