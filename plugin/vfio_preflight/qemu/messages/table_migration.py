"""What QEMU says of a migration as a whole: its beginning, its channels, its end.

Sources: QEMU 8.0 to 11.1, ``migration/migration.c``, ``savevm.c``, ``multifd*.c``,
``qemu-file.c``, ``hw/core/qdev.c``.
"""

from __future__ import annotations

from .devices import NO_VFIO
from .message import CONSEQUENCE, NOTE, Line, Message
from .table_vfio import EQUAL

_SOURCE_LOG = (
    "look at the guest's log and the libvirt log of the other host, and at the network between them"
)
_POSTCOPY = (
    "the messages of a post-copy migration did not come in the order, or form, that they have"
)

MIGRATION: tuple[Message, ...] = (
    Message(
        "save-failed",
        "the source could not save the state of {device}",
        "the device's own code failed, before this line",
        "look for the first error above it, and at the kernel's log of the source",
        (
            Line(
                "failed to save SaveStateEntry with id(name): {n:number}({device:quoted}):"
                " {ret:number}"
            ),
            Line("pre-save failed: {device:word}"),
            Line("post-save failed: {device:word}", "9.2", "11.0"),
            Line("pre-save for {device:word} failed:", "10.2"),
            Line("Save of field {device:word} failed"),
            Line("Output state validation failed: {device:word}"),
            Line("Failed to save iterable device state:", "11.1"),
            Line("Failed to save non-iterable devices", "11.0"),
            Line("Failed to flush QEMUFile:", "11.1"),
            Line("Error while writing VM state"),
            Line("Postcopy save non-postcopiable iterables failed", "10.0"),
            Line("Postcopy save non-iterable device states failed", "10.0", "10.2"),
            Line("Postcopy save non-iterable states failed:", "11.0"),
            Line("put failed", "11.1"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "guest-blocks",
        "the guest's CPU has a feature with which it cannot be migrated: {device}",
        f"QEMU cannot send it: its value would change under the guest; {NO_VFIO}",
        "take the feature out of the guest's <cpu>; of invtsc, or fix the frequency (<timer"
        " name='tsc' frequency=…/>) where all hosts have it",
        (
            Line("State blocked by non-migratable CPU device ({device:short} flag)"),
            Line("State blocked by non-migratable CPU device ({device:short})"),
            Line("Nested {device:word} virtualization does not support live migration yet"),
        ),
    ),
    Message(
        "guest-blocks",
        "the guest uses a directory of the host, {device}, by 9p (VirtFS)",
        f"QEMU cannot send open files of the host; {NO_VFIO}",
        "unmount it in the guest before migrating; virtiofs can be migrated, with newer releases",
        (Line("Migration is disabled when VirtFS export path '{device:quoted}' is mounted"),),
    ),
    Message(
        "guest-blocks",
        "the guest has a disk whose format cannot be migrated: {device}",
        f"QEMU's driver of this format cannot hand a disk over while it is in use; {NO_VFIO}",
        "convert the disk (qemu-img convert, to qcow2 or raw)",
        (
            Line(
                "The {device:word} format used by node '{node:quoted}' does not"
                " support live migration"
            ),
        ),
    ),
    Message(
        "not-migratable",
        "the guest has a device that cannot be migrated: {device}",
        "QEMU cannot save this kind of device, or, of a VFIO device, its driver has no migration"
        " support",
        "detach the device before migrating; a VFIO device needs its vendor's driver",
        (
            Line("State blocked by non-migratable device '{device:quoted}'"),
            Line("non-migratable device: {device:word}"),
            Line(
                "Device {device:word} is not migratable, but --only-migratable was specified", "8.0"
            ),
            Line("disallowing migration blocker (--only-migratable) for: {device:text}"),
        ),
    ),
    Message(
        "blocked",
        "the source's QEMU does not start a migration of this guest",
        "something of the guest blocks it (a migration blocker)",
        "the line behind it says what: explain that one",
        (Line("Outgoing migration blocked:", "8.0"),),
        CONSEQUENCE,
    ),
    Message(
        "other-side",
        "the other side ended the migration: error {n}",
        "the cause is in the other host's log",
        _SOURCE_LOG,
        (
            Line("RP: Sibling indicated error {n:number}", "8.0", "8.1"),
            Line("Sibling indicated error {n:number}", "8.2"),
            Line("Channel error", "8.2"),
            Line("Unable to write to socket: {n:text}", "8.0"),
            Line("Unable to read from socket: {n:text}", "8.0"),
            Line("Partial read of size {n:number}, expected {size:number}", "9.0", "11.0"),
            Line("Partial write of size {n:number}, expected {size:number}", "9.0", "11.0"),
            Line(
                "Failed reading data for message {n:hex} read {size:number} expected {other:number}"
            ),
            Line(
                "Received '{name:quoted}' message ({n:hex}) withincorrect length {size:number}"
                " expecting {other:number}"
            ),
            Line("Received invalid message {n:hex} length {size:hex}"),
            Line("Could not send switchover ack RP MSG", "8.1"),
            Line("Switchover start failed: {n:number}", "10.2"),
            Line("postcopy_start: Migration stream errored"),
            Line("postcopy_start: Migration stream error", "9.0"),
            Line("Error in migration completion", "9.0", "11.0"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "no-connection",
        "no connection to {n} could be made: {reason}",
        "nothing listens there, or a firewall is between; a migration uses ports 49152 to 49215 of"
        " the destination, one more each for --copy-storage-* and --parallel; libvirt itself 16509,"
        " 16514 (TLS) or 22 (ssh)",
        "open the ports on the destination, see that the name is the destination's for the source"
        " (migration_host in qemu.conf, virsh migrate --migrateuri), and that QEMU there has not"
        " ended (its log)",
        (
            Line("Failed to connect to '{n:quoted}': {reason:text}", "8.0"),
            Line("Failed to connect to '{n:quoted}'", "8.0"),
            Line("unable to connect to server at '{n:quoted}': {reason:text}", ""),
            Line("address resolution failed for {n:word}: {reason:text}", "8.0"),
        ),
    ),
    Message(
        "no-connection",
        "QEMU could not connect to socket /{n}: {reason}",
        "the program that should serve it (a daemon for vhost-user, swtpm, a console) does not run,"
        " or QEMU has no rights to it",
        "see that it runs on this host",
        (Line("Failed to connect to '/{n:quoted}': {reason:text}", "8.0"),),
    ),
    Message(
        "tls",
        "an encrypted connection (TLS) could not be made: {reason}",
        "a certificate is missing, out of date, of another name or not signed by the CA of the"
        " other side, or only one side uses TLS",
        "see the certificates of both hosts (/etc/pki/libvirt, /etc/pki/qemu, virt-pki-validate)",
        (
            Line("TLS handshake failed: {reason:text}", "8.0"),
            Line("Certificate does not match the hostname {reason:text}", "8.0"),
            Line("Unable to access credentials {reason:text}", "8.0"),
            Line("Cannot read CA certificate '{reason:quoted}'", ""),
            Line("Failed to verify peer's {reason:text}", ""),
            Line("The certificate {reason:defect}", "8.0"),
        ),
    ),
    Message(
        "multifd",
        "the channels of the migration (multifd) do not fit together",
        "the two sides have another number of channels or another form of packets: other releases"
        " of"
        " QEMU, other settings, or something else connected",
        "use the same QEMU and the same settings on both sides (virsh migrate --parallel), or"
        " migrate"
        " without --parallel",
        (
            Line(
                "multifd: received packet magic {n:hex} and expected magic {other:hex}",
                "8.0",
                "9.1",
            ),
            Line("multifd: received packet magic {n:hex} expected {other:hex}"),
            Line("multifd: received packet magic {n:hex}, expected {other:hex}", "9.2"),
            Line(
                "multifd: received packet version {n:number} and expected version {other:number}",
                "8.0",
                "9.1",
            ),
            Line("multifd: received packet version {n:number} expected {other:number}"),
            Line("multifd: received packet version {n:number}, expected {other:number}", "9.2"),
            Line(
                "multifd: received channel version {n:number} expected {other:number}", "8.0", "8.2"
            ),
            Line("multifd: received channel id {n:number}", "9.0"),
            Line("multifd: received uuid '{n:quoted}' and expected uuid '{other:quoted}'"),
            Line("multifd: received id '{n:quoted}' already setup"),
            Line("multifd: received packet with {n:text}"),
            Line("multifd: received SYNC device state packet", "10.0"),
            Line("multifd: received empty device state packet", "10.0"),
            Line("multifd: unexpected EOF after packet header", "10.0"),
            Line("unterminated multifd device state idstr", "10.0"),
            Line("multifd: unknown ram block {n:word}"),
            Line("multifd: offset too long {n:number}"),
            Line("multifd {n:number}: flags received {flags:hex} flags expected {other:hex}"),
        ),
    ),
    Message(
        "postcopy",
        "the post-copy migration could not go on",
        _POSTCOPY,
        "use the same QEMU on both sides; migrate without post-copy (a guest with VFIO devices"
        " needs"
        " that anyway)",
        (
            Line("CMD_POSTCOPY_ADVISE in wrong postcopy state ({n:number})"),
            Line("CMD_POSTCOPY_ADVISE invalid length ({n:number})"),
            Line("CMD_POSTCOPY_RAM_DISCARD {n:text}"),
            Line("CMD_POSTCOPY_LISTEN in wrong postcopy state ({n:number})"),
            Line("CMD_POSTCOPY_RUN in wrong postcopy state ({n:number})"),
            Line("RAM postcopy is enabled but have 0 byte advise"),
            Line("RAM postcopy is disabled but have 16 byte advise"),
            Line("Postcopy needs matching RAM page sizes (s={n:hex} d={other:hex})"),
            Line("Postcopy needs matching target page sizes (s={n:number} d={other:number})"),
            Line("Postcopy RAM incoming init failed:", "10.2"),
            Line("Failed to prepare for RAM discard: {n:number}", "10.2"),
            Line("Failed to discard RAM range {n:word}: {other:number}", "10.2"),
            Line("Unable to open return-path for postcopy", "8.0", "10.1"),
            Line("Postcopy is not supported", "8.0", "8.0"),
        ),
    ),
    Message(
        "postcopy",
        "the connection of the post-copy migration was lost; the guest waits, and runs on neither"
        " host",
        "its memory is on both hosts, so that it can only be recovered, not restarted",
        "mend the network, then virsh migrate --postcopy-resume; do not destroy either side",
        (
            Line("Detected IO failure for postcopy. Migration paused."),
            Line("loadvm failed during postcopy: {n:number}.", "8.0", "10.1"),
        ),
    ),
    Message(
        "migration-state",
        "QEMU did not start a migration: the guest is not in a state for it",
        "another migration is under way or paused, or the guest was started for an incoming one",
        "wait for it or end it (virsh domjobabort), then try again",
        (
            Line("There's a migration process in progress", "9.1"),
            Line("Guest is waiting for an incoming migration"),
            Line("Can't migrate the vm that was paused due to previous migration"),
            Line(
                "Can't migrate this vm with hardware poisoned memory, please reboot the vm and try"
                " again",
                "9.0",
            ),
            Line("The incoming migration has already been started"),
            Line("'-incoming' was not specified on the command line"),
            Line("Postcopy migration in progress, cannot cancel.", "10.0"),
        ),
    ),
    Message(
        "vmstate-name",
        "QEMU has two devices of one name in the guest's state: {device}",
        "a fault of that QEMU",
        "update QEMU; " + EQUAL,
        (Line("Detected duplicate SaveStateEntry: id={device:word}, instance_id={n:hex}", "8.2"),),
    ),
    Message(
        "switchover",
        "the migration did not come to its end",
        "switching over to the destination was interrupted or failed on the source",
        _SOURCE_LOG,
        (
            Line("Switchover is interrupted", "10.0"),
            Line("Block inactivate failed during switchover", "10.0"),
            Line("Failed to stop the VM", "9.0"),
            Line("migration_stop_vm failed, error {n:number}", "9.0"),
            Line("bdrv_inactivate_all() failed ({n:number})", "8.0", "9.2"),
            Line("Failed in bdrv_inactivate_all()", "9.0", "9.2"),
            Line("Failed in migration_maybe_pause()", "9.0", "9.2"),
            Line("Failed to send packaged data", "9.0"),
        ),
        CONSEQUENCE,
    ),
    Message(
        "terminated",
        "QEMU was ended from outside: {by}",
        "libvirt, or somebody, sent it a signal; it follows from the end of the migration or start",
        "nothing",
        (Line("terminating on signal {n:number} from pid {by:text}", "8.0"),),
        NOTE,
    ),
)
