"""What libvirt says of a connection that cannot be had."""

from __future__ import annotations

import pytest

from vfio_preflight.cli.connection import why

PAGE = "@@@@\r\n@ WARNING @\r\nSomeone could be eavesdropping\r\nHost key for b has changed.\r\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "Cannot recv data: ssh: connect to host b port 22: No route to host: Connection reset"
            " by peer",
            "ssh: connect to host b port 22: No route to host",
        ),
        (
            "End of file while reading data: virt-ssh-helper: could not proxy traffic:"
            " Input/output error",
            "virt-ssh-helper: could not proxy traffic",
        ),
        (
            f"Cannot recv data: {PAGE}Host key verification failed.\r\n: Connection reset by peer",
            "Host key for b has changed. Host key verification failed.",
        ),
        # ssh says nothing.
        ("Cannot recv data: Connection reset by peer",) * 2,
        ("Cannot recv data: : Connection reset by peer",) * 2,
        ("authentication failed:\n no agent", "authentication failed: no agent"),
    ],
)
def test_why(error: str, told: str) -> None:
    assert why(error) == told
