"""What releases of QEMU do differently with a VFIO device's configuration space, and its ROM.

Each row is the release that brought a change, and why; :func:`behaviour` adds them up. What a
release does is decided by its version alone: none of this depends on the machine type, unlike
``skip-vsc-check``. Distributors backport: the trial (``qemu.trial``) is right where this is not.
"""

from __future__ import annotations

from functools import lru_cache

from ...osutil.light import NamedTuple


class Behaviour(NamedTuple):
    """What an emulator does; as of the newest release by default."""

    rebar_is_kept: bool = True
    igd_is_emulated_anywhere: bool = True
    pm_has_eight_bytes: bool = True
    class_code_frees_revision: bool = True
    pin_is_checked: bool = True
    bir_is_checked: bool = True
    ats_can_be_hidden: bool = True
    igd_needs_opregion: bool = True
    rebar_may_exceed_512_gb: bool = True
    atomics_reach_port: bool = True
    rom_is_named_by_cpr: bool = True


class Change(NamedTuple):
    """A field of :class:`Behaviour` that is true from ``release`` (major, minor) on.

    ``stable`` are versions of earlier releases from which on they have it too.
    """

    release: tuple[int, int]
    field: str
    reason: str
    stable: tuple[tuple[int, int, int], ...] = ()


CHANGES = (
    Change(
        (8, 1),
        "rebar_is_kept",
        "the resizable BAR capability is shown, with the size in force alone; before, it was left"
        " out of the list",
    ),
    Change(
        (8, 1),
        "atomics_reach_port",
        "AtomicOps that VFIO reports are shown to the guest by its root port",
    ),
    Change(
        (10, 0),
        "igd_is_emulated_anywhere",
        "GMCH and BDSM of Intel's integrated graphics are emulated wherever the guest sees the"
        " device; before, at 00:02.0 alone, where what became of them hung on the rest of the"
        " machine: the model leaves them as they are",
    ),
    Change(
        (10, 0),
        "pm_has_eight_bytes",
        "vfio-pci hands the power management capability to pci_pm_init(): it has 8 bytes, where it"
        " ran to the next capability before, and its power state is writable",
    ),
    Change(
        (10, 1),
        "class_code_frees_revision",
        "x-pci-class-code is new; it replaces a dword of which the revision is a part, and makes"
        " the revision writable, so that nobody compares it",
    ),
    Change(
        (10, 1),
        "igd_needs_opregion",
        "an Intel display device without an OpRegion region is not treated as integrated graphics:"
        " its GMCH and BDSM registers stay as they are",
    ),
    Change(
        (10, 1),
        "rebar_may_exceed_512_gb",
        "Linux 6.15's PCI_REBAR_CAP_SIZES has the sizes from 1 TB to 128 TB too; before, a"
        " resizable BAR set to one of them hid the whole capability",
    ),
    Change(
        (10, 1),
        "rom_is_named_by_cpr",
        "a VFIO device has a state of its own for CPR, vfio_cpr_pci_vmstate, by whose name"
        " pci_add_option_rom() calls the memory of a ROM file; before, by the device's type",
    ),
    Change(
        (11, 1),
        "pin_is_checked",
        "an interrupt pin above 4 is an error; it was an assertion at the machine's reset",
        stable=((10, 0, 13),),
    ),
    Change(
        (11, 1),
        "bir_is_checked",
        "MSI-X table or pending bits in a BAR above 5 are an error; the index was not checked",
    ),
    Change(
        (11, 1),
        "ats_can_be_hidden",
        "the property ats is new; ats=off leaves the ATS extended capability out of the list",
    ),
)


def release(version: str) -> tuple[int, int]:
    """``(10, 0)`` for ``10.0.2``; ``(0, 0)`` for what is no version."""
    return numbers(version)[:2]


# hw/vfio/igd.c is built for PCs alone (CONFIG_VFIO_IGD); "" is a target that is not known.
_WITH_IGD = ("", "x86_64", "i386")


# Asked for each device of a guest.
@lru_cache(maxsize=64)
def behaviour(version: str, target: str = "") -> Behaviour:
    """What the QEMU of this version does that emulates ``target``, by QEMU's name for it."""
    found = Behaviour(**{change.field: _has(change, version) for change in CHANGES})
    return found if target in _WITH_IGD else found._replace(igd_is_emulated_anywhere=False)


@lru_cache(maxsize=64)
def behaviours(since: str, target: str = "") -> tuple[tuple[str, Behaviour], ...]:
    """What releases from ``since`` on can do, each with the first one, newest first."""
    brought = {".".join(map(str, at)) for each in CHANGES for at in (each.release, *each.stable)}
    later = {version for version in brought if numbers(version) > numbers(since)}
    ordered = sorted((since, *later), key=numbers, reverse=True)
    return tuple((version, behaviour(version, target)) for version in ordered)


def _has(change: Change, version: str) -> bool:
    own = numbers(version)
    # A stable branch is judged by its own backport, any other release by the first that has it.
    kept = [stable for stable in change.stable if stable[:2] == own[:2]]
    return own >= kept[0] if kept else own[:2] >= change.release


def numbers(version: str) -> tuple[int, int, int]:
    """``(10, 0, 2)`` for ``10.0.2``; zeros for what is no number."""
    # Padded, so that "10.0" is 10.0.0.
    parts = [int(part) if part.isdigit() else 0 for part in f"{version}.0.0".split(".")]
    return (parts[0], parts[1], parts[2])


def is_covered(version: str, verified: tuple[str, ...]) -> bool:
    """Whether ``version`` is among ``verified``, or an earlier patch level of one that is.

    A stable release may bring what the next one brings (``Change.stable``): one that is newer than
    all that were verified is not covered.
    """
    own = numbers(version)
    return any(one[:2] == own[:2] and one >= own for one in map(numbers, verified))
