"""Guests drawn at random, with all that bears on how libvirt names and places VFIO devices.

What is drawn is legal for the most part, not always: libvirt decides, and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from xml.sax.saxutils import quoteattr

from lab.guests import EMULATOR

NETWORK = "vfs"  # of forward mode hostdev

Q35 = ("pc-q35-9.0", "pc-q35-10.0", "q35")
I440FX = ("pc-i440fx-9.0", "pc")

# Controllers by the model of what they can be plugged into.
_ON_EXPRESS = {
    "pcie-root": ("pcie-root-port", "pcie-root-port", "dmi-to-pci-bridge", "pcie-expander-bus"),
    "pcie-root-port": ("pcie-switch-upstream-port", "pcie-to-pci-bridge"),
    "pcie-switch-upstream-port": ("pcie-switch-downstream-port",),
    "pcie-switch-downstream-port": ("pcie-switch-upstream-port", "pcie-to-pci-bridge"),
    "pcie-expander-bus": ("pcie-root-port",),
    "dmi-to-pci-bridge": ("pci-bridge",),
    "pcie-to-pci-bridge": ("pci-bridge",),
    "pci-bridge": ("pci-bridge",),
}
_ON_CONVENTIONAL = {
    "pci-root": ("pci-bridge", "pci-expander-bus"),
    "pci-bridge": ("pci-bridge",),
    "pci-expander-bus": ("pci-bridge",),
}
# Where there is one slot only, its number is 0; elsewhere libvirt begins with 1 at the least.
_ONE_SLOT = ("pcie-root-port", "pcie-switch-downstream-port")
_ENDPOINTS_GO = ("pcie-root", "pci-root", "pci-bridge", "pcie-to-pci-bridge", *_ONE_SLOT)

_OVERRIDES = (
    ("skip-vsc-check", "bool", "true"),
    ("skip-vsc-check", "bool", "false"),
    ("skip-vsc-check", "remove", ""),
    ("x-pci-vendor-id", "unsigned", "4318"),
    ("x-pci-device-id", "unsigned", "010"),
    ("x-pci-device-id", "signed", "+7"),
    ("x-pci-sub-vendor-id", "signed", "-1"),
    ("x-pci-class-code", "string", "0x30000"),
    ("rombar", "unsigned", "0"),
    ("rombar", "remove", ""),
    ("romfile", "string", ""),
    ("multifunction", "bool", "false"),
    ("display", "string", "auto"),
    ("host", "string", "0000:09:00.3"),
    ("x-no-mmap", "bool", "true"),
    ("driver", "string", "vfio-pci-nohotplug"),
    ("bus", "string", "{root}"),
    ("addr", "string", "0x1e.0x1"),
)
# What a QEMU that is really started takes with any device.
_HARMLESS = ("skip-vsc-check", "x-no-mmap")
_ARGUMENTS = (
    ("-device", "vfio-pci,host=09:00.5"),
    ("-device", "vfio-pci,host=0000:09:00.6,id=own,bus={root},addr=0x1c,rombar=0"),
    ("-device", "vfio-pci,sysfsdev=/sys/bus/mdev/devices/{mdev},id=far,bus={bus},addr=0x1.0x0"),
    ("-device", '{{"driver":"vfio-pci","host":"0000:09:00.7","id":"json","bus":"{root}",'
     '"addr":"1d.0","multifunction":true,"x-pci-vendor-id":4318}}'),
    ("-device", "vfio-pci-nohotplug,host=09:01.0,ramfb=on,display=on"),
    ("-device", "vfio-user-pci,id=no"),
    ("-set", "device.own.x-no-mmap=on"),
    ("-global", "vfio-pci.skip-vsc-check=on"),
)  # fmt: skip


class Drawing:
    """One guest, drawn from ``random``; ``hosts`` are the PCI addresses and mdevs to hand out.

    With ``interfaces`` it has some, and takes nothing but ``hosts``: it can be started.
    """

    def __init__(
        self, random: Random, name: str, hosts: Sequence[str], interfaces: bool = False
    ) -> None:
        self._random, self._name, self._interfaces = random, name, interfaces
        self._hosts = random.sample(hosts, len(hosts))
        self.express = random.random() < 0.7
        self.machine = random.choice(Q35 if self.express else I440FX)
        self._models = {0: "pcie-root" if self.express else "pci-root"}
        self._taken: set[tuple[int, int, int]] = set()
        self._ua, self._bus = 0, ""
        self._root = "pcie.0" if self.express else "pci.0"
        self._display = self._usb_host = False

    def xml(self) -> str:
        """The guest's XML, as an operator might have written it."""
        controllers = [self._controller() for _ in range(self._random.randrange(8))]
        devices = [self._device() for _ in range(self._random.randrange(1, 6))]
        self._random.shuffle(devices)
        return f"""\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{self._name}</name>
  <memory unit='MiB'>32</memory>
  <memtune><hard_limit unit='KiB'>4096</hard_limit></memtune>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{self.machine}'>hvm</type></os>
  <features><acpi/></features>
  <cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/></numa></cpu>
  <devices>
    <emulator>{EMULATOR}</emulator>
    <controller type='usb'{"" if self._usb_host or self._maybe(0.3) else " model='none'"}/>
    <memballoon model='{"virtio" if self._maybe(0.3) else "none"}'/>
    {self._graphics()}
    {" ".join(controllers + devices)}
  </devices>
  {self._commandline()}{self._overrides()}
</domain>
"""

    def _maybe(self, chance: float = 0.5) -> bool:
        return self._random.random() < chance

    def _graphics(self) -> str:
        if not self._display:
            return ""
        return "<graphics type='vnc' port='-1'/><video><model type='none'/></video>"

    # --- controllers --------------------------------------------------------------------------

    def _controller(self) -> str:
        table = _ON_EXPRESS if self.express else _ON_CONVENTIONAL
        parents = [i for i, model in self._models.items() if model in table]
        # Often the newest, so that switches become whole.
        parent = self._random.choice(parents[-1:] if self._maybe() else parents)
        model = self._random.choice(table[self._models[parent]])
        index = max(self._models) + (1 if self._maybe(0.9) else 2)
        # A parent of its own choice libvirt finds for those that can go to one place at most.
        must = model.startswith("pcie-switch") or self._models[parent].endswith("expander-bus")
        address = self._slot(parent) if must or self._maybe() else ""
        self._models[index] = model
        alias = self._alias()
        # An operator's alias is the bus's name for QEMU, too.
        self._bus = alias.split("'")[1] if "'ua-" in alias else f"pci.{index}"
        return (
            f"<controller type='pci' index='{index}' model='{model}'>"
            f"{self._target(model, index)}{alias}{address}</controller>"
        )

    def _target(self, model: str, index: int) -> str:
        if model.endswith("expander-bus"):
            node = "<node>0</node>" if self._maybe() else ""
            return f"<target busNr='{0x40 + 0x10 * index}'>{node}</target>"
        if model == "pcie-root-port" and self._maybe(0.3):
            return f"<model name='{self._random.choice(('ioh3420', 'pcie-root-port'))}'/>"
        return ""

    def _slot(self, bus: int, function: int = 0, slot: int | None = None) -> str:
        """A free guest address on a bus, as XML."""
        if self._models[bus] in _ONE_SLOT:
            slot = 0
        elif slot is None:
            free = [n for n in range(8, 0x1C) if (bus, n, 0) not in self._taken]
            slot = self._random.choice(free)
        self._taken.add((bus, slot, function))
        more = ""
        if function == 0 and self._maybe(0.2):
            more = f" multifunction='{self._random.choice(('on', 'off'))}'"
        number = self._random.choice((f"0x{bus:02x}", str(bus)))
        return f"<address type='pci' bus='{number}' slot='0x{slot:x}' function='{function}'{more}/>"

    def _alias(self) -> str:
        """An alias of the operator's own; or one of a run before, which libvirt does not keep."""
        if self._maybe(0.2):
            self._ua += 1
            return f"<alias name='ua-{self._ua}-{self._random.choice('aZ_-')}'/>"
        if self._maybe(0.2):
            return f"<alias name='hostdev{self._random.randrange(1000)}'/>"
        return ""

    # --- devices ------------------------------------------------------------------------------

    def _device(self) -> str:
        kinds: list[Callable[[], str]] = [self._pci, self._pci, self._mdev]
        kinds += [self._interface, self._pool] if self._interfaces else [self._usb, self._plain]
        return self._random.choice(kinds)()

    def _take(self, mdev: bool) -> str:
        name = next((host for host in self._hosts if (len(host) == 36) == mdev), None)
        if name is None:
            return ""
        self._hosts.remove(name)
        return name

    def _pci(self) -> str:
        host = self._take(mdev=False)
        if not host:
            return ""
        model = "<driver name='vfio'/>" if self._maybe(0.3) else ""
        extra = self._extra() + self._guest_address()
        return (
            f"<hostdev mode='subsystem' type='pci' managed='no'{self._screen(pci=True)}>{model}"
            f"<source>{_source(host)}</source>{self._alias()}{extra}</hostdev>"
        )

    def _mdev(self) -> str:
        host = self._take(mdev=True)
        if not host:
            return ""
        written = host.upper() if self._maybe(0.2) else host
        return (
            f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'{self._screen(pci=False)}>"
            f"<source><address uuid='{written}'/></source>"
            f"{self._alias()}{self._extra()}{self._guest_address(pci=False)}</hostdev>"
        )

    def _screen(self, pci: bool) -> str:
        if pci or self._interfaces or not self._maybe(0.3):
            return ""
        self._display = True
        return f" display='on'{self._random.choice(('', ' ramfb=' + quoteattr('on')))}"

    def _extra(self) -> str:
        choices = (
            "<rom bar='off'/>",
            "<rom bar='on'/>",
            "<rom enabled='no'/>",
            "<rom bar='on' file='/usr/share/x.rom'/>",
            f"<acpi index='{self._random.randrange(1, 200)}'/>",
            "<boot order='1'/>",
        )
        safe = choices[:3] if self._interfaces else choices
        return self._random.choice(safe) if self._maybe(0.3) else ""

    def _guest_address(self, pci: bool = True) -> str:
        if self._maybe(0.4):
            return ""
        if pci and not self._interfaces and self._maybe(0.1):
            return "<address type='unassigned'/>"
        buses = [i for i, model in self._models.items() if model in _ENDPOINTS_GO]
        # Only one device fits where there is one slot, unless it has several functions.
        full = [i for i in buses if self._models[i] in _ONE_SLOT and (i, 0, 0) in self._taken]
        free = [i for i in buses if i not in full]
        if self._taken and self._maybe(0.2):
            bus, slot, _ = self._random.choice(sorted(self._taken))
            functions = [f for f in range(1, 8) if (bus, slot, f) not in self._taken]
            return self._slot(bus, self._random.choice(functions), slot)
        return self._slot(self._random.choice(free or [0]))

    def _interface(self) -> str:
        host = self._take(mdev=False)
        if not host:
            return ""
        return (
            f"<interface type='hostdev' managed='no'><source>{_source(host)}</source>"
            f"{self._alias()}{self._extra()}{self._guest_address()}</interface>"
        )

    def _pool(self) -> str:
        return (
            f"<interface type='network'><source network='{NETWORK}'/>"
            f"{self._alias()}{self._guest_address()}</interface>"
        )

    def _usb(self) -> str:
        """A hostdev that takes a number, and is no VFIO device."""
        self._usb_host = True
        source = f"<address bus='1' device='{self._random.randrange(1, 100)}'/>"
        return f"<hostdev mode='subsystem' type='usb'><source>{source}</source></hostdev>"

    def _plain(self) -> str:
        """A device that only takes an address; no interface, which domxml-to-native replaces."""
        return "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"

    # --- past libvirt -------------------------------------------------------------------------

    def _commandline(self) -> str:
        if self._interfaces or self._maybe():
            return ""
        words = {
            "root": self._root,
            "bus": self._bus or self._root,
            "mdev": "c0ffee00-9999-4222-8333-444455556666",
        }
        chosen = [pair for pair in _ARGUMENTS if self._maybe(0.4)]
        arguments = [text.format(**words) for pair in chosen for text in pair]
        elements = "".join(f"<qemu:arg value={quoteattr(text)}/>" for text in arguments)
        return f"<qemu:commandline>{elements}</qemu:commandline>" if elements else ""

    def _overrides(self) -> str:
        devices = []
        for _ in range(self._random.choice((0, 0, 1, 2, 3))):
            alias = self._random.choice(("hostdev0", "hostdev1", "hostdev2", "hostdev9", "ua-1-a"))
            chosen = self._random.sample(_OVERRIDES, self._random.randrange(1, 4))
            lines = "".join(
                self._override(*each) for each in chosen if self._may_override(alias, each[0])
            )
            if lines:
                frontend = f"<qemu:frontend>{lines}</qemu:frontend>"
                devices.append(f"<qemu:device alias='{alias}'>{frontend}</qemu:device>")
        return f"<qemu:override>{''.join(devices)}</qemu:override>" if devices else ""

    def _may_override(self, alias: str, name: str) -> bool:
        # An alias of the operator's may be a bridge's, which must stay one.
        if name in ("driver", "bus", "addr") and alias.startswith("ua-"):
            return False
        return name in _HARMLESS or not self._interfaces

    def _override(self, name: str, kind: str, value: str) -> str:
        text = "" if kind == "remove" else f" value={quoteattr(value.format(root=self._root))}"
        return f"<qemu:property name='{name}' type='{kind}'{text}/>"


def _source(bdf: str) -> str:
    return (
        f"<address type='pci' domain='0x{bdf[:4]}' bus='0x{bdf[5:7]}' slot='0x{bdf[8:10]}'"
        f" function='0x{bdf[11:]}'/>"
    )
