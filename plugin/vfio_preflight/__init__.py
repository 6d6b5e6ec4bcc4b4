"""vfio-preflight: predict before a migration whether QEMU will accept a guest's VFIO devices."""

__version__ = "0.1.0"
