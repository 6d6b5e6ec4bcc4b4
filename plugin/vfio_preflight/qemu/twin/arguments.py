"""A guest's QEMU arguments, made those of its twin: the same machine, with nothing of the guest's.

    >>> made = transform(argv, Surroundings(size_of, directory="/tmp/x"))
    >>> made.arguments, made.uncovered
    (['-machine', 'pc-q35-9.0,…', '-m', 'size=64M', …], ['tpm0 (tpm-crb): its other half is …'])

The twin has the guest's machine type, processors and device tree, by the same ids and at the same
places, with the same properties: all that decides which sections its state has and what is in them
when nothing has run. What the devices stand on is replaced (``twin.backends``), memory is small
(``twin.memory``), and no firmware, kernel or disk is opened: where the size of a file shows in the
state, a file of zeros of that size stands for it. What cannot be had in this way is left out and
named in ``uncovered``, as is every option that is not known here.

Pure: arguments in, arguments out. Sizes of files are asked for.

Source: QEMU, qemu-options.hx and ``qemu_init()`` (system/vl.c); libvirt, ``qemuBuildCommandLine``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...osutil.light import TYPE_CHECKING, NamedTuple
from ..model.boards import board_of
from . import backends, devices, memory, processors, words
from .options import (
    DROPPED,
    FLAGS,
    KEPT,
    MACHINE_DROPPED,
    file_below,
    firmware_nodes,
    floppy_nodes,
    machine_type,
    nodes,
    pairs,
    spelled_out,
)

if TYPE_CHECKING:
    from typing import Any


class Surroundings(NamedTuple):
    """What the host of a half has to say.

    ``size_of`` gives the size of a file in bytes, None where it is not known; it is asked with the
    path and with whether the guest may write to the file. ``directory`` is where files of zeros
    will be. ``vfio`` are made-up devices: what they are called on the guest's host to a sysfsdev.
    """

    size_of: Callable[[str, bool], int | None]
    directory: str
    vfio: Mapping[str, str] = {}


class Transformed(NamedTuple):
    """The twin's arguments, without program, accelerator and what drives it.

    ``files`` are the files of zeros that must be there, by path; ``uncovered`` is what of the guest
    is not in the twin, in words.
    """

    arguments: tuple[str, ...]
    uncovered: tuple[str, ...]
    files: Mapping[str, int]


_NOT_TCG = "host"
_KERNEL_SIZE = 64 << 10


def transform(argv: Sequence[str], surroundings: Surroundings) -> Transformed:
    """The twin of a QEMU with the arguments ``argv``, which begin behind the program."""
    return _Transformation([*spelled_out(pairs(argv))], surroundings).result()


class _Transformation:
    """One command line on its way; the handlers below return the arguments of one option."""

    def __init__(self, options: list[tuple[str, str]], surroundings: Surroundings) -> None:
        self.options = options
        self.surroundings = surroundings
        self.memory = memory.plan(options)
        self.uncovered: list[str] = []
        self.files: dict[str, int] = {}
        self.left_out: list[str] = []
        self.networks = 0
        self.nodes = dict(nodes(options))
        board = board_of(machine_type(options))
        self.flash = board.flash if board is not None else None
        self.firmware = set(firmware_nodes(options))
        self.floppies = set(floppy_nodes(options))

    def result(self) -> Transformed:
        arguments: list[str] = ["-no-user-config"]
        for option, value in self.options:
            try:
                arguments += self._one(option, value)
            except words.ArgumentError as error:
                self._leave(f"-{option}: {error}")
        # A name each, however often it is met.
        return Transformed(tuple(arguments), tuple(dict.fromkeys(self.uncovered)), self.files)

    def _one(self, option: str, value: str) -> list[str]:
        if option in DROPPED:
            return []
        if option in KEPT:
            return [f"-{option}"] if option in FLAGS else [f"-{option}", value]
        if option in SIMPLE:
            return [f"-{option}", SIMPLE[option](value)]
        if option in _HANDLERS:
            return list(_HANDLERS[option](self, value))
        self._leave(f"option -{option}")
        return []

    def _leave(self, what: str) -> None:
        self.uncovered.append(what)

    # --- machine --------------------------------------------------------------------------------

    def machine(self, value: str) -> list[str]:
        options = words.read(value, "type")
        for name in backends.CONFIDENTIAL:
            if options.pop(name, None) is not None:
                self._leave(f"machine {name}: encrypted memory")
        if options.get("gic-version") == _NOT_TCG:
            options["gic-version"] = "max"
            self._leave("machine gic-version=host: it is the emulated GIC")
        for name in [name for name in options if name.startswith("sgx-epc")]:
            del options[name]
            self._leave("machine sgx-epc: it takes KVM")
        kept = {key: text for key, text in options.items() if key not in MACHINE_DROPPED}
        return ["-machine", words.write_like(value, kept, "type")] if kept else []

    def cpu(self, value: str) -> list[str]:
        model, *features = words.split(value) or [""]
        if processors.counts_time(features):
            self._leave("cpu invtsc: KVM may refuse to send it")
        # What the host's processor has takes KVM; TCG has its own greatest.
        if model == _NOT_TCG:
            return ["-cpu", ",".join(["max", *(f for f in features if f.startswith("migratable"))])]
        # TCG has not all that the host's KVM has, and the state does not show what a processor has.
        kept = [text for text in features if text.partition("=")[0] not in processors.OF_KVM]
        return ["-cpu", ",".join(word.replace(",", ",,") for word in (model, *kept))]

    def smp(self, value: str) -> list[str]:
        options = words.read(value, "cpus")
        if processors.present(options) <= processors.MOST:
            return ["-smp", value]
        self._leave(f"processors beyond the first {processors.MOST}")
        return ["-smp", words.write_like(value, processors.fewer(options), "cpus")]

    def size(self, value: str) -> list[str]:
        return ["-m", memory.size_option(value, self.memory)]

    def object(self, value: str) -> list[str]:
        options = words.read(value, "qom-type")
        kind = str(options.get("qom-type", ""))
        # Of a PCI device that is left out, as QEMU would miss it.
        if options.get("pci-dev") in self.left_out:
            self._leave(f"{options.get('id')} ({kind}): what it belongs to is not in the twin")
            return []
        is_memory = kind.startswith(memory.BACKEND)
        made = memory.backend(options, self.memory) if is_memory else backends.object_(options)
        if kind.startswith("cryptodev-") and backends.has_many_queues(options):
            self._leave(f"{options.get('id')}: queues beyond the first")
        if made is not None:
            return ["-object", words.write_like(value, made, "qom-type")]
        if not kind.startswith(backends.DROPPED_OBJECTS):
            self._leave(f"object {options.get('id', '')} ({kind})")
        return []

    def global_(self, value: str) -> list[str]:
        # Both forms: DRIVER.PROPERTY=VALUE, and driver=,property=,value=.
        name, _, text = value.partition("=")
        driver, dot, key = name.partition(".")
        if not dot:
            options = words.read(value)
            driver, key, text = (str(options.get(n, "")) for n in ("driver", "property", "value"))
        given = {key: text}
        kept = devices.as_vfio(given, "") if devices.is_vfio(driver) else given
        if key not in devices.without_host(kept):
            return []
        wanted = self._fitted(kept, driver)[key]
        return ["-global", words.write({"driver": driver, "property": key, "value": wanted})]

    def set(self, value: str) -> list[str]:
        group, _, rest = value.partition(".")
        name, _, assignment = rest.partition(".")
        key, _, text = assignment.partition("=")
        kept = key not in (*devices.DROPPED, *devices.UNTRIED)
        if group != "device" or name in self.left_out or not kept:
            return []
        return ["-set", f"device.{name}.{key}={self._fitted({key: text}, name)[key]}"]

    # --- devices --------------------------------------------------------------------------------

    def device(self, value: str) -> list[str]:
        options = words.read(value, "driver")
        driver, name = str(options.get("driver", "")), str(options.get("id", ""))
        made = self._device(options, driver, name)
        if made is None:
            self.left_out.append(name)
            return []
        made = self._fitted(made, _called(driver, name))
        return ["-device", words.write_like(value, made, "driver")]

    def _device(self, options: dict[str, Any], driver: str, name: str) -> dict[str, Any] | None:
        called = _called(driver, name)
        if devices.is_on(options.get("bus"), self.left_out):
            why = "what it is plugged into is not in the twin"
        elif devices.is_vfio(driver):
            sysfsdev = self.surroundings.vfio.get(devices.host_of(options))
            if sysfsdev:
                if words.is_set(options.get("ramfb")):
                    self._leave(f"{called}: ramfb")
                return devices.as_vfio(options, sysfsdev)
            why = "what it presents is not known here, or nothing is there to make it up"
        else:
            why = devices.reason(options)
        if why:
            self._leave(f"{called}: {why}")
            return None
        if memory.is_memory_device(options):
            return memory.device(options)
        return devices.without_host(options)

    def _fitted(self, options: dict[str, Any], called: str) -> dict[str, Any]:
        """A device's options as its twin can have them.

        For an option ROM of the operator's there is a file of zeros, whose size is in the state.
        """
        limited = devices.limited(options)
        for key, most in limited.items():
            self._leave(f"{called}: {key} above {most}")
        fitted = {**options, **limited}
        path = str(options.get("romfile") or "")
        # A name without a slash is QEMU's own, which it looks up in its data.
        if path.startswith("/"):
            fitted["romfile"] = self._stand_in(path)
        return fitted

    def _stand_in(self, path: str, size: int | None = None) -> str:
        """A file of zeros as large as the one at ``path``; that path if there is no such file."""
        size = self.surroundings.size_of(path, False) if size is None else size
        # It does not exist here: QEMU says so in its own words.
        if size is None:
            return path
        name = f"{self.surroundings.directory}/zeros-{size}"
        self.files[name] = size
        return name

    def bios(self, value: str) -> list[str]:
        return ["-bios", self._stand_in(value) if value.startswith("/") else value]

    def kernel(self, value: str) -> list[str]:
        # Its loading makes a block of memory, by an option ROM of QEMU's; what is in it, and an
        # initrd, does not show.
        return ["-kernel", self._stand_in(value, _KERNEL_SIZE)]

    # --- disks and networks ---------------------------------------------------------------------

    def blockdev(self, value: str) -> list[str]:
        options = words.read(value)
        return ["-blockdev", backends.blockdev(options, self._size(options))]

    def _size(self, options: Mapping[str, Any]) -> int:
        name = str(options.get("node-name"))
        if name in self.firmware:
            return self._firmware_size(options)
        return backends.FLOPPY_SIZE if name in self.floppies else backends.DISK_SIZE

    def _firmware_size(self, options: Mapping[str, Any]) -> int:
        writable = not words.is_set(options.get("read-only", options.get("readonly", False)))
        path = file_below(options, self.nodes)
        # Of other formats the file's size is not the image's.
        raw = options.get("driver", options.get("format", "raw")) in ("raw", "file")
        size = self.surroundings.size_of(path, writable) if raw and path else None
        size = self.flash if size is None else size
        if size is None:
            self._leave(f"the size of firmware {path or 'without a file'}")
        return size or backends.FIRMWARE_SIZE

    def drive(self, value: str) -> list[str]:
        options = words.read(value, "file")
        kind = options.get("if")
        if kind == "pflash":
            return ["-drive", backends.drive(options, self._firmware_size(options))]
        size = backends.FLOPPY_SIZE if kind == "floppy" else backends.DISK_SIZE
        return ["-drive", backends.drive(options, size)]

    def netdev(self, value: str) -> list[str]:
        self.networks += 1
        if backends.queues(value) > 1:
            self._leave(f"{words.read(value, 'type').get('id')}: queues beyond the first")
        return ["-netdev", backends.netdev(value, self.networks)]

    def only_none(self, option: str, value: str) -> list[str]:
        if value != "none":
            self._leave(f"option {option}")
        return [option, "none"]

    def acpi_table(self, _value: str) -> list[str]:
        self._leave("ACPI tables of the operator's")
        return []


def _called(driver: str, name: str) -> str:
    return f"{name} ({driver})" if name else driver


_Handler = Callable[[_Transformation, str], Sequence[str]]


def _about(method: Callable[[_Transformation, str, str], list[str]], option: str) -> _Handler:
    return lambda transformation, value: method(transformation, option, value)


# Options whose argument alone says what it becomes.
SIMPLE: Mapping[str, Callable[[str], str]] = {
    "chardev": backends.chardev,
    "serial": backends.character,
    "parallel": backends.character,
    "audiodev": backends.audiodev,
    "fsdev": backends.fsdev,
    "fw_cfg": backends.firmware_value,
    "numa": memory.numa,
}
_HANDLERS: Mapping[str, _Handler] = {
    "machine": _Transformation.machine,
    "M": _Transformation.machine,
    "cpu": _Transformation.cpu,
    "smp": _Transformation.smp,
    "m": _Transformation.size,
    "object": _Transformation.object,
    "global": _Transformation.global_,
    "set": _Transformation.set,
    "device": _Transformation.device,
    "bios": _Transformation.bios,
    "kernel": _Transformation.kernel,
    "blockdev": _Transformation.blockdev,
    "drive": _Transformation.drive,
    "netdev": _Transformation.netdev,
    "nic": _about(_Transformation.only_none, "-nic"),
    "net": _about(_Transformation.only_none, "-net"),
    "acpitable": _Transformation.acpi_table,
}
