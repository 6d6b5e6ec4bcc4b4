"""The releases of QEMU on which the conformance suite found the model to be right.

The suite writes them (``python -m conformance --record``) to ``verified.json``.
"""

from __future__ import annotations

import json
import os

from ..model.versions import numbers

VERIFIED_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "verified.json")


def verified_versions() -> tuple[str, ...]:
    """The versions, oldest first."""
    # Bytes: Python would import a module for the encoding.
    with open(VERIFIED_FILE, "rb") as file:
        versions = (entry["version"] for entry in json.load(file)["verified"])
        # As text 10.0.2 would come before 9.2.0.
        return tuple(sorted(versions, key=numbers))
