// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device that programs copy with; see uapi/blk-copy.h. Takes no locks.
 *
 * What a caller may do is what its descriptors are open for. The device itself
 * is for everybody.
 */
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "blk-copy.h"

static struct block_device *blk_copy_bdev_of(struct file *file)
{
	return I_BDEV(file->f_mapping->host);
}

/* A block device that a descriptor of the caller is open on, for @mode. */
static struct file *blk_copy_get_bdev_file(int fd, fmode_t mode)
{
	struct file *file = fget(fd);
	int err = 0;

	if (!file)
		return ERR_PTR(-EBADF);
	if (!S_ISBLK(file_inode(file)->i_mode))
		err = -ENOTBLK;
	else if ((file->f_mode & mode) != mode)
		err = -EBADF;
	if (err) {
		fput(file);
		return ERR_PTR(err);
	}
	return file;
}

/*
 * A file system that is mounted, a volume that is active: they keep in memory
 * what they believe to be on the disk. At the moment of the call, that is.
 */
static int blk_copy_check_unclaimed(struct file *file)
{
	struct block_device *bdev = blk_copy_bdev_of(file);
	int err;

	if (compat_file_claims(file))
		return 0;
	err = compat_bdev_try_claim(bdev, blk_copy_check_unclaimed);
	if (!err)
		bd_abort_claiming(bdev, blk_copy_check_unclaimed);
	return err;
}

/* As a read and a write would ask security modules. */
static int blk_copy_check_allowed(struct file *src, struct file *dst,
				  const struct blk_copy_range *range)
{
	loff_t src_pos = range->src, dst_pos = range->dst;
	int err = rw_verify_area(READ, src, &src_pos, range->len);

	return err ?: rw_verify_area(WRITE, dst, &dst_pos, range->len);
}

static int blk_copy_each_range(struct blk_copy_call *call,
			       struct blk_copy_range *ranges, struct file *src,
			       struct file *dst)
{
	int err = 0;
	u32 i;

	for (i = 0; i < call->nr_ranges && !err; i++) {
		struct blk_copy_request req = {
			.src = blk_copy_bdev_of(src),
			.dst = blk_copy_bdev_of(dst),
			.src_pos = ranges[i].src,
			.dst_pos = ranges[i].dst,
			.len = ranges[i].len,
			.flags = call->flags,
		};

		err = blk_copy_check_allowed(src, dst, &ranges[i]);
		if (!err)
			err = blk_copy(&req);
		ranges[i].done = req.done;
		call->done += req.done;
		call->offloaded += req.offloaded;
	}
	return err;
}

static int blk_copy_with_files(struct blk_copy_call *call,
			       struct blk_copy_range *ranges)
{
	struct file *src, *dst;
	int err;

	src = blk_copy_get_bdev_file(call->src_fd, FMODE_READ);
	if (IS_ERR(src))
		return PTR_ERR(src);
	dst = blk_copy_get_bdev_file(call->dst_fd, FMODE_WRITE);
	if (IS_ERR(dst)) {
		fput(src);
		return PTR_ERR(dst);
	}
	err = blk_copy_check_unclaimed(dst);
	if (!err)
		err = blk_copy_each_range(call, ranges, src, dst);
	fput(dst);
	fput(src);
	return err;
}

static long blk_copy_ioctl_ranges(void __user *user)
{
	struct blk_copy_range *ranges;
	struct blk_copy_call call;
	void __user *address;
	size_t size;
	long err;
	u32 i;

	if (copy_from_user(&call, user, sizeof(call)))
		return -EFAULT;
	if (call.reserved || !call.nr_ranges ||
	    call.nr_ranges > BLK_COPY_MAX_RANGES)
		return -EINVAL;
	address = u64_to_user_ptr(call.ranges);
	size = call.nr_ranges * sizeof(*ranges);
	ranges = memdup_user(address, size);
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	for (i = 0; i < call.nr_ranges; i++)
		ranges[i].done = 0;
	call.done = 0;
	call.offloaded = 0;
	err = blk_copy_with_files(&call, ranges);
	/* What was done is not undone for an answer that cannot be given. */
	if ((copy_to_user(address, ranges, size) ||
	     copy_to_user(user, &call, sizeof(call))) && !err)
		err = -EFAULT;
	kfree(ranges);
	return err;
}

static void blk_copy_fill_info(struct blk_copy_info *info, struct gendisk *disk)
{
	struct blk_copy_provider *p = blk_copy_get(disk);

	info->granularity = 0;
	info->max_bytes = 0;
	info->optimal = 0;
	memset(info->provider, 0, sizeof(info->provider));
	if (!p)
		return;
	info->granularity = p->limits.granularity;
	info->max_bytes = READ_ONCE(p->max_bytes);
	info->optimal = info->max_bytes ? p->limits.optimal : 0;
	strscpy(info->provider, p->ops->name, sizeof(info->provider));
	blk_copy_put(p);
}

static long blk_copy_ioctl_info(void __user *user)
{
	struct blk_copy_info info;
	struct file *file;

	if (copy_from_user(&info, user, sizeof(info)))
		return -EFAULT;
	if (info.reserved)
		return -EINVAL;
	file = blk_copy_get_bdev_file(info.fd, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	blk_copy_fill_info(&info, blk_copy_bdev_of(file)->bd_disk);
	fput(file);
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

static long blk_copy_control_ioctl(struct file *file, unsigned int cmd,
				   unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case BLK_COPY_GET_VERSION:
		return put_user(BLK_COPY_VERSION, (u32 __user *)user);
	case BLK_COPY_RANGES:
		return blk_copy_ioctl_ranges(user);
	case BLK_COPY_GET_INFO:
		return blk_copy_ioctl_info(user);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations blk_copy_control_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = blk_copy_control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice blk_copy_control_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "blk-copy",
	.mode = 0666,
	.fops = &blk_copy_control_fops,
};

/**
 * blk_copy_control_init() - make the device
 *
 * Return: 0 or a negative error.
 */
int blk_copy_control_init(void)
{
	return misc_register(&blk_copy_control_device);
}

/**
 * blk_copy_control_exit() - take it away
 */
void blk_copy_control_exit(void)
{
	misc_deregister(&blk_copy_control_device);
}
