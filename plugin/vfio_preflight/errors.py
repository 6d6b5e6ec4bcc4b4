"""The one error hierarchy of this project.

    PreflightError            anything this project raises on purpose
     ├─ ConfigSpaceError      bytes that are not a PCI configuration space       (pci.space)
     ├─ FormatError           text or a file that no reader understands          (pci.formats)
     ├─ GuestError            domain XML that cannot be judged                   (guest.domain)
     ├─ RecordError           a record that is damaged or of an unknown schema   (guest.metadata)
     ├─ EmulatorError         an emulator that must not or cannot be asked       (qemu.emulator)
     ├─ HostError             facts of this host that cannot be read             (host)
     ├─ ConfigurationError    vfio-preflight.conf is wrong                       (configuration)
     └─ InstallError          files that cannot be installed or removed safely   (cli.payload)

Leaf classes live beside the code that raises them. The text of an error is complete in itself: what
is wrong, where, and what to do. It is rendered once, at the edge (``hook`` and ``cli``).
"""


class PreflightError(Exception):
    """Base of every error this project raises on purpose; ``str()`` is fit for an operator."""
