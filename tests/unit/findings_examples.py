"""An example of every finding, as the judge makes it of made-up facts.

For each code there is a function that returns a report with it, and the policy's decision. Texts
are never written here: what the page of findings shows (:mod:`unit.findings_page`) is what the code
says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lab.configs import make_config, patched
from unit.builds import PROPERTIES, Properties, changed, make_builds, make_types
from unit.domains import make_domain
from unit.host.hosts import MDEV, VF
from unit.makers import (
    BAR0,
    HOST,
    PMC,
    VSC_BODY,
    differing,
    make_device,
    make_emulator,
    make_extended,
    make_facts,
    make_guest,
    make_host_device,
    make_inventory,
    make_machine,
    make_rule,
    make_state,
)
from vfio_preflight.configuration import Configuration, ConfigurationError, parse
from vfio_preflight.gather.builds import builds_of
from vfio_preflight.gather.here import REMEDY_RECORD, REMEDY_XML, ask_emulator, recorded_state
from vfio_preflight.gather.saved import restored
from vfio_preflight.guest.build import RecordedBuild
from vfio_preflight.guest.domain import GuestDevice
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.guest.traits import Traits
from vfio_preflight.guest.unjudged import SCSI_HOST, Unjudged
from vfio_preflight.guest.viommu import Viommu
from vfio_preflight.guest.xml import MAX_XML, LimitError, parse_domain
from vfio_preflight.hook.gate import Gate
from vfio_preflight.host.inventory import Inventory, MdevType
from vfio_preflight.host.pools import Pool
from vfio_preflight.host.sources.inferred import infer
from vfio_preflight.host.sources.request import Request, Sent
from vfio_preflight.host.states import state_of
from vfio_preflight.host.sysfs import HostError
from vfio_preflight.host.vendor_rules import parse_rules
from vfio_preflight.judge.checks.pasid import OFFSET
from vfio_preflight.judge.checks.readiness import with_readiness
from vfio_preflight.judge.checks.twin import told_more
from vfio_preflight.judge.confirm import Attempt
from vfio_preflight.judge.facts import Facts, Refused
from vfio_preflight.judge.findings import Report
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.pipeline import examine
from vfio_preflight.judge.policy import Decision, decide, with_guest_policy, with_mended_ahead
from vfio_preflight.judge.verdicts import ALWAYS, DEFAULT_POLICY, NEVER, STRICTER
from vfio_preflight.pci.state import Bar, ConfigState, Missing, State
from vfio_preflight.qemu.emulator.machines import EmulatorFacts, Property
from vfio_preflight.qemu.emulator.types import TypeFacts
from vfio_preflight.qemu.trial.endings import Result
from vfio_preflight.qemu.trial.setting import Setting
from vfio_preflight.qemu.twin.told import Told

TOLERANT = ("10de:*",)
NOWHERE = "/nonexistent"
INTEL = Viommu("intel")
NEWER = "pc-q35-9.1"  # a machine type with skip-vsc-check on
PIN = 0x3D
NET = Traits("15b3", "101e", "", "", "mlx5_core", "6.12")
FREE_TYPE = MdevType("0000:41:00.0", "nvidia-63", "GRID T4-2Q", 3)
UUID_HERE = "4b20d080-1b54-4048-85b3-a6a62d165c01"
LOOP = make_state(patched(make_config(), 0x41, 0x40))


class Example(NamedTuple):
    """A report that has the finding, and what policy makes of it."""

    report: Report
    decision: Decision


def _decided(report: Report, **policy: str) -> Example:
    decision = decide(report, {**DEFAULT_POLICY, **policy}, TOLERANT)
    return Example(with_mended_ahead(report, decision), decision)


def _judged(facts: Facts, *answers: Result | None, **policy: str) -> Example:
    """``facts``, judged; with ``answers``, the emulator was tried and did that."""
    given = list(answers)

    def tried(_source: ConfigState, _there: ConfigState, _setting: Setting) -> Attempt:
        answer = given.pop(0)
        return Attempt(None, "no result in time") if answer is None else Attempt(answer)

    return _decided(examine(facts, ALWAYS if answers else NEVER, tried), **policy)


def _facts(
    destination: State | None = None,
    source: State | None = None,
    machine: str = "pc-q35-9.0",
    emulator: EmulatorFacts | Missing | None = None,
    device: GuestDevice | None = None,
    **guest: object,
) -> Facts:
    made = make_guest(*([device] if device else []), machine=machine)
    return make_facts(source, destination, made._replace(**guest), emulator)  # type: ignore[arg-type]


def _with(facts: Facts, **changes: object) -> Facts:
    """``facts`` with something more known of every device."""
    devices = tuple(known._replace(**changes) for known in facts.devices)  # type: ignore[arg-type]
    return facts._replace(devices=devices)


def _recorded(facts: Facts, **entry: object) -> Facts:
    """``facts`` with a record that the source's states are from."""
    devices = tuple(
        known._replace(entry=RecordEntry(known.source)._replace(**entry))  # type: ignore[arg-type]
        for known in facts.devices
    )
    return facts._replace(devices=devices)


def _properties(**properties: str) -> GuestDevice:
    return make_device(properties={name.replace("_", "-"): v for name, v in properties.items()})


def _having(**changes: object) -> Inventory:
    """A destination whose one device is so, and is the only one of network vfs."""
    device = make_host_device(**changes)
    return make_inventory(device, pools=(Pool("vfs", True, (device.name,)),))


def _ready(inventory: Inventory, host: str = HOST, networks: tuple[str, ...] = ()) -> Example:
    """A dry run of a guest whose device was recorded, to a host that has ``inventory``."""
    kind = "mdev" if host == UUID_HERE else "pci"
    traits = make_host_device().traits._replace(type=FREE_TYPE.type if kind == "mdev" else "")
    facts = _recorded(_facts(device=make_device(kind=kind, host=host)), traits=traits)
    report = preflight(facts)
    told, would = with_readiness(report, None, facts, inventory, networks)
    assert would is None
    return Example(told, decide(told, DEFAULT_POLICY, TOLERANT))


def _two(*, machine: str = "pc-q35-9.0", **guest: object) -> Facts:
    devices = [make_device(f"0000:0{n + 5}:00.0", alias=f"hostdev{n}") for n in range(2)]
    made = make_guest(*devices, machine=machine)._replace(**guest)  # type: ignore[arg-type]
    return make_facts(make_state(evidence="vfio"), None, made)


def _on_s390() -> Facts:
    machine = "s390-ccw-virtio-9.0"
    emulator = make_emulator(make_machine(machine))
    return _facts(machine=machine, emulator=emulator, arch="s390x", express=False)


def _several(offers: tuple[str, str], qemu: str) -> Facts:
    facts = _two()
    devices = tuple(
        known._replace(
            entry=RecordEntry(known.source, qemu=qemu, process="1", migration=offer)  # type: ignore[arg-type]
        )
        for known, offer in zip(facts.devices, offers)
    )
    return facts._replace(devices=devices)


def terabyte() -> ConfigState:
    """A device with a BAR that is resized to 1 TB, whose capability older releases hide."""
    control = (20 << 8 | 1 << 5).to_bytes(4, "little")
    entries = [(0x100, 1, bytes(40)), (0x140, 0x15, bytes(4) + control), (0x150, 3, bytes(8))]
    return make_state(make_extended(make_config(4096), entries))


def _atomics(source: int, destination: int) -> Facts:
    return _facts(make_state()._replace(atomics=destination), make_state()._replace(atomics=source))


FROM_LATER = RecordedBuild("12.0.0", "", "pc-q35-9.0", "a", "", "", "typical2+zlib+base64", "")
NVME = {**PROPERTIES, "nvme": {"use-intel-id": ("bool", False)}}


def _drift(there: TypeFacts, source_properties: Properties = PROPERTIES) -> Example:
    given = {"nvme": ("use-intel-id",)} if "nvme" in source_properties else {}
    builds = make_builds(there, make_types(properties=source_properties), given)
    return _judged(_facts()._replace(builds=builds))


# --- examples that take more than facts ----------------------------------------------------------


def _pasid() -> Example:
    emulator = make_emulator(version="11.1.3")
    more = {OFFSET: Property("uint16", 0), "iommufd": Property("link<iommufd>", None)}
    emulator = emulator._replace(
        properties={name: {**known, **more} for name, known in emulator.properties.items()}
    )
    device = _properties(iommufd="iommufd0")
    return _judged(_facts(emulator=emulator, device=device, viommu=Viommu(pasid=True)))


def _not_recorded() -> Example:
    remedy = f"{REMEDY_RECORD}{REMEDY_XML}".format(guest="g1")
    return _judged(_facts(source=recorded_state(None, "", remedy)))


def _damaged() -> Example:
    entry = RecordEntry(None, damage="its digest does not match")
    return _judged(_facts(source=recorded_state(entry, "", REMEDY_RECORD.format(guest="g1"))))


def _not_there() -> Example:
    settings = Configuration()
    request = Request("", NOWHERE, settings.states, settings.catalogue, (), None)
    return _judged(_facts(state_of(make_device(), "destination", request)))


def _image_unread() -> Example:
    guest = make_guest()
    found = restored(guest, parse_domain(make_domain()), 0, time.monotonic() + 1, NOWHERE)
    return _judged(_facts()._replace(image_problems=found.problems))


def _inferred() -> Example:
    sent = make_state(evidence="vfio")
    state = infer(Sent(sent, MDEV), MDEV).state
    return _judged(_facts(state, sent))


def _unchecked() -> Example:
    guest = make_guest()
    try:
        parse("[policy]\nfial = block\n")
    except ConfigurationError as error:
        gate = Gate("g1", Configuration(), 0.0, error)
        return Example(*gate.decide(guest, lambda: (_ for _ in ()).throw(AssertionError)))
    raise AssertionError


def _guest_policy(action: str) -> Example:
    report = _judged(_facts()).report
    report, policy = with_guest_policy(report, DEFAULT_POLICY, {"fail": action}, STRICTER)
    return _decided(report, **policy)


def _too_large() -> Example:
    try:
        parse_domain(b"<domain type='kvm'>".ljust(MAX_XML + 1))
    except LimitError as error:
        return Example(*Gate("g1", Configuration(), 0.0).too_large(None, str(error)))
    raise AssertionError


TWIN = Told(
    "accepted",
    source="QEMU 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)",
    destination="QEMU 11.1.3 (Debian 1:11.1.3+ds-1)",
    uncovered=("tpm0 (tpm-crb): its other half is the process that is the TPM",),
    time="2026-11-28T12:00:00Z",
)
ROM_LINE = "Size mismatch: 0000:00:02.0:00.0/e1000e.rom: 0x10000 != 0x20000: Invalid argument"
BLOCKED_LINE = "State blocked by non-migratable device '0000:00:05.0/nvme'"
UNKNOWN_LINE = "-device virtio-blk-pci,scsi=off: Property 'virtio-blk-pci.scsi' not found"
NO_SSH = (
    "qemu+tls://b/system is another host's libvirt, and not reached by ssh: there, load what"
    " 'vfio-preflight twin save' writes"
)


def _asked(told: Told) -> Example:
    """A report with what is said of the twin to who asked for it."""
    report, decision = _judged(_facts()._replace(twin=told))
    return Example(report._replace(findings=(*report.findings, *told_more(told))), decision)


def _vendor(**rule: object) -> Example:
    facts = _recorded(_facts(), traits=VF._replace(firmware="22.36.1010"))
    facts = _with(facts, traits=VF._replace(firmware="24.40.1000"))
    return _judged(facts._replace(rules=(make_rule(**rule),)))


def _rules_unread() -> Example:
    try:
        parse_rules("[ecc]\ndriver = nvidia\n", "/etc/vfio-preflight/vendor-rules.d/site.ini")
    except HostError as error:
        return _judged(_facts()._replace(rule_problems=(str(error),)))
    raise AssertionError


def _mended_ahead() -> Example:
    facts = _facts(Missing("unknown", "the device is not free"))
    return _judged(facts, fail="mend")


def _emulator_unknown() -> Example:
    settings = Configuration(cache=NOWHERE)
    missing = ask_emulator(f"{NOWHERE}/qemu-system-x86_64", settings, time.monotonic() + 1)
    return _judged(_facts(emulator=missing))


# --- the table -----------------------------------------------------------------------------------

LINE = "get_pci_config_device: Bad config data: i=0x42 read: 3 device: fc cmask: ff wmask: 0"
EXAMPLES: Mapping[str, Callable[[], Example]] = {
    "config-identical": lambda: _judged(_facts()),
    "vsc-body-tolerated": lambda: _judged(
        _facts(differing(VSC_BODY), machine=NEWER), tolerated="block"
    ),
    "vsc-body-differs": lambda: _judged(_facts(differing(VSC_BODY))),
    "vsc-check-undecided": lambda: _judged(
        _facts(
            differing(VSC_BODY),
            emulator=make_emulator(version="9.0.4", compat_props_known=False),
        )
    ),
    "config-differs": lambda: _judged(_facts(differing(PMC))),
    "config-size-differs": lambda: _judged(
        _facts(make_state(make_config(4096)), make_state(evidence="vfio"))
    ),
    "bar-size-differs": lambda: _judged(
        _facts(
            make_state(make_config(caps=[]), (Bar(0, 0x8000, "mem32"),)),
            make_state(make_config(caps=[]), (BAR0,)),
        )
    ),
    "not-decided": lambda: _judged(_facts(make_state(bars=()))),
    "atomic-ops-differ": lambda: _judged(_atomics(3, 0)),
    "builds-differ": lambda: _judged(
        _recorded(
            _facts(terabyte(), terabyte(), emulator=make_emulator(version="11.1.3")), qemu="10.0.2"
        )
    ),
    "rom-file-named": lambda: _judged(
        _recorded(
            _facts(
                make_state(),
                make_state(),
                emulator=make_emulator(version="11.1.3"),
                device=_properties(romfile="/usr/share/pxe.rom"),
            ),
            qemu="10.0.2",
        )
    ),
    "source-emulator-unknown": lambda: _judged(
        _facts(terabyte(), terabyte(), emulator=make_emulator(version="11.1.3"))
    ),
    "pasid-undecided": _pasid,
    "realise-error": lambda: _judged(_facts(make_state(patched(make_config(), 0x7A, 0x42)))),
    "realise-abort": lambda: _judged(
        _facts(make_state(patched(make_config(caps=[("msi", 0x50)]), 0x52, 0x8C)))
    ),
    "realise-hang": lambda: _judged(_facts(LOOP)),
    "load-abort": lambda: _judged(
        _facts(
            make_state(patched(make_config(), PIN, 1)),
            make_state(patched(make_config(), PIN, 0)),
        )
    ),
    "source-not-realisable": lambda: _judged(
        _facts(source=make_state(patched(make_config(), 0x7A, 0x42)))
    ),
    "source-unknown": _not_recorded,
    "destination-unknown": _not_there,
    "record-damaged": _damaged,
    "record-stray": lambda: _judged(_facts()._replace(strays=("0000:09:00.0",))),
    "record-late": lambda: _judged(_recorded(_facts(), age=3 * 86400)),
    "image-unread": _image_unread,
    "evidence-contradicts": lambda: _judged(
        _with(_facts(make_state(evidence="file")), second_opinion=make_state(make_config(device=1)))
    ),
    "evidence-weak": lambda: _judged(_facts()._replace(evidence="vfio")),
    "state-inferred": _inferred,
    "refused-before": lambda: _judged(
        _with(_facts(), refused=(Refused(LINE, "2026-11-27T07:00:00Z", "20261127-070000-1"),))
    ),
    "placement-assumed": lambda: _judged(
        _facts(
            differing(0x84),
            device=make_device()._replace(assumption="the device has no PCI <address>"),
        )
    ),
    "network-unresolved": lambda: _judged(_facts(unresolved=("vfs",))),
    "not-checked": _unchecked,
    "nothing-judged": lambda: _judged(_facts(devices=())),
    "unjudged-refused": lambda: _judged(
        _facts(unjudged=(Unjudged(SCSI_HOST, "naa.5001405766728000", "hostdev1"),))
    ),
    "guest-too-large": _too_large,
    "guest-policy-unusable": lambda: _guest_policy("banana"),
    "guest-policy-refused": lambda: _guest_policy("allow"),
    "vendor-rule": _vendor,
    "vendor-rule-undecided": lambda: _vendor(undecided=True),
    "vendor-rules-unread": _rules_unread,
    "machine-missing": lambda: _judged(_facts(machine="pc-q35-11.1")),
    "emulator-too-old": lambda: _judged(_facts(emulator=make_emulator(version="7.2.22"))),
    "machine-alias": lambda: _judged(_facts(machine="q35")),
    "machine-deprecated": lambda: _judged(_facts(machine="pc-q35-8.2")),
    "arch-mismatch": lambda: _judged(
        _facts(arch="aarch64", emulator=make_emulator()._replace(target="x86_64"))
    ),
    "arch-undecided": lambda: _judged(
        _facts(arch="riscv64", emulator=make_emulator()._replace(target="riscv64"))
    ),
    "emulator-unknown": _emulator_unknown,
    "compat-unknown": lambda: _judged(
        _facts(emulator=make_emulator(version="9.0.4", compat_props_known=False))
    ),
    "skip-vsc-check": lambda: _judged(_facts()),
    "stop-time": lambda: _judged(
        _recorded(_facts(), stop_copy_length=str(420 << 20))._replace(bandwidth=1000)
    ),
    "mended-ahead": _mended_ahead,
    "emulator-unverified": lambda: _judged(_facts(emulator=make_emulator(version="12.0.0"))),
    "drift": lambda: _drift(make_types(properties=changed("vfio-pci", x_no_mmap=True))),
    "drift-refused": lambda: _drift(make_types(("pcie-root-port", "x-speed", "2_5"))),
    "drift-undecided": lambda: _drift(make_types(("virtio-net-device", "host_uso", "off"))),
    "drift-not-compared": lambda: _judged(
        _facts()._replace(builds=builds_of(FROM_LATER, make_guest(), make_types()))
    ),
    "rom-size-differs": lambda: _drift(make_types(roms={"efi-virtio.rom": 300_000})),
    "type-missing": lambda: _drift(
        make_types(properties={n: p for n, p in PROPERTIES.items() if n != "pcie-root-port"})
    ),
    "type-deprecated": lambda: _drift(make_types(properties=NVME), source_properties=NVME),
    "setting-missing": lambda: _drift(make_types(properties=changed("virtio-net-pci", mac=None))),
    "trial-agrees": lambda: _judged(_facts(), Result("pass")),
    "trial-refuses": lambda: _judged(_facts(), Result("fail", line=LINE)),
    "trial-differs": lambda: _judged(
        _facts(differing(PMC)), Result("error", "destination", "vfio: no such thing")
    ),
    "trial-accepts": lambda: _judged(_facts(differing(PMC)), Result("pass"), tolerated="block"),
    "trial-unavailable": lambda: _judged(_facts(), None),
    "device-absent": lambda: _ready(
        make_inventory(make_host_device("0000:06:00.5"), types=(FREE_TYPE,)), UUID_HERE
    ),
    "device-in-use": lambda: _ready(_having(holder="guest g2 (process 4711)")),
    "device-unbound": lambda: _ready(_having(bound=False, traits=NET)),
    "device-plain-driver": lambda: _ready(_having(traits=NET._replace(driver="vfio-pci"))),
    "device-group": lambda: _ready(_having(neighbours=("0000:06:00.1 (ixgbe)",))),
    "device-other-kind": lambda: _ready(_having(traits=NET)),
    "device-place": lambda: _ready(_having()),
    "pool-left": lambda: _ready(_having(), networks=("vfs",)),
    "pool-exhausted": lambda: _ready(_having(holder="guest g2 (process 4711)"), networks=("vfs",)),
    "source-viommu": lambda: _judged(_recorded(_facts(viommu=INTEL), qemu="10.0.2")),
    "source-board": lambda: _judged(_recorded(_on_s390(), qemu="10.0.2")),
    "source-several": lambda: _judged(_several(("stop-copy p2p", "stop-copy"), "10.0.2")),
    "source-dirty-tracking": lambda: _judged(
        _recorded(_facts(device=_properties(x_device_dirty_page_tracking="off")), qemu="10.0.2")
    ),
    "source-undecided": lambda: _judged(_recorded(_facts(viommu=INTEL), qemu="11.1.3")),
    "twin-accepted": lambda: _judged(_facts()._replace(twin=TWIN)),
    "twin-refused": lambda: _judged(
        _facts()._replace(twin=TWIN._replace(outcome="refused", line=ROM_LINE))
    ),
    "twin-blocked": lambda: _judged(
        _facts()._replace(twin=TWIN._replace(outcome="blocked", line=BLOCKED_LINE))
    ),
    "twin-undecided": lambda: _judged(
        _facts()._replace(twin=TWIN._replace(outcome="unmade", line=UNKNOWN_LINE))
    ),
    "twin-not-run": lambda: _asked(TWIN._replace(outcome="not-run", line=NO_SSH)),
    "twin-uncovered": lambda: _asked(TWIN),
    "property-unknown": lambda: _judged(_facts(device=_properties(x_new="on"))),
    "property-invalid": lambda: _judged(_facts(device=_properties(skip_vsc_check="maybe"))),
    "migration-disabled": lambda: _judged(_facts(device=_properties(enable_migration="off"))),
    "device-not-migratable": lambda: _judged(_recorded(_facts(), migration="none")),
    "failover-unplugged": lambda: _judged(
        _facts(device=make_device(properties={"failover_pair_id": "net0"}))
    ),
}
