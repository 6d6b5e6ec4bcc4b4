/*
 * fakevfio: a VFIO device without hardware, for an unmodified QEMU.
 *
 * Preloaded into a process (LD_PRELOAD), it answers the legacy VFIO group and
 * container API of <linux/vfio.h> from a directory instead of the kernel:
 *
 *   $FAKEVFIO_DIR/<device>/config    256 or 4096 bytes: the config region
 *                         /group     number of its IOMMU group
 *                         /regions   optional; a line for each BAR (0-5) or the
 *                                    expansion ROM (6): INDEX SIZE FLAGS, where
 *                                    FLAGS are of "rwm": read, write, mmap
 *                         /mdev      optional: its being there makes a mediated device
 *                         /migration optional: what its driver offers, VFIO_MIGRATION_* flags
 *                                    in decimal (0: no migration); by default 3
 *                         /atomics   optional: AtomicOps to the root, VFIO_PCI_ATOMIC_COMP* flags
 *                                    in decimal; by default 0
 *
 * <device> is the base name of the device's sysfs directory, by which QEMU asks
 * for it: a PCI address or an mdev UUID. QEMU needs neither root nor /dev/vfio:
 *
 *   LD_PRELOAD=./fakevfio.so FAKEVFIO_DIR=/tmp/x qemu-system-x86_64 \
 *       -device vfio-pci,sysfsdev=/tmp/x/0000:06:00.4
 *
 * The directory is read whenever a device is opened, so a changed file counts
 * from the next start or hotplug on. What a config space says is QEMU's concern:
 * nothing here interprets it but the writes to its BARs.
 *
 * $FAKEVFIO_LIMITS, if set, is LIFE:CPU:MEMORY: for how many seconds the process may
 * live, how many of processor time it may take, and how many bytes of address space.
 * It ends by itself, also if nobody is left who would see to that. 0 is no limit.
 *
 * Every file descriptor handed out is a memfd, and the memfd *is* the object:
 * region i lies at i << REGION_SHIFT, and behind the regions stands a
 * struct object. So read, mmap, dup, close and a descriptor's way into another
 * process (fork, pidfd_getfd) need no help from here, and nothing can leak.
 * An RLIMIT_FSIZE would forbid it.
 *
 * The only interposed functions are those in which the kernel would do something
 * else: open, readlink, realpath, ioctl and pwrite. VFIO requests are those of Linux 6.8;
 * what QEMU asks for is in its hw/vfio/{container,device,pci,migration}.c.
 *
 * Build: cc -shared -fPIC -O2 -Wall -Wextra -o fakevfio.so fakevfio.c -ldl
 *
 * SPDX-License-Identifier: Apache-2.0
 */

#define _GNU_SOURCE
/* Both rename or inline the very functions that are defined here. */
#undef _FORTIFY_SOURCE
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#ifndef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE /* headers older than Linux 6.2, Debian 12's */
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
struct vfio_device_feature_mig_data_size {
    __aligned_u64 stop_copy_length;
};
#endif

#ifndef VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP /* headers older than Linux 6.5 */
#define VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP 5
struct vfio_device_info_cap_pci_atomic_comp {
    struct vfio_info_cap_header header;
    __u32 flags;
    __u32 reserved;
};
#endif

#define EXPORT __attribute__((visibility("default")))

#define REGION_SHIFT 58 /* vfio-pci's 40 is too little for BARs above 1 TiB; 2^63 is a file's end */
#define REGION_OFFSET(index) ((off64_t)(index) << REGION_SHIFT)
#define OBJECT_OFFSET REGION_OFFSET(15)
#define OBJECT_MAGIC 0x6f696676656b6166ULL /* "fakevfio" */

#define DEVICE_STATE "fakevfio device state" /* what a migration carries */

enum kind { CONTAINER = 1, GROUP, DEVICE };

struct region {
    uint64_t size;
    uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
};

struct object {
    uint64_t magic;
    uint32_t kind;
    uint32_t group;           /* GROUP */
    uint32_t has_container;   /* GROUP */
    uint32_t migration_state; /* DEVICE: enum vfio_device_mig_state */
    uint32_t offers;          /* DEVICE: VFIO_MIGRATION_* */
    uint32_t atomics;         /* DEVICE: VFIO_PCI_ATOMIC_COMP* */
    struct region regions[VFIO_PCI_NUM_REGIONS]; /* DEVICE */
};

/* The C library's function of this name, looked up once. */
#define NEXT(name) \
    ({ \
        static __typeof__(name) *next_; \
        if (!next_) \
            next_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); \
        next_; \
    })

static int fail(int error)
{
    errno = error;
    return -1;
}

/* --- limits ---------------------------------------------------------------- */

/*
 * A timer of the process itself: a wrapper script and what it starts have one each, for
 * exec() ends timers. An alarm() would not do, QEMU blocks SIGALRM.
 */
static void limit_life(time_t seconds)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    struct itimerspec end = { .it_value.tv_sec = seconds };
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &end, NULL);
}

static void limit(__rlimit_resource_t resource, rlim_t soft, rlim_t hard)
{
    struct rlimit limits = { soft, hard };

    setrlimit(resource, &limits);
}

/*
 * Set from within: to limit another user's process takes CAP_SYS_RESOURCE, which root
 * in a container often lacks.
 */
__attribute__((constructor)) static void set_limits(void)
{
    const char *limits = getenv("FAKEVFIO_LIMITS");
    unsigned long life = 0, cpu = 0, memory = 0;

    if (!limits || sscanf(limits, "%lu:%lu:%lu", &life, &cpu, &memory) < 1)
        return;
    limit(RLIMIT_CORE, 0, 0);
    if (life)
        limit_life(life);
    if (cpu)
        limit(RLIMIT_CPU, cpu, cpu + 1); /* SIGXCPU, then SIGKILL */
    if (memory)
        limit(RLIMIT_AS, memory, memory);
}

/* --- objects ------------------------------------------------------------- */

static bool object_store(int fd, const struct object *object)
{
    return NEXT(pwrite64)(fd, object, sizeof(*object), OBJECT_OFFSET) == sizeof(*object);
}

/* Only a memfd has seals, so no foreign descriptor is read from. */
static bool object_load(int fd, struct object *object)
{
    return fcntl(fd, F_GET_SEALS) >= 0
        && pread64(fd, object, sizeof(*object), OBJECT_OFFSET) == sizeof(*object)
        && object->magic == OBJECT_MAGIC;
}

/* A new descriptor for @object; @name is what /proc/PID/fd shows. */
static int object_open(const char *name, struct object *object)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    object->magic = OBJECT_MAGIC;
    if (fd >= 0 && !object_store(fd, object)) {
        close(fd);
        return fail(EIO);
    }
    return fd;
}

/* --- the device's directory ---------------------------------------------- */

static bool device_path(char *path, const char *device, size_t length, const char *file)
{
    const char *directory = getenv("FAKEVFIO_DIR");

    return directory
        && snprintf(path, PATH_MAX, "%s/%.*s/%s", directory, (int)length, device, file)
               < PATH_MAX;
}

static FILE *device_open(const char *device, size_t length, const char *file)
{
    char path[PATH_MAX];

    return device_path(path, device, length, file) ? fopen(path, "re") : NULL;
}

static bool device_group(const char *device, size_t length, unsigned int *group)
{
    FILE *file = device_open(device, length, "group");
    bool found = file && fscanf(file, "%u", group) == 1;

    if (file)
        fclose(file);
    return found;
}

/* The flags in one of the device's files, @otherwise if there are none. */
static uint32_t device_flags(const char *device, size_t length, const char *name,
                             uint32_t otherwise)
{
    FILE *file = device_open(device, length, name);
    uint32_t flags;

    if (!file || fscanf(file, "%u", &flags) != 1)
        flags = otherwise;
    if (file)
        fclose(file);
    return flags;
}

static uint32_t region_flags(const char *letters)
{
    uint32_t flags = 0;

    for (; *letters; letters++)
        flags |= *letters == 'r' ? VFIO_REGION_INFO_FLAG_READ
               : *letters == 'w' ? VFIO_REGION_INFO_FLAG_WRITE
               : *letters == 'm' ? VFIO_REGION_INFO_FLAG_MMAP
                                 : 0;
    return flags;
}

static bool read_regions(FILE *file, struct region *regions)
{
    unsigned int index;
    long long size;
    char letters[4];
    int fields;

    while ((fields = fscanf(file, "%u %lli %3s", &index, &size, letters)) == 3) {
        if (index > VFIO_PCI_ROM_REGION_INDEX || size < 0 || size > REGION_OFFSET(1))
            return false;
        regions[index] = (struct region){ size, region_flags(letters) };
    }
    return fields == EOF;
}

static bool read_config(FILE *file, int fd, struct region *region)
{
    uint8_t config[PCI_CFG_SPACE_EXP_SIZE + 1];
    size_t size = fread(config, 1, sizeof(config), file);

    if (size != PCI_CFG_SPACE_SIZE && size != PCI_CFG_SPACE_EXP_SIZE)
        return false;
    *region = (struct region){ size, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE };
    return NEXT(pwrite64)(fd, config, size, REGION_OFFSET(VFIO_PCI_CONFIG_REGION_INDEX))
        == (ssize_t)size;
}

/*
 * The expansion ROM's BAR, as vfio_bar_fixup() in the kernel's vfio_pci_config.c
 * has it: only the address bits of its size can be set, none if there is no ROM.
 * QEMU sizes it by writing ones (vfio_pci_size_rom()).
 */
static bool write_rom_bar(int fd, uint64_t rom_size, uint32_t value)
{
    value = rom_size ? value & -(uint32_t)rom_size & (uint32_t)PCI_ROM_ADDRESS_MASK : 0;
    return NEXT(pwrite64)(fd, &value, sizeof(value),
                          REGION_OFFSET(VFIO_PCI_CONFIG_REGION_INDEX) + PCI_ROM_ADDRESS)
        == sizeof(value);
}

/* Fill @fd, which is @object's descriptor, from the device's directory. */
static bool device_load(int fd, struct object *object, const char *device, size_t length)
{
    FILE *regions = device_open(device, length, "regions");
    FILE *config = device_open(device, length, "config");
    bool loaded;

    /*
     * By default a device has P2P, or QEMU would refuse to migrate two of them
     * (vfio_multiple_devices_migration_is_supported()).
     */
    object->offers = device_flags(device, length, "migration",
                                  VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P);
    object->atomics = device_flags(device, length, "atomics", 0);
    loaded = (!regions || read_regions(regions, object->regions)) && config
        && read_config(config, fd, &object->regions[VFIO_PCI_CONFIG_REGION_INDEX])
        && write_rom_bar(fd, object->regions[VFIO_PCI_ROM_REGION_INDEX].size, 0)
        && object_store(fd, object);

    if (regions)
        fclose(regions);
    if (config)
        fclose(config);
    return loaded;
}

/* --- requests: container -------------------------------------------------- */

static int container_ioctl(unsigned long request, void *arg)
{
    struct vfio_iommu_type1_info *info = arg;

    switch (request) {
    case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
        return (uintptr_t)arg == VFIO_TYPE1v2_IOMMU;
    case VFIO_SET_IOMMU:
        return (uintptr_t)arg == VFIO_TYPE1v2_IOMMU ? 0 : fail(ENODEV);
    case VFIO_IOMMU_GET_INFO:
        /* No capabilities: the IOMMU tracks no dirty pages, the device does. */
        info->argsz = offsetof(struct vfio_iommu_type1_info, cap_offset);
        info->flags = VFIO_IOMMU_INFO_PGSIZES;
        info->iova_pgsizes = -(uint64_t)sysconf(_SC_PAGESIZE);
        return 0;
    case VFIO_IOMMU_MAP_DMA: /* there is no device that could read or write */
    case VFIO_IOMMU_UNMAP_DMA:
        return 0;
    default:
        return fail(ENOTTY);
    }
}

/* --- requests: group ------------------------------------------------------ */

/* @name may be followed by options, as in "0000:06:00.4 vf_token=UUID". */
static int group_device_fd(const struct object *group, const char *name)
{
    struct object device = { .kind = DEVICE, .migration_state = VFIO_DEVICE_STATE_RUNNING };
    size_t length = strcspn(name, " ");
    unsigned int number;
    int fd;

    if (!group->has_container)
        return fail(EINVAL);
    if (!device_group(name, length, &number) || number != group->group)
        return fail(ENODEV);
    fd = object_open("fakevfio-device", &device);
    if (fd >= 0 && !device_load(fd, &device, name, length)) {
        fprintf(stderr, "fakevfio: %.*s: bad config or regions\n", (int)length, name);
        close(fd);
        return fail(EINVAL);
    }
    return fd;
}

static int group_set_container(int fd, struct object *group, bool container)
{
    group->has_container = container;
    return object_store(fd, group) ? 0 : fail(EIO);
}

static int group_ioctl(int fd, struct object *group, unsigned long request, void *arg)
{
    struct vfio_group_status *status = arg;

    switch (request) {
    case VFIO_GROUP_GET_STATUS:
        status->flags = VFIO_GROUP_FLAGS_VIABLE
            | (group->has_container ? VFIO_GROUP_FLAGS_CONTAINER_SET : 0);
        return 0;
    case VFIO_GROUP_SET_CONTAINER:
        return group_set_container(fd, group, true);
    case VFIO_GROUP_UNSET_CONTAINER:
        return group_set_container(fd, group, false);
    case VFIO_GROUP_GET_DEVICE_FD:
        return group_device_fd(group, arg);
    default:
        return fail(ENOTTY);
    }
}

/* --- requests: device ----------------------------------------------------- */

static int get_region_info(const struct object *device, struct vfio_region_info *info)
{
    if (info->index > VFIO_PCI_CONFIG_REGION_INDEX) /* no VGA */
        return fail(EINVAL);
    info->argsz = sizeof(*info);
    info->flags = device->regions[info->index].flags;
    info->cap_offset = 0;
    info->size = device->regions[info->index].size;
    info->offset = REGION_OFFSET(info->index);
    return 0;
}

/*
 * As many interrupts as a device can have: QEMU counts MSI and MSI-X vectors
 * in config space itself, and enables ERR and REQ if there is one of each.
 */
static int get_irq_info(struct vfio_irq_info *info)
{
    static const uint32_t counts[VFIO_PCI_NUM_IRQS] = {
        [VFIO_PCI_INTX_IRQ_INDEX] = 1,
        [VFIO_PCI_MSI_IRQ_INDEX] = 32,
        [VFIO_PCI_MSIX_IRQ_INDEX] = PCI_MSIX_FLAGS_QSIZE + 1,
        [VFIO_PCI_ERR_IRQ_INDEX] = 1,
        [VFIO_PCI_REQ_IRQ_INDEX] = 1,
    };

    if (info->index >= VFIO_PCI_NUM_IRQS)
        return fail(EINVAL);
    info->argsz = sizeof(*info);
    info->flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
    info->count = counts[info->index];
    return 0;
}

static int set_migration_state(int fd, struct object *device, uint32_t state)
{
    if (state == VFIO_DEVICE_STATE_ERROR || state > VFIO_DEVICE_STATE_RUNNING_P2P)
        return fail(EINVAL);
    device->migration_state = state;
    return object_store(fd, device) ? 0 : fail(EIO);
}

/* A descriptor to read the device's state from, to its end. */
static int saving_fd(void)
{
    static const char state[] = DEVICE_STATE;
    int fd = memfd_create("fakevfio-saving", MFD_CLOEXEC);

    if (fd >= 0 && NEXT(pwrite64)(fd, state, sizeof(state), 0) != sizeof(state)) {
        close(fd);
        return fail(EIO);
    }
    return fd;
}

/* Enter a state; STOP_COPY and RESUMING come with a descriptor for the data. */
static int enter_migration_state(int fd, struct object *device,
                                 struct vfio_device_feature_mig_state *request)
{
    int data_fd = -1;

    if (request->device_state == VFIO_DEVICE_STATE_STOP_COPY) {
        data_fd = saving_fd();
        if (data_fd < 0)
            return -1;
    } else if (request->device_state == VFIO_DEVICE_STATE_RESUMING) {
        data_fd = memfd_create("fakevfio-resuming", MFD_CLOEXEC);
        if (data_fd < 0)
            return -1;
    }
    if (set_migration_state(fd, device, request->device_state) < 0) {
        if (data_fd >= 0)
            close(data_fd);
        return -1;
    }
    request->data_fd = data_fd;
    return 0;
}

/*
 * The migration interface, version 2. It has dirty page logging, or
 * vfio_migration_realize() would add a blocker; and a data size other than 0, which
 * is the size of the buffer that vfio_save_setup() allocates.
 */
static int device_feature(int fd, struct object *device, struct vfio_device_feature *feature)
{
    bool probe = feature->flags & VFIO_DEVICE_FEATURE_PROBE;
    bool set = feature->flags & VFIO_DEVICE_FEATURE_SET;
    struct vfio_device_feature_migration *migration = (void *)feature->data;
    struct vfio_device_feature_mig_state *state = (void *)feature->data;
    struct vfio_device_feature_mig_data_size *data_size = (void *)feature->data;

    switch (feature->flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_MIGRATION:
        if (!device->offers)
            return fail(ENOTTY);
        if (!probe)
            migration->flags = device->offers;
        return 0;
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
        if (!probe && set)
            return enter_migration_state(fd, device, state);
        if (!probe)
            *state = (struct vfio_device_feature_mig_state){ device->migration_state, -1 };
        return 0;
    case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
        if (!probe)
            data_size->stop_copy_length = sizeof(DEVICE_STATE);
        return 0;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: /* it never wrote: no bit to set */
        return 0;
    default:
        return fail(ENOTTY);
    }
}

/*
 * Without AtomicOps as a kernel that knows no capabilities of devices. With them QEMU
 * asks again, with the room that it was told to make (vfio_get_device_info()).
 */
static int get_device_info(const struct object *device, struct vfio_device_info *info)
{
    const struct vfio_device_info_cap_pci_atomic_comp capability = {
        .header = { .id = VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, .version = 1 },
        .flags = device->atomics,
    };
    uint32_t needed = sizeof(*info) + sizeof(capability), room = info->argsz;

    info->argsz = offsetof(struct vfio_device_info, cap_offset);
    info->flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
    info->num_regions = VFIO_PCI_NUM_REGIONS;
    info->num_irqs = VFIO_PCI_NUM_IRQS;
    if (!device->atomics)
        return 0;
    info->argsz = needed;
    info->flags |= VFIO_DEVICE_FLAGS_CAPS;
    if (room >= sizeof(*info))
        info->cap_offset = room >= needed ? sizeof(*info) : 0;
    if (room >= needed)
        memcpy(info + 1, &capability, sizeof(capability));
    return 0;
}

static int device_ioctl(int fd, struct object *device, unsigned long request, void *arg)
{
    switch (request) {
    case VFIO_DEVICE_GET_INFO:
        return get_device_info(device, arg);
    case VFIO_DEVICE_GET_REGION_INFO:
        return get_region_info(device, arg);
    case VFIO_DEVICE_GET_IRQ_INFO:
        return get_irq_info(arg);
    case VFIO_DEVICE_SET_IRQS: /* it never raises one */
        return 0;
    case VFIO_DEVICE_RESET:
        return set_migration_state(fd, device, VFIO_DEVICE_STATE_RUNNING);
    case VFIO_DEVICE_FEATURE:
        return device_feature(fd, device, arg);
    default:
        return fail(ENOTTY);
    }
}

/* --- interposed: ioctl and pwrite ------------------------------------------ */

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    struct object object;
    va_list arguments;
    void *arg;

    va_start(arguments, request);
    arg = va_arg(arguments, void *);
    va_end(arguments);
    if (_IOC_TYPE(request) != VFIO_TYPE || !object_load(fd, &object))
        return NEXT(ioctl)(fd, request, arg);
    switch (object.kind) {
    case CONTAINER:
        return container_ioctl(request, arg);
    case GROUP:
        return group_ioctl(fd, &object, request, arg);
    default:
        return device_ioctl(fd, &object, request, arg);
    }
}

/*
 * Whether a write of config space at @address touches a BAR. BARs keep the bytes
 * they had: from their low bits QEMU learns their type (vfio_bar_prepare()), and
 * it writes zeros there at each reset (vfio_pci_post_reset()), which a kernel
 * that virtualises BARs takes for an address.
 */
static bool is_bar(off64_t address)
{
    return address >= PCI_BASE_ADDRESS_0 && address < PCI_BASE_ADDRESS_5 + 4;
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    off64_t address = offset - REGION_OFFSET(VFIO_PCI_CONFIG_REGION_INDEX);
    struct object object;
    uint32_t value;

    if (address < 0 || address >= PCI_CFG_SPACE_EXP_SIZE || !object_load(fd, &object))
        return NEXT(pwrite64)(fd, data, size, offset);
    if (is_bar(address))
        return size;
    if (address == PCI_ROM_ADDRESS && size == sizeof(value)) {
        memcpy(&value, data, sizeof(value));
        return write_rom_bar(fd, object.regions[VFIO_PCI_ROM_REGION_INDEX].size, value) ? 4 : -1;
    }
    return NEXT(pwrite64)(fd, data, size, offset);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

/* --- interposed: open ------------------------------------------------------ */

/*
 * A descriptor if @path is /dev/vfio/vfio or /dev/vfio/<group>, -1 if opening that
 * failed, FOREIGN for any other path. Which devices a group has is looked up when
 * one is asked for.
 */
#define FOREIGN (-2)

static int open_vfio(const char *path)
{
    static const char prefix[] = "/dev/vfio/";
    struct object object = { .kind = CONTAINER };
    char *end;

    if (strncmp(path, prefix, strlen(prefix)) != 0 || !getenv("FAKEVFIO_DIR"))
        return FOREIGN;
    path += strlen(prefix);
    if (strcmp(path, "vfio") == 0)
        return object_open("fakevfio-container", &object);
    object.kind = GROUP;
    object.group = strtoul(path, &end, 10);
    return end != path && !*end ? object_open("fakevfio-group", &object) : FOREIGN;
}

/*
 * The C library has open() under many names: large file, relative to a directory,
 * and what _FORTIFY_SOURCE makes of each. QEMU's Debian builds call open64,
 * openat64 and __open64_2; libvirt and Python call others.
 */
#define OPEN(name) \
    EXPORT int name(const char *path, int flags, ...) \
    { \
        va_list arguments; \
        mode_t mode; \
        int fd = open_vfio(path); \
\
        va_start(arguments, flags); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
        return fd == FOREIGN ? NEXT(name)(path, flags, mode) : fd; \
    }

#define OPENAT(name) \
    EXPORT int name(int directory, const char *path, int flags, ...) \
    { \
        va_list arguments; \
        mode_t mode; \
        int fd = open_vfio(path); \
\
        va_start(arguments, flags); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
        return fd == FOREIGN ? NEXT(name)(directory, path, flags, mode) : fd; \
    }

#define OPEN_2(name) \
    EXPORT int name(const char *path, int flags); \
    EXPORT int name(const char *path, int flags) \
    { \
        int fd = open_vfio(path); \
\
        return fd == FOREIGN ? NEXT(name)(path, flags) : fd; \
    }

#define OPENAT_2(name) \
    EXPORT int name(int directory, const char *path, int flags); \
    EXPORT int name(int directory, const char *path, int flags) \
    { \
        int fd = open_vfio(path); \
\
        return fd == FOREIGN ? NEXT(name)(directory, path, flags) : fd; \
    }

OPEN(open)
OPEN(open64)
OPEN_2(__open_2)
OPEN_2(__open64_2)
OPENAT(openat)
OPENAT(openat64)
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

/* --- interposed: readlink -------------------------------------------------- */

/*
 * What <sysfsdev>/iommu_group points to, for a device of ours, in the kernel's form;
 * vfio_device_get_groupid() takes the number from its base name. 0 for other paths.
 */
static ssize_t read_group_link(const char *path, char *buffer, size_t size)
{
    const char *end = strrchr(path, '/');
    const char *start = end;
    char link[64];
    unsigned int group;
    size_t length;

    if (!end || strcmp(end, "/iommu_group") != 0)
        return 0;
    while (start > path && start[-1] != '/')
        start--;
    if (!device_group(start, end - start, &group))
        return 0;
    length = snprintf(link, sizeof(link), "../../../../kernel/iommu_groups/%u", group);
    length = length < size ? length : size;
    memcpy(buffer, link, length);
    return length;
}

EXPORT ssize_t readlink(const char *path, char *buffer, size_t size)
{
    ssize_t length = read_group_link(path, buffer, size);

    return length ? length : NEXT(readlink)(path, buffer, size);
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *buffer, size_t size)
{
    ssize_t length = read_group_link(path, buffer, size);

    return length ? length : NEXT(readlinkat)(directory, path, buffer, size);
}

/* --- interposed: realpath --------------------------------------------------- */

/* vfio_device_is_mdev() asks where <sysfsdev>/subsystem leads to. */
static bool is_mdev_subsystem(const char *path)
{
    static const char name[] = "/subsystem";
    size_t length = strlen(path);
    const char *end = path + length - strlen(name);
    const char *start = end;
    char marker[PATH_MAX];

    if (length <= strlen(name) || strcmp(end, name) != 0)
        return false;
    while (start > path && start[-1] != '/')
        start--;
    return device_path(marker, start, end - start, "mdev") && access(marker, F_OK) == 0;
}

EXPORT char *realpath(const char *path, char *resolved)
{
    static const char mdev[] = "/sys/bus/mdev";

    if (!path || !is_mdev_subsystem(path))
        return NEXT(realpath)(path, resolved);
    return resolved ? strcpy(resolved, mdev) : strdup(mdev);
}
