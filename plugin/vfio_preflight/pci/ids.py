"""Capability identifiers and the short names they go by (PCI Code and ID Assignment 1.15)."""

from __future__ import annotations

# These have a branch of their own in vfio_add_std_cap() that changes what the guest sees. AF has
# one as well, but there QEMU only notes whether the function can be reset.
PCI_CAP_ID_PM = 0x01
PCI_CAP_ID_MSI = 0x05
PCI_CAP_ID_VNDR = 0x09
PCI_CAP_ID_EXP = 0x10
PCI_CAP_ID_MSIX = 0x11

# The same for vfio_add_ext_cap().
PCI_EXT_CAP_ID_ARI = 0x0E
PCI_EXT_CAP_ID_ATS = 0x0F
PCI_EXT_CAP_ID_SRIOV = 0x10
PCI_EXT_CAP_ID_REBAR = 0x15

CAPABILITIES = {
    # It has no registers beyond the header; NVIDIA GPUs have one in the middle of their list.
    0x00: "Null",
    0x01: "PM",
    0x02: "AGP",
    0x03: "VPD",
    0x04: "Slot ID",
    0x05: "MSI",
    0x06: "CompactPCI hot swap",
    0x07: "PCI-X",
    0x08: "HyperTransport",
    0x09: "VSC",
    0x0A: "Debug port",
    0x0B: "CompactPCI control",
    0x0C: "Hot-plug",
    0x0D: "Bridge subsystem ID",
    0x0E: "AGP 8x",
    0x0F: "Secure device",
    0x10: "PCIe",
    0x11: "MSI-X",
    0x12: "SATA",
    0x13: "AF",
    0x14: "EA",
    0x15: "FPB",
}

# 0x000C is obsolete and 0x0014 reserved for AMD (linux/pci_regs.h): neither has a name here.
EXTENDED_CAPABILITIES = {
    # With version and next pointer 0 as well it is no capability, but an empty list (7.6).
    0x0000: "Null",
    0x0001: "AER",
    0x0002: "VC",
    0x0003: "DSN",
    0x0004: "Power budgeting",
    0x0005: "RC link declaration",
    0x0006: "RC internal link control",
    0x0007: "RC event collector",
    0x0008: "MFVC",
    0x0009: "VC (MFVC)",
    0x000A: "RCRB header",
    # Unlike the VSC it is compared in full: skip-vsc-check concerns the standard list alone.
    0x000B: "VSEC",
    0x000D: "ACS",
    0x000E: "ARI",
    0x000F: "ATS",
    0x0010: "SR-IOV",
    0x0011: "MR-IOV",
    0x0012: "Multicast",
    0x0013: "PRI",
    0x0015: "ReBAR",
    0x0016: "DPA",
    0x0017: "TPH",
    0x0018: "LTR",
    0x0019: "Secondary PCIe",
    0x001A: "PMUX",
    0x001B: "PASID",
    0x001C: "LN requester",
    0x001D: "DPC",
    0x001E: "L1 PM substates",
    0x001F: "PTM",
    0x0020: "M-PCIe",
    0x0021: "FRS queueing",
    0x0022: "Readiness time",
    0x0023: "DVSEC",
    0x0024: "VF ReBAR",
    0x0025: "Data link feature",
    0x0026: "Physical layer 16 GT/s",
    0x0027: "Lane margining",
    0x0028: "Hierarchy ID",
    0x0029: "NPEM",
    0x002A: "Physical layer 32 GT/s",
    0x002B: "Alternate protocol",
    0x002C: "SFI",
    0x002D: "Shadow functions",
    0x002E: "DOE",
    0x002F: "Device 3",
    0x0030: "IDE",
    0x0031: "Physical layer 64 GT/s",
}
