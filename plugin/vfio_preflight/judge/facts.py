"""What is known about both sides before anything is judged.

    >>> facts.devices[0].source.evidence, facts.devices[0].destination.evidence
    ('vfio', 'catalogue')

Facts are gathered (``gather``) without judging, and judged here without gathering.
"""

from __future__ import annotations

from ..guest.domain import Guest, GuestDevice
from ..guest.record import RecordEntry
from ..guest.traits import Traits, VendorRule
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..pci.state import ANY_EVIDENCE, ConfigState, Missing, State
from ..qemu.emulator.machines import EmulatorFacts

if TYPE_CHECKING:
    from ..qemu.emulator.sent import Sent
    from ..qemu.emulator.types import TypeFacts
    from ..qemu.twin.told import Told


class Refused(NamedTuple):
    """That QEMU on this host refused such a device before, coming from such a device.

    ``line`` is what it said, ``time`` when (ISO 8601, UTC), ``name`` that of the entry in the
    history; ``mended`` is whether it refused it although ``skip-vsc-check`` had been set.
    """

    line: str
    time: str
    name: str
    mended: bool = False


class DeviceFacts(NamedTuple):
    """A guest's device on both hosts.

    ``source`` is what the source will send, or presented to its QEMU; ``destination`` what the
    destination's device presents. ``entry`` is the guest's record of the device, None without one;
    ``source`` is the very state in it unless there is better evidence, such as a save image.
    ``second_opinion`` is what else is known of the destination's device. ``parent`` is
    ``vendor:device`` of its physical device, or empty; known where neither state is. ``traits`` are
    its traits, empty unless a vendor's rule compares them with those in ``entry``. ``refused`` are
    earlier attempts with devices of the same traits that QEMU refused, the latest last.
    """

    device: GuestDevice
    source: State
    destination: State
    entry: RecordEntry | None = None
    second_opinion: ConfigState | None = None
    parent: str = ""
    traits: Traits = Traits()
    refused: tuple[Refused, ...] = ()

    @property
    def source_is_recorded(self) -> bool:
        """Whether ``source`` is the state in the guest's record."""
        # Identity, not equality: an image can contain the same bytes as the record.
        return self.entry is not None and self.source is self.entry.state


class Builds(NamedTuple):
    """The two builds of QEMU, as far as the guest's devices are concerned.

    ``sent`` is what the source's makes of them, and ``origin`` how that is known; ``there`` are all
    device types of the destination's.
    """

    sent: Sent
    there: TypeFacts
    origin: str = ""


class Facts(NamedTuple):
    """A guest and its devices on both hosts, and the destination's emulator.

    ``emulator`` is Missing where it could not be queried; ``verified`` are the releases that the
    model was verified on. ``strays`` are keys for which the record has an entry and the guest no
    device; ``image_problems`` say what could not be read of a save image. ``evidence`` is the
    weakest grade of evidence that is accepted. ``rules`` are the vendors' rules that may concern
    the guest's devices; ``rule_problems`` say which files of them could not be read. ``bandwidth``
    is the migration's, in MiB/s, 0 where it is not known. ``saved`` is whether QEMU has sent the
    guest already, into an image. ``sender`` is the source's emulator, where it could be asked; else
    all that is known of it is in the devices' entries. ``builds`` are both builds; Missing where
    they cannot be compared, None where nothing is known of the source's. ``twin`` is what is known
    of the guest's twin.
    """

    guest: Guest
    devices: tuple[DeviceFacts, ...]
    emulator: EmulatorFacts | Missing
    verified: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    image_problems: tuple[str, ...] = ()
    evidence: str = ANY_EVIDENCE
    rules: tuple[VendorRule, ...] = ()
    rule_problems: tuple[str, ...] = ()
    bandwidth: int = 0
    saved: bool = False
    sender: EmulatorFacts | None = None
    builds: Builds | Missing | None = None
    twin: Told | None = None
