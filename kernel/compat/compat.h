/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel differences, force-included before every source file of every module.
 * This directory is the only place that knows kernel versions. Each shim names
 * the range it is for. tested.h has those that the modules were tested on.
 */
#ifndef LIVEBLK_COMPAT_H
#define LIVEBLK_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "liveblk needs Linux 6.1 or newer"
#endif

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/shrinker.h>
#include <linux/device-mapper.h>

/* 6.12 moved the header. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#include <asm/unaligned.h>
#else
#include <linux/unaligned.h>
#endif

/* 6.5 gave block devices an open mode type of their own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define COMPAT_BLK_OPEN_WRITE FMODE_WRITE
typedef fmode_t compat_blk_mode_t;
#else
#define COMPAT_BLK_OPEN_WRITE BLK_OPEN_WRITE
typedef blk_mode_t compat_blk_mode_t;
#endif

/* 6.9 moved the fields of struct file_lock into struct file_lock_core. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
#define compat_flock_type(fl) ((fl)->fl_type)
static inline void compat_flock_init(struct file_lock *fl, struct file *file,
				     unsigned char type)
{
	locks_init_lock(fl);
	fl->fl_type = type;
	fl->fl_flags = FL_POSIX | FL_OFDLCK;
	fl->fl_owner = file;
	fl->fl_file = file;
	fl->fl_pid = -1;
}
#else
#include <linux/filelock.h>
#define compat_flock_type(fl) ((fl)->c.flc_type)
static inline void compat_flock_init(struct file_lock *fl, struct file *file,
				     unsigned char type)
{
	locks_init_lock(fl);
	fl->c.flc_type = type;
	fl->c.flc_flags = FL_POSIX | FL_OFDLCK;
	fl->c.flc_owner = file;
	fl->c.flc_file = file;
	fl->c.flc_pid = -1;
}
#endif

/*
 * 6.7 allocates shrinkers. The pointer form is used throughout; below 6.7 the
 * shrinker is embedded and the pointer refers to it.
 */
struct compat_shrinker {
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	struct shrinker s;
#else
	struct shrinker *s;
	void *owner;
#endif
};

typedef unsigned long (*compat_shrink_fn)(struct shrinker *s,
					  struct shrink_control *sc);

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
static inline int compat_shrinker_register(struct compat_shrinker *c,
					   compat_shrink_fn count,
					   compat_shrink_fn scan,
					   const char *name)
{
	c->s.count_objects = count;
	c->s.scan_objects = scan;
	c->s.seeks = DEFAULT_SEEKS;
	return register_shrinker(&c->s, "%s", name);
}

static inline void compat_shrinker_unregister(struct compat_shrinker *c)
{
	unregister_shrinker(&c->s);
}

#define compat_shrinker_owner(sh, type, member) \
	container_of(sh, type, member.s)
#else
static inline int compat_shrinker_register(struct compat_shrinker *c,
					   compat_shrink_fn count,
					   compat_shrink_fn scan,
					   const char *name)
{
	c->s = shrinker_alloc(0, "%s", name);
	if (!c->s)
		return -ENOMEM;
	c->s->count_objects = count;
	c->s->scan_objects = scan;
	c->s->private_data = c;
	shrinker_register(c->s);
	return 0;
}

static inline void compat_shrinker_unregister(struct compat_shrinker *c)
{
	shrinker_free(c->s);
}

#define compat_shrinker_owner(sh, type, member) \
	container_of((struct compat_shrinker *)(sh)->private_data, type, member)
#endif

/*
 * The most sectors of a discard or write of zeroes: the size of a bio has 32 bits.
 * Below 6.12 the block layer believes a disk that promises more, and cuts off
 * the upper ones.
 */
#define COMPAT_MAX_EMPTY_SECTORS ((UINT_MAX & PAGE_MASK) >> SECTOR_SHIFT)

/* 6.11 turned queue flags into queue limits features. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline void compat_limits_discard(struct queue_limits *lim,
					 unsigned int sectors,
					 unsigned int granularity)
{
	lim->max_discard_sectors = sectors;
	lim->max_hw_discard_sectors = sectors;
	lim->discard_granularity = granularity;
}

static inline void compat_limits_stable_writes(struct queue_limits *lim,
					       bool stable)
{
}
#else
static inline void compat_limits_discard(struct queue_limits *lim,
					 unsigned int sectors,
					 unsigned int granularity)
{
	lim->max_hw_discard_sectors = sectors;
	lim->discard_granularity = granularity;
}

static inline void compat_limits_stable_writes(struct queue_limits *lim,
					       bool stable)
{
	if (stable)
		lim->features |= BLK_FEAT_STABLE_WRITES;
	lim->features &= ~BLK_FEAT_POLL;
}
#endif

/* Of a device below that begins at an odd place: the image has places of its own. */
static inline void compat_limits_align(struct queue_limits *lim)
{
	lim->alignment_offset = 0;
	lim->discard_alignment = 0;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	lim->misaligned = 0;
	lim->discard_misaligned = 0;
#else
	lim->flags &= ~BLK_FLAG_MISALIGNED;
#endif
}

/*
 * What a table is given that has no devices below. Device-mapper would leave it
 * the limits of the table that it replaces.
 */
static inline void compat_limits_start(struct queue_limits *lim)
{
	blk_set_stacking_limits(lim);
	lim->max_secure_erase_sectors = 0;
	lim->max_zone_append_sectors = 0;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	lim->features = BLK_FEAT_IO_STAT | BLK_FEAT_NOWAIT |
			BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA;
#endif
}

/*
 * Limits for the disk of a table that is live from now on, in .resume. They are
 * whole: from compat_limits_start(), with no device below.
 */
static inline void compat_disk_limits(struct mapped_device *md,
				      struct queue_limits *lim, bool stable)
{
	struct request_queue *q = dm_disk(md)->queue;

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	q->limits = *lim;
	blk_queue_write_cache(q, true, true);
	blk_queue_flag_set(QUEUE_FLAG_NOWAIT, q);
	blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	blk_queue_flag_clear(QUEUE_FLAG_POLL, q);
	if (stable)
		blk_queue_flag_set(QUEUE_FLAG_STABLE_WRITES, q);
	else
		blk_queue_flag_clear(QUEUE_FLAG_STABLE_WRITES, q);
	disk_update_readahead(dm_disk(md));
#else
	if (queue_limits_set(q, lim))
		pr_warn_once("liveblk: cannot set the limits of a disk\n");
#endif
}

/*
 * The same for one limit, which device-mapper takes away from a table if a
 * device below has none.
 */
static inline void compat_disk_write_zeroes(struct mapped_device *md,
					    unsigned int sectors)
{
	struct request_queue *q = dm_disk(md)->queue;

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	q->limits.max_write_zeroes_sectors = sectors;
#else
	struct queue_limits lim = queue_limits_start_update(q);

	lim.max_write_zeroes_sectors = sectors;
	/* Fails for limits that make no sense, which are in use already. */
	if (queue_limits_commit_update(q, &lim))
		pr_warn_once("liveblk: cannot set the limits of a disk\n");
#endif
}

/*
 * A file whose pages must not change while they are written (checksums, signatures).
 * Below 6.7 btrfs and SMB do not say so of themselves.
 */
static inline bool compat_inode_stable_writes(struct inode *inode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	struct super_block *sb = inode->i_sb;

	return (sb->s_iflags & SB_I_STABLE_WRITES) ||
	       sb->s_magic == BTRFS_SUPER_MAGIC ||
	       sb->s_magic == CIFS_SUPER_MAGIC || sb->s_magic == SMB2_SUPER_MAGIC;
#else
	return mapping_stable_writes(inode->i_mapping);
#endif
}

/*
 * Whether the current task has requests in its plug that are not sent when it
 * sleeps: blk-mq is sending them one by one, and the caller is one of them. All
 * kernels; only the type of the list differs.
 */
static inline bool compat_plug_is_stuck(void)
{
	struct blk_plug *plug = current->plug;

	return plug && !plug->rq_count && rq_list_peek(&plug->mq_list);
}

/* The page cache of a block device. */
static inline struct address_space *compat_bdev_mapping(struct block_device *bdev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	return bdev->bd_inode->i_mapping;
#else
	return bdev->bd_mapping;
#endif
}

#endif
