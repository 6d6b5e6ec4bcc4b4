"""What is known of the devices of a running QEMU, held against what that QEMU sends.

For a container (legacy, iommufd) and a device each: the state that ``read_in_use`` gives, once
before the guest runs and once after its firmware has been at the device, must be what QEMU's own
copy of the configuration space was made from. That copy is taken from a migration stream. A VF
under vfio-pci cannot migrate: there it is searched for in QEMU's memory. Every device is marked,
by writing a number to its interrupt line as a guest would, so that no two are mistaken.

And of the PCI devices, a VF and a physical function, the dumps that an operator can make of them
must be the same to QEMU as what VFIO shows and QEMU has.

Prints CHECK lines, a KERNEL line, and the lines of the table in docs/KERNELS.md::

    ROW kernel | container | device | evidence | grade | equal to the stream

Ends with exit status 1 if one of the checks does not hold.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import make_config  # noqa: E402
from lab.configs import patched  # noqa: E402
from vfio_preflight.host.atomics import read_atomics  # noqa: E402
from vfio_preflight.host.descriptors import SYSPATH, descriptor_of  # noqa: E402
from vfio_preflight.host.vfio import VfioError, read_free, read_in_use  # noqa: E402
from vfio_preflight.images.save_image import read_image  # noqa: E402
from vfio_preflight.pci.state import ConfigState  # noqa: E402
from vfio_preflight.qemu.model.vfio_pci import VirtualConfig, realise  # noqa: E402
from vm import raw  # noqa: E402
from vm.copies import copies, differing, fixed, writable  # noqa: E402
from vm.guest import INTERRUPT_LINE, MDEVS, PCI, SOCKET, Case, Guest, arguments, mark, running  # noqa: E402
from vm.scripts.migrate import migrate  # noqa: E402

CARD, PLAIN = PCI / "0000:01:00.0", PCI / "0000:02:00.0"
TYPE = Path("/sys/class/mdev_bus/preflight_mdev/mdev_supported_types/preflight_mdev-one")
UUIDS = tuple(f"11111111-0000-4000-8000-0000000000{end}" for end in ("e1", "e2", "e3"))
STREAM = "/tmp/evidence.stream"
COMMAND = 0x04
FIRMWARE = 180  # seconds that it may take, at most

failed: list[str] = []


def check(what: str, holds: object) -> None:
    """One line of the result."""
    print(f"CHECK {'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        failed.append(what)


class Seen(NamedTuple):
    """A device at one moment: what is known of it, what QEMU makes of that, and what it has.

    ``wrong`` is in how many bytes the two differ although the guest cannot write these bits,
    ``written`` in how many others.
    """

    state: ConfigState
    sent: bytes
    wrong: int
    written: int


# --- devices ----------------------------------------------------------------------------------


def make_vfs() -> tuple[str, ...]:
    """Two VFs, bound to vfio-pci."""
    (CARD / "sriov_numvfs").write_text("2")
    names = []
    for link in sorted(CARD.glob("virtfn*")):
        bind(link.resolve())
        names.append(link.resolve().name)
    return tuple(names)


def bind(device: Path) -> None:
    """Give a PCI device to vfio-pci."""
    (device / "driver_override").write_text("vfio-pci")
    if (device / "driver").exists():
        (device / "driver/unbind").write_text(device.name)
    Path("/sys/bus/pci/drivers_probe").write_text(device.name)
    check(f"{device.name} is vfio-pci's", (device / "driver").resolve().name == "vfio-pci")


def make_mdev(uuid: str, config: bytes) -> None:
    """A mediated device of tests/vm/module that presents ``config``."""
    (TYPE / "create").write_text(uuid)
    home = MDEVS / uuid / "preflight"
    (home / "config").write_bytes(config)
    (home / "bars").write_text("16384 0 0 0 0 0")
    (home / "irqs").write_text("1 1 4 1 1")


def make_cases() -> list[Case]:
    """All devices of the table. Two mdevs differ in vendor's bytes, the third has 255 bytes."""
    one, two = make_vfs()
    module = f"{os.environ['KERNEL_DIR']}/preflight_mdev.ko"
    # QEMU migrates several devices only if all of them have the P2P states.
    subprocess.run(["insmod", module, "p2p=1"], check=True)
    config = make_config()
    short = patched(config, 0xFE, 0x77)[:255]
    for uuid, given in zip(UUIDS, (config, patched(config, 0x63, 0x51), short)):
        make_mdev(uuid, given)
    return [
        Case("VF of an igb, vfio-pci", (one,)),
        Case("two such VFs in one QEMU", (one, two)),
        Case("mdev", UUIDS[:1]),
        Case("two mdevs of one type in one QEMU", UUIDS[:2]),
        Case("mdev with 255 bytes of configuration space", UUIDS[2:]),
    ]


# --- what QEMU has ----------------------------------------------------------------------------


def let_firmware_run(guest: Guest) -> None:
    """Until it has switched all devices' memory on; the guest stands still afterwards."""
    guest.qmp("cont")
    end = time.monotonic() + FIRMWARE
    while not all(read_in_use(name, guest.pid).state.config[COMMAND] for name in guest.case.names):
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    guest.qmp("stop")
    check(f"{guest.case.label}: its firmware was at it", time.monotonic() < end)


def sent(guest: Guest) -> list[bytes]:
    """The devices' configuration spaces in the stream that QEMU writes now."""
    Path(STREAM).unlink(missing_ok=True)
    done = migrate(guest.qmp, f"file:{STREAM}")
    check(f"{guest.case.label}: migrated to a file", done == "completed")
    found = read_image(STREAM).stream.vfio
    paths = (f"0000:00:{index + 1:02x}.0:00.0" for index in range(len(guest.case.names)))
    states = [found[path] for path in paths]
    return [state.config for state in states if isinstance(state, ConfigState)]


def held(guest: Guest, expected: Sequence[VirtualConfig], first: int) -> list[bytes]:
    """The copies that QEMU would send if it could, from its memory: one for each device."""
    result = []
    for index, one in enumerate(expected):
        found = copies(guest.pid, one, first + index)
        what = f"{guest.case.label}: one copy of {guest.case.names[index]} in QEMU's memory"
        check(f"{what}: {len(found)}", len(found) == 1)
        result += found[:1] or [b""]
    return result


def look(guest: Guest, first: int) -> list[Seen]:
    """Each device as it is now, marked from ``first`` on."""
    mark(guest, first)
    states = [read_in_use(name, guest.pid).state for name in guest.case.names]
    virtual = [realise(state, guest.environment) for state in states]
    expected = [
        one._replace(config=patched(one.config, INTERRUPT_LINE, first + index))
        for index, one in enumerate(virtual)
        if isinstance(one, VirtualConfig)
    ]
    real = sent(guest) if guest.case.mdev else held(guest, expected, first)
    for index, (name, state) in enumerate(zip(guest.case.names, states)):
        marked = state.config[INTERRUPT_LINE] == first + index
        check(f"{guest.case.label}: {name} is the device that was marked", marked)
    return [compared(*three) for three in zip(states, expected, real)]


def compared(state: ConfigState, expected: VirtualConfig, real: bytes) -> Seen:
    """How far a state explains what QEMU has."""
    if len(real) != len(expected.config):
        return Seen(state, real, len(expected.config), 0)
    written = differing(real, expected.config, writable(expected))
    return Seen(state, real, differing(real, expected.config, fixed(expected)), written)


# --- dumps ------------------------------------------------------------------------------------


def dumps_agree(name: str, made: dict[str, bytes], shown: Sequence[ConfigState]) -> None:
    """Each dump that was made of the device against each state that it is known to have."""
    states, refused = raw.read(made)
    print(f"DUMPS {name}: {', '.join(states)}; refused: {', '.join(refused) or 'none'}")
    # The bytes of a VF have no IDs, and lspci prints numbers only if it is told to.
    check(f"{name}: dumps without IDs are refused, if it is a VF", bool(refused) == raw.is_vf(name))
    for label, dump in states.items():
        wrong = [text for state in shown for text in raw.differing(dump, state)]
        check(f"{name}: the dump by {label} is the device: {wrong or 'yes'}", not wrong)


def plain_function(device: Path) -> None:
    """A physical function, dumped while its own driver has it, and asleep on vfio-pci."""
    check(f"{device.name} is not vfio-pci's", (device / "driver").resolve().name != "vfio-pci")
    driven = raw.dumps(device.name)
    bind(device)
    shown = [read_free(device.name).state]
    dumps_agree(device.name, driven, shown)
    dumps_agree(device.name, raw.dumps(device.name), shown)


# --- the table --------------------------------------------------------------------------------


def way(case: Case, name: str, pid: int) -> str:
    """By which of its ways ``read_in_use`` got at the device, in words."""
    found = descriptor_of(str(case.directory(name)), pid)
    if found is None:
        return "VFIO, through the descriptor of the group"
    if SYSPATH in Path(f"/proc/{pid}/fdinfo/{found}").read_text():
        return "VFIO, through the descriptor that fdinfo names"
    if os.readlink(f"/proc/{pid}/fd/{found}").startswith("/dev/vfio/devices/"):
        return "VFIO, through the character device's descriptor"
    return "VFIO, through the only descriptor there is"


def cannot_migrate(guest: Guest) -> None:
    """QEMU says that a VF under vfio-pci blocks migration, and does not take it if it must."""
    reasons = str(guest.qmp("query-migrate").get("blocked-reasons"))
    print(f"blocked-reasons: {reasons}")
    blocked = "migration is not supported in kernel" in reasons
    check(f"{guest.case.label}: cannot migrate, says QEMU", blocked)


def forced(case: Case, iommufd: bool) -> None:
    """QEMU with enable-migration=on ends at once for a VF under vfio-pci."""
    Path(SOCKET).unlink(missing_ok=True)
    command = arguments(case, iommufd, ",enable-migration=on")
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    print(done.stderr.strip())
    check(f"{case.label}: enable-migration=on is refused", done.returncode == 1)


def read_again(guest: Guest, name: str, before: ConfigState) -> None:
    """After QEMU has ended, the device opened anew shows the same, but for what a guest writes."""
    after = read_free(name).state
    virtual = realise(before, guest.environment)
    assert isinstance(virtual, VirtualConfig), virtual
    changed = differing(before.config, after.config, fixed(virtual))
    what = f"{guest.case.label}: {name} opened anew shows the same"
    check(f"{what}: {changed} bytes differ", not changed and len(after.config) == len(virtual[0]))


def told_apart(guest: Guest, seen: Sequence[Seen]) -> None:
    """The mdevs of one QEMU present other bytes: one's state must not explain the other's."""
    if guest.case.names != UUIDS[:2]:
        return
    one, two = seen
    virtual = realise(one.state, guest.environment)
    assert isinstance(virtual, VirtualConfig), virtual
    check(f"{guest.case.label}: told apart", compared(one.state, virtual, two.sent).wrong == 1)


def verdict(guest: Guest, early: Sequence[Seen], late: Sequence[Seen]) -> str:
    """The last column."""
    exact = all(not one.wrong and not one.written for one in early)
    right = all(not one.wrong for one in (*early, *late))
    check(f"{guest.case.label}: before the guest runs, equal in every byte", exact)
    check(f"{guest.case.label}: later, equal in all that a guest cannot write", right)
    told_apart(guest, early)
    if not exact or not right:
        return f"no: {[(one.wrong, one.written) for one in (*early, *late)]}"
    sizes = "/".join(str(size) for size in sorted({len(one.sent) for one in early}))
    written = "/".join(str(count) for count in sorted({one.written for one in late}))
    where = "yes" if guest.case.mdev else "no stream; yes, to QEMU's copy in its memory"
    return f"{where}: all {sizes} bytes; once firmware ran, all but {written} that it wrote"


def row(kernel: str, container: str, case: Case) -> None:
    """Measure one line of the table."""
    iommufd = container == "iommufd"
    made = {} if case.mdev else {name: raw.dumps(name) for name in case.names}
    with running(case, iommufd) as guest:
        early = look(guest, 0x21)
        ways = sorted({way(case, name, guest.pid) for name in case.names})
        let_firmware_run(guest)
        late = look(guest, 0x31)
        if not case.mdev:
            cannot_migrate(guest)
    for name, seen, written in zip(case.names, early, late):
        read_again(guest, name, seen.state)
        if name in made:
            sent_late = ConfigState(written.sent, (), "stream", "QEMU's memory")
            dumps_agree(name, made[name], (seen.state, sent_late))
    if not case.mdev:
        forced(case, iommufd)
    grades = sorted({one.state.evidence for one in (*early, *late)})
    check(f"{case.label}: grade vfio", grades == ["vfio"])
    cells = (kernel, container, case.label, *ways, *grades, verdict(guest, early, late))
    print("ROW", " | ".join(cells), flush=True)


def atomics(kernel: str, case: Case) -> None:
    """What VFIO says of AtomicOps to the root, of a device in use, and what sysfs shows of it."""
    with running(case, False) as guest:
        said = {name: read_in_use(name, guest.pid).state.atomics for name in case.names}
    for name, widths in said.items():
        shown = None if case.mdev else read_atomics(name)
        print(f"ATOMICS {kernel} | {case.label} | VFIO {widths} | sysfs {shown}")
        check(f"{case.label}: VFIO says of AtomicOps what sysfs shows", shown in (None, widths))


def offers(kernel: str, case: Case) -> None:
    """What the kernel has for those who look for a device's descriptor."""
    with running(case, False) as guest:
        proc = Path(f"/proc/{guest.pid}")
        links = {file.name: os.readlink(file) for file in (proc / "fd").iterdir()}
        devices = [file for file, link in links.items() if "vfio-device" in link]
        infos = [(proc / "fdinfo" / file).read_text() for file in devices]
    names = sorted({line.split(":")[0] for info in infos for line in info.splitlines()})
    entries = os.listdir(case.directory(case.names[0]) / "vfio-dev")
    nodes = [path for path in ("/dev/iommu", "/dev/vfio/devices") if os.path.exists(path)]
    shown = f"fdinfo {' '.join(names)} | link {' '.join({links[file] for file in devices})}"
    print(f"KERNEL {kernel} | {case.label} | nodes {nodes} | vfio-dev {entries} | {shown}")


def main() -> int:
    kernel = os.uname().release
    subprocess.run(["modprobe", "iommufd"], check=False)
    cases = make_cases()
    plain_function(PLAIN)
    for case in (cases[0], cases[2]):
        offers(kernel, case)
        atomics(kernel, case)
    for container in ("legacy", "iommufd"):
        for case in cases:
            if container == "iommufd" and not os.path.exists("/dev/iommu"):
                cell = "no IOMMUFD in this kernel (no /dev/iommu)"
                print("ROW", " | ".join((kernel, container, case.label, cell, "-", "-")))
                continue
            try:
                row(kernel, container, case)
            except (VfioError, SystemExit, OSError, ValueError) as error:
                check(f"{case.label}: {error}", False)
    print(f"{len(failed)} of the checks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
