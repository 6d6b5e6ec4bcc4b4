"""A guest's arguments, made those of its twin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from unit.qemu.twin.commandlines import arguments
from vfio_preflight.qemu.twin import words
from vfio_preflight.qemu.twin.arguments import Surroundings, Transformed, transform
from vfio_preflight.qemu.twin.options import pairs
from vfio_preflight.qemu.twin.portable import portable

SIZES = {
    "/usr/share/OVMF/OVMF_CODE_4M.fd": 3653632,
    "/var/lib/libvirt/qemu/nvram/guest_VARS.fd": 540672,
    "/usr/share/operator.rom": 65536,
}
VFIO = {"0000:06:00.4": "/d/devices/0000:01:00.0"}


def twin(argv: Sequence[str], vfio: Mapping[str, str] = VFIO) -> Transformed:
    return transform(argv, Surroundings(lambda path, _writable: SIZES.get(path), "/d", vfio))


def one(option: str, value: str) -> list[str]:
    """What becomes of one option, without what begins every twin's arguments."""
    return list(twin([option, value]).arguments[1:])


def test_twin_of_a_guest_with_one_of_everything() -> None:
    made = twin(arguments()[1:])

    assert made.uncovered == (
        "tpm0 (tpm-crb): its other half is the process that is the TPM",
        "vsock0 (vhost-vsock-pci): its other half is the host's kernel",
    )
    text = " ".join(made.arguments)
    for path in ("/var/lib", "/run", "/dev", "/x.iso", "/usr/share", "guest=guest", "11111111-"):
        assert path not in text
    # By the sizes of the firmware's files.
    assert '"node-name": "libvirt-pflash0-format", "read-only": true, "size": 3653632' in text
    assert '"node-name": "libvirt-pflash1-storage", "read-only": false, "size": 540672' in text


def test_every_device_that_is_kept_has_its_place_and_properties() -> None:
    argv = arguments()[1:]

    kept = [value for option, value in pairs(twin(argv).arguments) if option == "device"]

    given = [words.read(value, "driver") for option, value in pairs(argv) if option == "device"]
    left = [d for d in given if d["driver"] not in ("tpm-crb", "vhost-vsock-pci")]
    assert [json.loads(value) for value in kept] == left


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("-chardev", "socket,id=c0,path=/a,,b,server=on", "null,id=c0"),
        ("-chardev", "pty,id=c0,mux=on,logfile=/x", "null,id=c0,mux=on"),
        ("-netdev", '{"type":"tap","fd":"5","id":"hostnet0"}', "hubport,id=hostnet0,hubid=1"),
        ("-netdev", "vhost-user,chardev=c,id=n", "hubport,id=n,hubid=1"),
        ("-audiodev", '{"id":"audio1","driver":"spice"}', "none,id=audio1"),
        ("-fsdev", "local,id=fs0,path=/home", "synth,id=fs0"),
        ("-serial", "pty", "null"),
        ("-serial", "chardev:c0", "chardev:c0"),
        ("-fw_cfg", "name=opt/x,file=/etc/shadow", "name=opt/x,string=0"),
        ("-cpu", "host,migratable=on,+avx", "max,migratable=on"),
        ("-cpu", "Skylake-Server,hv-time=on", "Skylake-Server,hv-time=on"),
        ("-cpu", "EPYC,model-id=a,,b", "EPYC,model-id=a,,b"),
        ("-cpu", "max,kvm-steal-time=on,sve=off", "max,sve=off"),
        ("-cpu", "EPYC,enforce,+avx,enforce=on", "EPYC,+avx"),
        ("-cpu", "", ""),
        ("-smp", "4,maxcpus=512,sockets=512", "4,maxcpus=512,sockets=512"),
        ("-smp", "sockets=2,cores=16,threads=2", "sockets=2,cores=16,threads=2"),
        ("-m", "size=2097152k", "size=64M"),
        ("-m", "2048", "size=64M"),
        ("-m", "size=2097152k,slots=16,maxmem=1099511627776k", "size=64M,slots=16,maxmem=1088M"),
        ("-machine", "q35,accel=kvm,kernel_irqchip=split,smm=on", "type=q35,smm=on"),
        ("-drive", "file=/a,if=none,id=d,format=raw", "if=none,id=d,driver=null-co,size=1073741824,"
         "read-zeroes=on"),
        ("-drive", "if=ide,media=cdrom", "if=ide,media=cdrom"),
        ("-drive", "file.filename=/a,if=floppy", "if=floppy,driver=null-co,size=1474560,"
         "read-zeroes=on"),
        ("-global", "kvm-pit.lost_tick_policy=delay",
         "driver=kvm-pit,property=lost_tick_policy,value=delay"),
    ],
)  # fmt: skip
def test_option(option: str, value: str, expected: str) -> None:
    made = one(option, value)
    assert made[0] == option
    assert made[1].replace("type=", "", 1) == expected.replace("type=", "", 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"qom-type":"rng-random","id":"r","filename":"/dev/hwrng"}',
         {"qom-type": "rng-builtin", "id": "r"}),
        ('{"qom-type":"rng-egd","id":"r","chardev":"c"}', {"qom-type": "rng-builtin", "id": "r"}),
        ('{"qom-type":"cryptodev-vhost-user","id":"x","chardev":"c","queues":2}',
         {"qom-type": "cryptodev-backend-builtin", "id": "x"}),
        ('{"qom-type":"iothread","id":"i"}', {"qom-type": "iothread", "id": "i"}),
    ],
)  # fmt: skip
def test_object(value: str, expected: dict[str, object]) -> None:
    assert json.loads(one("-object", value)[1]) == expected


@pytest.mark.parametrize(
    "value", ['{"qom-type":"secret","id":"s","data":"x"}', "tls-creds-x509,id=t,dir=/etc/pki"]
)
def test_object_that_no_device_needs(value: str) -> None:
    made = twin(["-object", value])
    assert made.arguments == ("-no-user-config",)
    assert made.uncovered == ()


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("vhost-user-fs-pci,chardev=c,id=fs0,tag=x", "process"),
        ("vhost-user-gpu-pci,chardev=c,id=v", "process"),
        ("vhost-scsi-pci,wwpn=x,id=s", "kernel"),
        ("vhost-vdpa-device-pci,vhostdev=/dev/vhost-vdpa-0,id=s", "kernel"),
        ("usb-host,hostdevice=/dev/bus/usb/1/2,id=h", "device of the host's"),
        ("virtio-input-host-pci,evdev=/dev/input/event0,id=i", "device of the host's"),
        ("scsi-block,drive=d,id=b", "device of the host's"),
        ("usb-mtp,rootdir=/home,id=m", "file of the host's"),
        ("loader,file=/x,id=l", "file of the host's"),
        ("virtio-vga-gl,id=v", "OpenGL"),
        ("virtio-vga,id=v,blob=on", "the host's display"),
        ("vfio-ap,sysfsdev=/x,id=a", "device of the host's"),
        ("vfio-pci,host=0000:07:00.0,id=h", "what it presents is not known"),
    ],
)
def test_device_that_cannot_be_in_it(device: str, why: str) -> None:
    made = twin(["-device", device])
    (told,) = made.uncovered
    assert made.arguments == ("-no-user-config",)
    assert why in told


def test_what_is_plugged_into_what_is_left_out() -> None:
    argv = ["-device", "vhost-scsi-pci,id=s", "-device", "scsi-hd,bus=s.0,id=d,drive=x"]
    made = twin([*argv, "-set", "device.s.x=1"])
    assert made.arguments == ("-no-user-config",)
    assert made.uncovered[1] == "d (scsi-hd): what it is plugged into is not in the twin"


@pytest.mark.parametrize(
    "device",
    [
        '{"driver":"vfio-pci","host":"0000:06:00.4","id":"hostdev0","bus":"pci.4","addr":"0x0",'
        '"vf-token":"x","x-no-mmap":true}',
        "vfio-pci,host=06:00.4,id=hostdev0,bus=pci.4,addr=0x0,x-no-mmap=true",
        "vfio-pci,host=0:6:0.4,id=hostdev0,bus=pci.4,addr=0x0,x-no-mmap=true",
        "vfio-pci,sysfsdev=/sys/devices/x/0000:06:00.4/,id=hostdev0,bus=pci.4,addr=0x0,"
        "x-no-mmap=true",
    ],
)
def test_vfio_device_is_made_up(device: str) -> None:
    made = one("-device", device)
    found = words.read(made[1], "driver")
    assert {key: str(value) for key, value in found.items()} == {
        "driver": "vfio-pci",
        "id": "hostdev0",
        "bus": "pci.4",
        "addr": "0x0",
        "x-no-mmap": str(found["x-no-mmap"]),
        "sysfsdev": "/d/devices/0000:01:00.0",
    }


def test_option_rom_of_the_operators() -> None:
    made = twin(["-device", '{"driver":"e1000e","id":"n","romfile":"/usr/share/operator.rom"}'])
    assert json.loads(made.arguments[2])["romfile"] == "/d/zeros-65536"
    assert made.files == {"/d/zeros-65536": 65536}


@pytest.mark.parametrize("rom", ["efi-virtio.rom", "", "/nowhere.rom"])
def test_option_rom_that_is_qemus_own_or_not_there(rom: str) -> None:
    made = twin(["-device", json.dumps({"driver": "e1000e", "romfile": rom})])
    assert json.loads(made.arguments[2])["romfile"] == rom
    assert made.files == {}


def test_numa_and_memory_devices() -> None:
    node = '{"qom-type":"memory-backend-memfd","id":"ram-node0","hugetlb":true,"size":8589934592}'
    dimm = '{"qom-type":"memory-backend-file","id":"memdimm0","mem-path":"/dev/huge","size":1}'
    argv = [
        *("-m", "size=8G,slots=4,maxmem=64G", "-object", node, "-object", dimm),
        *("-numa", "node,nodeid=0,cpus=0-3,memdev=ram-node0"),
        *("-device", '{"driver":"pc-dimm","memdev":"memdimm0","id":"dimm0","addr":4294967296}'),
    ]
    made = twin(argv)
    assert made.arguments[2] == "size=32M,slots=4,maxmem=2080M"
    ram = {"qom-type": "memory-backend-ram"}
    objects = [json.loads(made.arguments[n]) for n in (4, 6)]
    assert objects[0] == {**ram, "id": "ram-node0", "size": 32 << 20}
    assert objects[1] == {**ram, "id": "memdimm0", "size": 64 << 20}
    assert json.loads(made.arguments[10]) == {
        "driver": "pc-dimm",
        "memdev": "memdimm0",
        "id": "dimm0",
    }
    assert made.uncovered == ()


def test_firmware_whose_size_is_not_known() -> None:
    argv = [
        *("-blockdev", '{"driver":"file","filename":"/x.qcow2","node-name":"s"}'),
        *("-blockdev", '{"driver":"qcow2","file":"s","node-name":"f","read-only":true}'),
        *("-machine", "q35,pflash0=f"),
    ]
    assert twin(argv).uncovered == ("the size of firmware /x.qcow2",)


CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"


@pytest.mark.parametrize(
    "argv",
    [
        ["-drive", f"if=pflash,format=raw,file={CODE}"],
        ["-pflash", CODE],
        ["-drive", f"if=pflash,format=raw,file.driver=file,file.filename={CODE}"],
        ["-blockdev", f"driver=raw,file.driver=file,file.filename={CODE},node-name=f"],
        [
            "-blockdev",
            f'{{"driver":"raw","file":{{"driver":"file","filename":"{CODE}"}},"node-name":"f"}}',
        ],
    ],
)
def test_firmware_by_every_form(argv: list[str]) -> None:
    made = twin([*argv, "-machine", "q35,pflash0=f"])
    assert made.uncovered == ()
    assert str(SIZES[CODE]) in made.arguments[2]


def test_firmware_on_arm_has_one_size() -> None:
    argv = [
        *("-blockdev", '{"driver":"qcow2","file":"s","node-name":"f","read-only":true}'),
        *("-machine", "virt-9.0,pflash0=f,gic-version=3"),
    ]
    made = twin(argv)
    assert made.uncovered == ()
    assert json.loads(made.arguments[2])["size"] == 64 << 20


@pytest.mark.parametrize(
    ("smp", "expected"),
    [
        ("192,dies=1,cores=96,threads=2", "64,maxcpus=192,dies=1,cores=96,threads=2"),
        ("cpus=192,maxcpus=288,sockets=288", "64,maxcpus=288,sockets=288"),
        ("maxcpus=288", "64,maxcpus=288"),
        ("sockets=2,cores=64", "64,maxcpus=128,sockets=2,cores=64"),
    ],
)  # fmt: skip
def test_many_processors(smp: str, expected: str) -> None:
    made = twin(["-smp", smp])
    assert made.arguments[1:] == ("-smp", expected)
    assert made.uncovered == ("processors beyond the first 64",)


NIC = '{"driver":"virtio-net-pci","id":"net0","tx_queue_size":1024,"rx_queue_size":1024}'


@pytest.mark.parametrize(
    ("argv", "expected", "called"),
    [
        (["-device", NIC], NIC.replace(":1024,", ":256,"), "net0 (virtio-net-pci)"),
        (
            ["-device", "virtio-net-pci,tx_queue_size=512"],
            "virtio-net-pci,tx_queue_size=256",
            "virtio-net-pci",
        ),
        (
            ["-global", "virtio-net-pci.tx_queue_size=1024"],
            "driver=virtio-net-pci,property=tx_queue_size,value=256",
            "virtio-net-pci",
        ),
        (["-set", "device.net0.tx_queue_size=1024"], "device.net0.tx_queue_size=256", "net0"),
    ],
)
def test_queue_that_takes_another_back_end(argv: list[str], expected: str, called: str) -> None:
    made = twin(argv)
    assert made.arguments[2].replace(" ", "") == expected
    assert made.uncovered == (f"{called}: tx_queue_size above 256",)


def test_queue_sizes_that_any_back_end_has() -> None:
    device = "virtio-net-pci,tx_queue_size=256,rx_queue_size=1024"
    assert twin(["-device", device]).arguments[1:] == ("-device", device)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["-frobnicate", "x"], "option -frobnicate"),
        (["-device", "{broken"], "-device: an argument that is not JSON: {broken"),
        (["-machine", "q35,memory-encryption=lsec0"], "machine memory-encryption"),
        (["-object", "dbus-vmstate,id=d,addr=unix:/x"], "object d (dbus-vmstate)"),
        (["-netdev", "tap,fds=3:4:5,id=n"], "n: queues beyond the first"),
        (["-nic", "user"], "option -nic"),
        (["-acpitable", "file=/x"], "ACPI tables"),
        (["-machine", "q35,dtb=/x"], "option -dtb"),
        (["-device", "vfio-pci,host=06:00.4,id=h,display=on,ramfb=on"], "h (vfio-pci): ramfb"),
        (["-mem-prealloc", "-frobnicate", "x"], "option -frobnicate"),
        (["-object", "cryptodev-vhost-user,id=c,queues=2"], "c: queues beyond the first"),
        (["-machine", "q35,sgx-epc.0.memdev=m,sgx-epc.0.node=0"], "machine sgx-epc: "),
        (["-cpu", "EPYC,invtsc=on"], "cpu invtsc: KVM may"),
        (["-cpu", "host,+invtsc"], "cpu invtsc: KVM may"),
        (["-cpu", "host,migratable=off"], "cpu invtsc: KVM may"),
    ],
)
def test_what_is_not_covered_is_named(argv: list[str], told: str) -> None:
    (found,) = twin(argv).uncovered
    assert found.startswith(told)


@pytest.mark.parametrize("cpu", ["EPYC,invtsc=off", "EPYC,invtsc=on,tsc-frequency=2500000000"])
def test_processors_whose_clock_goes_with_them(cpu: str) -> None:
    assert twin(["-cpu", cpu]).uncovered == ()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-machine", "q35", "-machine", "accel=kvm"], ["-machine", "q35"]),
        (["-M", "q35,smp.cpus=128"], ["-machine", "q35", "-smp", "64,maxcpus=128"]),
        (
            ["-machine", "q35,memory.size=8T,memory.max-size=9T,memory.slots=2"],
            ["-machine", "q35", "-m", "size=64M,slots=2,maxmem=1088M"],
        ),
        (
            ["-machine", "q35,firmware=/usr/share/operator.rom"],
            ["-bios", "/d/zeros-65536", "-machine", "q35"],
        ),
    ],
)
def test_what_machine_says_in_place_of_other_options(argv: list[str], expected: list[str]) -> None:
    assert list(twin(argv).arguments[1:]) == expected


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ("uefi-vars-x64", "jsonfile"),
        ("uefi-vars-x64", "pcapfile"),
        ("usb-kbd", "pcap"),
        ("ipmi-bmc-sim", "frudatafile"),
        ("ipmi-bmc-sim", "sdrfile"),
        ("cxl-type3", "cdat"),
        ("q35-pcihost", "pci-hole64-size"),
    ],
)
def test_what_a_twin_has_no_use_for(device: str, key: str) -> None:
    for argv in (
        ["-device", f"{device},id=d,{key}=/x"],
        ["-device", json.dumps({"driver": device, "id": "d", key: "/x"})],
        ["-device", f"{device},id=d", "-set", f"device.d.{key}=/x"],
        ["-device", f"{device},id=d", "-global", f"{device}.{key}=/x"],
    ):
        assert "/x" not in str(twin(argv).arguments)


def test_object_of_a_device_that_is_left_out() -> None:
    device = ["-device", "vfio-pci,host=0000:07:00.0,id=h"]
    made = twin([*device, "-object", "acpi-generic-initiator,id=gi,pci-dev=h,node=1"])
    assert made.arguments == ("-no-user-config",)
    assert made.uncovered[1].startswith("gi (acpi-generic-initiator): what it belongs to")


@pytest.mark.parametrize(
    "argv",
    [
        ["-blockdev", '{"node-name":["x"]}'],
        ["-blockdev", '{"node-name":"f","file":"f"}', "-machine", "q35,pflash0=f"],
        ["-smp", f"cpus={'9' * 5000}"],
        ["-smp", "cpus=\N{SUPERSCRIPT TWO}"],
        ["-device", f"virtio-net-pci,tx_queue_size={'9' * 5000}"],
    ],
)
def test_what_nobody_writes_comes_to_an_end(argv: list[str]) -> None:
    twin(argv)
    portable(["q", *argv])


def test_portable_arguments_make_the_same_twin_and_name_nothing() -> None:
    rom = '\n-device {"driver":"e1000e","id":"n2","romfile":"/usr/share/operator.rom"}\n'
    secret = '-object {"qom-type":"secret","id":"s","data":"hidden"}\n-append hidden\n'
    argv = arguments(rom + secret)

    sent = portable(argv)

    assert twin(sent[1:]) == twin(argv[1:])
    text = " ".join(sent)
    for word in ("guest.qcow2", "/x.iso", "/dev/sdx", "hidden", "monitor.sock", "guest=guest"):
        assert word not in text
    assert portable(sent) == sent


@pytest.mark.parametrize("disk", [["-hda", "/a,b"], ["/a,b"], ["-cdrom", "/a,b"], ["-fdb", "/a"]])
def test_disk_that_is_said_in_short(disk: list[str]) -> None:
    made = twin(disk)
    assert made.uncovered == ()
    assert "driver=null-co" in made.arguments[2]
    assert "/a" not in str(made.arguments)


def test_portable_arguments_name_nothing_that_is_said_in_short() -> None:
    sent = portable(
        ["q", "/a", "-cdrom", "/a", "-machine", "q35,append=/a,initrd=/a", "-fda", "/a"]
    )
    assert "/a" not in str(sent)
    assert sent.count("-drive") == 3


def test_portable_arguments_keep_what_cannot_be_read() -> None:
    argv = ["q", "-device", "{broken", "-netdev", "tap,fds=3:4,id=n"]
    assert len(twin(portable(argv)[1:]).uncovered) == len(twin(argv[1:]).uncovered) == 2
