"""The second gate, for ``make demo``: in the virtual machine, with nothing put anywhere by hand."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab import Lab  # noqa: E402
from system.pair import OLD, Pair  # noqa: E402
from vm.scripts import gates  # noqa: E402

GUEST = "render02"


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def migrate(pair: Pair) -> int:
    """Show the migration, and where the guest is afterwards."""
    print(f"a$ virsh migrate --live --p2p {GUEST} qemu+unix://b/system", flush=True)
    result = gates.migrated(pair, GUEST)
    print(f"{result.stderr.strip()}\n[exit status {result.returncode}]".lstrip())
    print(f"(the guest is running on {'a' if pair.a.state(GUEST) == 'running' else 'b'})")
    return result.returncode


def main() -> int:
    gates.load_module()
    gates.make_device(gates.HERE, gates.CONFIG)
    gates.make_device(gates.THERE, gates.OTHER_VSC)
    with tempfile.TemporaryDirectory(dir="/tmp") as work, Lab(Path(work), faked=False) as lab:
        pair = Pair(lab)
        for host in (lab.a, lab.b):
            pair.install(host)
        gates.make_upgraded(lab.b)

        say("A guest with a mediated device starts on a; the hook reads the device as QEMU did")
        lab.a.start_guest(gates.guest(GUEST, OLD, gates.HERE))
        gates.wait_for_capture(pair, GUEST)
        print(f"a$ vfio-preflight record {GUEST}\n{pair.record(GUEST).stdout.strip()}")

        say("b's device may not be opened while it is free: it is judged when b's QEMU has it")
        # The deadlines are for an emulated machine.
        pair.configure(gates.DEADLINES)
        blocked = migrate(pair)
        begun = gates.was_begun(pair.a, GUEST)
        print(f"(QEMU began to send the guest: {'yes' if begun else 'no'})")

        say("fail = mend on b, whose catalogue is emptied: mended ahead, at the first attempt")
        gates.forget(pair)
        pair.configure(gates.MENDING + gates.DEADLINES)
        mended = migrate(pair)
        print(f"its QEMU has skip-vsc-check: {gates.is_mended(pair, GUEST)}")
    return 0 if (blocked, begun, mended) == (1, False, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
