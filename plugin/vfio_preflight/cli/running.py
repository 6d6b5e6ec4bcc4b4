"""A running guest as libvirt tells of it, to be judged here or on another host."""

from __future__ import annotations

from collections.abc import Mapping

from ..gather.recorder import live_aliases
from ..guest.domain import parse_domain
from ..osutil.light import TypedDict
from ..report.schema import ReportDict
from .connection import Domain, bandwidth_of, library


class Running(TypedDict):
    """``xml`` is what libvirt sends of the guest; ``bandwidth`` its migration's, in MiB/s, 0 where
    it is not known; ``names`` are its devices' aliases in this run, by key."""

    xml: str
    bandwidth: int
    names: dict[str, str]


def as_running(domain: Domain) -> Running:
    """What a check needs of the guest. Raises ``libvirtError``."""
    # The migratable XML is what libvirt sends: the hook on the destination sees the same.
    migratable = library().VIR_DOMAIN_XML_MIGRATABLE
    return {
        "xml": domain.XMLDesc(migratable),
        "bandwidth": bandwidth_of(domain),
        "names": live_aliases(parse_domain(domain.XMLDesc().encode())),
    }


def as_called(report: ReportDict, names: Mapping[str, str]) -> ReportDict:
    """``report`` with the names that the destination cannot know: those of the guest's run here."""
    for device in report["devices"]:
        if names.get(device["key"], device["alias"]) != device["alias"]:
            device["name"] = names[device["key"]]
    return report
