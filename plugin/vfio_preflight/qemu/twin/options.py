"""QEMU's options: which a twin keeps, which it does without, and which take no argument.

Source: QEMU, qemu-options.hx; libvirt, ``qemuBuildCommandLine`` (src/qemu/qemu_command.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...osutil.light import TYPE_CHECKING
from . import words

if TYPE_CHECKING:
    from typing import Any

# Options without an argument. Of those that are not known here it is a guess.
FLAGS = frozenset(
    (
        *("S", "no-user-config", "nodefaults", "no-shutdown", "no-reboot", "no-hpet", "no-acpi"),
        *("enable-kvm", "enable-fips", "nographic", "daemonize", "usb", "snapshot", "full-screen"),
        *("no-quit", "no-fd-bootchk", "only-migratable", "preconfig", "win2k-hack", "singlestep"),
        *("s", "mem-prealloc", "async-teardown", "perfmap", "jitdump", "enable-sync-profile"),
        *("alt-grab", "ctrl-grab", "no-frame", "curses", "show-cursor", "xen-attach"),
        *("xen-domid-restrict", "semihosting", "old-param", "one-insn-per-tb", "no-kvm"),
        *("no-kvm-irqchip", "no-kvm-pit-reinjection", "rtc-td-hack", "fd-bootchk"),
    )
)
# As the guest has them.
KEPT = frozenset(
    (
        "rtc",
        "no-hpet",
        "no-acpi",
        "nodefaults",
        "usb",
        "vga",
        "L",
        "watchdog",
        "no-fd-bootchk",
    )
)
# In no state, or of no meaning to a machine that does not run.
DROPPED = frozenset(
    (
        *("S", "accel", "action", "add-fd", "boot", "chroot", "compat", "D", "d", "daemonize"),
        *("debugcon", "display", "enable-fips", "enable-kvm", "full-screen", "gdb", "incoming"),
        *("iscsi", "k", "loadvm", "mem-path", "mem-prealloc", "mon", "monitor", "msg", "name"),
        *("no-reboot", "no-shutdown", "no-user-config", "nographic", "overcommit", "pidfile"),
        *(
            "qmp",
            "qmp-pretty",
            "run-with",
            "runas",
            "sandbox",
            "sdl",
            "smbios",
            "snapshot",
            "spice",
        ),
        *(
            "trace",
            "uuid",
            "vnc",
            "watchdog-action",
            "append",
            "initrd",
            "tpmdev",
            "only-migratable",
        ),
        *("async-teardown", "no-quit", "perfmap", "plugin", "s", "jitdump", "preconfig"),
        *("enable-sync-profile", "singlestep", "one-insn-per-tb", "alt-grab", "ctrl-grab"),
        *("no-frame", "curses"),
    )
)
_MACHINE = ("machine", "M")
MACHINE_DROPPED = ("accel", "kernel_irqchip", "kernel-irqchip", "kvm-shadow-mem", "dumpdtb")
# What -machine says in place of other options: a key, or a group of keys, to that option.
_ELSEWHERE = {
    **{name: name for name in ("kernel", "initrd", "append", "dtb", "smp")},
    **{"firmware": "bios", "memory": "m"},
}
_RENAMED = {("m", "max-size"): "maxmem"}
# Options that are short for -drive.
_DRIVES: Mapping[str, Mapping[str, object]] = {
    **{f"hd{letter}": {"index": n, "media": "disk"} for n, letter in enumerate("abcd")},
    **{f"fd{letter}": {"if": "floppy", "index": n} for n, letter in enumerate("ab")},
    "cdrom": {"index": 2, "media": "cdrom"},
    "pflash": {"if": "pflash"},
    "sd": {"if": "sd"},
}


def pairs(argv: Sequence[str]) -> list[tuple[str, str]]:
    """Options without their dashes, each with its argument, or with nothing if it is a flag."""
    found = []
    words_ = iter(argv)
    for word in words_:
        # QEMU takes one dash or two.
        name = word[2:] if word.startswith("--") else word[1:]
        if word.startswith("-"):
            found.append((name, "" if name in FLAGS else next(words_, "")))
        # A word alone is the first disk.
        elif word:
            found.append(("hda", word))
    return found


def spelled_out(options: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The options, each in the form that says most: ``-drive`` for a disk that is said in short,
    and what ``-machine`` says in place of others in those.

    Source: QEMU, ``qemu_init()`` and ``machine_merge_property()`` (system/vl.c).
    """
    for option, value in options:
        if option in _MACHINE and not words.is_json(value):
            yield from _spelled_out(option, value)
        elif option in _DRIVES:
            yield "drive", words.write({**_DRIVES[option], "file": value})
        else:
            yield option, value


def _spelled_out(option: str, value: str) -> Iterator[tuple[str, str]]:
    rest: dict[str, str] = {}
    groups: dict[str, dict[str, str]] = {}
    for key, text in words.read(value, "type").items():
        group, dot, name = key.partition(".")
        other = _ELSEWHERE.get(group)
        if other is None:
            rest[key] = text
        elif dot:
            groups.setdefault(other, {})[_RENAMED.get((other, name), name)] = text
        else:
            yield other, text
    yield option, words.write(rest, "type")
    yield from ((other, words.write(given)) for other, given in groups.items())


def nodes(options: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for node in _readable(options, "blockdev", ""):
        yield str(node.get("node-name", "")), node


def file_below(node: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> str:
    """The path of the file that a ``-blockdev`` or ``-drive`` ends at; empty where it has none."""
    # As often as there are nodes, so that a circle of them has an end.
    for _ in (*named, node):
        below = node.get("file")
        node = below if isinstance(below, dict) else named.get(str(below), node)
    keys = ("filename", "file.filename", "file")
    return next((text for key in keys if isinstance(text := node.get(key), str)), "")


def machine_type(options: Sequence[tuple[str, str]]) -> str:
    """The last one named; empty if none is."""
    named = [str(machine["type"]) for machine in _machines(options) if "type" in machine]
    return named[-1] if named else ""


def firmware_nodes(options: Sequence[tuple[str, str]]) -> Iterator[str]:
    for machine in _machines(options):
        yield from (str(machine[key]) for key in ("pflash0", "pflash1") if key in machine)


def _machines(options: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for name in _MACHINE:
        yield from _readable(options, name, "type")


def floppy_nodes(options: Sequence[tuple[str, str]]) -> Iterator[str]:
    for device in _readable(options, "device", "driver"):
        if device.get("driver") == "floppy" and "drive" in device:
            yield str(device["drive"])


def _readable(
    options: Sequence[tuple[str, str]], option: str, implied: str
) -> Iterator[dict[str, Any]]:
    for name, value in options:
        if name == option:
            try:
                yield words.read(value, implied)
            except words.ArgumentError:
                continue  # left out, and told, when its turn comes
