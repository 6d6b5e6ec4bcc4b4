// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Mediated PCI devices for tests: no hardware behind them, and all that a test wants to be so is so.
 *
 *   insmod preflight_mdev.ko [precopy=1] [p2p=1] [dirty=1] [data_size=BYTES] [parent=0000:01:00.0]
 *   echo UUID >/sys/class/mdev_bus/preflight_mdev/mdev_supported_types/preflight_mdev-one/create
 *   cd /sys/bus/mdev/devices/UUID/preflight
 *   cat bytes >config              its configuration space, of any size up to 64 KiB
 *   echo 4096 0 0 0 16384 0 >bars  sizes of its BARs; what kind they are is in config
 *   echo 1 1 4 1 1 >irqs           how many INTx, MSI, MSI-X, error and request interrupts it has
 *   echo save >fail                fails from now on in: save, write, load, stop, run, log; none: in nothing
 *   cat state                      where it is in a migration (enum vfio_device_mig_state), by name
 *
 * Of config, bars and irqs each is set while the device is not open. One page of BAR 0 keeps what is written
 * to it, and migrates; everything else of a BAR reads as zero. Of the configuration space only COMMAND and the
 * interrupt line can be written. It never raises an interrupt, and never accesses memory.
 *
 * Linux 6.1 and newer. Before 6.2 there is no PRE_COPY. DMA logging (dirty=1) needs a kernel with
 * iova_bitmap: 6.1, or one with CONFIG_IOMMUFD_DRIVER; in others the VFIO core answers EOPNOTSUPP.
 */
#include <linux/anon_inodes.h>
#include <linux/device.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/iova_bitmap.h>
#include <linux/mdev.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vfio.h>

#define SINCE(major, minor) (LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0))

#define MAX_CONFIG 65536
#define MAX_STREAM (64 << 20)
#define REGION_SHIFT 40
#define REGION_OFFSET(index) ((u64)(index) << REGION_SHIFT)

static bool precopy, p2p, dirty;
static uint data_size = 4096;
module_param(precopy, bool, 0444);
MODULE_PARM_DESC(precopy, "devices have the PRE_COPY states");
module_param(p2p, bool, 0444);
MODULE_PARM_DESC(p2p, "devices have the P2P states");
module_param(dirty, bool, 0444);
MODULE_PARM_DESC(dirty, "devices have DMA logging");
static char *parent_address;
module_param_named(parent, parent_address, charp, 0444);
MODULE_PARM_DESC(parent, "a PCI device to be the parent of all devices, instead of one of our own");
module_param(data_size, uint, 0644);
MODULE_PARM_DESC(data_size, "bytes of ballast in each part of a device's state");

static const char *const failures[] = { "none", "save", "write", "load", "stop", "run", "log", NULL };
enum { FAIL_NONE, FAIL_SAVE, FAIL_WRITE, FAIL_LOAD, FAIL_STOP, FAIL_RUN, FAIL_LOG };

#if !SINCE(6, 2)
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9
#define VFIO_MIGRATION_PRE_COPY 0
#define VFIO_DEVICE_STATE_PRE_COPY VFIO_DEVICE_STATE_ERROR
#define VFIO_DEVICE_STATE_PRE_COPY_P2P VFIO_DEVICE_STATE_ERROR
#endif

/* A descriptor that device state is read from or written to. It may outlive the device. */
struct stream {
	struct mutex lock;
	struct file *file;
	bool refuses, precopy, ended;
	size_t size, position;
	u8 *data;
};

struct device_state {
	struct vfio_device vdev;
	struct mutex lock; /* of all that follows */
	bool open, logging;
	int fail;
	u32 type;
	size_t config_size;
	u8 *config;
	u8 *registers; /* of BAR 0, one page */
	u32 irqs[VFIO_PCI_NUM_IRQS];
	u64 bars[PCI_STD_NUM_BARS];
	enum vfio_device_mig_state state;
	struct stream *stream;
};

static struct device_state *of(struct vfio_device *vdev)
{
	return container_of(vdev, struct device_state, vdev);
}

/* --- device state as a stream: chunks, each with a header ---------------------------------------- */

enum { CHUNK_BALLAST = 0x70660001, CHUNK_STATE };

struct chunk {
	u32 kind, size, type, reserved;
};

static int append(struct stream *stream, const void *data, size_t size)
{
	u8 *grown;

	if (size > MAX_STREAM - stream->size)
		return -EFBIG;
	grown = kvmalloc(stream->size + size, GFP_KERNEL);
	if (!grown)
		return -ENOMEM;
	if (stream->size)
		memcpy(grown, stream->data, stream->size);
	if (data)
		memcpy(grown + stream->size, data, size);
	else
		memset(grown + stream->size, 0xba, size);
	kvfree(stream->data);
	stream->data = grown;
	stream->size += size;
	return 0;
}

static int append_chunk(struct device_state *device, u32 kind, const void *data, size_t size)
{
	struct chunk chunk = { kind, size, device->type };
	int ret = append(device->stream, &chunk, sizeof(chunk));

	return ret ?: append(device->stream, data, size);
}

/* The device gets what was written into the stream: whole chunks, its state among them. */
static int load(struct device_state *device, struct stream *stream)
{
	const u8 *at = stream->data, *end = stream->data + stream->size;
	bool found = false;
	struct chunk chunk;

	while (end - at >= sizeof(chunk)) {
		memcpy(&chunk, at, sizeof(chunk));
		at += sizeof(chunk);
		if (chunk.size > end - at || chunk.type != device->type)
			return -EINVAL;
		if (chunk.kind == CHUNK_STATE && chunk.size == PAGE_SIZE) {
			memcpy(device->registers, at, PAGE_SIZE);
			found = true;
		}
		at += chunk.size;
	}
	return found && at == end ? 0 : -EINVAL;
}

static ssize_t stream_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	struct stream *stream = file->private_data;
	ssize_t ret;

	mutex_lock(&stream->lock);
	ret = min(count, stream->size - stream->position);
	if (stream->ended)
		ret = -ENODEV;
	else if (!ret && stream->precopy)
		ret = -ENOMSG; /* end of the first part; the rest comes in STOP_COPY */
	else if (copy_to_user(buf, stream->data + stream->position, ret))
		ret = -EFAULT;
	else
		stream->position += ret;
	mutex_unlock(&stream->lock);
	return ret;
}

static ssize_t stream_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	struct stream *stream = file->private_data;
	ssize_t ret = -EFAULT;
	void *data;

	count = min_t(size_t, count, 1 << 20);
	data = kvmalloc(count, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	mutex_lock(&stream->lock);
	if (!copy_from_user(data, buf, count))
		ret = stream->ended ? -ENODEV : stream->refuses ? -EIO : append(stream, data, count);
	mutex_unlock(&stream->lock);
	kvfree(data);
	return ret ?: count;
}

static long stream_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
#if SINCE(6, 2)
	struct stream *stream = file->private_data;
	const size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vfio_precopy_info info;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	mutex_lock(&stream->lock);
	info.flags = 0;
	info.initial_bytes = stream->size - stream->position;
	info.dirty_bytes = 0;
	if (info.argsz < minsz || !stream->precopy || stream->ended)
		info.argsz = 0;
	mutex_unlock(&stream->lock);
	if (!info.argsz)
		return -EINVAL;
	return copy_to_user((void __user *)arg, &info, minsz) ? -EFAULT : 0;
#else
	return -ENOTTY;
#endif
}

static int stream_release(struct inode *inode, struct file *file)
{
	struct stream *stream = file->private_data;

	kvfree(stream->data);
	kfree(stream);
	return 0;
}

static const struct file_operations stream_operations = {
	.owner = THIS_MODULE,
	.read = stream_read,
	.write = stream_write,
	.unlocked_ioctl = stream_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = stream_release,
};

static int open_stream(struct device_state *device, bool saving)
{
	struct stream *stream = kzalloc(sizeof(*stream), GFP_KERNEL_ACCOUNT);
	struct file *file;

	if (!stream)
		return -ENOMEM;
	mutex_init(&stream->lock);
	stream->refuses = device->fail == FAIL_WRITE;
	file = anon_inode_getfile("preflight_mdev", &stream_operations, stream,
				  saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(file)) {
		kfree(stream);
		return PTR_ERR(file);
	}
	stream_open(file->f_inode, file);
	stream->file = file;
	device->stream = stream;
	return 0;
}

/* Ends the stream; if it was written to, and is to be loaded, gives what came of that. */
static int close_stream(struct device_state *device, bool loading)
{
	struct stream *stream = device->stream;
	int ret = 0;

	if (!stream)
		return 0;
	device->stream = NULL;
	mutex_lock(&stream->lock);
	if (loading)
		ret = load(device, stream);
	stream->ended = true;
	mutex_unlock(&stream->lock);
	fput(stream->file);
	return ret;
}

/* --- migration (VFIO protocol v2, see <linux/vfio.h>) ----------------------------------------------- */

static bool saves(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_STOP_COPY ||
	       (SINCE(6, 2) && (state == VFIO_DEVICE_STATE_PRE_COPY ||
				state == VFIO_DEVICE_STATE_PRE_COPY_P2P));
}

static bool must_fail(struct device_state *device, enum vfio_device_mig_state next)
{
	switch (device->fail) {
	case FAIL_SAVE:
		return next == VFIO_DEVICE_STATE_STOP_COPY;
	case FAIL_LOAD:
		return device->state == VFIO_DEVICE_STATE_RESUMING;
	case FAIL_STOP:
		return next == VFIO_DEVICE_STATE_STOP;
	case FAIL_RUN:
		return next == VFIO_DEVICE_STATE_RUNNING;
	default:
		return false;
	}
}

/* What the stream gets when the device enters @next of the states that save. */
static int fill(struct device_state *device, enum vfio_device_mig_state next)
{
	struct stream *stream = device->stream;
	int ret;

	if (!stream)
		return -ENODEV;
	mutex_lock(&stream->lock);
	stream->precopy = next != VFIO_DEVICE_STATE_STOP_COPY;
	ret = append_chunk(device, CHUNK_BALLAST, NULL, data_size);
	if (!ret && !stream->precopy)
		ret = append_chunk(device, CHUNK_STATE, device->registers, PAGE_SIZE);
	mutex_unlock(&stream->lock);
	return ret;
}

/* Nothing goes from STOP_COPY back to PRE_COPY. Linux 6.12's vfio_mig_get_next_state() does not return then. */
static int next_state(struct device_state *device, enum vfio_device_mig_state target,
		      enum vfio_device_mig_state *next)
{
	if (device->state == VFIO_DEVICE_STATE_STOP_COPY && target != device->state &&
	    saves(target))
		return -EINVAL;
	return vfio_mig_get_next_state(&device->vdev, device->state, target, next);
}

/* One arc of the state machine. */
static int step(struct device_state *device, enum vfio_device_mig_state next)
{
	enum vfio_device_mig_state now = device->state;
	int ret = 0;

	if (must_fail(device, next))
		return -EIO;
	if (saves(next)) {
		bool opens = !saves(now);

		if (opens)
			ret = open_stream(device, true);
		if (!ret && (opens || next == VFIO_DEVICE_STATE_STOP_COPY))
			ret = fill(device, next);
	} else if (next == VFIO_DEVICE_STATE_RESUMING) {
		ret = open_stream(device, false);
	} else {
		ret = close_stream(device, now == VFIO_DEVICE_STATE_RESUMING);
	}
	if (!ret)
		device->state = next;
	return ret;
}

static struct file *set_state(struct vfio_device *vdev, enum vfio_device_mig_state target)
{
	struct device_state *device = of(vdev);
	struct stream *before;
	struct file *file = NULL;
	int ret = 0;

	mutex_lock(&device->lock);
	before = device->stream;
	while (!ret && device->state != target) {
		enum vfio_device_mig_state next;

		ret = next_state(device, target, &next);
		if (!ret)
			ret = step(device, next);
	}
	if (ret && device->stream != before)
		close_stream(device, false);
	else if (device->stream && device->stream != before)
		file = get_file(device->stream->file);
	mutex_unlock(&device->lock);
	return ret ? ERR_PTR(ret) : file;
}

static int get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct device_state *device = of(vdev);

	mutex_lock(&device->lock);
	*state = device->state;
	mutex_unlock(&device->lock);
	return 0;
}

static int get_data_size(struct vfio_device *vdev, unsigned long *length)
{
	*length = 2 * sizeof(struct chunk) + data_size + PAGE_SIZE;
	return 0;
}

static const struct vfio_migration_ops migration_operations = {
	.migration_set_state = set_state,
	.migration_get_state = get_state,
#if SINCE(6, 2)
	.migration_get_data_size = get_data_size,
#endif
};

static int log_start(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 count,
		     u64 *page_size)
{
	struct device_state *device = of(vdev);
	int ret = 0;

	mutex_lock(&device->lock);
	if (device->fail == FAIL_LOG)
		ret = -EIO;
	else if (device->logging)
		ret = -EINVAL;
	else
		device->logging = true;
	mutex_unlock(&device->lock);
	*page_size = PAGE_SIZE;
	return ret;
}

static int log_stop(struct vfio_device *vdev)
{
	struct device_state *device = of(vdev);

	mutex_lock(&device->lock);
	device->logging = false;
	mutex_unlock(&device->lock);
	return 0;
}

/* The device says that it wrote to the first page of each range. */
static int log_read(struct vfio_device *vdev, unsigned long iova, unsigned long length,
		    struct iova_bitmap *bitmap)
{
	if (!READ_ONCE(of(vdev)->logging))
		return -EINVAL;
	iova_bitmap_set(bitmap, iova, min(length, PAGE_SIZE));
	return 0;
}

static const struct vfio_log_ops log_operations = {
	.log_start = log_start,
	.log_stop = log_stop,
	.log_read_and_clear = log_read,
};

/* --- regions and interrupts --------------------------------------------------------------------------- */

static u64 region_size(struct device_state *device, u32 index)
{
	if (index < PCI_STD_NUM_BARS)
		return device->bars[index];
	return index == VFIO_PCI_CONFIG_REGION_INDEX ? device->config_size : 0;
}

static int region_info(struct device_state *device, struct vfio_region_info *info)
{
	if (info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info->offset = REGION_OFFSET(info->index);
	info->size = region_size(device, info->index);
	info->flags = info->size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	return 0;
}

/* The bytes of a region from @offset on, their number in @count; NULL if there is nothing but zeros. */
static u8 *region_bytes(struct device_state *device, u32 index, u64 offset, size_t *count)
{
	u8 *bytes = index == VFIO_PCI_CONFIG_REGION_INDEX ? device->config :
		    index == VFIO_PCI_BAR0_REGION_INDEX && offset < PAGE_SIZE ? device->registers : NULL;

	*count = min_t(u64, *count, region_size(device, index) - offset);
	if (bytes == device->registers)
		*count = min_t(u64, *count, PAGE_SIZE - offset);
	return bytes ? bytes + offset : NULL;
}

static bool can_write(u32 index, u64 offset)
{
	return index != VFIO_PCI_CONFIG_REGION_INDEX || offset == PCI_COMMAND ||
	       offset == PCI_COMMAND + 1 || offset == PCI_INTERRUPT_LINE;
}

static ssize_t transfer(struct vfio_device *vdev, char __user *in, const char __user *out, size_t count,
			loff_t *pos)
{
	struct device_state *device = of(vdev);
	u64 offset = *pos & (REGION_OFFSET(1) - 1);
	u32 index = *pos >> REGION_SHIFT;
	ssize_t ret = -EINVAL;
	u8 *bytes, value;
	size_t i;

	mutex_lock(&device->lock);
	if (offset >= region_size(device, index))
		goto unlock;
	bytes = region_bytes(device, index, offset, &count);
	ret = -EFAULT;
	for (i = 0; i < count; i++) {
		if (in && put_user(bytes ? bytes[i] : 0, in + i))
			goto unlock;
		if (out && get_user(value, out + i))
			goto unlock;
		if (out && bytes && can_write(index, offset + i))
			bytes[i] = value;
	}
	*pos += count;
	ret = count;
unlock:
	mutex_unlock(&device->lock);
	return ret;
}

static ssize_t device_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
	return transfer(vdev, buf, NULL, count, pos);
}

static ssize_t device_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *pos)
{
	return transfer(vdev, NULL, buf, count, pos);
}

static int irq_info(struct device_state *device, struct vfio_irq_info *info)
{
	if (info->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info->count = device->irqs[info->index];
	info->flags = VFIO_IRQ_INFO_EVENTFD;
	if (info->index == VFIO_PCI_INTX_IRQ_INDEX)
		info->flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	return 0;
}

/* Takes what fits the number of interrupts; none is ever raised. */
static long set_irqs(struct device_state *device, void __user *arg)
{
	struct vfio_irq_set set;
	size_t size;

	if (copy_from_user(&set, arg, offsetofend(struct vfio_irq_set, count)))
		return -EFAULT;
	if (set.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	return vfio_set_irqs_validate_and_prepare(&set, device->irqs[set.index], VFIO_PCI_NUM_IRQS, &size);
}

static void reset(struct device_state *device)
{
	mutex_lock(&device->lock);
	close_stream(device, false);
	device->state = VFIO_DEVICE_STATE_RUNNING;
	mutex_unlock(&device->lock);
}

#define EXCHANGE(type, last, call)                                          \
	({                                                                  \
		type info;                                                  \
		const size_t minsz = offsetofend(type, last);               \
		long result = -EFAULT;                                      \
		if (!copy_from_user(&info, argument, minsz))                \
			result = info.argsz < minsz ? -EINVAL : (call);     \
		if (!result && copy_to_user(argument, &info, minsz))        \
			result = -EFAULT;                                   \
		result;                                                     \
	})

static int device_info(struct vfio_device_info *info)
{
	info->flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info->num_regions = VFIO_PCI_NUM_REGIONS;
	info->num_irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

static long device_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct device_state *device = of(vdev);
	void __user *argument = (void __user *)arg;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return EXCHANGE(struct vfio_device_info, num_irqs, device_info(&info));
#if !SINCE(6, 19)
	case VFIO_DEVICE_GET_REGION_INFO:
		return EXCHANGE(struct vfio_region_info, offset, region_info(device, &info));
#endif
	case VFIO_DEVICE_GET_IRQ_INFO:
		return EXCHANGE(struct vfio_irq_info, count, irq_info(device, &info));
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(device, argument);
	case VFIO_DEVICE_RESET:
		reset(device);
		return 0;
	default:
		return -ENOTTY;
	}
}

#if SINCE(6, 19)
static int region_info_caps(struct vfio_device *vdev, struct vfio_region_info *info,
			    struct vfio_info_cap *caps)
{
	return region_info(of(vdev), info);
}
#endif

#if !SINCE(6, 2)
/* The core does not know this one yet. Without it QEMU expects 100 GiB, and does not come to an end. */
static int device_feature(struct vfio_device *vdev, u32 flags, void __user *arg, size_t argsz)
{
	unsigned long length;
	int ret;

	if ((flags & VFIO_DEVICE_FEATURE_MASK) != VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
		return -ENOTTY;
	ret = vfio_check_feature(flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof(u64));
	if (ret != 1)
		return ret;
	get_data_size(vdev, &length);
	return copy_to_user(arg, &length, sizeof(u64)) ? -EFAULT : 0;
}
#endif

/* --- a device's life ------------------------------------------------------------------------------------- */

static const u8 default_config[256] = {
	[PCI_VENDOR_ID] = 0x36, 0x1b, [PCI_DEVICE_ID] = 0xfe, 0xca, [PCI_CLASS_DEVICE] = 0, 0xff,
	[PCI_SUBSYSTEM_VENDOR_ID] = 0x36, 0x1b, [PCI_SUBSYSTEM_ID] = 1, 0, [PCI_INTERRUPT_PIN] = 1,
};

static const u32 default_irqs[VFIO_PCI_NUM_IRQS] = { 1, 32, 2048, 1, 1 };

static int device_init(struct vfio_device *vdev)
{
	struct device_state *device = of(vdev);

	mutex_init(&device->lock);
	device->config = kvzalloc(MAX_CONFIG, GFP_KERNEL);
	device->registers = kvzalloc(PAGE_SIZE, GFP_KERNEL);
	if (!device->config || !device->registers) {
		kvfree(device->config);
		kvfree(device->registers);
		return -ENOMEM;
	}
	device->state = VFIO_DEVICE_STATE_RUNNING;
	device->config_size = sizeof(default_config);
	memcpy(device->config, default_config, sizeof(default_config));
	memcpy(device->irqs, default_irqs, sizeof(default_irqs));
	device->bars[0] = PAGE_SIZE;
	vdev->migration_flags = VFIO_MIGRATION_STOP_COPY | (p2p ? VFIO_MIGRATION_P2P : 0) |
				(precopy ? VFIO_MIGRATION_PRE_COPY : 0);
	vdev->mig_ops = &migration_operations;
	vdev->log_ops = dirty ? &log_operations : NULL;
	return 0;
}

static void device_release(struct vfio_device *vdev)
{
	kvfree(of(vdev)->config);
	kvfree(of(vdev)->registers);
}

static int device_open(struct vfio_device *vdev)
{
	struct device_state *device = of(vdev);

	mutex_lock(&device->lock);
	device->open = true;
	mutex_unlock(&device->lock);
	return 0;
}

static void device_close(struct vfio_device *vdev)
{
	struct device_state *device = of(vdev);

	reset(device);
	mutex_lock(&device->lock);
	device->open = device->logging = false;
	mutex_unlock(&device->lock);
}

static const struct vfio_device_ops device_operations = {
	.name = "preflight-mdev",
	.init = device_init,
	.release = device_release,
	.open_device = device_open,
	.close_device = device_close,
	.read = device_read,
	.write = device_write,
	.ioctl = device_ioctl,
#if SINCE(6, 19)
	.get_region_info_caps = region_info_caps,
#endif
#if !SINCE(6, 2)
	.device_feature = device_feature,
#else
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
#endif
#if SINCE(6, 6)
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
#endif
};

/* --- what a test says of a device, in its directory `preflight` ------------------------------------------- */

static struct device_state *from(struct device *dev)
{
	return dev_get_drvdata(dev);
}

#if SINCE(6, 16)
typedef const struct bin_attribute binary;
#else
typedef struct bin_attribute binary;
#endif

static ssize_t config_read(struct file *file, struct kobject *kobj, binary *attribute, char *buf,
			   loff_t offset, size_t count)
{
	struct device_state *device = from(kobj_to_dev(kobj));
	ssize_t ret;

	mutex_lock(&device->lock);
	ret = memory_read_from_buffer(buf, count, &offset, device->config, device->config_size);
	mutex_unlock(&device->lock);
	return ret;
}

/* The size is where the last write ended; one at the beginning starts anew. */
static ssize_t config_write(struct file *file, struct kobject *kobj, binary *attribute, char *buf,
			    loff_t offset, size_t count)
{
	struct device_state *device = from(kobj_to_dev(kobj));
	ssize_t ret = count;

	mutex_lock(&device->lock);
	if (device->open) {
		ret = -EBUSY;
	} else if (offset > MAX_CONFIG || count > MAX_CONFIG - offset) {
		ret = -EFBIG;
	} else {
		if (!offset)
			memset(device->config, 0, MAX_CONFIG);
		memcpy(device->config + offset, buf, count);
		device->config_size = offset + count;
	}
	mutex_unlock(&device->lock);
	return ret;
}

static ssize_t bars_show(struct device *dev, struct device_attribute *attribute, char *buf)
{
	const u64 *bars = from(dev)->bars;

	return sysfs_emit(buf, "%llu %llu %llu %llu %llu %llu\n", bars[0], bars[1], bars[2], bars[3],
			  bars[4], bars[5]);
}

static ssize_t irqs_show(struct device *dev, struct device_attribute *attribute, char *buf)
{
	const u32 *irqs = from(dev)->irqs;

	return sysfs_emit(buf, "%u %u %u %u %u\n", irqs[0], irqs[1], irqs[2], irqs[3], irqs[4]);
}

static ssize_t set_unless_open(struct device *dev, void *to, const void *values, size_t size,
			       bool valid, size_t count)
{
	struct device_state *device = from(dev);
	ssize_t ret = valid ? count : -EINVAL;

	mutex_lock(&device->lock);
	if (device->open)
		ret = -EBUSY;
	else if (valid)
		memcpy(to, values, size);
	mutex_unlock(&device->lock);
	return ret;
}

static ssize_t bars_store(struct device *dev, struct device_attribute *attribute, const char *buf,
			  size_t count)
{
	u64 bars[PCI_STD_NUM_BARS];
	bool valid = sscanf(buf, "%llu %llu %llu %llu %llu %llu", &bars[0], &bars[1], &bars[2],
			    &bars[3], &bars[4], &bars[5]) == PCI_STD_NUM_BARS;
	int i;

	for (i = 0; valid && i < PCI_STD_NUM_BARS; i++)
		valid = bars[i] < REGION_OFFSET(1);
	return set_unless_open(dev, from(dev)->bars, bars, sizeof(bars), valid, count);
}

static ssize_t irqs_store(struct device *dev, struct device_attribute *attribute, const char *buf,
			  size_t count)
{
	u32 irqs[VFIO_PCI_NUM_IRQS];
	bool valid = sscanf(buf, "%u %u %u %u %u", &irqs[0], &irqs[1], &irqs[2], &irqs[3],
			    &irqs[4]) == VFIO_PCI_NUM_IRQS;

	return set_unless_open(dev, from(dev)->irqs, irqs, sizeof(irqs), valid, count);
}

static ssize_t fail_show(struct device *dev, struct device_attribute *attribute, char *buf)
{
	return sysfs_emit(buf, "%s\n", failures[READ_ONCE(from(dev)->fail)]);
}

static ssize_t fail_store(struct device *dev, struct device_attribute *attribute, const char *buf,
			  size_t count)
{
	int found = sysfs_match_string(failures, buf);

	if (found < 0)
		return found;
	WRITE_ONCE(from(dev)->fail, found);
	return count;
}

static ssize_t state_show(struct device *dev, struct device_attribute *attribute, char *buf)
{
	static const char *const names[] = { "error", "stop", "running", "stop-copy", "resuming",
					     "running-p2p", "pre-copy", "pre-copy-p2p" };

	return sysfs_emit(buf, "%s\n", names[READ_ONCE(from(dev)->state)]);
}

static DEVICE_ATTR_RW(bars);
static DEVICE_ATTR_RW(irqs);
static DEVICE_ATTR_RW(fail);
static DEVICE_ATTR_RO(state);

static struct attribute *attributes[] = {
	&dev_attr_bars.attr, &dev_attr_irqs.attr, &dev_attr_fail.attr, &dev_attr_state.attr, NULL,
};

static struct bin_attribute config_attribute = {
	.attr = { .name = "config", .mode = 0644 },
	.read = config_read,
	.write = config_write,
};

#if SINCE(6, 16)
static const struct bin_attribute *const binary_attributes[] = { &config_attribute, NULL };
#else
static struct bin_attribute *binary_attributes[] = { &config_attribute, NULL };
#endif

static const struct attribute_group group = {
	.name = "preflight",
	.attrs = attributes,
	.bin_attrs = binary_attributes,
};
static const struct attribute_group *groups[] = { &group, NULL };

/* --- mediated devices -------------------------------------------------------------------------------------- */

static struct mdev_type types[] = {
	{ .sysfs_name = "one", .pretty_name = "Test device" },
	{ .sysfs_name = "two", .pretty_name = "Test device of another type" },
};
static struct mdev_type *type_list[] = { &types[0], &types[1] };
static struct mdev_parent parent;
static struct class parent_class = { .name = "preflight_mdev" }; /* the first part of types' names */
static struct device *parent_device;
static struct pci_dev *parent_pci; /* the parent, where it is not of our own */

static int mdev_probe(struct mdev_device *mdev)
{
	struct device_state *device =
		vfio_alloc_device(device_state, vdev, &mdev->dev, &device_operations);
	int ret;

	if (IS_ERR(device))
		return PTR_ERR(device);
	device->type = mdev->type - types;
	dev_set_drvdata(&mdev->dev, device);
	ret = vfio_register_emulated_iommu_dev(&device->vdev);
	if (ret)
		vfio_put_device(&device->vdev);
	return ret;
}

static void mdev_remove(struct mdev_device *mdev)
{
	struct device_state *device = from(&mdev->dev);

	vfio_unregister_group_dev(&device->vdev);
	vfio_put_device(&device->vdev);
}

static unsigned int get_available(struct mdev_type *type)
{
	return 1024;
}

static struct mdev_driver driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.probe = mdev_probe,
	.remove = mdev_remove,
	.get_available = get_available,
	.driver = {
		.name = "preflight_mdev",
		.owner = THIS_MODULE,
		.mod_name = KBUILD_MODNAME,
		.dev_groups = groups,
	},
};

static struct device *get_parent(void)
{
	unsigned int domain, bus, slot, function;

	if (!parent_address)
		return device_create(&parent_class, NULL, MKDEV(0, 0), NULL, "preflight_mdev");
	if (sscanf(parent_address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return ERR_PTR(-EINVAL);
	parent_pci = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
	return parent_pci ? &parent_pci->dev : ERR_PTR(-ENODEV);
}

static void put_parent(void)
{
	if (parent_pci)
		pci_dev_put(parent_pci);
	else
		device_unregister(parent_device);
}

static int __init preflight_init(void)
{
	int ret;

	if (precopy && !SINCE(6, 2))
		return -EOPNOTSUPP;
	ret = mdev_register_driver(&driver);
	if (ret)
		return ret;
	ret = class_register(&parent_class);
	if (ret)
		goto unregister_driver;
	parent_device = get_parent();
	ret = PTR_ERR_OR_ZERO(parent_device);
	if (ret)
		goto unregister_class;
	ret = mdev_register_parent(&parent, parent_device, &driver, type_list, ARRAY_SIZE(type_list));
	if (!ret)
		return 0;
	put_parent();
unregister_class:
	class_unregister(&parent_class);
unregister_driver:
	mdev_unregister_driver(&driver);
	return ret;
}

static void __exit preflight_exit(void)
{
	mdev_unregister_parent(&parent);
	put_parent();
	class_unregister(&parent_class);
	mdev_unregister_driver(&driver);
}

module_init(preflight_init);
module_exit(preflight_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Mediated PCI devices for the tests of vfio-preflight");
#if SINCE(6, 13)
MODULE_IMPORT_NS("IOMMUFD");
#elif SINCE(6, 8)
MODULE_IMPORT_NS(IOMMUFD);
#endif
