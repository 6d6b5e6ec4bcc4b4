"""Cold starts in the virtual machine: what the hook captures is what the device presented.

    starts.py N

A guest with a mediated device of tests/vm/module is started and destroyed N times; the device
presents other bytes each time, and ``watch`` comes only after the capture. Prints CHECK lines; ends
with exit status 1 if one of them does not hold.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT / "plugin"), str(CHECKOUT / "tests")]

from lab.configs import VSC_BODY  # noqa: E402
from system.pair import OLD, VSC_AT, Pair  # noqa: E402
from system.service import Service, wait  # noqa: E402
from vfio_preflight.guest.metadata import Record, find_ours, read_record  # noqa: E402
from vfio_preflight.guest.xml import parse_domain  # noqa: E402
from vfio_preflight.judge.checks.evidence import check_age  # noqa: E402
from vm.scripts.gates import CONFIG, HERE, check, guest, hosts, make_device, result  # noqa: E402

NAME = "starts"
CAPTURE = f"/run/vfio-preflight/started/{NAME}.json"
# A hang takes longer than this; what is waited for, seconds under TCG.
PATIENCE = 240.0
# What the guest's firmware may have written by then: Command.
WRITTEN = (0x04, 0x05)


def random_config() -> bytes:
    """Other Vendor Specific Information, revision and subsystem."""
    config = bytearray(CONFIG)
    config[VSC_AT : VSC_AT + len(VSC_BODY)] = os.urandom(len(VSC_BODY))
    config[0x08] = random.randrange(256)
    config[0x2C:0x30] = os.urandom(4)
    return bytes(config)


def record_of(pair: Pair) -> Record:
    """What is in the live metadata; empty if nothing is."""
    xml = pair.a.virsh("dumpxml", NAME).stdout
    return read_record(find_ours(parse_domain(xml.encode()))) or Record({})


def lasting(config: bytes) -> bytes:
    """Without the registers that are written to once the guest runs."""
    return bytes(0 if at in WRITTEN else byte for at, byte in enumerate(config))


def is_exact(record: Record, config: bytes) -> bool:
    """Whether the record has the device's bytes, read through VFIO; prints those that differ."""
    states = list(record.states.values())
    if [state.evidence for state in states] != ["vfio"]:
        print(f"recorded: {states}")
        return False
    pairs = enumerate(zip(states[0].config, config))
    other = [f"{at:#x}: {a:02x} not {b:02x}" for at, (a, b) in pairs if a != b]
    print(f"differ: {', '.join(other) or 'none'}")
    return lasting(states[0].config) == lasting(config)


def is_prompt(record: Record) -> bool:
    """Whether no entry is late (``record-late``)."""
    ages = [entry.age for entry in record.entries.values()]
    print(f"ages: {ages}")
    return None not in ages and not any(check_age(age) for age in ages)


def start(pair: Pair, service: Service, number: int) -> None:
    """One start, and what has to hold of it."""
    config, begun = random_config(), time.monotonic()
    make_device(HERE, config)
    pair.a.virsh("start", NAME, timeout=PATIENCE).check_returncode()
    capture = pair.a.path(CAPTURE)
    wait(capture.exists, PATIENCE)
    service.start(PATIENCE)
    wait(lambda: record_of(pair).entries, PATIENCE, 0.5)
    service.kill()
    record = record_of(pair)
    check(f"start {number}: recorded, exactly", is_exact(record, config))
    check(f"start {number}: in time", is_prompt(record))
    pair.a.virsh("destroy", NAME).check_returncode()
    wait(lambda: pair.a.state(NAME) == "shut off", PATIENCE, 0.2)
    check(f"start {number}: the capture is gone with it", not capture.exists())
    print(f"start {number} took {time.monotonic() - begun:.1f} s", flush=True)


def main() -> int:
    count = int(sys.argv[1])
    with hosts(HERE) as pair:
        service = Service(pair.a)
        pair.configure("[hook]\nlog = /var/log/syslog\n", pair.a)
        pair.a.define(guest(NAME, OLD, HERE))
        for number in range(1, count + 1):
            start(pair, service, number)
    return result()


if __name__ == "__main__":
    sys.exit(main())
