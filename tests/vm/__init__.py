"""A VFIO host in a virtual machine: a real kernel, an emulated IOMMU and network cards with VFs.

Under TCG, so that neither hardware nor KVM is needed. The machine's own root file system is the
virtual machine's, read-only under an overlay, so that what is installed here is there as well::

    kernel=$(tests/vm/kernel release)
    PYTHONPATH=tests python -m vm.run "$kernel" tests/vm/scripts/devices  # its output, its status
    PYTHONPATH=tests python -m vm.run "$kernel"  # a shell; `exit` ends it

Needs root, as whoever reads the root file system decides what the virtual machine sees of it.
"""
