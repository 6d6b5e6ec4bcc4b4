"""The boards that QEMU emulates, as far as VFIO devices are concerned: one row each.

    >>> board_of("pc-q35-9.0").express, board_of("pc-q35-noble").name, board_of("none")
    (True, 'pc-q35', None)

Everything that depends on a board is asked of its row; another architecture is another row, also
where it calls its board by the same name, as those do that have a ``virt``.

What the boards do was seen with QEMU 10.0.2 and 11.1.3: ``tried`` ones do as the model says, by the
conformance suite; two others refuse to send a VFIO device.

Sources: QEMU 10.0.2, ``hw/i386/pc_piix.c``, ``pc_q35.c``, ``microvm.c``, ``hw/arm/virt.c``,
``sbsa-ref.c``, ``hw/riscv/virt.c``, ``hw/loongarch/virt.c``, ``hw/ppc/spapr.c``,
``hw/s390x/s390-virtio-ccw.c``; libvirt 11.3.0, ``qemuDomainMachineHasPCIeRoot``.
"""

from __future__ import annotations

from ...osutil.light import NamedTuple


class Target(NamedTuple):
    """What an emulator emulates: ``architectures`` by libvirt's names, and ``emulators``, paths at
    which one is usually installed."""

    architectures: tuple[str, ...]
    emulators: tuple[str, ...]


# /usr/libexec/qemu-kvm is Red Hat's only emulator, always of the host's own architecture.
_REDHAT = "/usr/libexec/qemu-kvm"
X86 = Target(("x86_64", "i686"), ("/usr/bin/qemu-system-x86_64", _REDHAT, "/usr/bin/kvm"))
_ARM = Target(("aarch64",), ("/usr/bin/qemu-system-aarch64", _REDHAT))
_ARM32 = Target(("armv7l",), ("/usr/bin/qemu-system-arm", "/usr/bin/qemu-system-aarch64"))
_RISCV = Target(("riscv64",), ("/usr/bin/qemu-system-riscv64", _REDHAT))
_LOONGARCH = Target(("loongarch64",), ("/usr/bin/qemu-system-loongarch64", _REDHAT))
_POWER = Target(("ppc64", "ppc64le"), ("/usr/bin/qemu-system-ppc64", _REDHAT))
_S390 = Target(("s390x",), ("/usr/bin/qemu-system-s390x", _REDHAT))


class Board(NamedTuple):
    """A family of machine types.

    ``name`` is what the names of its types begin with, followed by a hyphen and a version;
    ``aliases`` are other such beginnings. ``express`` is whether its root bus is PCI Express.
    ``root_path`` is how ``pcibus_get_dev_path`` of QEMU begins the paths of its devices, None where
    that is not known. ``tried`` is whether the model was held against QEMU on it; ``refusal`` what
    QEMU says when it is to send a VFIO PCI device, where it never does. ``arguments`` are what a
    machine of it takes to come up with a PCI bus, with any accelerator. ``flash`` is the only size
    in bytes that the images of its firmware may have, None where there are others.
    """

    name: str
    express: bool
    root_path: str | None
    target: Target
    aliases: tuple[str, ...] = ()
    tried: bool = False
    refusal: str = ""
    arguments: tuple[str, ...] = ()
    flash: int | None = None

    @property
    def emulators(self) -> tuple[str, ...]:
        """Paths at which its emulator is usually installed."""
        return self.target.emulators


# pci_root_bus_path(). Bus numbers below the root are assigned by the guest, so paths do without.
_ROOT = "0000:00"
# TCG's default on Arm is a Cortex-A15, which KVM does not have: "max" is what either can do.
_ANY_CPU = ("-cpu", "max")
# VIRT_FLASH, of which each of two devices has half.
_ARM_FLASH = 64 << 20

BOARDS = (
    # "q35" and "pc" are aliases of the newest type; what they mean changes with the emulator.
    Board("pc-q35", True, _ROOT, X86, ("q35", "ubuntu-q35"), tried=True),
    Board("pc-i440fx", False, _ROOT, X86, ("pc", "ubuntu"), tried=True),
    # It has no PCI bus, so QEMU refuses the device.
    Board("isapc", False, _ROOT, X86),
    # There is no other PCI than an Express host bridge, and that only if asked for.
    Board("microvm", True, _ROOT, X86, tried=True, arguments=("-machine", "pcie=on")),
    # Interrupts by message come with every GIC, by v2m or ITS. What has neither (virt-2.7 and older
    # with gic-version=3, its=off in QEMU 10) has no root ports: they are not realised.
    Board("virt", True, _ROOT, _ARM, tried=True, arguments=_ANY_CPU, flash=_ARM_FLASH),
    Board("virt", True, _ROOT, _ARM32, tried=True, arguments=_ANY_CPU, flash=_ARM_FLASH),
    Board("virt", True, _ROOT, _LOONGARCH, tried=True, arguments=_ANY_CPU),
    Board("virt", True, _ROOT, _RISCV, arguments=_ANY_CPU),
    # Its SMMU, which it always has, lets no VFIO device be realised: "iommu MAP notifier".
    Board("sbsa-ref", True, _ROOT, _ARM),
    # Root buses are named after their PHB's number, spapr_phb_root_bus_path(). Each PHB has a table
    # of translations of its own (spapr_tce), which VFIO takes for a vIOMMU.
    Board(
        *("pseries", False, None, _POWER),
        refusal="Migration is currently not supported with vIOMMU enabled",
    ),
    # Devices are named after zPCI's identifiers, not after PCI addresses.
    Board(
        *("s390-ccw-virtio", False, None, _S390),
        refusal="State blocked by non-migratable device 'zpci'",
    ),
)


def board_of(machine: str, arch: str = "") -> Board | None:
    """The board of a machine type's name, None for one of an unknown family.

    Of several that fit the one with the longest name is meant: ``pc-q35-9.0`` is no ``pc``; of one
    name that of ``arch``, libvirt's name of an architecture, or the first.
    """
    fitting = (
        (len(name), arch in board.target.architectures, board)
        for board in BOARDS
        for name in (board.name, *board.aliases)
        if machine == name or machine.startswith(f"{name}-")
    )
    return max(fitting, key=lambda found: found[:2], default=(0, False, None))[2]


def emulators_of(machine: str) -> tuple[str, ...]:
    """Where the emulators of a machine type usually are: of every architecture that has it."""
    board = board_of(machine)
    same = [each for each in BOARDS if board is not None and each.name == board.name]
    return tuple(path for each in same for path in each.emulators)


def canonical(name: str) -> str:
    """The board's own name for one of its aliases; any other name as it is."""
    return next((board.name for board in BOARDS if name in board.aliases), name)
