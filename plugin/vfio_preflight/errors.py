"""The one error hierarchy of this project.

    PreflightError           anything this project raises on purpose
     ├─ ProgramError         a program that cannot be started                (osutil.program)
     ├─ ExecutableError      a program that must not be run as it is         (osutil.executable)
     ├─ ConfigSpaceError     bytes that are not a PCI configuration space    (pci.space)
     ├─ CodecError           a part of a config state that cannot be read    (pci.codec)
     ├─ DumpError            text that is no dump of config space            (pci.dumps)
     ├─ FormatError          a file that is in no known format               (pci.formats)
     ├─ PropertyError        a property value that QEMU rejects              (qemu.model.properties)
     ├─ ProcessError         an emulator that gives no usable answer         (qemu.emulator.client)
     ├─ EmulatorError        an emulator that cannot be queried              (qemu.emulator.facts)
     ├─ SentError            what is recorded of a build, but unreadable     (qemu.emulator.sent)
     ├─ ShimError            the made-up device is missing, or not compilable(qemu.trial.shim)
     ├─ TrialUnavailable     a trial that cannot be made                     (qemu.trial.trial)
     ├─ ArgumentError        an argument of QEMU's that cannot be read       (qemu.twin.words)
     ├─ EnvelopeError        what is no twin's state, or is damaged          (qemu.twin.envelope)
     ├─ TwinError            a twin that cannot be tried                     (gather.twins)
     ├─ GuestError           domain XML that cannot be judged                (guest.xml)
     │   └─ LimitError       domain XML of which not all is read             (guest.xml)
     ├─ RecordError          a record that is damaged or too new             (guest.record)
     ├─ StreamError          a migration stream that cannot be read          (images.tail)
     ├─ DecompressError      an image that cannot be decompressed            (images.decompress)
     ├─ SaveImageError       a file that is not a save image, or is damaged  (images.save_image)
     ├─ CatalogueError       an entry that the catalogue refuses             (host.catalogue)
     ├─ HistoryError         an entry that is not there, or cannot be read   (host.history)
     ├─ HostError            facts of this host that cannot be read          (host.sysfs)
     │   └─ VfioError        a device that VFIO does not give                (host.vfio_api)
     │       └─ NotFreeError a device in use, or not bound to a VFIO driver  (host.vfio_api)
     ├─ PhysicalError        bytes that VFIO presents in a way not known     (host.sources.physical)
     ├─ FactsError           the facts of a host that cannot be read         (gather.hostjson)
     ├─ ConfigurationError   vfio-preflight.conf is wrong                    (configuration)
     ├─ InstallError         what cannot be installed or removed     (cli.installation.payload)
     ├─ LacksError           this Python has no lxml                         (cli.main)
     ├─ LibvirtError         libvirt is missing, unreachable, or refuses     (cli.connection)
     │   ├─ GoneError        the guest does not run                          (cli.connection)
     │   └─ BusyError        another job of libvirt's holds the guest        (cli.connection)
     ├─ ExportError          metrics that cannot be written                  (cli.export)
     ├─ RemoteError          a host whose facts cannot be had                (cli.remote)
     ├─ UnseenError          what doctor could not look at                   (cli.diagnosis.finding)
     ├─ RefusedError         a device that QEMU would not realise            (cli.masks)
     ├─ TextError            a log that cannot be read                       (cli.explain)
     └─ UsageError           arguments that do not fit together              (cli.arguments)

Leaf classes are defined beside the code that raises them. The text of an error is complete in
itself: what is wrong, where, and what to do. It is printed once, at the edge (``hook`` and
``cli``).
"""


class PreflightError(Exception):
    """Base of every error this project raises on purpose; ``str()`` is fit for an operator."""
