// SPDX-License-Identifier: GPL-2.0-only
/*
 * The qcow2 target: what device-mapper calls.
 *
 * A constructor opens and validates and changes nothing, because the old table
 * may be live. preresume locks the image and reads it anew; postsuspend leaves
 * it clean and lets go of it. The destructor never writes. Takes no locks.
 */
#include "target.h"

#include <linux/module.h>

#include "../compat/tested.h"

static const char * const mode_names[] = { "rw", "ro", "fail" };

/* No limit for a bio: device-mapper would split it, see qcow2_fast_rw(). */
static void target_set_up(struct dm_target *ti)
{
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->num_discard_bios = 1;
	ti->discards_supported = true;
	ti->num_write_zeroes_bios = 1;
	ti->per_io_data_size = sizeof(struct qcow2_io);
}

static int target_open(struct dm_target *ti, const struct qcow2_options *opt,
		       const struct qcow2_images *images)
{
	struct qcow2_target *t = qcow2_device_new(ti, opt);
	int r;

	if (!t) {
		ti->error = "out of memory";
		return -ENOMEM;
	}
	r = qcow2_device_open(t, images, &ti->error);
	if (r) {
		qcow2_device_destroy(t);
		return r;
	}
	target_set_up(ti);
	ti->private = t;
	return 0;
}

/* See options.c for the arguments. */
static int target_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	struct qcow2_images images = {};
	struct qcow2_options opt = {};
	int r;

	r = qcow2_options_parse(&opt, &as, &images, &ti->error);
	if (!(dm_table_get_mode(ti->table) & COMPAT_BLK_OPEN_WRITE))
		opt.read_only = true;
	if (!r)
		r = target_open(ti, &opt, &images);
	kvfree(images.backing);
	return r;
}

static void target_dtr(struct dm_target *ti)
{
	qcow2_device_destroy(ti->private);
}

static int target_map(struct dm_target *ti, struct bio *bio)
{
	struct qcow2_target *t = ti->private;
	struct qcow2_io *io = dm_per_bio_data(bio, sizeof(*io));

	io->rq.dev = &t->dev;
	io->rq.error = 0;
	io->flags = 0;
	io->start = dm_target_offset(ti, bio->bi_iter.bi_sector) << SECTOR_SHIFT;
	io->rq.end = io->start + bio->bi_iter.bi_size;
	if (unlikely(t->dev.image.recorders.nr) && op_is_write(bio_op(bio)))
		qcow2_bio_record(bio, io);

	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		if (unlikely(!bio->bi_iter.bi_size))
			return qcow2_fast_flush(bio, io);
		return qcow2_fast_rw(bio, io);
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		qcow2_bio_punt(io);
		return DM_MAPIO_SUBMITTED;
	default:
		return DM_MAPIO_KILL;
	}
}

static int target_end_io(struct dm_target *ti, struct bio *bio,
			 blk_status_t *error)
{
	struct qcow2_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct qcow2_target *t = ti->private;

	if (test_bit(QCOW2_IO_PINNED, &io->flags))
		qcow2_map_put(&t->dev.map, io->pin);
	/* A redirected bio: others were counted where they failed. */
	if (unlikely(*error) && !io->rq.error && *error != BLK_STS_AGAIN)
		qcow2_count_error(&t->dev.core, blk_status_to_errno(*error));
	return DM_ENDIO_DONE;
}

static int target_preresume(struct dm_target *ti)
{
	struct qcow2_target *t = ti->private;

	/* Let a file system above know before it tries to write. */
	if (t->opt.read_only)
		set_disk_ro(dm_disk(dm_table_get_md(ti->table)), true);
	return qcow2_device_start(t);
}

/*
 * A block device is reported, for NOWAIT, the alignment of memory, and whether
 * it turns. A file is nothing that device-mapper knows; that the function
 * exists makes it look at the rest: hints, NOWAIT, write-zeroes.
 */
static int target_iterate_devices(struct dm_target *ti,
				  iterate_devices_callout_fn fn, void *data)
{
	struct qcow2_target *t = ti->private;
	struct qcow2_store *st = qcow2_data(&t->dev);
	int r = 0;

	if (st->dev)
		r = fn(ti, st->dev, 0, bdev_nr_sectors(st->bdev), data);
	return r ?: qcow2_chain_devices(t, fn, data);
}

static unsigned int target_most_zeroes(const struct qcow2_target *t)
{
	/* A suspend waits for all that one bio has written. */
	if (qcow2_identity(&t->dev.image.layer))
		return QCOW2_RAW_ZEROES >> SECTOR_SHIFT;
	return rounddown(COMPAT_MAX_EMPTY_SECTORS,
			 qcow2_cluster(&t->dev.image.layer) >> SECTOR_SHIFT);
}

/*
 * Ours, whatever those of a block device are: what does not suit it is bounced,
 * and where it wants bios to be split is no place in the image.
 */
static void target_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct qcow2_target *t = ti->private;
	u32 cluster = qcow2_cluster(&t->dev.image.layer);

	limits->logical_block_size = SECTOR_SIZE;
	limits->physical_block_size = qcow2_store_block(qcow2_data(&t->dev));
	limits->io_min = limits->physical_block_size;
	limits->io_opt = cluster;
	limits->chunk_sectors = 0;
	compat_limits_align(limits);
	limits->dma_alignment = max(limits->dma_alignment,
				    t->dev.mem_align - 1);
	limits->max_write_zeroes_sectors = target_most_zeroes(t);
	compat_limits_stable_writes(limits,
				    qcow2_store_stable(qcow2_data(&t->dev)));
	compat_limits_discard(limits, target_most_zeroes(t), cluster);
}

/* What device-mapper would take from the table before, or from the store. */
static void target_set_limits(struct dm_target *ti)
{
	struct mapped_device *md = dm_table_get_md(ti->table);
	struct qcow2_target *t = ti->private;
	struct queue_limits lim;

	if (qcow2_data(&t->dev)->bdev) {
		compat_disk_write_zeroes(md, target_most_zeroes(t));
		return;
	}
	compat_limits_start(&lim);
	target_io_hints(ti, &lim);
	compat_disk_limits(md, &lim, qcow2_store_stable(qcow2_data(&t->dev)));
}

static void target_resume(struct dm_target *ti)
{
	struct qcow2_target *t = ti->private;

	target_set_limits(ti);
	if (t->dev.copy)
		blk_copy_activate(t->dev.copy);
}

/* Copies wait from here on, for this table or for the one that replaces it. */
static void target_presuspend(struct dm_target *ti)
{
	struct qcow2_target *t = ti->private;

	if (t->dev.copy)
		blk_copy_pause(t->dev.copy);
}

static void target_presuspend_undo(struct dm_target *ti)
{
	struct qcow2_target *t = ti->private;

	if (t->dev.copy)
		blk_copy_activate(t->dev.copy);
}

static void target_postsuspend(struct dm_target *ti)
{
	qcow2_device_stop(ti->private);
}

static u64 target_sum(const struct qcow2_target *t, enum qcow2_stat which)
{
	return qcow2_stat_sum(&t->dev.core, which);
}

static void target_status_info(struct qcow2_target *t, char *result,
			       unsigned int maxlen)
{
	struct qcow2_core *c = &t->dev.core;
	struct qcow2_image *q = &t->dev.image;
	unsigned int sz = 0;

	DMEMIT("%s %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %u %u %s %llu",
	       mode_names[READ_ONCE(c->mode)],
	       target_sum(t, QCOW2_STAT_ALLOC), target_sum(t, QCOW2_STAT_FREE),
	       target_sum(t, QCOW2_STAT_HIT), target_sum(t, QCOW2_STAT_MISS),
	       (u64)atomic64_read(&c->errors),
	       (u64)atomic64_read(&c->enospc_errors),
	       target_sum(t, QCOW2_STAT_INLINE), target_sum(t, QCOW2_STAT_PUNT),
	       target_sum(t, QCOW2_STAT_COW), target_sum(t, QCOW2_STAT_COMMIT),
	       READ_ONCE(q->layer.cache.cached), READ_ONCE(q->txn.nr_dirty),
	       qcow2_data(&t->dev)->direct ? "direct" : "buffered",
	       target_sum(t, QCOW2_STAT_UNPACK) +
	       qcow2_chain_sum(t, QCOW2_STAT_UNPACK));
}

/* See Documentation/dm-qcow2.rst for the fields. */
static void target_status(struct dm_target *ti, status_type_t type,
			  unsigned int status_flags, char *result,
			  unsigned int maxlen)
{
	struct qcow2_target *t = ti->private;

	switch (type) {
	case STATUSTYPE_INFO:
		target_status_info(t, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		qcow2_options_emit(t, result, maxlen);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

static int target_message(struct dm_target *ti, unsigned int argc, char **argv,
			  char *result, unsigned int maxlen)
{
	if (argc != 1 || strcmp(argv[0], "commit"))
		return -EINVAL;
	return qcow2_device_commit(ti->private);
}

static struct target_type qcow2_target_type = {
	.name = "qcow2",
	.version = { 1, 0, 0 },
	.features = DM_TARGET_NOWAIT | DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = target_ctr,
	.dtr = target_dtr,
	.map = target_map,
	.end_io = target_end_io,
	.preresume = target_preresume,
	.resume = target_resume,
	.presuspend = target_presuspend,
	.presuspend_undo = target_presuspend_undo,
	.postsuspend = target_postsuspend,
	.status = target_status,
	.message = target_message,
	.iterate_devices = target_iterate_devices,
	.io_hints = target_io_hints,
};

static int __init target_init(void)
{
	int err = compat_check_kernel() ?: qcow2_xform_init();

	BUILD_BUG_ON(sizeof(struct qcow2_header) != 112);
	BUILD_BUG_ON(PAGE_SIZE != QCOW2_BLOCK_SIZE);
	if (err)
		return err;
	err = dm_register_target(&qcow2_target_type);
	if (err)
		qcow2_xform_exit();
	return err;
}

static void __exit target_exit(void)
{
	dm_unregister_target(&qcow2_target_type);
	qcow2_loss_drop_all();
	/* Blocks of the cache are freed after a grace period, and clusters. */
	rcu_barrier();
	qcow2_xform_exit();
}

module_init(target_init);
module_exit(target_exit);

MODULE_DESCRIPTION("device-mapper target for QCOW2 images");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
