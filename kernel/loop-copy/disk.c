// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk: making, removing, its attributes.
 *
 * Locks: gendisk.open_mutex for loop_copy.gone; see loop-copy.h.
 */
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "loop-copy.h"

#define LOOP_COPY_DEPTH		128
#define LOOP_COPY_MAX_SECTORS	2560
/* A file system that shares extents is done with it at once. */
#define LOOP_COPY_MAX_SHARED	SZ_64M
#define LOOP_COPY_MAX_MOVED	SZ_4M

/*
 * Whoever has claimed it, or writes. An open would tell, but before 6.5 a driver
 * does not learn of those of a partition that is open already.
 */
static void note_use(struct loop_copy *lc, struct request *rq)
{
	if (READ_ONCE(lc->used))
		return;
	/* A copy is a write without a bio. */
	if (op_is_write(req_op(rq)) ||
	    (rq->bio && READ_ONCE(rq->bio->bi_bdev->bd_holder)))
		WRITE_ONCE(lc->used, true);
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx,
			     const struct blk_mq_queue_data *bd)
{
	struct loop_copy *lc = hctx->queue->queuedata;
	struct request *rq = bd->rq;
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	blk_mq_start_request(rq);
	/* The block layer only warns of writes to a read-only disk. */
	if (unlikely(op_is_write(req_op(rq)) &&
		     lc->flags & LOOP_COPY_READ_ONLY))
		return BLK_STS_IOERR;
	if (lc->flags & LOOP_COPY_AUTOCLEAR)
		note_use(lc, rq);
	cmd->done = 0;
	cmd->error = 0;
	cmd->buffered = false;
	if ((req_op(rq) == REQ_OP_READ || req_op(rq) == REQ_OP_WRITE) &&
	    loop_copy_rw_inline(lc, rq))
		return BLK_STS_OK;
	queue_work(lc->wq, &cmd->work);
	return BLK_STS_OK;
}

static int init_request(struct blk_mq_tag_set *set, struct request *rq,
			unsigned int hctx, unsigned int node)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	INIT_WORK(&cmd->work, loop_copy_work);
	return 0;
}

static const struct blk_mq_ops loop_copy_mq_ops = {
	.queue_rq = queue_rq,
	.init_request = init_request,
};

static int copy_op(struct blk_copy_op *op)
{
	struct loop_copy *dst = op->dst_disk->private_data;

	return blk_copy_execute(dst->disk->queue, op);
}

/* Files of one file system may share extents. */
static bool reaches(struct gendisk *src, struct gendisk *dst)
{
	struct loop_copy *from = src->private_data, *to = dst->private_data;

	return file_inode(from->file.meta)->i_sb ==
	       file_inode(to->file.meta)->i_sb;
}

static const struct blk_copy_ops loop_copy_ops = {
	.name = "loop-copy",
	.copy = copy_op,
	.reaches = reaches,
};

static struct loop_copy *of_device(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

static ssize_t backing_file_show(struct device *dev,
				 struct device_attribute *attr, char *page)
{
	char *path = file_path(of_device(dev)->file.meta, page, PAGE_SIZE - 1);
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
	struct inode *inode = d_real_inode(file_dentry(of_device(dev)->file.meta));

	return sysfs_emit(page, "%u:%u\n", MAJOR(inode->i_sb->s_dev),
			  MINOR(inode->i_sb->s_dev));
}

static ssize_t autoclear_show(struct device *dev, struct device_attribute *attr,
			      char *page)
{
	return sysfs_emit(page, "%d\n",
			  !!(of_device(dev)->flags & LOOP_COPY_AUTOCLEAR));
}

static ssize_t dio_show(struct device *dev, struct device_attribute *attr,
			char *page)
{
	return sysfs_emit(page, "%d\n", of_device(dev)->file.direct);
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

static const struct attribute_group *disk_groups[] = {
	&loop_copy_attr_group,
	&blk_copy_attr_group,
	NULL,
};

static int COMPAT_DISK_OPEN(disk_open)
{
	struct loop_copy *lc = compat_opened_disk->private_data;

	lockdep_assert_held(&lc->disk->open_mutex);
	if (lc->gone)
		return -ENXIO;
	/* Whoever only looks, as udev does, is not the user that goes away. */
	if (compat_opened_for_use)
		WRITE_ONCE(lc->used, true);
	return 0;
}

static void COMPAT_DISK_RELEASE(disk_release)
{
	struct loop_copy *lc = compat_disk->private_data;

	lockdep_assert_held(&compat_disk->open_mutex);
	if (!(lc->flags & LOOP_COPY_AUTOCLEAR) || !READ_ONCE(lc->used) ||
	    lc->gone || disk_openers(compat_disk))
		return;
	lc->gone = true;
	loop_copy_removed(lc);
}

static int set_read_only(struct block_device *bdev, bool ro)
{
	struct loop_copy *lc = bdev->bd_disk->private_data;

	return !ro && lc->flags & LOOP_COPY_READ_ONLY ? -EACCES : 0;
}

static const struct block_device_operations loop_copy_fops = {
	.owner = THIS_MODULE,
	.open = disk_open,
	.release = disk_release,
	.set_read_only = set_read_only,
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
	int err = mutex_lock_killable(&lc->disk->open_mutex);

	if (err)
		return err;
	if (lc->gone)
		err = -ENXIO;
	else if (disk_openers(lc->disk))
		err = -EBUSY;
	else
		lc->gone = true;
	mutex_unlock(&lc->disk->open_mutex);
	return err;
}

static sector_t sectors_of(const struct loop_copy *lc, u32 block)
{
	return round_down(loop_copy_file_size(&lc->file), (loff_t)block) >>
	       SECTOR_SHIFT;
}

static int check_block(struct loop_copy *lc, u32 *block)
{
	u32 least = loop_copy_file_block(&lc->file);

	if (!*block)
		*block = least;
	if (!is_power_of_2(*block) || *block < least || *block > PAGE_SIZE)
		return -EINVAL;
	return 0;
}

static int alloc_disk(struct loop_copy *lc, u32 block)
{
	u32 fs_block = max(block, min_t(u32, loop_copy_fs_block(&lc->file),
					PAGE_SIZE));
	bool punches = lc->file.meta->f_op->fallocate;
	struct compat_limits lim = {
		.logical = block,
		.physical = fs_block,
		.max_sectors = LOOP_COPY_MAX_SECTORS,
		.dma_alignment = loop_copy_file_memory(&lc->file) - 1,
		.discard_granularity = punches ? fs_block : 0,
		.discard_sectors = punches ? COMPAT_MAX_EMPTY_SECTORS : 0,
		.zeroes_sectors = punches ? COMPAT_MAX_EMPTY_SECTORS : 0,
		.write_cache = true,
		.stable_writes = compat_inode_stable_writes(loop_copy_inode(&lc->file)),
	};

	lc->disk = compat_alloc_disk(&lc->tag_set, &lim, lc);
	if (IS_ERR(lc->disk))
		return PTR_ERR(lc->disk);
	snprintf(lc->disk->disk_name, DISK_NAME_LEN, "loopc%u", lc->number);
	lc->disk->fops = &loop_copy_fops;
	lc->disk->private_data = lc;
	if (!(lc->flags & LOOP_COPY_PARTSCAN))
		set_bit(GD_SUPPRESS_PART_SCAN, &lc->disk->state);
	set_capacity(lc->disk, sectors_of(lc, block));
	set_disk_ro(lc->disk, lc->flags & LOOP_COPY_READ_ONLY);
	return 0;
}

static int init_tags(struct loop_copy *lc)
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

static int add_provider(struct loop_copy *lc, u32 block)
{
	u32 fs_block = loop_copy_fs_block(&lc->file);
	bool may_share = loop_copy_may_share(&lc->file);
	struct blk_copy_limits lim = {
		.max_bytes = may_share ? LOOP_COPY_MAX_SHARED :
					       LOOP_COPY_MAX_MOVED,
		.granularity = block,
		.optimal = may_share ? max(block, fs_block) : block,
	};

	lc->provider = blk_copy_register(lc->disk, &loop_copy_ops, &lim);
	return PTR_ERR_OR_ZERO(lc->provider);
}

static int start(struct loop_copy *lc, u32 block)
{
	int err;

	/*
	 * Without a rescuer: file systems short of space wait for workers that
	 * have none, which one that has must not.
	 */
	lc->wq = alloc_workqueue("loopc%u", WQ_UNBOUND, 0, lc->number);
	if (!lc->wq)
		return -ENOMEM;
	err = add_provider(lc, block);
	if (err)
		goto no_provider;
	err = device_add_disk(NULL, lc->disk, disk_groups);
	if (!err)
		return 0;
	blk_copy_unregister(lc->provider);
no_provider:
	destroy_workqueue(lc->wq);
	return err;
}

static int build(struct loop_copy *lc, u32 block)
{
	int err = check_block(lc, &block);

	if (err)
		return err;
	err = init_tags(lc);
	if (err)
		return err;
	err = alloc_disk(lc, block);
	if (err)
		goto no_disk;
	err = start(lc, block);
	if (!err)
		return 0;
	put_disk(lc->disk);
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
	int err = loop_copy_file_open(&lc->file, call->fd, call->flags);

	if (err)
		return err;
	err = build(lc, call->block_size);
	if (err)
		loop_copy_file_close(&lc->file);
	return err;
}

/**
 * loop_copy_remove() - remove a disk that cannot be opened any more
 * @lc: the disk; nothing of it is left but for loop_copy_free()
 */
void loop_copy_remove(struct loop_copy *lc)
{
	del_gendisk(lc->disk);
	blk_copy_unregister(lc->provider);
	destroy_workqueue(lc->wq);
	put_disk(lc->disk);
	blk_mq_free_tag_set(&lc->tag_set);
	loop_copy_free_spare(lc);
}

/**
 * loop_copy_free() - close the file of a disk that has been removed
 * @lc: the disk, or one that was never made; it is freed
 *
 * Context: holds nothing that others wait for: file systems may hang.
 */
void loop_copy_free(struct loop_copy *lc)
{
	if (lc->file.pages)
		loop_copy_file_close(&lc->file);
	kfree(lc);
}

/**
 * loop_copy_resize() - give a disk the size of its file
 * @lc: the disk
 *
 * Return: 0.
 */
int loop_copy_resize(struct loop_copy *lc)
{
	u32 block = queue_logical_block_size(lc->disk->queue);

	set_capacity_and_notify(lc->disk, sectors_of(lc, block));
	return 0;
}
