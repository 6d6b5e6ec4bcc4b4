"""What libvirt says: its own refusals, of hooks, and what it says of QEMU's.

Sources: libvirt 9.0 and 11.3, ``src/qemu/qemu_migration.c``, ``qemu_process.c``,
``qemu_monitor.c``, ``qemu_capabilities.c``, ``src/conf/domain_conf.c``, ``src/util/vircommand.c``;
in the words of these and of older releases.
"""

from __future__ import annotations

from .message import CONSEQUENCE, Line, Message

_WHY_LACKING = (
    "it is older than the QEMU the guest was started with, or so new that it has dropped the type,"
    " or another distributor's"
)
_REMEDY_LACKING = "migrate to a host whose QEMU has the machine type"
_OWN = "libvirt refuses this itself, before QEMU is asked and before anything is copied"
_LOG = (
    "see /var/log/libvirt/qemu/GUEST.log on the destination, and on the source: run 'vfio-preflight"
    " explain' on both"
)


def _lines(*templates: str) -> tuple[Line, ...]:
    return tuple(Line(template, "") for template in templates)


LIBVIRT: tuple[Message, ...] = (
    Message(
        "hook-refused",
        "vfio-preflight's own hook refused this, before anything was copied",
        "{reason}",
        "see the whole of its message",
        _lines("vfio-preflight: {operation:short} blocked: {reason:text}"),
    ),
    Message(
        "hook-failed",
        "libvirt's hook script {hook} refused '{operation}' of guest {guest} (exit status"
        " {status})",
        "it ended with an error, so libvirt did not go on; QEMU was not asked. It said: {reason}",
        "run it by hand as libvirt does ({hook} {guest} {operation} begin -, the guest's XML on its"
        " standard input), and see its own log",
        _lines(
            "Child process ({environment:short}{hook:hook} {guest:guest} {operation:hooked}"
            " {sub:hooked} {extra:word}) unexpected exit status {status:number}: {reason:text}",
        ),
    ),
    Message(
        "hook-failed",
        "libvirt's hook script {hook} refused '{operation}' of guest {guest} (exit status"
        " {status})",
        "it ended with an error, so libvirt did not go on; QEMU was not asked. It gave no reason,"
        " or the text was cut off",
        "run it by hand as libvirt does ({hook} {guest} {operation} begin -, the guest's XML on its"
        " standard input), and see its own log",
        _lines(
            "Child process ({environment:short}{hook:hook} {guest:guest} {operation:hooked}"
            " {sub:hooked} {extra:word}) unexpected exit status {status:number}",
            "Child process ({environment:short}{hook:hook} {guest:guest} {operation:hooked}"
            " {sub:hooked} {extra:word}) unexpected fatal signal {status:number}",
        ),
    ),
    Message(
        "hook-failed",
        "a hook script of libvirt refused this",
        "it ended with an error, or printed what is no XML",
        "see the rest of the line, and the script's own log",
        _lines("Hook script execution failed"),
        CONSEQUENCE,
    ),
    Message(
        "libvirt-refused",
        "libvirt does not migrate a guest with this device: {device}",
        "this libvirt refuses it by its kind, before anything is copied; newer ones, with a QEMU"
        " that"
        " tells what blocks a migration (6.0), ask QEMU instead",
        "detach it before migrating (virsh detach-device), or update libvirt and QEMU on both"
        " hosts;"
        " a VFIO device then needs its vendor's driver",
        _lines(
            "cannot migrate a domain with <{device:quoted}>",
            "cannot migrate a domain with <hostdev mode='{device:quoted}'>",
            "cannot migrate a domain with <hostdev mode='{mode:word}' type='{device:quoted}'>",
            "cannot migrate a domain with <interface type='{device:quoted}'>",
            "domain has assigned non-USB {device:text}",
            "domain has assigned host {device:text}",
            "cannot migrate domain with assigned {device:text}",
        ),
    ),
    Message(
        "libvirt-refused",
        "libvirt refuses this by itself, for the reason that its line gives",
        _OWN,
        "remove what it names, or give the flag that allows it (virsh migrate --unsafe,"
        " --copy-storage-all), if you know why it is safe",
        _lines(
            "cannot migrate domain with I/O error",
            "cannot migrate domain with {reason:text}",
            "domain is marked for auto destroy",
            "domain has active block job",
            "domain has 'invtsc' CPU feature but TSC frequency is not specified",
            "shmem device '{reason:quoted}' cannot be migrated",
            "vDPA devices cannot be migrated",
            "a slirp-helper cannot be migrated",
            "migration with this virtiofs device is not supported",
            "cannot migrate this domain without dbus-vmstate support",
            "migration with transient disk is not supported",
            "the running swtpm does not support migration with shared storage",
            "Migration without shared storage is unsafe",
            "Migration may lead to data corruption if disks use cache other than none or"
            " directsync",
            "Unsafe migration: {reason:text}",
            "another migration job is already running for domain '{reason:quoted}'",
            "post-copy migration is not supported with non-live or paused migration",
            "post-copy is not supported with tunnelled migration",
            "offline migration must be specified with the persistent flag set",
            "offline migration cannot handle non-shared storage",
            "Migration with lock driver {reason:word} requires cookie support",
            "this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag",
            "hostname on destination resolved to localhost, but migration requires an FQDN",
            "Domain not found: no domain with matching name '{reason:quoted}'",
        ),
    ),
    Message(
        "libvirt-refused",
        "the destination has a guest of this name or UUID already: {reason}",
        _OWN,
        "see virsh list --all there: end or undefine what is left of it, if it is no other guest",
        _lines(
            "domain '{reason:quoted}' is already defined with uuid",
            "domain '{reason:quoted}' already exists with uuid",
            "domain '{reason:quoted}' is already active",
        ),
    ),
    Message(
        "environment",
        "this host lacks what the guest's XML names: {what}",
        "a network, bridge or disk that the guest has on the source is not there",
        "make it as on the source; no VFIO device is involved, unless the network is one of VFs",
        _lines(
            "Network not found: no network with matching name '{what:quoted}'",
            "network '{what:quoted}' is not active",
            "Cannot get interface MTU on '{what:quoted}'",
            "Cannot access storage file '{what:quoted}'",
            "Cannot access backing file '{what:quoted}'",
            "Storage pool not found: no storage pool with matching name '{what:quoted}'",
        ),
    ),
    Message(
        "libvirt-refused",
        "the destination is the source, or has its id: {id}",
        "libvirt knows hosts by the system's UUID, which some vendors give to many",
        "name another host; give each host an id of its own (host_uuid in libvirtd.conf)",
        _lines("Attempt to migrate guest to the same host {id:word}"),
    ),
    Message(
        "environment",
        "the destination has no port left for the migration: {what}",
        "each migration takes one, and each disk that is copied; others have them, or left them"
        " behind",
        "see ss -ltnp there; migrate fewer guests at a time, or raise migration_port_max in"
        " qemu.conf",
        _lines(
            "Unable to find an unused port in range '{what:quoted}'",
            "Failed to find an available port: {what:text}",
        ),
    ),
    Message(
        "manager-refused",
        "the management layer does not migrate the guest: {reason}",
        "it refuses by its own rules, before libvirt or QEMU is asked",
        "see its documents for guests with host devices; of Proxmox: a mapped device that is marked"
        " as capable of live migration",
        _lines(
            "can't migrate VM which {reason:text}",
            "can't migrate running VM which {reason:text}",
            "cannot migrate VMI: {reason:text}",
            "cannot migrate VMI which {reason:text}",
            "VMI uses a PCI host devices",
        ),
    ),
    Message(
        "blocked",
        "QEMU does not migrate this guest",
        "the rest of the line says why",
        "look there",
        _lines("cannot migrate domain: {reason:text}"),
        CONSEQUENCE,
    ),
    Message(
        "xml-differs",
        "the XML for the destination is not the running guest's: {what} {received} in the XML,"
        " {local} in the guest",
        "libvirt compares all that the guest can see (the ABI check), and refuses a difference,"
        " before"
        " anything is copied",
        "give virsh migrate --xml that is the source's (virsh dumpxml --migratable) but for names"
        " of"
        " the host; without --xml, see what a hook of libvirt's changed",
        _lines(
            "Target {what:short} '{received:quoted}' does not match source '{local:quoted}'",
            "Target {what:short} {received:word} does not match source {local:word}",
            "Target {what:short} does not match source",
            "Target {what:short} don't match the source",
            "Target domain {what:short} count {received:number} does not match source"
            " {local:number}",
        ),
    ),
    Message(
        "machine-missing",
        "{emulator} on the destination has no machine type {machine}",
        _WHY_LACKING,
        _REMEDY_LACKING,
        _lines(
            "Emulator '{emulator:quoted}' does not support machine type '{machine:quoted}'",
        ),
    ),
    Message(
        "machine-missing",
        "the emulator has no machine type {machine}",
        _WHY_LACKING,
        _REMEDY_LACKING,
        # Today's QEMU names it, some older repeat the option, and some (7.2) say no more.
        _lines(
            "unsupported machine type: '{machine:machine}'",
            'unsupported machine type: "{machine:machine}"',
            "unsupported machine type '{machine:machine}'",
            "-machine type={machine:machine},{options:short}: unsupported machine type",
            "-machine {machine:machine},{options:short}: unsupported machine type",
            "-machine {machine:machine}: unsupported machine type",
            "-M {machine:machine},{options:short}: unsupported machine type",
            "-M {machine:machine}: unsupported machine type",
        ),
    ),
    Message(
        "machine-missing",
        "the emulator lacks the guest's machine type, or its accelerator",
        _WHY_LACKING,
        _REMEDY_LACKING,
        _lines("unsupported machine type"),
    ),
    Message(
        "monitor-closed",
        "QEMU ended while libvirt waited for it",
        "what QEMU said last stands behind this, or in the guest's log",
        _LOG,
        _lines(
            "QEMU unexpectedly closed the monitor (vm='{guest:quoted}')",
            "QEMU unexpectedly closed the monitor",
            "process exited while connecting to monitor",
            "qemu unexpectedly closed the monitor",
            "End of file from qemu monitor",
            "guest unexpectedly quit",
            "Unable to read from monitor: {reason:text}",
            "domain is no longer running",
        ),
        CONSEQUENCE,
    ),
    Message(
        "job-failed",
        "the migration failed",
        "libvirt says only that it did: the cause stands in QEMU's log, most often the"
        " destination's",
        _LOG,
        _lines(
            "migration out job: unexpectedly failed",
            "migration job: unexpectedly failed",
            "migration out job: {reason:text}",
            "migration job: {reason:text}",
            "job '{job:quoted}' unexpectedly failed",
            "job '{job:quoted}' failed: {reason:text}",
            "job '{job:quoted}' failed in post-copy phase",
            "job '{job:quoted}' failed due to I/O error",
            "migration failed. Message from the source host: {reason:text}",
            "Lost connection to destination host",
            "domainMigratePerform3Params",
            "resume operation failed",
        ),
        CONSEQUENCE,
    ),
    Message(
        "cancelled",
        "the migration was cancelled",
        "somebody, or the program that began it, ended it (a time-out of its own, too)",
        "see who did: virsh domjobabort, or the log of Nova, oVirt, KubeVirt",
        _lines(
            "job '{job:quoted}' canceled by client",
            "migration job: canceled by client",
            "migration out job: canceled by client",
            "operation aborted: {job:short} canceled by client",
        ),
    ),
    Message(
        "failed",
        "what virsh was asked to do failed",
        "the line behind it says why",
        "look there",
        _lines(
            "error: Failed to restore domain from {what:text}",
            "error: Failed to start domain {what:text}",
            "error: Failed to attach device from {what:text}",
            "error: Failed to save domain {what:text}",
            "error: Failed to attach {what:text}",
            "error: Failed to resume domain {what:text}",
            "error: Failed to revert {what:text}",
        ),
        CONSEQUENCE,
    ),
)
