"""Which guests ``watch`` has the twins tried of, and what it says; with real QEMU:
tests/system/test_twin.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from vfio_preflight.cli import succession
from vfio_preflight.cli.connection import LibvirtError
from vfio_preflight.cli.succession import PAUSE, WHY, Succession
from vfio_preflight.configuration import Configuration
from vfio_preflight.host import processes
from vfio_preflight.qemu.twin.told import ACCEPTED, NOT_RUN, REFUSED, Told


class FakeError(Exception):
    pass


class Here:
    """A libvirt with guests, by name, and the paths that their processes' programs have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, guests: dict[str, str | None]) -> None:
        self.timers: list[tuple[int, int]] = []
        self.told: list[str] = []
        self.tried: list[str] = []
        self.answers: dict[str, Told] = {}
        self.libvirt = SimpleNamespace(
            virEventAddTimeout=lambda *_: 7,
            virEventUpdateTimeout=lambda *timer: self.timers.append(timer),
            VIR_CONNECT_LIST_DOMAINS_ACTIVE=1,
            libvirtError=FakeError,
        )
        domains = {n: SimpleNamespace(name=lambda n=n: n, UUIDString=lambda n=n: n) for n in guests}

        @contextmanager
        def connected(_uri: str) -> Iterator[object]:
            yield SimpleNamespace(
                listAllDomains=lambda _flags: list(domains.values()),
                lookupByUUIDString=domains.__getitem__,
            )

        def find(name: str, _uuid: str) -> object:
            path = guests[name]
            return None if path is None else SimpleNamespace(executable=path)

        def tried(_libvirt: object, domain: SimpleNamespace, _settings: object) -> Told:
            self.tried.append(domain.name())
            answer = self.answers[domain.name()]
            if answer.outcome == NOT_RUN:
                raise LibvirtError("gone")
            return answer

        monkeypatch.setattr(succession, "connected", connected)
        monkeypatch.setattr(processes, "find_process", find)
        monkeypatch.setattr(succession, "_tried", tried)
        self.succession = Succession(self.libvirt, "qemu:///x", Configuration(), self.told.append)

    def run(self) -> None:
        self.succession.begin()
        while self.timers[-1][1] != -1:
            self.succession._next(7)


def test_those_whose_file_is_gone_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(monkeypatch, {"new": "/usr/bin/qemu", "a": "", "b": "", "c": "", "gone": None})
    here.answers = {
        "a": Told(ACCEPTED, "", "", "QEMU 1", "QEMU 2"),
        "b": Told(REFUSED, "the line", "", "QEMU 1", "QEMU 2"),
        "c": Told(NOT_RUN),
    }

    here.run()

    assert here.tried == ["a", "b", "c"]
    assert here.timers == [(7, PAUSE), (7, PAUSE), (7, PAUSE), (7, -1)]
    assert here.told == [
        f"b: {WHY}: the destination's QEMU refuses the guest's twin: \"the line\"; QEMU 2, of what"
        " QEMU 1 saved"
    ]


def test_without_such_a_guest_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(monkeypatch, {"new": "/usr/bin/qemu"})
    here.run()
    assert (here.tried, here.timers) == ([], [(7, -1)])


def test_without_libvirt_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here(monkeypatch, {"a": ""})

    @contextmanager
    def down(_uri: str) -> Iterator[object]:
        raise LibvirtError("cannot connect")
        yield

    monkeypatch.setattr(succession, "connected", down)
    here.succession.begin()
    assert (here.tried, here.timers) == ([], [])
