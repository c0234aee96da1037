/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel differences that only blk-copy, loop-copy and null-copy meet. Each
 * shim names the range it is for; see compat.h.
 */
#ifndef LIVEBLK_COMPAT_COPY_H
#define LIVEBLK_COMPAT_COPY_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/utsname.h>
#include <linux/version.h>

/*
 * Copies keep others from the page cache of their destination with the lock of
 * its inode. Buffered reads and writes of block devices take that from 6.15 on,
 * and in the stable releases 6.12.31 and 6.1.159 and those after them; of the
 * rest it is not known.
 */
static inline bool compat_cache_is_locked(unsigned int version)
{
	if (version < KERNEL_VERSION(6, 2, 0))
		return version >= KERNEL_VERSION(6, 1, 159);
	if (version < KERNEL_VERSION(6, 13, 0))
		return version >= KERNEL_VERSION(6, 12, 31);
	return version >= KERNEL_VERSION(6, 15, 0);
}

/* Debian's releases, as 6.1.0-57-amd64, do not tell the sublevel: 0 then. */
static inline unsigned int
compat_running_version(const struct new_utsname *uts)
{
	const char *text = strstr(uts->version, "Debian ");
	unsigned int major, minor, sublevel;

	text = text ? text + strlen("Debian ") : uts->release;
	if (sscanf(text, "%u.%u.%u", &major, &minor, &sublevel) != 3)
		return 0;
	return sublevel ? KERNEL_VERSION(major, minor, sublevel) : 0;
}

/* The headers may be of another sublevel than the kernel that runs. */
static inline bool __compat_copy_is_safe(unsigned int built,
					 const struct new_utsname *uts)
{
	unsigned int running = compat_running_version(uts);
	unsigned int bad = compat_cache_is_locked(built) ? running : built;

	if (!bad || compat_cache_is_locked(bad))
		return true;
	pr_err("blk-copy: Linux %u.%u.%u does not keep programs from writing through the page cache beside a copy; 6.1.159, 6.12.31 and later do\n",
	       bad >> 16, bad >> 8 & 0xff, bad & 0xff);
	return false;
}

/* A test says something else. */
#ifndef compat_built_for
#define compat_built_for LINUX_VERSION_CODE
#endif
#define compat_copy_is_safe() \
	__compat_copy_is_safe(compat_built_for, init_utsname())

static inline unsigned int compat_version(unsigned int major,
					  unsigned int minor,
					  unsigned int sublevel)
{
	return KERNEL_VERSION(major, minor, sublevel);
}

/* Whether a descriptor was opened with O_EXCL, which 6.5 moved. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static inline bool compat_file_claims(struct file *file)
{
	return file->f_mode & FMODE_EXCL;
}

static inline int compat_bdev_try_claim(struct block_device *bdev, void *who)
{
	return bd_prepare_to_claim(bdev, who);
}
#else
static inline bool compat_file_claims(struct file *file)
{
	return file->private_data;
}

static inline int compat_bdev_try_claim(struct block_device *bdev, void *who)
{
	return bd_prepare_to_claim(bdev, who, NULL);
}
#endif

/* 6.5 changed what the functions of a disk are given. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define COMPAT_DISK_OPEN(name) \
	name(struct block_device *compat_bdev, fmode_t compat_mode)
#define COMPAT_DISK_RELEASE(name) \
	name(struct gendisk *compat_disk, fmode_t compat_mode)
#define compat_opened_disk (compat_bdev->bd_disk)
#define compat_opened_for_use (compat_mode & (FMODE_WRITE | FMODE_EXCL))
#else
#define COMPAT_DISK_OPEN(name) \
	name(struct gendisk *compat_disk, blk_mode_t compat_mode)
#define COMPAT_DISK_RELEASE(name) \
	name(struct gendisk *compat_disk)
#define compat_opened_disk compat_disk
#define compat_opened_for_use (compat_mode & (BLK_OPEN_WRITE | BLK_OPEN_EXCL))
#endif

/**
 * struct compat_limits - what a disk is made with
 * @logical: bytes of a logical block
 * @physical: bytes of a physical block
 * @max_sectors: of a request
 * @dma_alignment: mask for the memory of a request
 * @discard_granularity: bytes; 0: no discard
 * @discard_sectors: of a discard
 * @zeroes_sectors: of a write of zeroes; 0: none
 * @zone_sectors: 0: not zoned
 * @max_open_zones: 0: no limit
 * @max_active_zones: 0: no limit
 * @write_cache: there is something to flush
 * @stable_writes: pages must not change while they are written
 * @rotational: seeks are slow
 */
struct compat_limits {
	unsigned int logical;
	unsigned int physical;
	unsigned int max_sectors;
	unsigned int dma_alignment;
	unsigned int discard_granularity;
	unsigned int discard_sectors;
	unsigned int zeroes_sectors;
	unsigned int zone_sectors;
	unsigned int max_open_zones;
	unsigned int max_active_zones;
	bool write_cache;
	bool stable_writes;
	bool rotational;
};

/* Segments of a request: what 1 MiB of single pages takes. */
#define COMPAT_MAX_SEGMENTS 256

/* 6.9 takes the limits when the disk is made; 6.11 has all flags in them. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline void compat_set_zoned(struct gendisk *disk,
				    const struct compat_limits *l)
{
	disk_set_zoned(disk, BLK_ZONED_HM);
	blk_queue_chunk_sectors(disk->queue, l->zone_sectors);
	blk_queue_max_zone_append_sectors(disk->queue,
					  min(l->max_sectors, l->zone_sectors));
	blk_queue_flag_set(QUEUE_FLAG_ZONE_RESETALL, disk->queue);
	disk_set_max_open_zones(disk, l->max_open_zones);
	disk_set_max_active_zones(disk, l->max_active_zones);
}

static inline struct gendisk *
__compat_alloc_disk(struct blk_mq_tag_set *set, const struct compat_limits *l,
		    void *data, struct lock_class_key *key)
{
	struct gendisk *disk = __blk_mq_alloc_disk(set, data, key);
	struct request_queue *q;

	if (IS_ERR(disk))
		return disk;
	q = disk->queue;
	blk_queue_logical_block_size(q, l->logical);
	blk_queue_physical_block_size(q, l->physical);
	blk_queue_max_hw_sectors(q, l->max_sectors);
	blk_queue_max_segments(q, COMPAT_MAX_SEGMENTS);
	blk_queue_dma_alignment(q, l->dma_alignment);
	blk_queue_max_discard_sectors(q, l->discard_sectors);
	q->limits.discard_granularity = l->discard_granularity;
	blk_queue_max_write_zeroes_sectors(q, l->zeroes_sectors);
	blk_queue_write_cache(q, l->write_cache, false);
	if (!l->rotational)
		blk_queue_flag_set(QUEUE_FLAG_NONROT, q);
	blk_queue_flag_clear(QUEUE_FLAG_ADD_RANDOM, q);
	if (l->stable_writes)
		blk_queue_flag_set(QUEUE_FLAG_STABLE_WRITES, q);
	if (l->zone_sectors)
		compat_set_zoned(disk, l);
	return disk;
}
#else
static inline struct gendisk *
__compat_alloc_disk(struct blk_mq_tag_set *set, const struct compat_limits *l,
		    void *data, struct lock_class_key *key)
{
	struct queue_limits lim = {
		.logical_block_size = l->logical,
		.physical_block_size = l->physical,
		.max_hw_sectors = l->max_sectors,
		.max_segments = COMPAT_MAX_SEGMENTS,
		.dma_alignment = l->dma_alignment,
		.max_hw_discard_sectors = l->discard_sectors,
		.discard_granularity = l->discard_granularity,
		.max_write_zeroes_sectors = l->zeroes_sectors,
	};

	if (l->write_cache)
		lim.features |= BLK_FEAT_WRITE_CACHE;
	if (l->stable_writes)
		lim.features |= BLK_FEAT_STABLE_WRITES;
	if (l->rotational)
		lim.features |= BLK_FEAT_ROTATIONAL;
	if (l->zone_sectors) {
		lim.features |= BLK_FEAT_ZONED;
		lim.chunk_sectors = l->zone_sectors;
		lim.max_zone_append_sectors = l->max_sectors;
		lim.max_open_zones = l->max_open_zones;
		lim.max_active_zones = l->max_active_zones;
	}
	return __blk_mq_alloc_disk(set, &lim, data, key);
}
#endif

#define compat_alloc_disk(set, limits, data)			\
({								\
	static struct lock_class_key __key;			\
								\
	__compat_alloc_disk(set, limits, data, &__key);		\
})

#endif
