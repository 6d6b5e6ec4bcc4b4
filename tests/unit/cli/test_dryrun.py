"""The stand-in that the dry run sends, and what libvirt makes of it; libvirt itself is a stub."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest

from lab.guests import guest_xml
from unit.domains import KEY, make_domain
from unit.makers import HOST, make_facts, make_state
from vfio_preflight.cli import dryrun
from vfio_preflight.cli.connection import LibvirtError
from vfio_preflight.cli.workers import ENDING
from vfio_preflight.guest.domain import Guest, parse_domain, read_guest
from vfio_preflight.guest.metadata import PROBE_NAME_PREFIX, Probe, read_probe, read_record
from vfio_preflight.hook.probe import reply
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision
from vfio_preflight.report.schema import ReportDict, as_dict

UUID = "11111111-2222-3333-4444-555555555555"
XML = (
    make_domain({KEY: make_state()})
    .decode()
    .replace("<vcpu>", "<description>private</description><vcpu>")
    .replace("</devices>", "<graphics type='vnc' passwd='s3cret'/><disk/></devices>")
)
CAPABILITIES = """<capabilities><guest><arch name='x86_64'>
  <emulator>/usr/bin/qemu-system-x86_64</emulator>
  <machine canonical='pc-q35-10.0'>q35</machine><machine>pc-q35-9.0</machine>
</arch></guest></capabilities>"""


def stand_in(part: int = 0) -> Guest:
    return read_guest(parse_domain(dryrun.stand_in_xml(XML, UUID, part).encode()))


def probe_of(guest: Guest) -> Probe | None:
    return read_probe(guest.name, guest.metadata)


def test_stand_in_keeps_what_is_asked_about() -> None:
    guest, original = stand_in(), read_guest(parse_domain(XML.encode()))
    assert guest.devices == original.devices
    assert guest[2:6] == original[2:6], "machine, architecture, type, emulator"
    record = read_record(guest.metadata)
    assert record is not None and record.states == {KEY: make_state()}


def test_stand_in_is_known_as_one() -> None:
    guest = stand_in(3)
    assert (guest.name, guest.uuid) == (PROBE_NAME_PREFIX + UUID, UUID)
    assert probe_of(guest) == Probe(3)
    assert b" 0 1 " in reply(3, as_dict(preflight(make_facts()), None)), (
        "of one part, the last is what there is"
    )


def test_stand_in_has_nothing_else_of_the_guest() -> None:
    text = dryrun.stand_in_xml(XML, UUID, 0)
    for private in ("s3cret", "private", "graphics", "<disk", "g1"):
        assert private not in text


def test_stand_in_needs_no_firmware_of_its_own() -> None:
    xml = XML.replace("<os>", "<launchSecurity type='sev'/><os firmware='efi'>")
    text = dryrun.stand_in_xml(xml, UUID, 0)
    assert "<os>" in text and "launchSecurity" not in text


def test_stand_in_keeps_what_the_iommus_depend_on() -> None:
    iommu = "<iommu model='intel'><driver intremap='on' eim='on' pasid='on'/></iommu></devices>"
    xml = XML.replace("</devices>", iommu).replace("<os>", "<iommufd enabled='yes'/><os>")
    text = dryrun.stand_in_xml(xml, UUID, 0)
    assert "intremap" not in text and "eim" not in text
    guest, original = (
        read_guest(parse_domain(text.encode())),
        read_guest(parse_domain(xml.encode())),
    )
    assert guest.viommu == original.viommu and original.viommu.pasid
    assert guest.devices == original.devices
    assert "iommufd" in guest.devices[0].properties


@pytest.mark.parametrize("display", ["on", "off"])
def test_stand_in_has_graphics_for_the_display_of_a_device_alone(display: str) -> None:
    xml = XML.replace("<hostdev ", f"<hostdev display='{display}' ")
    text = dryrun.stand_in_xml(xml, UUID, 0)
    assert text.count('<graphics type="vnc"/>') == (display == "on")
    assert "s3cret" not in text


def test_stand_in_of_a_guest_without_metadata() -> None:
    xml = make_domain().decode()
    guest = read_guest(parse_domain(dryrun.stand_in_xml(xml, UUID, 0).encode()))
    assert probe_of(guest) == Probe(0)


# --- asking, with connections that are made up ---------------------------------------------------


class StubError(Exception):
    """libvirt.libvirtError."""


class Library:
    """The ``libvirt`` module."""

    VIR_MIGRATE_OFFLINE, VIR_MIGRATE_PERSIST_DEST = 1, 2
    libvirtError = StubError


class Connection:
    """A connection whose other side answers a migration with ``answer``."""

    def __init__(self, told: ReportDict | None = None, message: str = "") -> None:
        self.told, self.message = told, message
        self.defined: dict[str, str] = {}

    def getCapabilities(self) -> str:
        return CAPABILITIES

    def getURI(self) -> str:
        return "qemu+ssh://b/system"

    def defineXML(self, xml: str) -> Domain:
        (identifier,) = re.findall("<uuid>(.*?)</uuid>", xml)
        self.defined[identifier] = xml
        return Domain(self, identifier)

    def lookupByUUIDString(self, identifier: str) -> Domain:
        if identifier not in self.defined:
            raise StubError("no domain")
        return Domain(self, identifier)


class Domain:
    """A domain that is defined on a connection."""

    def __init__(self, connection: Connection, identifier: str) -> None:
        self.connection, self.identifier = connection, identifier

    def migrate3(self, destination: Connection, _params: object, flags: int) -> None:
        assert flags == 3
        xml = self.connection.defined[self.identifier]
        if destination.message:
            raise StubError(destination.message)
        if destination.told is None:
            destination.defineXML(xml)
            return
        probe = probe_of(read_guest(parse_domain(xml.encode())))
        assert probe is not None
        words = reply(probe.part, destination.told).decode()
        raise StubError(f"Hook script execution failed: (… migrate begin -) status 1: {words}")

    def undefine(self) -> None:
        del self.connection.defined[self.identifier]


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dryrun, "library", Library)


def ask(destination: Connection, xml: str = XML) -> ReportDict:
    source: Any = Connection()
    report = dryrun.ask(source, destination, xml)
    assert source.defined == destination.defined == {}, "nothing is left behind"
    return report


def test_ask() -> None:
    told = as_dict(preflight(make_facts()), Decision("annotate"))
    told["guest"] = f"{PROBE_NAME_PREFIX}x"
    report = ask(Connection(told))
    assert report == {**told, "guest": "g1", "uuid": ""}


@pytest.mark.parametrize("number", ENDING)
def test_signal_waits_until_nothing_is_left_behind(
    number: signal.Signals,
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_args: object) -> None:
        raise Interrupted

    class Signalled(Connection):
        def defineXML(self, xml: str) -> Domain:
            domain = super().defineXML(xml)
            signal.raise_signal(number)
            return domain

    source, destination = Signalled(), Connection()
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(Interrupted):
            dryrun.ask(source, destination, XML)
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert source.defined == destination.defined == {}


def test_ask_for_a_long_answer() -> None:
    told = as_dict(preflight(make_facts()), Decision("annotate"))
    told["note"] = "".join(chr(0x4E00 + 7 * n % 20000) for n in range(3000))
    assert ask(Connection(told))["note"] == told["note"]


@pytest.mark.parametrize("changes", [1, 100])
def test_answer_that_changes_as_it_is_read(changes: int) -> None:
    """A device is taken between two parts: the next answer is whole, or it is said."""

    class Changing(Connection):
        asked = 0

        @property
        def told(self) -> ReportDict:
            self.asked += 1
            number = min(self.asked, changes + 1)
            long = "".join(chr(0x4E00 + (7 + number) * n % 20000) for n in range(600))
            return {**as_dict(preflight(make_facts()), Decision("annotate")), "note": long}

        @told.setter
        def told(self, _told: ReportDict | None) -> None:
            return

    destination = Changing()
    if changes == 1:
        assert ask(destination)["guest"] == "g1"
    else:
        with pytest.raises(LibvirtError, match="may have changed meanwhile: ask again"):
            ask(destination)


USB = (
    "<hostdev mode='subsystem' type='usb'>"
    "<source><vendor id='0x0529'/><product id='0x0001'/></source></hostdev>"
)
PEER = "<shmem name='ring' role='peer'><model type='ivshmem-plain'/></shmem>"


def test_ask_about_nothing_asks_nobody() -> None:
    report = ask(Connection(message="never called"), guest_xml("g1", devices=[USB]))
    assert (report["guest"], report["verdict"], report["action"]) == ("g1", "unknown", "allow")
    assert [finding["code"] for finding in report["findings"]] == ["nothing-judged"]
    assert [device["kind"] for device in report["unjudged"]] == ["usb"]


def test_answer_is_completed_by_what_the_stand_in_lacks() -> None:
    told = as_dict(preflight(make_facts()), Decision("annotate"))
    report = ask(Connection(told), XML.replace("</devices>", f"{USB}{PEER}</devices>"))
    assert [device["kind"] for device in report["unjudged"]] == ["usb", "shmem"]
    assert (told["verdict"], report["verdict"]) == ("pass", "unknown")
    assert report["findings"][-1]["code"] == "unjudged-refused"


def test_answer_of_an_older_hook_has_no_list_of_its_own() -> None:
    told = as_dict(preflight(make_facts()), Decision("annotate"))
    del told["unjudged"]  # type: ignore[misc]
    report = ask(Connection(told), XML.replace("</devices>", f"{USB}</devices>"))
    assert (report["verdict"], len(report["unjudged"])) == ("pass", 1)


def test_completed_answer_tells_a_refusal_once() -> None:
    told = as_dict(preflight(make_facts()), Decision("annotate"))
    xml = XML.replace("</devices>", f"{PEER}</devices>")
    again = ask(Connection(ask(Connection(told), xml)), xml)
    assert [finding["code"] for finding in again["findings"]].count("unjudged-refused") == 1


def test_ask_where_there_is_no_hook() -> None:
    report = ask(Connection())
    assert (report["verdict"], report["action"]) == ("unknown", None)
    assert report["findings"][0]["text"] == "no hook answers there"


def test_ask_where_the_machine_type_is_missing() -> None:
    report = ask(
        Connection(as_dict(preflight(make_facts()), None)), XML.replace("pc-q35-9.0", "pc-q35-11.1")
    )
    assert (report["verdict"], report["action"]) == ("fail", "block")
    text = report["findings"][0]["text"]
    assert "no machine type pc-q35-11.1; the newest of its family there is pc-q35-10.0" in text


def test_ask_where_libvirt_refuses_before_the_hook() -> None:
    with pytest.raises(LibvirtError, match="refused before its hook could answer: no such network"):
        ask(Connection(message="no such network"))


def test_ask_where_the_hook_itself_refuses() -> None:
    """It could not judge: its own words, without libvirt's around them."""
    message = "Hook failed: … exit status 1: vfio-preflight: migration blocked: no result\n  more"
    with pytest.raises(LibvirtError) as caught:
        ask(Connection(message=message))
    assert str(caught.value) == "the destination's hook could not answer: no result"


@pytest.mark.parametrize("words", ["", "x y z", "0 1", "0 1 AAAA"])
def test_ask_and_get_no_answer(words: str) -> None:
    with pytest.raises(LibvirtError):
        ask(Connection(message=f"vfio-preflight-reply {words}"))


def test_host_of_the_usual_device() -> None:
    assert stand_in().devices[0].host == HOST
