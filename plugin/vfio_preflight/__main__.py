"""``python3 -m vfio_preflight``: the operator's command, also from a checkout."""

from __future__ import annotations

import sys

from .cli.main import main

sys.exit(main())
