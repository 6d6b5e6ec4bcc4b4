"""What libvirt and QEMU say of the host: its CPU, its devices, what they may have of it.

Sources: libvirt 9.0 and 11.3, ``src/hypervisor/virhostdev.c``, ``src/util/virpci.c``,
``virmdev.c``, ``src/cpu/cpu_x86.c``; QEMU 8.0 to 11.1, ``target/i386/``.
"""

from __future__ import annotations

from .message import NOTE, Line, Message

_IN_USE = (
    "end what has it (virsh list; virsh dumpxml shows each guest's hostdevs), or choose another"
)
_CPU = (
    "give the guest a CPU model that all hosts have (virsh hypervisor-cpu-baseline), with equal"
    " microcode, kernel and QEMU"
)


def _lines(*templates: str) -> tuple[Line, ...]:
    return tuple(Line(template, "") for template in templates)


HOST: tuple[Message, ...] = (
    Message(
        "cpu-differs",
        "the guest's CPU has features that this host's does not give it, or the other way round:"
        " {features}",
        "the two hosts have other processors, microcode, kernels or settings (nested,"
        " speculation), or"
        " QEMU builds",
        _CPU,
        _lines(
            "guest CPU doesn't match specification: {features:features}",
            "guest CPU doesn't match specification",
            "guest and host CPU are not compatible: {features:text}",
            "the CPU is incompatible with host CPU: {features:text}",
            "the CPU is incompatible with host CPU",
            "CPU is incompatible with host CPU: {features:text}",
            "operation failed: the CPU is incompatible",
            "Unacceptable CPU info: {features:text}",
            "CPU doesn't have compatibility",
            "host doesn't support hyperv '{features:quoted}' feature",
        ),
    ),
    Message(
        "cpu",
        "the host's CPU or KVM lacks a feature that the guest's CPU must have",
        "the two hosts have other processors, microcode, kernels or settings",
        _CPU,
        (
            Line("Host doesn't support requested features", "8.0"),
            Line("Guest wants {features:short} host doesn't have it", ""),
            Line("TCG doesn't support requested features", "8.0"),
        ),
    ),
    Message(
        "cpu",
        "this host's CPU lacks feature {features}",
        "QEMU starts the guest without it, unless it has to be exact (enforce, check='full')",
        _CPU,
        (
            Line("warning: host doesn't support requested feature: {features:text}", "8.0"),
            Line("warning: TCG doesn't support requested feature: {features:text}", "8.0"),
        ),
        NOTE,
    ),
    Message(
        "cpu",
        "this KVM does not take a register of the guest's CPU: {features}",
        "the two hosts have other kernels, or settings of KVM (nested)",
        _CPU,
        (
            Line("error: failed to set MSR {features:text}", "8.0"),
            Line("failed to set MSR {features:text}", "8.0"),
        ),
    ),
    Message(
        "cpu",
        "the processors' clocks differ: {guest} kHz on the source, {host} kHz here",
        "this host cannot scale the time stamp counter; a warning: the guest's time may run wrong",
        "nothing for some millionths; for more, migrate between equal processors or fix the"
        " frequency"
        " (<timer name='tsc' frequency=…/>)",
        (
            Line(
                "TSC frequency mismatch between VM ({guest:number} kHz) and host ({host:number}"
                " kHz), and TSC scaling unavailable",
                "8.0",
            ),
        ),
        NOTE,
    ),
    Message(
        "device-busy",
        "device {device} is in use on this host",
        "another guest, or libvirt's own list, has it",
        _IN_USE,
        _lines(
            "PCI device {device:word} is in use by driver {driver:word}, domain {guest:text}",
            "PCI device {device:word} is in use",
            "mediated device {device:word} is in use by driver {driver:word}, domain {guest:text}",
            "USB device {device:word} is in use by driver {driver:word}, domain {guest:text}",
            "Device {device:word} is already in use",
            "device {device:word} is already in use",
            "PCI device {device:word} allocated from network {network:word} is already in use by"
            " domain {guest:text}",
            "Not detaching active device {device:word}",
            "Not resetting active device {device:word}",
            "Requested operation is not valid: network '{device:quoted}' requires exclusive access",
            "network '{device:quoted}' requires exclusive access to interfaces, but none are"
            " available",
        ),
    ),
    Message(
        "device-missing",
        "this host has no device {device}",
        "it does not exist here, under this address or UUID",
        "create it (mdevctl; sriov_numvfs), or give the destination's own in virsh migrate --xml",
        _lines(
            "mediated device '{device:quoted}' not found",
            "device not found: mediated device '{device:quoted}' not found",
            "Device {device:device} not found: could not access {path:word}",
            "Device {device:device} not found",
            "Failed to read product/vendor ID for {device:word}",
            "Failed to read PCI config space for {device:word}",
        ),
    ),
    Message(
        "device-not-opened",
        "libvirt could not make device {device} ready for the guest",
        "it is not bound to a VFIO driver, or cannot be reset or given away",
        "bind it (managed='yes', or virsh nodedev-detach), load the vfio modules; see dmesg",
        _lines(
            "Unmanaged PCI device {device:word} must be manually detached from the host",
            "PCI device {device:word} is not assignable",
            "Device {device:word} is behind a switch lacking ACS and cannot be assigned",
            "Unable to reset PCI device {device:word}: {reason:text}",
            "Failed to re-attach PCI device: {device:text}",
            "Failed to reset PCI device: {device:text}",
            "Failed to unbind PCI device '{device:quoted}' from {driver:word}",
            "Failed to bind PCI device '{device:quoted}' to {driver:word}",
            "Failed to load PCI driver module {device:text}",
            "Non-endpoint PCI devices cannot be assigned to guests",
            "Failed to add PCI device {device:word} to the inactive list",
        ),
    ),
    Message(
        "no-vfio",
        "this host cannot give PCI or mediated devices to guests",
        "there is no IOMMU, it is off, or the vfio modules or QEMU's part of it are missing",
        "switch the IOMMU on (firmware, intel_iommu=on), load vfio-pci, install QEMU with vfio",
        _lines(
            "host doesn't support passthrough of host PCI devices",
            "host doesn't support VFIO PCI passthrough",
            "VFIO PCI device assignment is not supported by this version of qemu",
            "VFIO device assignment is currently not supported on this system",
            "VFIO device assignment is not available on this platform",
            "Mediated host device assignment requires VFIO support",
        ),
    ),
    Message(
        "mdev-type",
        "mediated device {device} is not of the kind that the guest's XML says: {reason}",
        "its driver's device_api and the model of the <hostdev> differ",
        "correct model= in the XML, or create the device with the right type",
        _lines(
            "invalid device API '{reason:quoted}' for device {device:word}: device only supports"
            " '{api:quoted}'",
            "device API '{reason:quoted}' not supported yet",
        ),
    ),
    Message(
        "lock",
        "libvirt could not get the lock of the guest: {reason}",
        "another job on the guest takes long",
        "wait for the job (virsh domjobinfo)",
        _lines(
            "Timed out during operation: cannot acquire state change lock {reason:text}",
            "cannot acquire state change lock",
        ),
    ),
    Message(
        "lock",
        "a disk of the guest is in use: QEMU could not lock it",
        "another QEMU has it open: the guest runs twice, the source has not let go of it, or"
        " qemu-img or a backup is at work; the line behind it, or the log, names the file",
        "see who has the file open (lsof, on all hosts that share it), and end that",
        _lines(
            'Failed to get "write" lock',
            'Failed to get shared "write" lock',
            'Failed to get "consistent read" lock',
        ),
    ),
    Message(
        "lock",
        "the disk is {disk}",
        "QEMU asks so where it could not lock it",
        "see who has the file open",
        _lines("Is another process using the image [{disk:short}]"),
        NOTE,
    ),
    Message(
        "rights",
        "this host does not let QEMU or libvirt have {what}",
        "rights of the file, the devices cgroup, SELinux or AppArmor",
        "see the audit log (ausearch -m avc, dmesg: apparmor) and the file's owner",
        _lines(
            "Could not open '{what:quoted}': Permission denied",
            "cannot open file '{what:quoted}': Permission denied",
            "unable to set security context '{label:quoted}' on '{what:quoted}'",
            "cannot limit locked memory of process {n:number} to {what:text}",
        ),
    ),
)
