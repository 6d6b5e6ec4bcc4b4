"""What QEMU says when it saves or loads the guest's state: sections, their versions and footers.

Sources: QEMU 8.0 to 11.1, ``migration/savevm.c``, ``vmstate.c``, ``vmstate-types.c``,
``migration.c``, ``qemu-file.c``, ``multifd*.c``, ``hw/core/qdev.c``.
"""

from __future__ import annotations

from .message import CONSEQUENCE, Line, Message

_OTHER_QEMU = (
    "use the same QEMU package on both hosts, or a destination whose QEMU is newer, with the"
    " guest's"
    " versioned machine type; compare the guest's XML, hot-plugged devices and qemu:commandline"
    " included"
)

STREAM: tuple[Message, ...] = (
    Message(
        "unknown-section",
        "the source sent the state of {device}, which the destination's guest does not have",
        "source and destination were started with different devices, or with the same ones at other"
        " PCI addresses, or a VFIO device there has no migration support",
        "compare the guest's XML on both hosts, hot-plugged devices included",
        (
            Line(
                "Unknown savevm section or instance '{device:quoted}' {instance:number}",
                "8.0",
                "10.1",
            ),
            Line("Unknown section or instance '{device:quoted}' {instance:number}", "10.2"),
        ),
    ),
    Message(
        "section-footer",
        "the state of {device} was read to another length than it was written with",
        "behind its section the mark that ends it (the footer) is not there: source and destination"
        " are QEMU builds in which this device saves different things, or have other properties for"
        " it",
        _OTHER_QEMU,
        (
            Line("Missing section footer for {device:word}"),
            Line(
                "Mismatched section id in footer for {device:word} - read {n:hex} expected"
                " {other:hex}"
            ),
        ),
    ),
    Message(
        "section-footer",
        "a section of the state was read to another length than it was written with",
        "the mark that ends it (the footer) is not there",
        "the line before it says which device",
        (Line("Section footer error, section_id: {n:number}", "10.2"),),
        CONSEQUENCE,
    ),
    Message(
        "stream-ended",
        "the stream of the guest's state ended too early (error {n})",
        "the source's QEMU ended or stopped sending (the guest was shut down or the migration"
        " cancelled), the connection was lost, or the image is cut off",
        "look at the guest's log on the source, at the network, and at the size of the image",
        (Line("Read section footer failed: {n:number}"),),
    ),
    Message(
        "stream-lost",
        "the destination met something in the migration stream that is no section",
        "what was read before it was read to another length than it was written with (another QEMU"
        " build), or the stream was damaged or cut off",
        _OTHER_QEMU,
        (
            Line("Unknown savevm section type {n:number}", "8.0", "10.1"),
            Line("Unknown section type {n:number}", "10.2"),
            Line("Unknown savevm section {n:number}", "8.0", "10.1"),
            Line("Unknown section {n:number}", "10.2"),
            Line("Unable to read ID string for section {n:number}"),
            Line("Failed to read instance/version ID: {n:number}"),
            Line("Failed to read section ID: {n:number}"),
            Line("Expected vmdescription section, but got {n:number}"),
            Line("MIG_CMD {n:hex} unknown (len {size:hex})"),
            Line("MIG_CMD {n:hex} deprecated (len {size:hex})", "11.0"),
            Line("{name:word} received with bad length - expecting {n:number}, got {size:number}"),
            Line("Unreasonably large packaged state: {n:number}"),
            Line("CMD_PACKAGED: Buffer receive fail ret={n:number} length={size:number}"),
            Line(
                "Unknown idstr {device:word} or instance id {n:number} for load state buffer",
                "10.0",
            ),
            Line(
                "idstr {device:word} / instance {n:number} has no load state buffer operation",
                "10.0",
            ),
        ),
    ),
    Message(
        "not-a-stream",
        "what QEMU was given to load is no migration stream",
        "another program wrote to the port, the file is no saved guest or begins elsewhere, or it"
        " is"
        " compressed or encrypted",
        "see what connects to the migration port (TLS on both sides or on none); restore libvirt's"
        " files with libvirt",
        (
            Line("Not a migration stream, magic: {n:hex} != {other:hex}", "10.2"),
            Line("Not a migration stream", "8.0", "10.1"),
            Line(
                "Unsupported migration stream version, file version {n:hex} != {other:hex}", "10.2"
            ),
            Line("Unsupported migration stream version", "8.0", "10.1"),
            Line("SaveVM v2 format is obsolete and don't work anymore", "8.0", "10.1"),
            Line("SaveVM v2 format is obsolete and no longer supported", "10.2"),
        ),
    ),
    Message(
        "configuration-section",
        "the stream lacks the section that says which machine type it is of",
        "the source has a machine type that does not send it, or is another build",
        _OTHER_QEMU,
        (
            Line("Configuration section missing, {n:hex} != {other:hex}", "10.2"),
            Line("Configuration section missing", "8.0", "10.1"),
        ),
    ),
    Message(
        "machine-differs",
        "the guest runs with machine type {received} on the source and {local} on the destination",
        "a guest's machine type cannot change while it runs",
        "start the destination with machine type {received}; give the guest a versioned name",
        (Line("Machine type received is '{received:quoted}' and local is '{local:quoted}'"),),
    ),
    Message(
        "guest-differs",
        "the destination was started for another guest, or with another setting: received"
        " {received}, here {local}",
        "UUID, page size and migration capabilities have to be equal on both sides",
        "start the destination with the source's setting; with libvirt, see that both have the same"
        " release",
        (
            Line("UUID received is {received:word} and local is {local:word}"),
            Line("UUID is received {received:word}, but local uuid isn't set"),
            Line("Received TARGET_PAGE_BITS is {received:number} but local is {local:number}"),
            Line(
                "Capability {name:word} is {local:word}, but received capability is {received:word}"
            ),
            Line("Received unknown capability {received:word}"),
        ),
    ),
    Message(
        "guest-differs",
        "the migration capabilities of the two sides differ",
        "they have to be equal",
        "the line before it says which",
        (Line("Failed to validate capabilities", "11.1"),),
        CONSEQUENCE,
    ),
    Message(
        "version-id",
        "the destination's QEMU cannot read the state of {device}: it came in version {received},"
        " and"
        " is known there up to {local}",
        "the source's QEMU is newer, or another distributor's, and wrote a newer form",
        _OTHER_QEMU,
        (
            Line(
                "{device:word}: incoming version_id {received:number} is too new for local"
                " version_id {local:number}"
            ),
            Line(
                "savevm: unsupported version {received:number} for '{device:quoted}'"
                " v{local:number}",
                "8.0",
                "10.1",
            ),
            Line(
                "unsupported version {received:number} for '{device:quoted}' v{local:number}",
                "10.2",
            ),
        ),
    ),
    Message(
        "version-id",
        "the destination's QEMU no longer reads the state of {device}: it came in version"
        " {received},"
        " and must be {local} or newer",
        "the source's QEMU is older than what the destination's still knows",
        "migrate by a host with a QEMU in between",
        (
            Line(
                "{device:word}: incoming version_id {received:number} is too old for local minimum"
                " version_id  {local:number}",
                "8.0",
                "10.1",
            ),
            Line(
                "{device:word}: incoming version_id {received:number} is too old for local minimum"
                " version_id {local:number}",
                "10.2",
            ),
        ),
    ),
    Message(
        "subsection",
        "the destination's QEMU does not know a part ('{name}') of the state of {device}",
        "it is older than the source's, or another distributor's, or its device has other"
        " properties",
        _OTHER_QEMU,
        (Line("VM subsection '{name:quoted}' in '{device:quoted}' does not exist", "10.2"),),
    ),
    Message(
        "field-not-equal",
        "a value in the state of {device} is not what the destination's has: {received}",
        "it is one that both sides must have equal, set by QEMU's build, the machine type or the"
        " device's properties",
        _OTHER_QEMU,
        (
            Line("Input validation failed: {device:word} version_id: {n:number}", "10.2"),
            Line("Input validation failed: {device:word}", "8.0", "10.1"),
            Line("Invalid value {received:number} expecting positive value <= {local:number}"),
            Line("inconsistent stream when loading the gtree"),
            Line("Unexpected ptr marker: {received:number}", "11.1"),
            Line("vmstate: get_nullptr expected VMS_NULLPTR_MARKER", "8.0", "11.0"),
        ),
    ),
    Message(
        "hook-failed",
        "device {device} on the destination did not accept its state when it was loaded",
        "its own check of what came failed: another QEMU build, other properties, or what it needs"
        " from the host (vhost, a backend) is not as on the source",
        _OTHER_QEMU,
        (
            Line(
                "pre load hook failed for: '{device:quoted}', version_id: {n:number}, minimum"
                " version_id: {local:number}, ret: {ret:number}",
                "10.2",
            ),
            Line(
                "pre load hook failed for: '{device:quoted}', version_id: {n:number}, minimum"
                " version_id: {local:number}:",
                "10.2",
            ),
            Line(
                "post load hook failed for: {device:word}, version_id: {n:number}, minimum_version:"
                " {local:number}, ret: {ret:number}",
                "10.2",
            ),
            Line(
                "post load hook failed for: {device:word}, version_id: {n:number}, minimum_version:"
                " {local:number}:",
                "10.2",
            ),
        ),
        CONSEQUENCE,
    ),
    Message(
        "load-failed",
        "the state of {path} was not accepted",
        "the line before it says why",
        "look for the first error above it",
        (
            Line("error while loading state for instance {instance:hex} of device '{path:quoted}'"),
            Line(
                "error while loading state section id {instance:number}({path:word})", "8.0", "10.1"
            ),
            Line("Load state of device {path:word} failed"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "load-failed",
        "QEMU could not take over a part of the guest's state ({what})",
        "it is what encloses the failure that another line names",
        "look for the first error above it",
        (
            Line("Failed to load {what:vmstate}", "8.0", "10.1"),
            Line("Failed to load element of type {what:word} for {part:word}", "10.2"),
            Line("Failed to load {what:word} state: stream error: {ret:number}", "10.2"),
            Line("Loading VM subsection '{what:quoted}' in '{part:quoted}' failed:", "10.2"),
            Line("failed to load {what:word} ({ret:number})", "8.0", "10.1"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "load-failed",
        "QEMU could not take over a part of the guest's state (of version_id: {version})",
        "it is what encloses the failure that another line names",
        "look for the first error above it",
        (
            Line(
                "Failed to load vmstate version_id: {version:number} of '{part:quoted}', ret:"
                " {ret:number}",
                "",
            ),
            Line("Failed to load vmstate version_id: {version:number}, ret: {ret:number}", "10.2"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "migration-failed",
        "QEMU stopped loading",
        "the cause stands before it, in /var/log/libvirt/qemu/GUEST.log on the host that loads",
        "where this is not that log, run 'vfio-preflight explain' on it",
        (
            Line("load of migration failed: {detail:text}"),
            Line("load of migration failed"),
            Line("Error {detail:number} while loading VM state", "8.0", "10.1"),
            Line("Error while loading vmstate: stream error: {detail:number}", "10.2"),
            Line("Error while loading vmstate", "10.2"),
            Line("loadvm failed: stream error: {detail:number}", "10.2"),
            Line("loadvm failed: {detail:number}", "8.0", "10.1"),
            Line("Failed to load device state: {detail:number}", "8.0", "10.1"),
            Line("Failed to load section ID: stream error: {detail:number}", "10.2"),
            Line("Failed to load VM process command: stream error: {detail:number}", "10.2"),
        ),
        CONSEQUENCE,
    ),
)
