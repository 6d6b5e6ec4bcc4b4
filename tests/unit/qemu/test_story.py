"""Logs as stories: attempts, causes and what followed, whatever the text came through."""

from __future__ import annotations

import json
import textwrap

import pytest

from lab import make_config
from unit.patience import ends
from vfio_preflight.qemu.messages.entry import Explanation
from vfio_preflight.qemu.messages.story import Attempt, read

BAD = (
    "get_pci_config_device: Bad config data: i=0x{:x} read: {:x} device: {:x}"
    " cmask: ff wmask: 0 w1cmask:0"
)
LOADING = "error while loading state for instance 0x0 of device '{}'"
LOST = "load of migration failed: Invalid argument"
VFIO = "0000:00:03.2:00.0/vfio"
STAMP = "2026-11-26T10:00:01.123456Z qemu-system-x86_64: "
CHAIN = (
    BAD.format(0x64, 0x20, 0x21),
    "Failed to load PCIDevice:config",
    LOADING.format(VFIO),
    LOST,
)
BLOCKED = "vfio-preflight: {} blocked: guest 'db7' (pc-q35-9.0): fail: {}; to do: {}"


def log(*attempts: tuple[str, list[str], str]) -> str:
    """A guest's log: of each attempt, an argument, what QEMU says, and how it ended."""
    lines = []
    for argument, said, end in attempts:
        lines += [
            "2026-11-26 10:00:00.123+0000: starting up libvirt version: 11.3.0, package: 3",
            "LC_ALL=C \\",
            "/usr/bin/qemu-system-x86_64 \\",
            "-name guest=db7,debug-threads=on \\",
            '-device \'{"driver":"vfio-pci","host":"0000:81:00.4"}\' \\',
            *([f"{argument} \\"] if argument else []),
            "-msg timestamp=on",
            "char device redirected to /dev/pts/0 (label charserial0)",
            *(STAMP + line for line in said),
            f"2026-11-26 10:00:02.000+0000: shutting down, reason={end}",
        ]
    return "\n".join([*lines, ""])


def stamped(*said: str) -> str:
    return "\n".join(STAMP + line for line in said) + "\n"


def failed(text: str, config: bytes | None = None) -> list[Attempt]:
    return [attempt for attempt in read(text, config) if attempt.has_failed]


def only(text: str, config: bytes | None = None) -> Attempt:
    (attempt,) = failed(text, config)
    return attempt


def cause(text: str, config: bytes | None = None) -> Explanation:
    """The one cause of the one attempt that failed."""
    (found,) = only(text, config).telling.causes
    return found.cause


# --- attempts ------------------------------------------------------------------------------------


def test_one_attempt_at_a_time() -> None:
    text = log(
        ("", [], "destroyed"),
        ("-incoming defer", [*CHAIN], "failed"),
        ("-incoming tcp:0:49152", ["Not a migration stream", LOST], "failed"),
        ("", [], "migrated"),
    )
    attempts = failed(text)
    assert [(a.number, a.kind, a.guest, a.end) for a in attempts] == [
        (2, "incoming", "db7", "failed"),
        (3, "migration", "db7", "failed"),
    ]
    assert [[c.cause.kind for c in a.telling.causes] for a in attempts] == [
        ["bad-config-data"],
        ["not-a-stream"],
    ]
    assert len(read(text)) == 4


def test_cause_first_and_what_followed_below() -> None:
    (found,) = only(log(("-incoming defer", [*CHAIN], "failed"))).telling.causes
    assert found.cause.quote == CHAIN[0]
    assert [entry.kind for entry in found.consequences] == [
        "load-failed",
        "load-failed",
        "migration-failed",
    ]
    assert "image is still there" in found.consequences[-1].what


def test_unknown_line_before_a_consequence_is_quoted() -> None:
    said = ["quux-net: the frob is upside down", LOADING.format("0000:00:04.0/quux-net"), LOST]
    attempt = only(log(("-incoming defer", said, "failed")))
    assert not attempt.has_cause
    assert [quote.text for quote in attempt.telling.unknown] == [STAMP + said[0]]
    # Of any look, where nothing stands between.
    attempt = only(f"the frob went away\n{LOST}\n")
    assert [quote.text for quote in attempt.telling.unknown] == ["the frob went away"]


def test_what_failed_before_loading_is_no_cause_of_a_failed_load() -> None:
    said = "vfio 0000:81:00.4: group 13 is not viable"
    attempt = only(stamped(said, "quux", LOADING.format("0000:00:04.0/quux"), LOST))
    assert [found.cause.kind for found in attempt.telling.causes] == ["group-not-viable"]
    assert [entry.kind for entry in attempt.telling.consequences] == [
        "load-failed",
        "migration-failed",
    ]
    assert not attempt.has_cause


def test_qemu_that_says_nothing() -> None:
    attempt = only(log(("-incoming defer", [], "failed")))
    assert (attempt.has_cause, attempt.telling.unknown) == (False, ())


@pytest.mark.parametrize(
    ("line", "kind", "aftermath"),
    [
        ("error: Failed to restore domain from /srv/db7.save", "restore", "it was a restore"),
        ("error: Failed to start domain 'db7'", "start", "did not start"),
        ("error: Failed to attach device from /tmp/x.xml", "hot-plug", "without the device"),
    ],
)
def test_virsh_says_which_attempt(line: str, kind: str, aftermath: str) -> None:
    monitor = "error: internal error: QEMU unexpectedly closed the monitor (vm='db7'): "
    attempt = only(f"{line}\n{monitor}{stamped(*CHAIN)}")
    assert (attempt.kind, attempt.guest) == (kind, "db7")
    (found,) = attempt.telling.causes
    assert found.cause.kind == "bad-config-data"
    assert aftermath in found.consequences[-1].what
    assert "kept running on the source" not in found.consequences[-1].what


def test_after_a_switch_to_postcopy_no_side_is_safe() -> None:
    said = ("CMD_POSTCOPY_RUN in wrong postcopy state (1)", LOST)
    (found,) = only(stamped(*said)).telling.causes
    assert "destroy neither side" in found.consequences[0].what
    assert "kept running" not in found.consequences[0].what


def test_a_restore_has_no_source() -> None:
    line = "error: Failed to restore domain from /srv/db7.save\n"
    found = cause(line + stamped(*CHAIN))
    assert "the image has 20" in found.what
    assert "source" not in found.what


# --- whose byte it is ----------------------------------------------------------------------------


def test_state_is_of_vfio_devices_alone() -> None:
    config = make_config()
    assert "VSC at 0x60" in cause(stamped(*CHAIN), config).what
    virtio = LOADING.format("0000:00:05.0/virtio-blk")
    found = cause(stamped(CHAIN[0], "Failed to load virtio-blk:virtio", virtio), config)
    assert "VSC" not in found.what + found.why + found.remedy
    assert "mend" not in found.remedy
    assert "another device" in found.why


def test_state_with_neither_value_is_doubted() -> None:
    assert "neither" in cause(stamped(*CHAIN), make_config()).why
    config = bytearray(make_config())
    config[0x64] = 0x20
    assert "neither" not in cause(stamped(*CHAIN), bytes(config)).why


@pytest.mark.parametrize(
    ("offset", "path", "parts"),
    [
        (0x78, "0000:00:02.5/pcie-root-port", ("DEVCAP2", "AtomicOp", "behind it")),
        (0x6E, "0000:00:02.5/pcie-root-port", ("SLTSTA", "slot")),
        (0xB4, "0000:00:02.5/ioh-3240-express-root-port", ("DEVCAP2",)),
        (0x20, "0000:00:02.5/pcie-root-port", ("Memory window",)),
        (0x02, "0000:00:07.0/virtio-rng", ("Device ID", "disable-legacy")),
        (0x30, "0000:00:08.0/e1000e", ("Expansion ROM", "ipxe")),
        (0x9A, "0000:00:09.0/virtio-balloon", ("capabilities",)),
        (0x08, "0000:00:01.3/piix4_pm", ("Revision ID", "machine type")),
        (0x40, "0000:00:1d.0/ich9_usb", ("capabilities",)),
    ],
)
def test_emulated_devices_have_their_own_advice(
    offset: int, path: str, parts: tuple[str, ...]
) -> None:
    found = cause(stamped(BAD.format(offset, 0x40, 0), LOADING.format(path), LOST))
    told = found.what + found.why + found.remedy
    assert all(part in told for part in parts), told
    assert "no VFIO device is involved" in found.why
    assert "QEMU" in found.remedy
    assert "--state" not in told


def test_newest_qemu_names_the_device_in_libvirts_error() -> None:
    """Of 11.1, whose log has the byte alone."""
    monitor = "error: internal error: QEMU unexpectedly closed the monitor (vm='db7'): "
    path = LOADING.format("0000:00:05.0/virtio-blk")
    text = f"{monitor}{STAMP}{LOST}: {path}: Failed to load vmstate version_id: 1, ret: -22\n"
    assert "virtio-blk device" in cause(text + stamped(CHAIN[0])).what


# --- virtio, memory, versions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "masks", "names"),
    [
        ("virtio-net", (1 << 54 | 1 << 32, 1 << 32), "GUEST_USO4 (bit 54)"),
        ("virtio-net", (1 << 57 | 1 << 60, 0), "HASH_REPORT (bit 57), RSS (bit 60)"),
        ("virtio-blk", (1 << 13 | 1 << 14, 1 << 13), "WRITE_ZEROES (bit 14)"),
        ("vhost-user-blk", (1 << 12 | 1 << 34, 0), "MQ (bit 12), RING_PACKED (bit 34)"),
        ("virtio-scsi", (1 << 3, 1), "T10_PI (bit 3)"),
        ("virtio-gpu", (1 << 4, 1), "CONTEXT_INIT (bit 4)"),
        ("virtio-balloon", (1 << 5 | 1 << 33, 0), "PAGE_REPORTING (bit 5), ACCESS_PLATFORM"),
        ("virtio-net", (1 << 65, 0), "GUEST_UDP_TUNNEL_GSO (bit 65)"),
        ("virtio-odd", (1 << 3, 0), "not known (bit 3)"),
        ("virtio-net", (1, 1), "none"),
    ],
)
def test_virtio_features_by_name(device: str, masks: tuple[int, int], names: str) -> None:
    line = f"Features 0x{masks[0]:x} unsupported. Allowed features: 0x{masks[1]:x}"
    path = LOADING.format(f"0000:00:02.6:00.0/{device}")
    found = cause(stamped(line, f"Failed to load {device}:virtio", path))
    assert names in found.what
    assert f"the {device} device" in found.what
    assert "no VFIO device is involved" in found.why


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("0000:00:02.0/e1000e.rom", "option ROM"),
        ("pc.ram", "guest's memory"),
        ("/objects/ram-node0", "guest's memory"),
        ("pc.bios", "firmware"),
        ("0000:00:01.0/vga.vram", "video memory"),
        ("/rom@etc/acpi/tables", "ACPI"),
        ("frob", "device that has it"),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "Size mismatch: {}: 0x20000 != 0x40000: Invalid argument",
        "Length mismatch: {}: 0x20000 in != 0x40000: Invalid argument",
    ],
)
def test_sizes_of_blocks(block: str, part: str, line: str) -> None:
    found = cause(stamped(line.format(block), LOADING.format("ram")))
    assert part in found.why
    assert "128 KiB (0x20000) on the source and 256 KiB" in found.what


@pytest.mark.parametrize(
    ("line", "kind", "part"),
    [
        ("Missing section footer for 0000:00:1f.2/ich9_ahci", "section-footer", "ich9_ahci device"),
        ("Unknown section type 17", "stream-lost", "another QEMU build"),
        ("cpu: incoming version_id 14 is too new for local version_id 12", "version-id", "14"),
        ("VM subsection 'hpet/x' in 'hpet' does not exist", "subsection", "'hpet/x'"),
        ("12 != 14", "field-not-equal", "12"),
        ('Unknown ramblock "0000:00:09.0/qxl.vram", cannot accept migration', "ram-missing", "qxl"),
        (
            "warning: TSC frequency mismatch between VM (1 kHz) and host (2 kHz), and TSC scaling"
            " unavailable",
            "",
            "",
        ),
    ],
)
def test_what_else_ends_a_load(line: str, kind: str, part: str) -> None:
    attempt = read(stamped(line, LOST))[0]
    causes = [found.cause for found in attempt.telling.causes]
    assert [found.kind for found in causes] == ([kind] if kind else [])
    assert all(part in found.what + found.why for found in causes)
    # A warning is no cause.
    assert attempt.has_cause == bool(kind)


# --- libvirt and hooks ---------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["migration", "restore"])
def test_our_own_refusal_is_told_once_in_its_words(operation: str) -> None:
    reason = f'hostdev1: Revision ID: source 01, destination 02; QEMU says "{CHAIN[0]}"'
    own = BLOCKED.format(operation, reason, "use equal cards")
    text = (
        "error: Hook script execution failed: internal error: Child process (LC_ALL=C PATH=/bin"
        " /etc/libvirt/hooks/qemu.d/50-vfio-preflight db7 migrate begin -) unexpected exit status"
        f" 1: {own}\n  guest db7, machine type pc-q35-9.0\n    QEMU would fail with: {CHAIN[0]}\n\n"
    )
    attempt = only(text)
    (found,) = attempt.explanations()
    assert found.kind == "hook-refused"
    assert found.why.endswith(reason)
    assert found.remedy == "use equal cards"
    assert "before anything was" in found.what
    assert attempt.kind == operation
    assert (found.what + found.why + found.remedy + found.quote).count("Revision ID") == 1


@pytest.mark.parametrize("said", ["", ": no space left"])
def test_another_hook(said: str) -> None:
    found = cause(
        "error: Hook script execution failed: internal error: Child process (LC_ALL=C PATH=/bin"
        f" HOME=/root /etc/libvirt/hooks/qemu web1 start begin -) unexpected exit status 3{said}\n"
    )
    assert found.kind == "hook-failed"
    assert "/etc/libvirt/hooks/qemu refused 'start' of guest web1 (exit status 3)" in found.what
    assert said.strip(": ") in found.why


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("cannot migrate a domain with <hostdev mode='subsystem' type='scsi'>", "libvirt-refused"),
        ("cannot migrate a domain with <interface type='vdpa'>", "libvirt-refused"),
        ("vDPA devices cannot be migrated", "libvirt-refused"),
        ("Target CPU model foo does not match source bar", "xml-differs"),
        (
            "Target device PCI address 0000:05:00.0 does not match source 0000:06:00.0",
            "xml-differs",
        ),
        ("PCI device 0000:81:00.4 is in use by driver QEMU, domain web1", "device-busy"),
        ("mediated device 'b38a3f43-4be2-4046-897f-b67c2f5e0140' not found", "device-missing"),
        (
            "Unmanaged PCI device 0000:81:00.4 must be manually detached from the host",
            "device-not-opened",
        ),
        ("guest CPU doesn't match specification: missing features: avx512f", "cpu-differs"),
        ("job 'migration out' canceled by client", "cancelled"),
        ("State blocked by non-migratable device '0000:00:04.0/ivshmem'", "not-migratable"),
        ("State blocked by non-migratable CPU device (invtsc flag)", "guest-blocks"),
    ],
)
def test_libvirts_own(line: str, kind: str) -> None:
    assert cause(f"error: Requested operation is not valid: {line}\n").kind == kind


@pytest.mark.parametrize(
    "line",
    [
        "error: operation failed: migration out job: unexpectedly failed",
        "error: operation failed: job 'migration out' failed: Sibling indicated error 1",
        "error: internal error: QEMU unexpectedly closed the monitor (vm='db7')",
        "error: operation failed: job 'migration out' unexpectedly failed",
        "error: operation failed: migration job: unexpectedly failed",
    ],
)
def test_that_it_failed_is_no_cause(line: str) -> None:
    attempt = only(f"{line}\n")
    assert not attempt.has_cause
    assert attempt.telling.consequences


def test_what_encloses_a_cause_follows_from_it() -> None:
    text = "error: operation failed: job 'migration out' failed: {}\n"
    (found,) = only(
        text.format("0000:81:00.4: VFIO migration is not supported in kernel")
    ).telling.causes
    assert found.cause.kind == "vfio-not-supported"
    assert [entry.quote for entry in found.consequences] == ["job 'migration out' failed"]


# --- what a text came through --------------------------------------------------------------------

PLAIN = stamped(*CHAIN)


def wrapped(text: str, width: int) -> str:
    lines = [
        line[at : at + width] for line in text.split("\n") for at in range(0, len(line), width)
    ]
    return "\n".join(lines)


def between_words(text: str, width: int, indent: str) -> str:
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False)
        for line in text.splitlines()
    )


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        json.dumps({"MESSAGE": PLAIN, "PRIORITY": "3"}),
        json.dumps({"log": json.dumps({"MESSAGE": PLAIN})}),
        f"ERROR nova.virt.libvirt.driver [-] Live Migration failure: internal error: {PLAIN}",
        f"2026-11-26 ERROR (vm:3601) libvirtError: internal error: {PLAIN!r}",
        "".join(f"Nov 26 10:00:01 b libvirtd[812]: {line}\n" for line in PLAIN.splitlines()),
        wrapped(PLAIN, 80),
        wrapped(PLAIN, 100),
        between_words(PLAIN, 80, ""),
        between_words(PLAIN, 72, "    "),
        between_words(PLAIN, 72, "> "),
        "".join(f"> {line}\n" for line in PLAIN.splitlines()),
        PLAIN.replace(" qemu-system-x86_64: ", " qemu-kvm: "),
        PLAIN.replace(STAMP, ""),
        " ".join(PLAIN.splitlines()),
    ],
)
def test_whatever_it_came_through(text: str) -> None:
    found = cause(text)
    assert found.quote == CHAIN[0]
    assert "the vfio device in slot 00.0 behind 03.2" in found.what


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        (STAMP + CHAIN[0][:62], "bad-config-data", "byte 0x64"),
        (STAMP + CHAIN[0][:55] + "...", "bad-config-data", "byte 0x64"),
        (STAMP + "Missing section foo", "section-footer", ""),
        (
            "error: internal error: " + STAMP + "Unknown savevm section or instance '0000:...",
            "unknown-section",
            "",
        ),
        (STAMP + "Features 0x1300 unsupported. Allowed features: ", "virtio-features", "0x1300"),
    ],
)
def test_lines_that_were_cut_off(text: str, kind: str, part: str) -> None:
    found = cause(text)
    assert found.kind == kind
    assert part in found.what


@pytest.mark.parametrize("text", ["", "\n", "all is well\n", "\x00\ufffd\n\x1b[0m"])
def test_nothing_to_tell(text: str) -> None:
    assert not any(attempt.has_cause for attempt in read(text))


# --- much of it ----------------------------------------------------------------------------------

MUCH = 2 << 20


@pytest.mark.parametrize(
    "line",
    [
        '-device \'{"driver":"pcie-root-port","port":8,"id":"pci.1","addr":"0x1"}\' \\\n',
        "the device failed to load state of migration because of an error in section memory\n",
        STAMP + CHAIN[0] + "\n" + STAMP + LOST + "\n",
        "the device failed to load state of migration because ",
        "vfio 0000:81:00.4: failed \\n",
    ],
)
def test_much_text_ends(line: str) -> None:
    with ends():
        read(line * (MUCH // len(line)))


# --- no more than it can -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "error: internal error: resetting the bridge failed: Device or resource busy",
        "error: Operation not supported: cannot migrate domain: Migration disabled",
        "error: internal error: cannot read '/srv/x': Permission denied",
        "libvirt.libvirtError: unsupported configuration: VFIO migration is disabled",
        "qemu-kvm: warning: vfio 0000:81:00.4: Could not enable error recovery for the device",
        "qemu-kvm: warning: vfio_container_dma_map(0x55, 0xc0000, 0xb000, 0x7f) = -22 (Invalid)",
        "libvirtd: The certificate files were read again",
        "[    9.1] vfio-pci 0000:01:00.0: enabling device (0000 -> 0003)",
        "[    9.1] vfio-pci 0000:01:00.0: vgaarb: changed VGA decodes: olddecodes=io+mem",
        "[    9.1] mlx5_vfio_pci 0000:81:00.4: enabling device (0000 -> 0002)",
        "[    9.1] mlx5_vfio_pci 0000:81:00.4: vfio_ecap_init: hiding ecap 0x19@0x1d0",
        "[    9.1] vfio-pci 0000:01:00.0: not ready 1023ms after FLR; waiting",
    ],
)
def test_no_cause_of_a_vfio_device(line: str) -> None:
    for attempt in read(line):
        assert not attempt.has_cause
        assert not attempt.telling.causes


@pytest.mark.parametrize(
    ("line", "kind", "parts", "others"),
    [
        (
            "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature.",
            "vhost-blocks",
            ["no VFIO device is involved"],
            ["enable-migration"],
        ),
        (
            "State blocked by non-migratable device '0000:00:04.0/nvme'",
            "not-migratable",
            ["nvme device", "no VFIO device is involved"],
            ["vendor's driver", "of a VFIO device"],
        ),
        (
            "State blocked by non-migratable device '0000:00:04.0/vfio'",
            "not-migratable",
            ["vendor's driver"],
            ["no VFIO device"],
        ),
        (
            "State blocked by non-migratable CPU device (invtsc flag)",
            "guest-blocks",
            ["invtsc", "<cpu>"],
            ["vendor's driver", "detach", "flag flag"],
        ),
        (
            "Migration is disabled when VirtFS export path '/srv' is mounted in the guest",
            "guest-blocks",
            ["/srv", "unmount"],
            ["emulated device", "vendor's driver"],
        ),
        (
            "Failed to connect to 'node2:49153': No route to host",
            "no-connection",
            ["node2:49153", "firewall"],
            ["ended the migration"],
        ),
        (
            "Failed to connect to '/run/vm/chardev.sock': No such file or directory",
            "no-connection",
            ["socket /run/vm/chardev.sock"],
            ["firewall", "port"],
        ),
        (
            "error: internal error: unable to connect to server at 'node2:49152': No route to host",
            "no-connection",
            ["node2:49152", "No route to host"],
            [],
        ),
        (
            "check_section_footer: Read section footer failed: -5",
            "stream-ended",
            ["ended too early", "on the source"],
            ["not named", "other length", "another length"],
        ),
        (
            'Unknown ramblock "0000:00:03.0/virtio-net-pci.rom", cannot accept migration',
            "ram-missing",
            ["option ROM", "no VFIO device is involved"],
            ["maxMemory"],
        ),
        (
            'Unknown ramblock "0000:00:06.0/vfio-cpr-pci.rom", cannot accept migration',
            "ram-missing",
            ["ROM file of a VFIO device", "from 10.1 on"],
            ["emulated device", "no VFIO device"],
        ),
        (
            "Size mismatch: 0000:00:06.0/vfio-pci.rom: 0x10000 != 0x40000: Invalid argument",
            "ram-size",
            ["ROM file of a VFIO device", "romsize="],
            ["emulated device", "no VFIO device", "ipxe"],
        ),
        (
            'Failed to get "write" lock',
            "lock",
            ["a disk of the guest is in use"],
            ["libvirt could not", "not named"],
        ),
        (
            "2024 7 ERROR nova Live Migration failure: operation failed: guest CPU doesn't match"
            " specification: missing features: hle,rtm: libvirt.libvirtError: operation failed",
            "cpu-differs",
            ["missing features: hle,rtm"],
            ["libvirtError"],
        ),
        (
            '{"level":"info","msg":"cannot migrate VMI: VMI uses a PCI host devices","reason":"X"}',
            "manager-refused",
            ["VMI uses a PCI host devices"],
            ['"reason"'],
        ),
        (
            "[ 9.1] vfio-pci 0000:01:00.0: not ready 65535ms after FLR; giving up",
            "not-ready",
            ["0000:01:00.0"],
            ["interrupt remapping"],
        ),
        (
            "[ 9.1] mlx5_vfio_pci 0000:81:00.4: failed to load state: -22",
            "driver-resume",
            ["0000:81:00.4", "failed to load state: -22"],
            [],
        ),
        (
            "Unknown savevm section or instance 's390_css' 0. Make sure that your current VM setup",
            "unknown-section",
            ["s390_css", "QEMU's builds"],
            ["VFIO"],
        ),
        ("The certificate /etc/pki/CA/cacert.pem has expired", "tls", ["cacert.pem has exp"], []),
        ("TLS handshake failed: Error in the certificate.", "tls", ["certificate"], []),
        ("Network not found: no network with matching name 'vf-pool'", "environment", [], []),
        (
            "Attempt to migrate guest to the same host 4c4c4544",
            "libvirt-refused",
            [],
            ["4c4c4544 a"],
        ),
    ],
)
def test_right_cause(line: str, kind: str, parts: list[str], others: list[str]) -> None:
    found = cause(line)
    told = f"{found.what}\n{found.why}\n{found.remedy}"
    assert found.kind == kind
    for part in parts:
        assert part in told
    for part in others:
        assert part not in told


def test_a_start_from_a_managed_save_has_no_source() -> None:
    monitor = "error: internal error: process exited while connecting to monitor: "
    found = cause(f"error: Failed to start domain 'db7'\n{monitor}{stamped(*CHAIN)}")
    assert "the image has 20" in found.what
    assert "the source" not in found.what + found.why + found.remedy


def test_xml_of_a_restore_is_compared_with_the_image() -> None:
    lines = "error: Failed to restore domain from /srv/db7.save\nerror: unsupported configuration:"
    found = cause(f"{lines} Target domain hostdev count 0 does not match source 1")
    assert "0 in the XML that is loaded, 1 in the image" in found.what
    assert "virsh restore --xml" in found.remedy
    assert "copied" not in found.why


def test_a_record_of_an_error_in_json_is_quoted() -> None:
    record = {"component": "virt-launcher", "level": "error", "msg": "the frobnicator failed"}
    attempt = only(json.dumps(record))
    assert not attempt.has_cause
    assert "the frobnicator failed" in attempt.telling.unknown[0].text
    assert not failed(json.dumps({"execute": "migrate_set_parameters", "arguments": {}}))


def test_html_is_read_as_what_it_shows() -> None:
    line = LOADING.format(VFIO).replace("'", "&#39;")
    shown = f"<pre>{BAD.format(0x64, 0x20, 0x21)}&#10;{line}</pre>"
    assert "of the vfio device in slot 00.0 behind 03.2" in cause(shown).what
    coloured = f"\x1b[0;1;31mqemu-kvm: {BAD.format(0x64, 0x20, 0x21)}\x1b[0m\x1b[K"
    assert "the destination's device has 21" in cause(coloured).what


def test_what_libvirt_refuses_is_not_always_a_vfio_device() -> None:
    line = "error: Requested operation is not valid: cannot migrate a domain with <{}>"
    assert "VFIO" not in cause(line.format("interface type='vdpa'")).remedy
    assert "VFIO" in cause(line.format("hostdev mode='subsystem' type='mdev'")).remedy


def test_what_encloses_another_line_does_not_repeat_it() -> None:
    line = (
        "error: operation failed: job 'migration out' failed: Unable to write to socket: Connection"
        " reset by peer. Message from the destination host: operation failed: job 'migration in'"
        " failed: load of migration failed: Input/output error"
    )
    for entry in only(line).telling.consequences:
        assert "load of migration failed" not in entry.what


def test_what_is_not_named_is_left_out() -> None:
    line = "error: operation failed: job 'migration out' failed: Channel error: Input/output error"
    told = [entry.what for entry in only(line).telling.consequences]
    assert told[1] == "the other side ended the migration"
