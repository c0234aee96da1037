/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel differences that only blk-interposer meets. Each shim names the range
 * it is for; see compat.h.
 */
#ifndef LIVEBLK_COMPAT_INTERPOSER_H
#define LIVEBLK_COMPAT_INTERPOSER_H

#include <linux/blk-integrity.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/version.h>

/* 6.2 hides the registers of an ftrace callback behind accessors. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define compat_ftrace_arg0(fregs) \
	regs_get_kernel_argument(&(fregs)->regs, 0)
#else
#define compat_ftrace_arg0(fregs) ftrace_regs_get_argument(fregs, 0)
#endif

/* A function with the argument disk. From 6.5 on that is not told how it was open. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define COMPAT_DEFINE_DISK_RELEASE(name) \
	static void name(struct gendisk *disk, fmode_t mode)
#else
#define COMPAT_DEFINE_DISK_RELEASE(name) \
	static void name(struct gendisk *disk)
#endif

/* Where there is such a flag only some zoned devices reset all zones at once; later all do. */
static inline bool compat_bdev_resets_all(struct block_device *bdev)
{
#ifdef blk_queue_zone_resetall
	return bdev_is_zoned(bdev) &&
	       blk_queue_zone_resetall(bdev_get_queue(bdev));
#else
	return bdev_is_zoned(bdev);
#endif
}

/**
 * struct compat_bdev - an open block device
 * @bdev: the device
 * @file: its file, from 6.9 on
 */
struct compat_bdev {
	struct block_device *bdev;
	struct file *file;
};

/*
 * Opened for reading: a file system may deny write opens, and nobody checks
 * when bios are sent. Never exclusive, as the file system is.
 */
static inline int compat_bdev_open(struct compat_bdev *c, dev_t dev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	struct block_device *bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);

	c->file = NULL;
	c->bdev = IS_ERR(bdev) ? NULL : bdev;
	return PTR_ERR_OR_ZERO(bdev);
#else
	c->bdev = NULL;
	c->file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(c->file))
		return PTR_ERR(c->file);
	c->bdev = file_bdev(c->file);
	return 0;
#endif
}

static inline void compat_bdev_close(struct compat_bdev *c)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	blkdev_put(c->bdev, FMODE_READ);
#else
	bdev_fput(c->file);
#endif
	c->bdev = NULL;
	c->file = NULL;
}

/*
 * 6.8 renamed these. From 6.6 on a file system that its user has frozen may be
 * frozen once more, so that it has to be looked for.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define compat_bdev_freeze freeze_bdev
#define compat_bdev_thaw thaw_bdev
static inline bool compat_bdev_frozen(struct block_device *bdev)
{
	return READ_ONCE(bdev->bd_fsfreeze_count) > 0;
}

static inline bool compat_super_frozen(struct block_device *bdev)
{
	return READ_ONCE(bdev->bd_fsfreeze_sb);
}
#else
#define compat_bdev_thaw bdev_thaw

/* The file system on it, with a reference, or NULL. */
static inline struct super_block *compat_bdev_super(struct block_device *bdev)
{
	struct super_block *sb = NULL;

	mutex_lock(&bdev->bd_holder_lock);
	if (bdev->bd_holder_ops == &fs_holder_ops)
		sb = bdev->bd_holder;
	if (sb && !atomic_inc_not_zero(&sb->s_active))
		sb = NULL;
	mutex_unlock(&bdev->bd_holder_lock);
	return sb;
}

/*
 * It returns an error of earlier writes to the device, which is nothing to us, and
 * leaves the file system frozen then.
 */
static inline int compat_bdev_freeze(struct block_device *bdev)
{
	const enum freeze_holder who = FREEZE_MAY_NEST | FREEZE_HOLDER_USERSPACE;
	struct super_block *sb;
	int err;

	sync_blockdev(bdev);
	err = bdev_freeze(bdev);
	if (!err)
		return 0;
	sb = compat_bdev_super(bdev);
	if (!sb)
		return err;
	if (READ_ONCE(sb->s_writers.frozen) == SB_FREEZE_COMPLETE) {
		if (sb->s_op->thaw_super)
			sb->s_op->thaw_super(sb, who);
		else
			thaw_super(sb, who);
	}
	deactivate_super(sb);
	return err;
}

/* Whether there is a file system on it, and it is frozen. */
static inline bool compat_super_frozen(struct block_device *bdev)
{
	bool frozen = false;
	struct super_block *sb;

	mutex_lock(&bdev->bd_holder_lock);
	if (bdev->bd_holder_ops == &fs_holder_ops && bdev->bd_holder) {
		sb = bdev->bd_holder;
		frozen = READ_ONCE(sb->s_writers.frozen) != SB_UNFROZEN;
	}
	mutex_unlock(&bdev->bd_holder_lock);
	return frozen;
}

static inline bool compat_bdev_frozen(struct block_device *bdev)
{
	return atomic_read(&bdev->bd_fsfreeze_count) > 0 ||
	       compat_super_frozen(bdev);
}
#endif

/* 6.11 has atomic writes, for disks that can; ours cannot. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline bool compat_bio_atomic(struct bio *bio) { return false; }
#else
static inline bool compat_bio_atomic(struct bio *bio)
{
	return bio->bi_opf & REQ_ATOMIC;
}
#endif

/* 6.6 wants to know on whose behalf. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define compat_super_freeze freeze_super
#define compat_super_thaw thaw_super
#else
#define compat_super_freeze(sb) freeze_super(sb, FREEZE_HOLDER_KERNEL)
#define compat_super_thaw(sb) thaw_super(sb, FREEZE_HOLDER_KERNEL)
#endif

/* All kernels: dm-mod exports these, and declares them in a header of its own. */
void dm_internal_suspend_fast(struct mapped_device *md);
void dm_internal_resume_fast(struct mapped_device *md);

/* An original may promise more than fits into a bio, see compat.h. */
static inline void compat_mirror_bound(struct queue_limits *lim)
{
	const unsigned int most = COMPAT_MAX_EMPTY_SECTORS;

	lim->max_discard_sectors = min(lim->max_discard_sectors, most);
	lim->max_hw_discard_sectors = min(lim->max_hw_discard_sectors, most);
	lim->max_write_zeroes_sectors = min(lim->max_write_zeroes_sectors, most);
}

/* 6.11 takes the limits when the disk is made, and keeps all flags in them. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline void compat_mirror_cache(struct gendisk *disk,
				       struct block_device *bdev)
{
	bool cache = bdev_write_cache(bdev);

	blk_queue_write_cache(disk->queue, cache, cache && bdev_fua(bdev));
}

static inline void compat_mirror_flag(struct gendisk *disk,
				      struct block_device *bdev,
				      unsigned int flag)
{
	if (test_bit(flag, &bdev_get_queue(bdev)->queue_flags))
		blk_queue_flag_set(flag, disk->queue);
	else
		blk_queue_flag_clear(flag, disk->queue);
}

static inline struct gendisk *compat_alloc_mirror(struct block_device *bdev)
{
	struct queue_limits *from = &bdev_get_queue(bdev)->limits;
	struct gendisk *disk = blk_alloc_disk(NUMA_NO_NODE);
	struct queue_limits *lim;

	if (!disk)
		return ERR_PTR(-ENOMEM);
	lim = &disk->queue->limits;
	blk_set_stacking_limits(lim);
	/* Fails for a partition that is misaligned, which goes on being so. */
	blk_stack_limits(lim, from, get_start_sect(bdev));
	compat_mirror_bound(lim);
	lim->dma_alignment = from->dma_alignment;
	lim->zone_write_granularity = from->zone_write_granularity;
	compat_mirror_cache(disk, bdev);
	compat_mirror_flag(disk, bdev, QUEUE_FLAG_NOWAIT);
	compat_mirror_flag(disk, bdev, QUEUE_FLAG_NONROT);
	compat_mirror_flag(disk, bdev, QUEUE_FLAG_STABLE_WRITES);
	compat_mirror_flag(disk, bdev, QUEUE_FLAG_ZONE_RESETALL);
	return disk;
}

static inline bool compat_zones_differ(struct block_device *a,
				       struct block_device *b)
{
	return bdev_zoned_model(a) != bdev_zoned_model(b) ||
	       (bdev_is_zoned(a) && bdev_zone_sectors(a) != bdev_zone_sectors(b));
}
#else
static inline void compat_mirror_features(struct queue_limits *lim,
					  struct block_device *bdev)
{
	lim->features &= ~(BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA);
	if (!bdev_write_cache(bdev))
		return;
	lim->features |= BLK_FEAT_WRITE_CACHE;
	if (bdev_fua(bdev))
		lim->features |= BLK_FEAT_FUA;
}

static inline void compat_mirror_cache(struct gendisk *disk,
				       struct block_device *bdev)
{
	struct queue_limits lim = queue_limits_start_update(disk->queue);

	compat_mirror_features(&lim, bdev);
	/* Fails for limits that make no sense, which are in use already. */
	if (queue_limits_commit_update(disk->queue, &lim))
		pr_warn_once("liveblk: cannot set the limits of a disk\n");
}

static inline struct gendisk *compat_alloc_mirror(struct block_device *bdev)
{
	struct queue_limits *from = &bdev_get_queue(bdev)->limits;
	struct queue_limits lim;

	blk_set_stacking_limits(&lim);
	lim.features = BLK_FEAT_NOWAIT;
	blk_stack_limits(&lim, from, get_start_sect(bdev));
	compat_mirror_bound(&lim);
	lim.features &= ~BLK_FEAT_BOUNCE_HIGH;
	lim.dma_alignment = from->dma_alignment;
	if (lim.features & BLK_FEAT_ZONED) {
		lim.max_open_zones = from->max_open_zones;
		lim.max_active_zones = from->max_active_zones;
	}
	compat_mirror_features(&lim, bdev);
	return blk_alloc_disk(&lim, NUMA_NO_NODE);
}

static inline bool compat_zones_differ(struct block_device *a,
				       struct block_device *b)
{
	return bdev_is_zoned(a) != bdev_is_zoned(b) ||
	       (bdev_is_zoned(a) && bdev_zone_sectors(a) != bdev_zone_sectors(b));
}
#endif

/* Up to 6.2 some drivers read and write pages past the block layer. */
static inline bool compat_bdev_rw_page(struct block_device *bdev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return bdev->bd_disk->fops->rw_page;
#else
	return false;
#endif
}

/* A profile for inline encryption hangs at the queue where it is built in. */
static inline bool compat_bdev_encrypts(struct block_device *bdev)
{
#ifdef CONFIG_BLK_INLINE_ENCRYPTION
	return bdev_get_queue(bdev)->crypto_profile;
#else
	return false;
#endif
}

#endif
