// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk: making, removing, its attributes.
 *
 * Locks: gendisk.open_mutex for loop_copy.closed; see loop-copy.h.
 */
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "disk.h"

#define LOOP_COPY_DEPTH		128
#define LOOP_COPY_MAX_SECTORS	2560
/* A file system that shares extents is done with it at once. */
#define LOOP_COPY_MAX_SHARED	SZ_64M
#define LOOP_COPY_MAX_MOVED	SZ_4M

static struct file_io *loop_copy_file(struct loop_copy *lc)
{
	return &lc->queue.backing.file;
}

static struct gendisk *loop_copy_gendisk(struct loop_copy *lc)
{
	return lc->queue.backing.disk;
}

static int loop_copy_copy_op(struct blk_copy_op *op)
{
	return blk_copy_execute(op->dst_disk->queue, op);
}

/* Files of one file system may share extents. */
static bool loop_copy_reaches(struct gendisk *src, struct gendisk *dst)
{
	struct loop_copy *from = src->private_data, *to = dst->private_data;

	return file_inode(loop_copy_file(from)->meta)->i_sb ==
	       file_inode(loop_copy_file(to)->meta)->i_sb;
}

static const struct blk_copy_ops loop_copy_ops = {
	.name = "loop-copy",
	.copy = loop_copy_copy_op,
	.reaches = loop_copy_reaches,
};

static struct loop_copy *loop_copy_of_device(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

static ssize_t backing_file_show(struct device *dev,
				 struct device_attribute *attr, char *page)
{
	struct file *file = loop_copy_file(loop_copy_of_device(dev))->meta;
	char *path = file_path(file, page, PAGE_SIZE - 1);
	size_t len;

	if (IS_ERR(path))
		return PTR_ERR(path);
	len = strlen(path);
	memmove(page, path, len);
	page[len++] = '\n';
	return len;
}

/*
 * The file's own file system, below an overlay. It tells where the file is when
 * its name does not: unlinked, or of another mount namespace.
 */
static ssize_t backing_dev_show(struct device *dev,
				struct device_attribute *attr, char *page)
{
	struct file *file = loop_copy_file(loop_copy_of_device(dev))->meta;
	struct inode *inode = d_real_inode(file_dentry(file));

	return sysfs_emit(page, "%u:%u\n", MAJOR(inode->i_sb->s_dev),
			  MINOR(inode->i_sb->s_dev));
}

static ssize_t autoclear_show(struct device *dev, struct device_attribute *attr,
			      char *page)
{
	u32 flags = loop_copy_of_device(dev)->queue.flags;

	return sysfs_emit(page, "%d\n", !!(flags & LOOP_COPY_AUTOCLEAR));
}

static ssize_t dio_show(struct device *dev, struct device_attribute *attr,
			char *page)
{
	return sysfs_emit(page, "%d\n",
			  loop_copy_file(loop_copy_of_device(dev))->direct);
}

static DEVICE_ATTR_RO(backing_file);
static DEVICE_ATTR_RO(backing_dev);
static DEVICE_ATTR_RO(autoclear);
static DEVICE_ATTR_RO(dio);

static struct attribute *loop_copy_attrs[] = {
	&dev_attr_backing_file.attr,
	&dev_attr_backing_dev.attr,
	&dev_attr_autoclear.attr,
	&dev_attr_dio.attr,
	NULL,
};

static const struct attribute_group loop_copy_attr_group = {
	.name = "loop-copy",
	.attrs = loop_copy_attrs,
};

static const struct attribute_group *loop_copy_disk_groups[] = {
	&loop_copy_attr_group,
	&blk_copy_attr_group,
	NULL,
};

static int COMPAT_DISK_OPEN(loop_copy_open)
{
	struct loop_copy *lc = compat_opened_disk->private_data;

	lockdep_assert_held(&loop_copy_gendisk(lc)->open_mutex);
	if (lc->closed)
		return -ENXIO;
	/* Whoever only looks, as udev does, is not the user that goes away. */
	if (compat_opened_for_use)
		WRITE_ONCE(lc->queue.used, true);
	return 0;
}

static void COMPAT_DISK_RELEASE(loop_copy_release)
{
	struct loop_copy *lc = compat_disk->private_data;

	lockdep_assert_held(&compat_disk->open_mutex);
	if (!(lc->queue.flags & LOOP_COPY_AUTOCLEAR) ||
	    !READ_ONCE(lc->queue.used) || lc->closed ||
	    disk_openers(compat_disk))
		return;
	lc->closed = true;
	lc->gone(lc);
}

static int loop_copy_set_read_only(struct block_device *bdev, bool ro)
{
	struct loop_copy *lc = bdev->bd_disk->private_data;

	return !ro && lc->queue.flags & LOOP_COPY_READ_ONLY ? -EACCES : 0;
}

static const struct block_device_operations loop_copy_fops = {
	.owner = THIS_MODULE,
	.open = loop_copy_open,
	.release = loop_copy_release,
	.set_read_only = loop_copy_set_read_only,
};

/**
 * loop_copy_close_for_good() - keep a disk from being opened again
 * @lc: the disk
 *
 * Return: 0; -EBUSY if somebody has it open; -ENXIO if it is going already; -EINTR.
 */
int loop_copy_close_for_good(struct loop_copy *lc)
{
	/* Who has it may read from a file system that hangs. */
	int err = mutex_lock_killable(&loop_copy_gendisk(lc)->open_mutex);

	if (err)
		return err;
	if (lc->closed)
		err = -ENXIO;
	else if (disk_openers(loop_copy_gendisk(lc)))
		err = -EBUSY;
	else
		lc->closed = true;
	mutex_unlock(&loop_copy_gendisk(lc)->open_mutex);
	return err;
}

static sector_t loop_copy_sectors_of(struct loop_copy *lc, u32 block)
{
	return round_down(file_io_size(loop_copy_file(lc)), (loff_t)block) >>
	       SECTOR_SHIFT;
}

static int loop_copy_check_block(struct loop_copy *lc, u32 *block)
{
	u32 least = loop_copy_file(lc)->align;

	if (!*block)
		*block = least;
	if (!is_power_of_2(*block) || *block < least || *block > PAGE_SIZE)
		return -EINVAL;
	return 0;
}

static struct gendisk *loop_copy_new_gendisk(struct loop_copy *lc, u32 block)
{
	struct file_io *f = loop_copy_file(lc);
	u32 fs_block = max(block, min_t(u32, file_io_block(f), PAGE_SIZE));
	bool punches = f->data->f_op->fallocate;
	struct compat_limits lim = {
		.logical = block,
		.physical = fs_block,
		.max_sectors = LOOP_COPY_MAX_SECTORS,
		.dma_alignment = f->mem_align - 1,
		.discard_granularity = punches ? fs_block : 0,
		.discard_sectors = punches ? COMPAT_MAX_EMPTY_SECTORS : 0,
		.zeroes_sectors = punches ? COMPAT_MAX_EMPTY_SECTORS : 0,
		.write_cache = true,
		.stable_writes = compat_inode_stable_writes(file_io_inode(f)),
	};

	return compat_alloc_disk(&lc->tag_set, &lim, &lc->queue);
}

static int loop_copy_alloc_disk(struct loop_copy *lc, u32 block)
{
	struct gendisk *disk = loop_copy_new_gendisk(lc, block);

	if (IS_ERR(disk))
		return PTR_ERR(disk);
	lc->queue.backing.disk = disk;
	loop_copy_file(lc)->queue = disk->queue;
	snprintf(disk->disk_name, DISK_NAME_LEN, "loopc%u", lc->number);
	disk->fops = &loop_copy_fops;
	disk->private_data = lc;
	if (!(lc->queue.flags & LOOP_COPY_PARTSCAN))
		set_bit(GD_SUPPRESS_PART_SCAN, &disk->state);
	set_capacity(disk, loop_copy_sectors_of(lc, block));
	set_disk_ro(disk, lc->queue.flags & LOOP_COPY_READ_ONLY);
	return 0;
}

static int loop_copy_init_tags(struct loop_copy *lc)
{
	lc->tag_set.ops = &loop_copy_mq_ops;
	lc->tag_set.nr_hw_queues = 1;
	lc->tag_set.queue_depth = LOOP_COPY_DEPTH;
	lc->tag_set.numa_node = NUMA_NO_NODE;
	lc->tag_set.cmd_size = sizeof(struct loop_copy_cmd);
	lc->tag_set.flags = BLK_MQ_F_SHOULD_MERGE | BLK_MQ_F_BLOCKING |
			    BLK_MQ_F_STACKING | BLK_MQ_F_NO_SCHED_BY_DEFAULT;
	return blk_mq_alloc_tag_set(&lc->tag_set);
}

static int loop_copy_add_provider(struct loop_copy *lc, u32 block)
{
	u32 fs_block = file_io_block(loop_copy_file(lc));
	bool may_share = file_io_may_share(loop_copy_file(lc));
	struct blk_copy_limits lim = {
		.max_bytes = may_share ? LOOP_COPY_MAX_SHARED :
					 LOOP_COPY_MAX_MOVED,
		.granularity = block,
		.optimal = may_share ? max(block, fs_block) : block,
	};

	lc->provider = blk_copy_register(loop_copy_gendisk(lc), &loop_copy_ops,
					 &lim);
	return PTR_ERR_OR_ZERO(lc->provider);
}

static int loop_copy_start(struct loop_copy *lc, u32 block)
{
	struct workqueue_struct *wq;
	int err;

	/*
	 * Without a rescuer: file systems short of space wait for workers that
	 * have none, which one that has must not.
	 */
	wq = alloc_workqueue("loopc%u", WQ_UNBOUND, 0, lc->number);
	if (!wq)
		return -ENOMEM;
	loop_copy_file(lc)->wq = wq;
	err = loop_copy_add_provider(lc, block);
	if (err)
		goto no_provider;
	err = device_add_disk(NULL, loop_copy_gendisk(lc),
			      loop_copy_disk_groups);
	if (!err)
		return 0;
	blk_copy_unregister(lc->provider);
no_provider:
	destroy_workqueue(wq);
	return err;
}

static int loop_copy_build(struct loop_copy *lc, u32 block)
{
	int err = loop_copy_check_block(lc, &block);

	if (err)
		return err;
	err = loop_copy_init_tags(lc);
	if (err)
		return err;
	err = loop_copy_alloc_disk(lc, block);
	if (err)
		goto no_disk;
	err = loop_copy_start(lc, block);
	if (!err)
		return 0;
	put_disk(loop_copy_gendisk(lc));
no_disk:
	blk_mq_free_tag_set(&lc->tag_set);
	return err;
}

/**
 * loop_copy_create() - attach a file as a disk
 * @lc: zeroed but for its number and its flags
 * @call: what the caller wants
 *
 * Return: 0 or a negative error.
 */
int loop_copy_create(struct loop_copy *lc, const struct loop_copy_attach *call)
{
	int err = loop_copy_backing_open(&lc->queue.backing, call->fd,
					 lc->queue.flags);

	if (err)
		return err;
	err = loop_copy_build(lc, call->block_size);
	if (err)
		loop_copy_close_file(lc);
	return err;
}

/**
 * loop_copy_remove() - remove a disk that cannot be opened any more
 * @lc: the disk; nothing of it is left but for loop_copy_close_file()
 */
void loop_copy_remove(struct loop_copy *lc)
{
	del_gendisk(loop_copy_gendisk(lc));
	blk_copy_unregister(lc->provider);
	destroy_workqueue(loop_copy_file(lc)->wq);
	put_disk(loop_copy_gendisk(lc));
	blk_mq_free_tag_set(&lc->tag_set);
	loop_copy_free_spare(&lc->queue.backing);
}

/**
 * loop_copy_close_file() - close the file of a disk that has been removed
 * @lc: the disk, or one that was never made
 *
 * Context: holds nothing that others wait for: file systems may hang.
 */
void loop_copy_close_file(struct loop_copy *lc)
{
	loop_copy_backing_close(&lc->queue.backing);
}

/**
 * loop_copy_resize() - give a disk the size of its file
 * @lc: the disk
 *
 * Return: 0.
 */
int loop_copy_resize(struct loop_copy *lc)
{
	u32 block = queue_logical_block_size(loop_copy_gendisk(lc)->queue);

	set_capacity_and_notify(loop_copy_gendisk(lc),
				loop_copy_sectors_of(lc, block));
	return 0;
}
