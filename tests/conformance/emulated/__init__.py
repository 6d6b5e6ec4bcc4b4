"""Emulated devices: every one that ``-device`` can make, migrated by real QEMU."""
