"""One input of the fuzzer: what the hook makes of it, and what has to hold whatever it is.

The first byte of an input chooses operation and policy, the rest is the document on standard input.
The emulator's facts and this host's devices are made up; everything else is the hook's own code, in
this process, where the fuzzer sees which of it was run.
"""

from __future__ import annotations

import time
import unicodedata
from contextlib import suppress
from pathlib import Path

from lxml import etree

from unit.makers import HOST, VSC_BODY, differing, make_emulator
from vfio_preflight.configuration import Configuration
from vfio_preflight.errors import PreflightError
from vfio_preflight.gather import here
from vfio_preflight.guest.domain import read_guest
from vfio_preflight.guest.metadata import NAMESPACE
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.hook.call import _failed as failed
from vfio_preflight.hook.entry import may_have_vfio
from vfio_preflight.hook.gate import Gate
from vfio_preflight.hook.supervise import Outcome
from vfio_preflight.judge.verdicts import DEFAULT_POLICY
from vfio_preflight.pci.formats import to_json
from vfio_preflight.report.firstline import LIMIT

OPERATIONS = ("migrate", "restore", "prepare", "migrate")
POLICIES: tuple[dict[str, str], ...] = (
    {},
    {"fail": "block", "unknown": "block"},
    {"fail": "mend", "unknown": "annotate"},
    {"fail": "annotate", "unknown": "allow"},
)
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
PATIENCE = 60.0


class Broken(AssertionError):
    """The hook did something that it must not do, whatever the input is."""


def make_settings(directory: Path) -> Configuration:
    """A host in ``directory`` whose one device differs in its Vendor Specific Information."""
    here.__dict__["emulator_facts"] = lambda *_args, **_options: make_emulator()
    (directory / "states").mkdir()
    (directory / "states" / f"{HOST}.json").write_text(to_json(differing(VSC_BODY)))
    return Configuration(
        states=str(directory / "states"),
        catalogue=str(directory / "catalogue"),
        history=str(directory / "history"),
        cache=str(directory / "cache"),
        runtime=str(directory / "run"),
        vendor_rules=str(directory / "rules"),
        vsc_tolerant=("10de:*",),
        trial="never",
        log="none",
    )


def judge(settings: Configuration, data: bytes) -> Outcome | None:
    """Let the hook judge ``data``; None where it says that the document is none it can judge.

    Raises :class:`Broken`, and whatever the hook raises beside its own errors.
    """
    choice, xml = (data[0] if data else 0), data[1:]
    operation = OPERATIONS[choice & 3]
    policy = {**DEFAULT_POLICY, **POLICIES[choice >> 2 & 3]}
    _shortcut(xml)
    gate = Gate("g1", settings._replace(policy=policy), time.monotonic() + PATIENCE)
    try:
        outcome = gate.judge(operation, xml)
    # The supervisor makes a line of it, and the policy on-error decides.
    except PreflightError as error:
        failure = str(error).encode("utf-8", "replace").decode()
        strict = settings._replace(on_error="block")
        _hold(failed(failure, "g1", operation, strict, operation == "migrate"), operation, xml)
        return None
    if outcome.after is not None:
        outcome.after()
    _hold(outcome, operation, xml)
    return outcome


def _shortcut(xml: bytes) -> None:
    """What is passed over without a parser has nothing to be judged, in whatever words."""
    if may_have_vfio(xml):
        return
    with suppress(PreflightError):
        guest = read_guest(parse_domain(xml), lambda _name: None)
        if guest.devices:
            raise Broken("the shortcut passes a VFIO device over")


def _hold(outcome: Outcome, operation: str, xml: bytes) -> None:
    if outcome.status not in (0, 1):
        raise Broken(f"exit status {outcome.status}")
    if operation == "restore" and outcome.status:
        raise Broken("restore fails")
    if outcome.status and (outcome.out or not outcome.err.strip()):
        raise Broken("blocked with output, or without a word")
    _require_text(outcome.err.decode("utf-8"))
    _require_text(outcome.log)
    if outcome.status and len(outcome.err.splitlines()[0]) > LIMIT:
        raise Broken("a first line that is longer than what operators see of it")
    if outcome.out and kept(xml) != kept(outcome.out):
        raise Broken("the document differs in more than ours")


def _require_text(text: str) -> None:
    """Lines that a terminal shows as they are."""
    for char in text.replace("\n", ""):
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise Broken(f"U+{ord(char):04X} in what an operator reads")


def kept(xml: bytes) -> list[object]:
    """The document's events without those of what the hook may change, comments and blanks."""
    # Beside guest.mend.only_ours_changed, which the hook itself asks before it answers.
    parser = etree.XMLParser(remove_blank_text=True, resolve_entities=False, no_network=True)
    root = etree.fromstring(xml, parser)
    for element in list(root.iter(f"{{{NAMESPACE}}}*", f"{QEMU}property")):
        mended = element.tag == f"{QEMU}property" and element.get("name") == "skip-vsc-check"
        if mended or element.tag != f"{QEMU}property":
            _drop(element)
    for name in ("property", "frontend", "device", "override"):
        for element in list(root.iter(f"{QEMU}{name}")):
            if name != "property" and not len(element):
                _drop(element)
    for element in list(root.iter("metadata")):
        if not len(element) and not (element.text or "").strip():
            _drop(element)
    return [
        (event, element.tag, sorted(element.items()), _words(element.text), _words(element.tail))
        for event, element in etree.iterwalk(root, events=("start", "end"))
    ]


def _words(text: str | None) -> str:
    return (text or "").strip()


def _drop(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)
