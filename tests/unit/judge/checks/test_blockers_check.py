"""What the source's QEMU refuses to send (checks.blockers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from unit.makers import (
    make_context,
    make_device,
    make_emulator,
    make_facts,
    make_guest,
    make_state,
)
from vfio_preflight.guest.domain import GuestDevice
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.guest.viommu import Viommu
from vfio_preflight.judge.checks.blockers import REFUSALS, check_blockers
from vfio_preflight.judge.facts import Facts
from vfio_preflight.judge.findings import Finding
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import decide
from vfio_preflight.qemu.messages.explain import explain
from vfio_preflight.qemu.model.boards import BOARDS

NONE, INTEL = Viommu(), Viommu("intel")
P2P, PLAIN = "stop-copy p2p", "stop-copy"
UNTRACKED = {"x-device-dirty-page-tracking": "off"}


def facts_of(
    offers: Sequence[str],
    qemu: str = "10.0.2",
    viommu: Viommu = NONE,
    processes: str = "aaaa",
    properties: Mapping[str, str] | None = None,
) -> Facts:
    """Devices whose drivers offer ``offers``, recorded by ``processes``, a letter each."""
    devices = [
        make_device(f"0000:0{n + 1}:00.0", alias=f"hostdev{n}", properties=properties)
        for n in range(len(offers))
    ]
    facts = make_facts(guest=make_guest(*devices)._replace(viommu=viommu))
    state = make_state(evidence="vfio")
    entries = [
        RecordEntry(state, qemu=qemu, process=process, migration=offer)
        for offer, process in zip(offers, processes)
    ]
    known = zip(facts.devices, entries)
    return facts._replace(
        devices=tuple(one._replace(source=state, entry=entry) for one, entry in known)
    )


def check(facts: Facts) -> list[Finding]:
    contexts = [make_context(facts.guest, one.device) for one in facts.devices]
    return list(check_blockers(facts, contexts))


def codes(facts: Facts) -> list[str]:
    return [finding.code for finding in check(facts)]


@pytest.mark.parametrize(
    ("qemu", "expected"),
    [
        ("7.2.22", []),
        ("8.0.0", ["source-viommu"]),
        ("10.0.13", ["source-viommu"]),
        ("10.1.0", ["source-undecided"]),
        ("10.2.2", ["source-undecided"]),
        ("11.1.3", ["source-undecided"]),
        ("12.0.0", ["source-undecided"]),
        ("", ["source-undecided"]),
    ],
)
def test_viommu_by_release(qemu: str, expected: list[str]) -> None:
    assert codes(facts_of([P2P], qemu, INTEL)) == expected


@pytest.mark.parametrize(("here", "said"), [("10.0.2", True), ("11.1.3", False), ("7.2.0", False)])
def test_viommu_of_a_guest_without_a_record_has_the_destinations_qemu_as_a_hint(
    here: str, said: bool
) -> None:
    facts = facts_of([P2P], "", INTEL)
    context = make_context(facts.guest, emulator=make_emulator(version=here))
    (finding,) = check_blockers(facts, [context])
    assert finding.verdict == "unknown"
    assert (f"the destination's, {here}, would refuse" in finding.text) == said


def test_viommu_in_words() -> None:
    (finding,) = check(facts_of([P2P], viommu=INTEL))
    assert finding.text == (
        "the guest has a virtual IOMMU (intel) and VFIO devices: the source's QEMU 10.0.2 refuses"
        ' to send it, "Migration is currently not supported with vIOMMU enabled" (since QEMU 8.0,'
        " from 11.0 on only devices that track dirty pages themselves)"
    )
    (finding,) = check(facts_of([P2P], "", INTEL))
    assert "the source's QEMU may refuse to send it" in finding.text
    assert finding.text.endswith("not certain: the guest's record does not say which QEMU runs it")
    (finding,) = check(facts_of([P2P], "11.1.3", INTEL))
    assert "not certain: whether the devices track dirty pages themselves" in finding.text


def test_viommu_that_may_not_be_in_the_way() -> None:
    (finding,) = check(facts_of([P2P], viommu=Viommu("intel", "bypass_iommu is mentioned")))
    assert finding.code == "source-undecided"
    assert finding.text.endswith("not certain: bypass_iommu is mentioned")
    assert codes(facts_of([], viommu=INTEL)) == []


@pytest.mark.parametrize(
    ("offers", "qemu", "processes", "expected"),
    [
        ([PLAIN], "10.0.2", "a", []),
        ([P2P, P2P], "10.0.2", "aa", []),
        ([P2P, PLAIN], "10.0.2", "aa", ["source-several"]),
        ([PLAIN, PLAIN], "8.0.5", "aa", ["source-several"]),
        ([P2P, PLAIN], "11.1.3", "aa", ["source-several"]),
        ([P2P, PLAIN], "11.2.0", "aa", ["source-undecided"]),
        ([P2P, PLAIN], "", "aa", ["source-undecided"]),
        # Recorded in two runs: other drivers may serve the devices now.
        ([P2P, PLAIN], "10.0.2", "ab", ["source-undecided"]),
        # What the other one can do is not known, or it does not count.
        (["", PLAIN], "10.0.2", "aa", ["source-undecided"]),
        (["none", PLAIN], "10.0.2", "aa", []),
        (["", ""], "10.0.2", "aa", []),
        (["", P2P], "10.0.2", "aa", []),
        ([P2P, P2P], "8.1.5", "aa", ["source-undecided"]),
        ([P2P, P2P], "", "aa", []),
    ],
)
def test_several(offers: list[str], qemu: str, processes: str, expected: list[str]) -> None:
    assert codes(facts_of(offers, qemu, processes=processes)) == expected


def test_several_in_words() -> None:
    (finding,) = check(facts_of([PLAIN] * 5, processes="aaaaa"))
    assert "5 VFIO devices, and hostdev0, hostdev1, hostdev2 and 2 more cannot" in finding.text
    (finding,) = check(facts_of([PLAIN] * 2, "8.1.0"))
    assert "with multiple VFIO devices" in finding.text
    assert "(QEMU 8.0 and newer, before 8.2)" in finding.text
    (finding,) = check(facts_of([PLAIN] * 2, ""))
    assert "only if all of them support P2P migration" in finding.text


@pytest.mark.parametrize(
    ("more", "qemu", "expected"),
    [
        ({}, "10.0.2", ["source-dirty-tracking"]),
        ({}, "9.0.0", []),
        ({}, "", ["source-undecided"]),
        ({"enable-migration": "auto"}, "10.0.2", ["source-dirty-tracking"]),
        ({"enable-migration": "on"}, "10.0.2", []),
        ({"enable-migration": "off"}, "10.0.2", []),
        ({"iommufd": "iommufd0"}, "10.0.2", []),
        ({"x-device-dirty-page-tracking": "auto"}, "10.0.2", []),
    ],
)
def test_dirty_tracking(more: Mapping[str, str], qemu: str, expected: list[str]) -> None:
    assert codes(facts_of([P2P], qemu, properties={**UNTRACKED, **more})) == expected


@pytest.mark.parametrize(
    ("machine", "arch", "qemu", "expected"),
    [
        ("pseries-9.0", "ppc64le", "10.0.2", ["source-board"]),
        ("pseries", "ppc64", "11.1.3", ["source-board"]),
        ("s390-ccw-virtio-9.0", "s390x", "10.0.2", ["source-board"]),
        ("s390-ccw-virtio-9.0", "s390x", "11.2.0", ["source-undecided"]),
        ("s390-ccw-virtio-9.0", "s390x", "", ["source-undecided"]),
        # Its devices are not sent by any other reason (emulator-too-old).
        ("s390-ccw-virtio-9.0", "s390x", "7.2.0", []),
        ("virt-9.0", "aarch64", "10.0.2", []),
        ("virt", "loongarch64", "10.0.2", []),
        ("vendor-board-1", "x86_64", "10.0.2", []),
    ],
)
def test_boards(machine: str, arch: str, qemu: str, expected: list[str]) -> None:
    facts = facts_of([P2P], qemu)
    guest = facts.guest._replace(machine=machine, arch=arch)
    assert codes(facts._replace(guest=guest)) == expected
    assert codes(facts._replace(guest=guest._replace(devices=()), devices=())) == []
    # An image has what was sent already.
    assert codes(facts._replace(guest=guest, image_problems=("it cannot be read",))) == []


def test_board_is_the_only_reason_that_counts() -> None:
    facts = facts_of([PLAIN, PLAIN], viommu=INTEL)
    (finding,) = check(facts._replace(guest=facts.guest._replace(machine="pseries-9.0")))
    assert finding.text == (
        "the guest's machine is a pseries-9.0 and it has VFIO devices: the source's QEMU 10.0.2"
        ' refuses to send it, "Migration is currently not supported with vIOMMU enabled" (since'
        " QEMU 8.0, and still in 11.1)"
    )


def test_devices_that_are_not_sent() -> None:
    off = {"enable-migration": "off"}
    assert codes(facts_of([P2P], viommu=INTEL, properties=off)) == []
    pair = {"failover_pair_id": "net0"}
    assert codes(facts_of([PLAIN, PLAIN], viommu=INTEL, properties=pair)) == []


def test_what_was_saved_was_not_refused() -> None:
    facts = facts_of([PLAIN, PLAIN], viommu=INTEL)
    assert check(facts._replace(image_problems=("it cannot be read",))) == []
    image = make_state(evidence="stream")
    devices = tuple(known._replace(source=image) for known in facts.devices)
    assert check(facts._replace(devices=devices)) == []


def test_a_state_of_the_operators_is_not_of_the_recorded_qemu() -> None:
    facts = facts_of([PLAIN, PLAIN], viommu=INTEL)
    devices = tuple(known._replace(source=make_state(evidence="file")) for known in facts.devices)
    assert codes(facts._replace(devices=devices)) == ["source-undecided"]


def test_in_a_report() -> None:
    facts = facts_of([P2P], viommu=INTEL)
    report = preflight(facts)
    assert report.verdict == "fail"
    assert "source-viommu" in [finding.code for finding in report.findings]
    assert decide(report, {}, ()).action == "block"
    # Nothing that could be mended hides a refusal.
    assert decide(report, {"fail": "mend"}, ()).action == "block"
    assert preflight(facts_of([P2P], "11.1.3", INTEL)).verdict == "unknown"


def test_every_quote_is_explained() -> None:
    for quote in (*(row.quote for row in REFUSALS), *(board.refusal for board in BOARDS)):
        assert not quote or list(explain(f"0000:06:00.4: {quote}"))


def test_no_devices() -> None:
    none: tuple[GuestDevice, ...] = ()
    facts = make_facts()._replace(devices=none)  # type: ignore[arg-type]
    assert check(facts) == []
