/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * null-copy: the parts and how they fit.
 *
 *   main.c    loading and unloading
 *   config.c  configfs: what a disk is to be like, and the switch
 *   disk.c    a disk and its requests, copies among them
 *   store.c   the bytes: pages, and holes where there are none
 *   zone.c    zones and their write pointers
 *   fault.c   errors and delays that were asked for
 *
 * Lock order, outermost first:
 *
 *   null_copy_item.lock    the switch and the values (config.c)
 *   null_copy_gone_lock    disks that go, against reports of their zones
 *   null_copy.zone_lock    write pointers and conditions, held while data goes
 *                          into a sequential zone
 *   null_copy.fault_lock   the list of faults; a leaf
 *   the store's xa_lock    a leaf
 */
#ifndef NULL_COPY_H
#define NULL_COPY_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>

#include "../compat/copy.h"
#include "../blk-copy/api.h"

#undef pr_fmt
#define pr_fmt(fmt) "null-copy: " fmt

/**
 * struct null_copy_config - what a disk is to be like
 * @size: MiB
 * @blocksize: bytes of a logical block
 * @submit_queues: number of hardware queues
 * @hw_queue_depth: requests of one of them
 * @completion_nsec: how long each request takes
 * @copy_max_bytes: of one piece; 0: it does not copy
 * @zoned: host-managed zones
 * @zone_size: MiB of a zone, a power of two
 * @zone_nr_conv: how many zones, at the beginning, are conventional
 * @zone_max_open: 0: no limit
 * @zone_max_active: 0: no limit
 */
struct null_copy_config {
	u64 size;
	u32 blocksize;
	u32 submit_queues;
	u32 hw_queue_depth;
	u64 completion_nsec;
	u64 copy_max_bytes;
	bool zoned;
	u64 zone_size;
	u32 zone_nr_conv;
	u32 zone_max_open;
	u32 zone_max_active;
};

/**
 * struct null_copy_zone - a zone; offsets are bytes on the disk
 * @start: its first byte
 * @wp: write pointer; of a conventional zone, @start
 * @cond: BLK_ZONE_COND_*
 */
struct null_copy_zone {
	u64 start;
	u64 wp;
	u8 cond;
};

enum null_copy_fault_ops {
	NULL_COPY_READ = 1,
	NULL_COPY_WRITE = 2,
	NULL_COPY_DISCARD = 4,
	NULL_COPY_FLUSH = 8,
	NULL_COPY_COPY = 16,
};

/**
 * struct null_copy_verdict - what the faults have in store for a request
 * @allowed: how many bytes of it are done; all of them: no error
 * @delay_ns: how long it takes longer
 * @fails: ends with an error after @allowed
 */
struct null_copy_verdict {
	u64 allowed;
	u64 delay_ns;
	bool fails;
};

/**
 * struct null_copy - a disk
 * @config: as it was when the disk was made
 * @disk: the disk
 * @number: in its name
 * @tag_set: its queues
 * @provider: at blk-copy
 * @pages: the store: pages by their number
 * @nr_pages: how many there are
 * @zones: all zones, under @zone_lock
 * @nr_zones: 0: not zoned
 * @zone_bytes: of a zone
 * @open: zones that are open
 * @active: zones that are open or closed
 * @zone_lock: see above
 * @faults: list of struct null_copy_fault
 * @fault_lock: protects @faults
 */
struct null_copy {
	struct null_copy_config config;
	struct gendisk *disk;
	int number;
	struct blk_mq_tag_set tag_set;
	struct blk_copy_provider *provider;
	struct xarray pages;
	atomic_long_t nr_pages;
	struct null_copy_zone *zones;
	unsigned int nr_zones;
	u64 zone_bytes;
	unsigned int open;
	unsigned int active;
	struct mutex zone_lock; /* zones, open, active */
	struct list_head faults;
	spinlock_t fault_lock; /* faults */
};

/* disk.c */
struct null_copy *null_copy_create(const struct null_copy_config *config);
void null_copy_destroy(struct null_copy *nc);

/* store.c */
int null_copy_write(struct null_copy *nc, u64 pos, struct bio_vec *bv);
void null_copy_read(struct null_copy *nc, u64 pos, struct bio_vec *bv);
void null_copy_zero(struct null_copy *nc, u64 pos, u64 len);
int null_copy_move(struct null_copy *nc, u64 src, u64 dst, u64 len);
void null_copy_free_store(struct null_copy *nc);

/* zone.c */
int null_copy_zones_init(struct null_copy *nc);
void null_copy_zones_exit(struct null_copy *nc);
bool null_copy_is_seq(const struct null_copy *nc, u64 pos);
blk_status_t null_copy_zone_begin(struct null_copy *nc, u64 pos, u64 len);
blk_status_t null_copy_zone_append(struct null_copy *nc, u64 *pos, u64 len);
void null_copy_zone_advance(struct null_copy *nc, u64 pos, u64 len);
u64 null_copy_zone_wp(const struct null_copy *nc, u64 pos);
u64 null_copy_zone_end(const struct null_copy *nc, u64 pos);
blk_status_t null_copy_zone_manage(struct null_copy *nc, enum req_op op,
				   u64 pos);
int null_copy_report_zones(struct null_copy *nc, sector_t sector,
			   unsigned int nr, report_zones_cb cb, void *data);

/* fault.c */
int null_copy_fault_add(struct null_copy *nc, const char *line);
void null_copy_fault_clear(struct null_copy *nc);
ssize_t null_copy_fault_show(struct null_copy *nc, char *page);
void null_copy_fault_check(struct null_copy *nc, enum null_copy_fault_ops op,
			   u64 pos, u64 to, u64 len,
			   struct null_copy_verdict *v);

/* config.c */
int null_copy_config_init(void);
void null_copy_config_exit(void);

#endif
