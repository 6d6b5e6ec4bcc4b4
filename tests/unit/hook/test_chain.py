"""Hooks that run before ours, and print something that is no domain's XML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.hooked import Host, assert_blocked, assert_let_pass, domain, present
from vfio_preflight.hook.chain import REMEDY, earlier, printed, refusal, suspicion
from vfio_preflight.report.firstline import LIMIT, size

DOMAIN = b"<domain type='kvm'><name>g1</name><devices><hostdev/></devices></domain>"


def make_hooks(root: Path, *names: str, mode: int = 0o755) -> str:
    for name in names:
        path = root / "hooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
    return str(root / "hooks")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.configure()
    present(made)
    return made


def chained(hooks: str) -> str:
    return f"from vfio_preflight.hook import chain\nchain.HOOKS = {hooks!r}\n"


# --- which hooks ---------------------------------------------------------------------------------


def test_order_is_libvirts(tmp_path: Path) -> None:
    """``qemu`` first, then ``qemu.d`` by strcmp(): digits, capitals, small letters, UTF-8."""
    names = ("qemu.d/20-b", "qemu", "qemu.d/.hidden", "qemu.d/100", "qemu.d/50-a", "qemu.d/é")
    hooks = make_hooks(tmp_path, *names, "qemu.d/50-vfio-preflight", "qemu.d/60-late")
    found = [path.removeprefix(f"{hooks}/") for path in earlier(hooks)]
    assert found == ["qemu", "qemu.d/.hidden", "qemu.d/100", "qemu.d/20-b", "qemu.d/50-a"]


def test_what_libvirt_does_not_run(tmp_path: Path) -> None:
    hooks = make_hooks(tmp_path, "qemu", "qemu.d/10-off", mode=0o644)
    (Path(hooks) / "qemu.d/20-directory").mkdir()
    assert earlier(hooks) == []
    assert earlier(f"{tmp_path}/none") == []


# --- what they printed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        (b"starting guest\n", "starting guest"),
        (b"starting guest\nsecond line\n", "starting guest"),
        (b"\n\nstarting guest\n" + DOMAIN, "starting guest"),
        (DOMAIN + b"\ndone\n", "done"),
        (b"{}", "{}"),
        (b"<network><name>x</name></network>", "<network><name>x</name></netw..."),
        (b"<domainsnapshot>" + DOMAIN + b"</domainsnapshot>", "<domainsnapshot>"),
        (b"\x1b[31mred\x9b\xff", "?[31mred\ufffd\ufffd"),
        (b"x" * 100, "x" * 29 + "..."),
        # These can have other reasons.
        (b"", ""),
        (DOMAIN[:30], ""),
        (DOMAIN, ""),
        (b"<?xml version='1.0'?>\n<!-- x -->" + DOMAIN, ""),
        (b"<domain type='kvm'><hostdev", ""),
    ],
)
def test_printed(xml: bytes, text: str) -> None:
    assert printed(xml) == text


@given(st.binary(max_size=300))
def test_anything_can_be_printed(noise: bytes) -> None:
    for xml in (noise, noise + DOMAIN, DOMAIN + noise):
        lines = refusal(["/etc/libvirt/hooks/qemu"], printed(xml))
        assert all(line.isprintable() for line in lines) and size(lines[0]) <= LIMIT


def test_refusal() -> None:
    first, *below = refusal(["/etc/libvirt/hooks/qemu"], "starting guest")
    assert first == (
        'vfio-preflight: migration blocked: another hook before this one printed "starting guest"'
        f" in place of the guest's XML: /etc/libvirt/hooks/qemu; to do: {REMEDY}"
    )
    assert "libvirt takes what a hook prints for the guest's XML" in below[-1]


@given(st.lists(st.text(max_size=300), min_size=1, max_size=30), st.text(max_size=60))
def test_refusal_fits_whatever_the_hooks_are_called(hooks: list[str], text: str) -> None:
    first = refusal(hooks, text)[0]
    assert size(first) <= LIMIT and first.isprintable()
    assert "another hook before this one printed" in first and first.endswith(REMEDY)


# --- the hook ------------------------------------------------------------------------------------

TEXTS = [b"starting guest\n", b"starting guest\n" + domain(), domain() + b"starting guest\n"]


@pytest.mark.parametrize("on_error", ["allow", "block"])
@pytest.mark.parametrize("xml", TEXTS, ids=["alone", "before", "behind"])
def test_migration_is_blocked(on_error: str, xml: bytes, host: Host, tmp_path: Path) -> None:
    host.configure(on_error=on_error)
    hooks = make_hooks(tmp_path, "qemu.d/10-early", "qemu.d/50-vfio-preflight")
    result = host.run(xml, patch=chained(hooks))
    assert_blocked(result, 'another hook before this one printed "starting guest"')
    assert f"hooks that ran before this one: {hooks}/qemu.d/10-early" in result.err
    assert "well-formed" not in result.err
    assert 'printed "starting guest"' in host.log and host.log.count("\n") == 1


@pytest.mark.parametrize("operation", ["restore", "prepare"])
def test_restore_is_never_failed(operation: str, host: Host, tmp_path: Path) -> None:
    host.configure(on_error="block")
    hooks = make_hooks(tmp_path, "qemu")
    assert_let_pass(host.run(TEXTS[0], operation, patch=chained(hooks)))
    assert (
        f'printed "starting guest" in place of the guest\'s XML: {hooks}/qemu;' in host.log
    ) == (operation == "restore")


def test_malformed_xml_may_be_another_hooks(host: Host, tmp_path: Path) -> None:
    host.configure(on_error="block")
    hooks = make_hooks(tmp_path, "qemu")
    result = host.run(domain()[:-20], patch=chained(hooks))
    assert_blocked(result, "the domain XML is not well-formed")
    assert suspicion([f"{hooks}/qemu"]) in result.err


def test_without_another_hook_it_is_as_it_was(host: Host, tmp_path: Path) -> None:
    hooks = make_hooks(tmp_path, "qemu.d/50-vfio-preflight", "qemu.d/60-late")
    assert_let_pass(host.run(TEXTS[0], patch=chained(hooks)))
    assert "not well-formed" in host.log and "hook" not in host.log.partition("not well")[2]
