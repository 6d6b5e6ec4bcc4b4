"""A guest whose network the destination does not have: the hook says what libvirt will do.

The verdict is the same whether or not the guest's XML has a word that the hook looks for.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import guest_xml

from .pair import NEW, STAYED, Pair

NETWORK = (
    "<network><name>{}</name><forward mode='hostdev' managed='no'>"
    "<address type='pci' domain='0' bus='6' slot='0' function='5'/></forward></network>"
)
INTERFACE = "<interface type='network'><source network='{}'/></interface>"
ISOLATED = "<network><name>{}</name></network>"
UNKNOWN_BLOCKS = "[policy]\nunknown = block\n"
WORDS = ["", "<description>no hostdev here, nor vfio</description>"]


@pytest.fixture
def network(pair: Pair) -> Iterator[str]:
    """A network that a has and b has not."""
    pair.a.run(
        ["/usr/bin/virsh", "net-define", "/dev/stdin"], stdin=NETWORK.format("here")
    ).check_returncode()
    pair.a.virsh("net-start", "here").check_returncode()
    yield "here"
    pair.a.virsh("net-destroy", "here")
    pair.a.virsh("net-undefine", "here")


def test_running_guest_of_a_pool_is_refused_with_the_reason(pair: Pair, network: str) -> None:
    pair.configure(UNKNOWN_BLOCKS)
    guest = pair.start(guest_xml("pooled", NEW, [INTERFACE.format(network)]))
    result = pair.migrate(guest)
    assert result.returncode != 0
    assert "vfio-preflight: migration blocked" in result.stderr
    assert f"network '{network}' is not defined on this host" in result.stderr
    assert pair.where(guest) == STAYED


@pytest.mark.parametrize("word", WORDS)
def test_undefined_network_has_one_verdict(pair: Pair, word: str) -> None:
    """An offline migration calls the hook as well; and libvirt itself refuses such a guest."""
    pair.configure(UNKNOWN_BLOCKS)
    xml = guest_xml("ordinary", NEW, [INTERFACE.format("there-is-none")], memory=32)
    guest = pair.a.define(xml.replace("</name>", f"</name>{word}"))
    result = pair.a.virsh("migrate", "--offline", "--persistent", guest, pair.b.uri)
    assert result.returncode != 0
    assert "vfio-preflight: migration blocked" in result.stderr
    assert "network 'there-is-none' is not defined on this host" in result.stderr
    assert '"Network not found"' in result.stderr
    started = pair.a.virsh("start", guest)
    assert "Network not found" in started.stderr, "as the finding says"


@pytest.mark.parametrize("word", WORDS)
def test_defined_network_has_one_verdict(pair: Pair, word: str) -> None:
    pair.configure(UNKNOWN_BLOCKS)
    define = ["/usr/bin/virsh", "net-define", "/dev/stdin"]
    pair.b.run(define, stdin=ISOLATED.format("plain")).check_returncode()
    xml = guest_xml("ordinary", NEW, [INTERFACE.format("plain")])
    guest = pair.a.define(xml.replace("</name>", f"</name>{word}"))
    result = pair.a.virsh("migrate", "--offline", "--persistent", guest, pair.b.uri)
    pair.b.virsh("net-undefine", "plain")
    assert result.returncode == 0, result.stderr
