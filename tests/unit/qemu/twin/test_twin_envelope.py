"""The source's half as a file."""

from __future__ import annotations

import json

import pytest

from unit.makers import HOST, make_state
from vfio_preflight.qemu.twin.envelope import Envelope, EnvelopeError, from_bytes, to_bytes
from vfio_preflight.qemu.twin.twin import Stream

ENVELOPE = Envelope(
    guest="g",
    uuid="11111111-2222-3333-4444-555555555555",
    machine="pc-q35-9.0",
    emulator="/usr/bin/qemu-system-x86_64",
    host="a",
    time="2026-11-28T12:00:00Z",
    process="boot:1:2",
    tree="ab" * 32,
    arguments=("/usr/bin/qemu-system-x86_64", "-m", "64"),
    stream=Stream(
        b"QEVM" + bytes(5000),
        "QEMU 10.0.2 (Debian)",
        "10.0.2",
        {HOST: make_state()._replace(atomics=3), "0000:06:00.5": make_state()},
        {"/usr/share/x.rom": 65536},
        ("tpm0 (tpm-crb): why",),
    ),
)


def test_round_trip() -> None:
    assert from_bytes(to_bytes(ENVELOPE), "FILE") == ENVELOPE


def changed(**members: object) -> bytes:
    head, _, rest = to_bytes(ENVELOPE).partition(b"\n")
    return json.dumps({**json.loads(head), **members}).encode() + b"\n" + rest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\nx",
        b"\x7fELF\n",
        to_bytes(ENVELOPE)[:-1],
        to_bytes(ENVELOPE) + b"x",
        changed(sha256="0" * 64),
        changed(size=-1),
        changed(size=1 << 40),
        changed(size=5000),
        changed(twin=2),
        changed(arguments=[]),
        changed(arguments=[1]),
        changed(arguments="x"),
        changed(states={"x": {"config": "00", "bars": "", "evidence": "vfio", "origin": ""}}),
        changed(states=[]),
        changed(sizes={"/x": "1"}),
        changed(guest=None),
    ],
)
def test_what_is_not_such_a_file(data: bytes) -> None:
    with pytest.raises(EnvelopeError, match=r"^FILE: "):
        from_bytes(data, "FILE")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "FILE: empty: 'vfio-preflight twin save' has said why"),
        (to_bytes(ENVELOPE)[:-1], "FILE: damaged: .*; save it anew, or copy it anew"),
    ],
)
def test_what_is_to_be_done_about_it(data: bytes, why: str) -> None:
    with pytest.raises(EnvelopeError, match=why):
        from_bytes(data, "FILE")
