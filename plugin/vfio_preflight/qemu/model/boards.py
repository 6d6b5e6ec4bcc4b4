"""The boards that QEMU emulates, as far as VFIO devices are concerned: one row each.

    >>> board_of("pc-q35-9.0").express, board_of("pc-q35-noble").name, board_of("none")
    (True, 'pc-q35', None)

Everything that depends on a board is asked of its row; another architecture is another row.

Sources: QEMU 10.0.2, ``hw/i386/pc_piix.c``, ``pc_q35.c``, ``microvm.c``, ``hw/arm/virt.c``,
``sbsa-ref.c``, ``hw/riscv/virt.c``, ``hw/loongarch/virt.c``, ``hw/ppc/spapr.c``,
``hw/s390x/s390-virtio-ccw.c``; libvirt 11.3.0, ``qemuDomainMachineHasPCIeRoot``.
"""

from __future__ import annotations

from ...osutil.light import NamedTuple

# /usr/libexec/qemu-kvm is Red Hat's only emulator, always of the host's own architecture.
_X86 = ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm", "/usr/bin/kvm")
_ARM = ("/usr/bin/qemu-system-aarch64", "/usr/libexec/qemu-kvm")


class Board(NamedTuple):
    """A family of machine types.

    ``name`` is what the names of its types begin with, followed by a hyphen and a version;
    ``aliases`` are other such beginnings. ``express`` is whether its root bus is PCI Express.
    ``root_path`` is how ``pcibus_get_dev_path`` of QEMU begins the paths of its devices, None where
    that is not known. ``emulators`` are paths at which its emulator is usually installed.
    """

    name: str
    express: bool
    root_path: str | None
    emulators: tuple[str, ...]
    aliases: tuple[str, ...] = ()


# pci_root_bus_path(). Bus numbers below the root are assigned by the guest, so paths do without.
_ROOT = "0000:00"

BOARDS = (
    # "q35" and "pc" are aliases of the newest type; what they mean changes with the emulator.
    Board("pc-q35", True, _ROOT, _X86, ("q35", "ubuntu-q35")),
    Board("pc-i440fx", False, _ROOT, _X86, ("pc", "ubuntu")),
    # It has no PCI bus, so QEMU refuses the device.
    Board("isapc", False, _ROOT, _X86),
    # Its PCI Express host bridge is there with pcie=on alone; there is no other PCI.
    Board("microvm", True, _ROOT, _X86),
    # Of Arm, RISC-V and LoongArch, which all call it so.
    Board("virt", True, _ROOT, _ARM),
    Board("sbsa-ref", True, _ROOT, _ARM),
    # Root buses are named after their PHB's number, spapr_phb_root_bus_path().
    Board("pseries", False, None, ("/usr/bin/qemu-system-ppc64", "/usr/libexec/qemu-kvm")),
    # Devices are named after zPCI's identifiers, not after PCI addresses.
    Board("s390-ccw-virtio", False, None, ("/usr/bin/qemu-system-s390x", "/usr/libexec/qemu-kvm")),
)


def board_of(machine: str) -> Board | None:
    """The board of a machine type's name, None for one of an unknown family.

    Of several that fit the one with the longest name is meant: ``pc-q35-9.0`` is no ``pc``.
    """
    fitting = (
        (len(name), board)
        for board in BOARDS
        for name in (board.name, *board.aliases)
        if machine == name or machine.startswith(f"{name}-")
    )
    return max(fitting, key=lambda pair: pair[0], default=(0, None))[1]


def canonical(name: str) -> str:
    """The board's own name for one of its aliases; any other name as it is."""
    return next((board.name for board in BOARDS if name in board.aliases), name)
