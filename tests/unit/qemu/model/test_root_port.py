from __future__ import annotations

import pytest

from lab.configs import make_config
from unit.makers import make_state
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.atomics import compare_ports, reaching
from vfio_preflight.qemu.model.values import Environment
from vfio_preflight.qemu.model.versions import behaviour

PORT = Environment("root-port", port="pcie-root-port")
LINE = "get_pci_config_device: Bad config data: i={} cmask: ff wmask: 0 w1cmask:0"


def state(atomics: int | None, config: bytes | None = None) -> ConfigState:
    return make_state(config)._replace(atomics=atomics)


@pytest.mark.parametrize(
    ("source", "destination", "said"),
    [
        (7, 0, "0x78 read: a0 device: 20"),
        (0, 7, "0x78 read: 20 device: a0"),
        (3, 7, "0x79 read: 1 device: 3"),
        (7, 3, "0x79 read: 3 device: 1"),
        (1, 3, "0x79 read: 0 device: 1"),
        (2, 3, "0x78 read: 20 device: a0"),
    ],
)
def test_roots_that_differ(source: int, destination: int, said: str) -> None:
    """The first four as QEMU 10.0.2 and 11.1.3 print them (conformance)."""
    found = compare_ports(state(source), PORT, state(destination), PORT)
    assert found is not None
    assert found.line == LINE.format(said)


@pytest.mark.parametrize("widths", [0, 1, 3, 7])
def test_roots_that_are_alike(widths: int) -> None:
    assert compare_ports(state(widths), PORT, state(widths), PORT) is None


def test_the_other_root_port_of_qemu() -> None:
    port = PORT._replace(port="ioh3420")
    found = compare_ports(state(3), port, state(0), port)
    assert found is not None
    assert found.offset == 0xB4


@pytest.mark.parametrize(
    "environment",
    [
        PORT._replace(port=""),  # a switch, or another function of the slot
        PORT._replace(placement="root-complex"),
        PORT._replace(placement="conventional"),
        PORT._replace(properties={"multifunction": "on"}),
        PORT._replace(behaviour=behaviour("8.0.5")),
    ],
)
def test_what_leaves_the_port_as_it_is(environment: Environment) -> None:
    assert reaching(state(7), environment) == 0
    assert reaching(state(7), PORT._replace(behaviour=behaviour("8.1.0"))) == 7


def test_device_without_express_capability() -> None:
    assert reaching(state(7, make_config(caps=[("pm", 0x40)])), PORT) == 0
    assert reaching(state(7, make_config(caps=[])), PORT) == 0


def test_unknown_is_none() -> None:
    assert reaching(state(None), PORT) == 0


def test_an_old_source_and_a_new_destination() -> None:
    old = PORT._replace(behaviour=behaviour("8.0.5"))
    found = compare_ports(state(3), old, state(3), PORT)
    assert found is not None
    assert found.line == LINE.format("0x78 read: 20 device: a0")
