"""Guests' twins, saved by one build of QEMU and loaded by another; and what they open meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import queues
from unit.makers import make_device, make_guest, make_state
from unit.qemu.twin.commandlines import arguments
from vfio_preflight.judge.checks.romfile import check_rom_file
from vfio_preflight.judge.context import context_of
from vfio_preflight.judge.facts import DeviceFacts
from vfio_preflight.osutil.executable import Executable, trusted_executable
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.twin import ends
from vfio_preflight.qemu.twin.told import ACCEPTED, BLOCKED, HUNG, NOT_RUN, REFUSED
from vfio_preflight.qemu.twin.twin import Answer, Refusal, Stream, load, save

from .engine import Engine

WITHIN = 60.0
HOST = "0000:06:00.4"
VFIO = (
    f'-device {{"driver":"vfio-pci","host":"{HOST}","id":"hostdev0","bus":"pci.10","addr":"0x0"}}\n'
)
# With what takes more than its own arguments: nodes, memory that is plugged in, another root.
NUMA = """\
/usr/bin/qemu-system-x86_64
-machine pc-q35-9.0,nvdimm=on,hmat=on
-cpu Skylake-Server-IBRS,hv-time=on,hv-relaxed=on,kvm=off,+arat
-m size=4194304k,slots=16,maxmem=1099511627776k
-smp 4,maxcpus=64,sockets=64,cores=1,threads=1
-object {"qom-type":"memory-backend-memfd","id":"ram-node0","hugetlb":true,"size":2147483648}
-numa node,nodeid=0,cpus=0-1,memdev=ram-node0
-object {"qom-type":"memory-backend-ram","id":"ram-node1","size":2147483648}
-numa node,nodeid=1,cpus=2-3,memdev=ram-node1
-nodefaults
-device {"driver":"pxb-pcie","bus_nr":254,"id":"pci.1","numa_node":0,"bus":"pcie.0","addr":"0x3"}
-device {"driver":"pcie-root-port","port":8,"chassis":2,"id":"pci.2","bus":"pci.1","addr":"0x0"}
-device {"driver":"virtio-net-pci","id":"net0","bus":"pci.2","addr":"0x0"}
-object {"qom-type":"memory-backend-file","id":"memdimm0","mem-path":"/dev/hugepages","size":1}
-device {"driver":"pc-dimm","node":1,"memdev":"memdimm0","id":"dimm0","slot":0,"addr":4294967296}
-object {"qom-type":"memory-backend-file","id":"memnv1","mem-path":"/x","share":true,"size":1}
-device {"driver":"nvdimm","node":0,"label-size":131072,"memdev":"memnv1","id":"nvdimm1","slot":1}
-object {"qom-type":"memory-backend-ram","id":"memvm0","reserve":false,"size":1073741824}
-device {"driver":"virtio-mem-pci","node":0,"block-size":2097152,"requested-size":536870912,\
"memdev":"memvm0","id":"virtiomem0","bus":"pcie.0","addr":"0x4"}
-device intel-iommu,intremap=on,caching-mode=on,eim=on
-kernel /boot/vmlinuz
-initrd /boot/initrd
"""
USB = """\
/usr/bin/qemu-system-x86_64
-machine pc-i440fx-9.0
-m 1024
-nodefaults
-device piix3-usb-uhci,id=usb,bus=pci.0,addr=0x1.0x2
-chardev spicevmc,id=c0,name=usbredir
-device {"driver":"usb-redir","chardev":"c0","id":"redir0","bus":"usb.0","port":"2"}
-device usb-kbd,id=input0,bus=usb.0
-blockdev {"driver":"file","filename":"/floppy","node-name":"f"}
-device floppy,unit=0,drive=f,id=fdc0-0-0
-chardev pty,id=p0
-device isa-parallel,chardev=p0
-device vmgenid,guid=auto
-device rtl8139,id=net0
-device e1000,id=net1
-device lsi,id=scsi0
-device ac97,audiodev=a
-audiodev spice,id=a
-vga cirrus
"""
# As many processors as GPUs of a whole machine have, and queues as vhost-user has them.
LARGE = """\
/usr/bin/qemu-system-x86_64
-machine pc-q35-9.0,kernel_irqchip=split,accel=kvm
-cpu EPYC
-smp 288,sockets=2,cores=72,threads=2
-m 1048576
-nodefaults
-device intel-iommu,intremap=on,eim=on
-netdev vhost-user,chardev=c,id=hostnet0
-device {"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","tx_queue_size":1024}
"""


def words(text: str) -> list[str]:
    return [word for line in text.splitlines() for word in line.split(" ", 1)]


# By hand: said in several ways, and with files that devices read and write.
BY_HAND = """\
/usr/bin/qemu-system-x86_64
-machine accel=kvm
-M pc-q35-9.0,smp.cpus=288,memory.size=4T
-cpu EPYC,enforce,x2apic=on,pmu=on
-nodefaults
-mem-prealloc
-enable-kvm
-machine kernel_irqchip=split
-device intel-iommu,intremap=on,eim=on
-global q35-pcihost.pci-hole64-size=2147483648K
-device qemu-xhci,id=usb
-device usb-kbd,bus=usb.0,pcap=/nowhere/pcap
-device vfio-pci,host=0000:07:00.0,id=hostdev0
-object acpi-generic-initiator,id=gi0,pci-dev=hostdev0,node=0
"""


GUESTS = {
    "everything": arguments(),
    "numa": words(NUMA),
    "usb": words(USB),
    "large": words(LARGE),
    "by hand": words(BY_HAND),
}
LEFT_OUT = {"tpm0", "vsock0", "the", "processors", "net0", "hostdev0", "gi0"}


def emulators(pair: Engine) -> tuple[Executable, Executable]:
    return trusted_executable(pair.sender.facts.path), trusted_executable(pair.facts.path)


def soon(seconds: float = WITHIN) -> float:
    return time.monotonic() + seconds


def saved(emulator: Executable, argv: Sequence[str], **more: object) -> Stream:
    made = save(emulator, argv, deadline=soon(), **more)  # type: ignore[arg-type]
    assert isinstance(made, Stream), made
    return made


def as_expected(
    answer: Answer, sender: Executable, receiver: Executable, argv: Sequence[str]
) -> bool:
    """Accepted, but for what no virtio device survives."""
    if "virtio" in str(argv) and queues.are_refused(sender.path, receiver.path):
        return answer.outcome == REFUSED and queues.LINE in answer.line
    return answer.outcome == ACCEPTED


@pytest.mark.parametrize("name", GUESTS)
def test_guest_is_accepted_by_the_other_build(pair: Engine, name: str) -> None:
    sender, receiver = emulators(pair)

    stream = saved(sender, GUESTS[name])
    answer = load(receiver, GUESTS[name], stream, deadline=soon())

    assert as_expected(answer, sender, receiver, GUESTS[name]), answer
    assert (stream.build, answer.build) == tuple(
        f"QEMU {facts.version} ({facts.package})" for facts in (pair.sender.facts, pair.facts)
    )
    assert {text.split(" ")[0] for text in answer.uncovered} <= LEFT_OUT


@pytest.mark.parametrize("atomics", [None, 3])
def test_vfio_device_is_made_up(pair: Engine, library: str, atomics: int | None) -> None:
    sender, receiver = emulators(pair)
    argv = arguments(VFIO)
    states = {HOST: make_state()._replace(atomics=atomics)}

    stream = saved(sender, argv, states=states, library=library)
    answer = load(receiver, argv, stream, deadline=soon(), library=library)

    assert as_expected(answer, sender, receiver, argv), answer
    assert not any("hostdev0" in text for text in answer.uncovered)


ROM = "/usr/share/seabios/vgabios.bin"


def test_rom_file_of_a_vfio_device(pair: Engine, library: str) -> None:
    """QEMU names the ROM's block after the device's state, which has had a name since CPR."""
    sender, receiver = emulators(pair)
    argv = [*BARE, "-device", f"vfio-pci,host={HOST},id=h,addr=6,romfile={ROM}"]
    states = {HOST: make_state()}

    stream = saved(sender, argv, states=states, library=library)
    answer = load(receiver, argv, stream, deadline=soon(), library=library)

    device = make_device(properties={"romfile": ROM})
    context = context_of(make_guest(device), device, pair.facts, pair.sender.facts)
    found = check_rom_file(context, DeviceFacts(device, states[HOST], states[HOST]))
    if not found:
        assert answer.outcome == ACCEPTED, answer
        return
    assert answer.outcome == REFUSED, answer
    block = re.search(r"Unknown ramblock \"0000:00:06.0/([^\"]+)\"", answer.line)
    assert block and f"memory is {block[1]} to QEMU {pair.sender.facts.version}" in found[0].text


def test_vfio_device_that_nothing_is_known_of_is_left_out_and_told(own: Executable) -> None:
    stream = saved(own, arguments(VFIO))
    assert any(text.startswith("hostdev0 (vfio-pci): ") for text in stream.uncovered)


@pytest.fixture
def own(own_engine: Engine) -> Executable:
    return trusted_executable(own_engine.facts.path)


class Provoked(NamedTuple):
    """What one side alone has, and how QEMU's line and its device begin."""

    here: list[str]
    line: str
    device: str = ""


BARE = ["q", "-machine", "pc-q35-9.0", "-nodefaults", "-device", "e1000e,id=n,addr=5"]
PROVOKED = (
    Provoked(
        ["-global", "e1000e.romfile=/usr/share/seabios/vgabios.bin"], "Size mismatch: 0000:00:05.0/"
    ),
    Provoked(
        ["-device", "virtio-rng-pci,addr=6"],
        "Unknown savevm section or instance '0000:00:06.0/virtio-rng'",
    ),
    Provoked(["-device", "e1000e,nosuch=1"], "-device e1000e,nosuch=1: Property 'e1000e.nosuch'"),
)


@pytest.mark.parametrize("provoked", PROVOKED, ids=lambda provoked: provoked.line.split(" ")[0])
def test_what_one_side_alone_has(own: Executable, provoked: Provoked) -> None:
    first, second = BARE, [*BARE, *provoked.here]
    # What QEMU does not know must be in the state, or where it is not realised.
    if "savevm" in provoked.line:
        first, second = second, first
    answer = load(own, second, saved(own, first), deadline=soon())
    assert answer.outcome == REFUSED, answer
    assert answer.line.startswith(provoked.line)


def test_property_that_one_side_alone_sets(own: Executable) -> None:
    port = ["-device", "pcie-root-port,id=p,chassis=1,addr=6"]
    there = [*BARE, *port, "-global", "pcie-root-port.hotplug=off"]
    answer = load(own, there, saved(own, [*BARE, *port]), deadline=soon())
    assert answer.line.startswith("get_pci_config_device: Bad config data: i=0x68 ")
    assert answer.device == "0000:00:06.0/pcie-root-port"


def test_device_that_blocks_migration(own: Executable) -> None:
    made = save(own, [*BARE, "-device", "ivshmem-plain,memdev=m", "-object",
                      "memory-backend-ram,id=m,size=1M"], deadline=soon())  # fmt: skip
    assert isinstance(made, Refusal)
    assert made.kind == BLOCKED
    assert made.line.startswith("Migration is disabled when using feature 'peer mode'")


def test_device_that_does_not_come_up(own: Executable) -> None:
    made = save(own, [*BARE, "-device", "nosuch"], deadline=soon())
    assert isinstance(made, Refusal)
    assert (made.kind, made.line) == (
        NOT_RUN,
        "-device nosuch: 'nosuch' is not a valid device model name",
    )


def script(directory: Path, text: str) -> Executable:
    path = directory / "emulator"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Executable(str(path), str(path), (0, 0, 0, 0, 0), script=True)


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A directory that the emulators' user gets to and writes in."""
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/tmp") and path.is_relative_to("/tmp"):
            path.chmod(0o711)
    tmp_path.chmod(0o777)
    return tmp_path


def test_emulator_that_does_not_answer_is_ended(reachable: Path) -> None:
    silent = script(reachable, f"echo $$ > {reachable}/pid; exec sleep 300")
    begun = time.monotonic()
    made = save(silent, BARE, deadline=soon(1.0))
    assert isinstance(made, Refusal)
    assert made.kind == NOT_RUN
    assert time.monotonic() - begun < 10
    assert not Path("/proc", (reachable / "pid").read_text().strip()).exists()


def test_emulator_that_is_busy_for_ever(
    own: Executable, reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "_HUNG_AFTER", 0.2)
    stream = saved(own, BARE)
    busy = "while :; do :; done"
    answer = load(script(reachable, busy), BARE, stream, deadline=soon(1.0))
    # It may be the machine, which takes longer the more devices it has.
    assert (answer.outcome, answer.accepted, answer.hung) == (NOT_RUN, False, False)
    up = """read line; echo '{"return": {}}'"""
    answer = load(script(reachable, f"{up}; {busy}"), BARE, stream, deadline=soon(2.0))
    assert (answer.outcome, answer.accepted, answer.hung) == (HUNG, False, True)


def test_nothing_is_left_behind(
    own: Executable, reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(reachable))
    load(own, BARE, saved(own, BARE), deadline=soon())
    assert list(reachable.iterdir()) == []


# What any QEMU opens: itself, its libraries, modules and data, and what the C library and GLib
# look at; and what was made up for it.
QEMUS_OWN = (
    r"/usr/(lib|lib64|share)/.*|/lib(64)?/.*|/etc/(ld\.so\.|ssl/|gnutls/|passwd|localtime|nsswitch).*"
    r"|/etc/crypto-policies/.*|/etc/libnl/.*|/sys/bus/nd/devices|/dev/sgx_vepc|\."
    r"|/proc/(self|sys|filesystems|meminfo|cpuinfo|stat|[0-9]+)(/.*)?|/sys/(devices/system|kernel/mm)"
    r"/.*|/sys/fs/cgroup/.*|/dev/(null|urandom|shm/?|zero)|/|/dev/shm/.*"
)
CALL = r'(?:open(?:at)?|connect)\((?:AT_FDCWD, )?(?:"([^"]*)"|\d+, \{sa_family=AF_\w+, (.*?)\})'


def test_nothing_of_the_guests_is_opened(own: Executable, library: str, reachable: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("lacks strace")
    log = reachable / "log"
    traced = script(
        reachable,
        f"exec strace -f -o {log} -e trace=open,openat,connect,creat {own.realpath} \"$@\"",
    )  # fmt: skip
    argv = arguments(VFIO)
    states: dict[str, ConfigState] = {HOST: make_state()}

    opened = []
    stream = saved(traced, argv, states=states, library=library)
    opened += re.findall(CALL, log.read_text())
    answer: Answer = load(traced, argv, stream, deadline=soon(), library=library)
    opened += re.findall(CALL, log.read_text())

    assert answer.outcome == ACCEPTED, answer
    assert len(opened) > 100
    paths = {path or address for path, address in opened}
    strange = {path for path in paths if not re.fullmatch(QEMUS_OWN, path)}
    # The directory of what was made up, and the way out of the state.
    assert {path for path in strange if "/vfio-preflight-" not in path} == set(), strange
    named = json.dumps(argv)
    assert not [path for path in paths if path.startswith("/var/") and path in named]


def test_twin_in_an_empty_mount_namespace(own: Executable, library: str, reachable: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mount namespaces take root")
    root = reachable / "root"
    root.mkdir()
    told = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-W", "ignore", "-m",
         "conformance.empty_root", own.path, library, str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=2 * WITHIN,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["outcome"] == ACCEPTED, found
    assert [path for path in found["files"] if not path.startswith(("/usr/", "/dev/"))] == []
    assert list(root.iterdir()) == []
