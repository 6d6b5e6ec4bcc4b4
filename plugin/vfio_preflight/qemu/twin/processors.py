"""A twin's processors: fewer than a large guest has, and on Arm not those of KVM.

Emulated processors cost more the more there are: on QEMU 10.0.2, 64 take 0.3 s and 144 MB, 255 take
4 s and 1.3 GB, 512 take 20 s and 5.9 GB, as each has two address spaces that every device's regions
are rendered into. The others are left possible (``maxcpus``), as if they were yet to be plugged in,
and the boards' own state is as large as the guest's.

Which registers an Arm processor has in the state is up to what runs it: the host's KVM tells its
own (KVM_GET_REG_LIST), QEMU's emulation has a list that releases change (``trial.stream``). What
the emulation's list says of a guest under KVM is nothing, so the processors of such a guest are
taken out of the state before it is loaded.

Source: QEMU, ``machine_parse_smp_config()`` (hw/core/machine-smp.c), ``tcg_cpu_realizefn()``
(target/i386/tcg/system/tcg-cpu.c).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ...osutil.light import TYPE_CHECKING
from . import words
from .options import pairs

if TYPE_CHECKING:
    from typing import Any

MOST = 64
_TOPOLOGY = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
TARGETS = ("aarch64", "arm")
NAMED = "processors: under KVM their registers are the host's"
_KVM = "kvm"
# What TCG refuses of a processor's features.
OF_KVM = ("enforce", "kvm-no-adjvtime", "kvm-steal-time")


def present(smp: Mapping[str, Any]) -> int:
    """How many processors there are from the start, by the options of ``-smp``."""
    given = next((_number(smp[key]) for key in ("cpus", "maxcpus") if key in smp), 0)
    return given or math.prod(_number(smp.get(key)) or 1 for key in _TOPOLOGY)


def fewer(smp: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``-smp`` with :data:`MOST` processors, and as many possible ones."""
    rest = {key: value for key, value in smp.items() if key != "cpus"}
    return {"cpus": MOST, "maxcpus": present(smp), **rest}


def counts_time(features: Sequence[str]) -> bool:
    """Whether these features of a processor have a clock that KVM may not take elsewhere.

    Source: QEMU, ``kvm_arch_init_vcpu()`` (target/i386/kvm/kvm.c).
    """
    found = words.read(",".join(features))
    fixed = any(_number(found.get(name)) for name in ("tsc-frequency", "tsc_freq"))
    # Of a host's processor, with which all comes that the host has.
    unlimited = str(found.get("migratable")) in ("off", "no", "false", "n")
    return not fixed and (unlimited or "+invtsc" in found or words.is_set(found.get("invtsc")))


def are_kvms(argv: Sequence[str]) -> bool:
    """Whether KVM runs a guest of these arguments, which begin behind the program."""
    return any(_KVM in _accelerators(option, value) for option, value in pairs(argv))


def _accelerators(option: str, value: str) -> Iterable[str]:
    if option == "enable-kvm":
        return (_KVM,)
    if option not in ("accel", "machine", "M"):
        return ()
    try:
        options = words.read(value, "accel" if option == "accel" else "type")
    except words.ArgumentError:
        return ()
    return str(options.get("accel", "")).split(":")


def _number(value: object) -> int:
    return words.number(value) or 0
