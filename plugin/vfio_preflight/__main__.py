"""``python3 -m vfio_preflight``: the operator's command, also from a checkout.

Any Python 3 can import this module, so that one that is too old says so instead of failing.
"""

import sys

if sys.version_info < (3, 9):  # noqa: UP036 - not every host's python3 is as new as it must be
    sys.stderr.write(
        "vfio-preflight: %s is Python %d.%d; this needs 3.9 or newer\n"  # noqa: UP031
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
    sys.exit(2)

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
