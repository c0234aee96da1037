// SPDX-License-Identifier: GPL-2.0-only
/*
 * The qcow2 target: what device-mapper calls.
 *
 * A constructor opens and validates and changes nothing, because the old table
 * may be live. preresume locks the image and reads it anew; postsuspend leaves
 * it clean and lets go of it. The destructor never writes.
 */
#include "../compat/tested.h"
#include "dm-qcow2.h"

#include <linux/module.h>
#include <linux/slab.h>

#define DEFAULT_CACHE_KIB 32768
#define MIN_CACHE_KIB 64

static const char * const mode_names[] = { "rw", "ro", "fail" };

static int parse_cache(struct dm_arg_set *as, struct qcow2_image *q,
		       char **error)
{
	const char *value = as->argc ? dm_shift_arg(as) : NULL;

	if (!value || kstrtou32(value, 10, &q->cache_limit) ||
	    q->cache_limit < MIN_CACHE_KIB) {
		*error = "cache_kib needs a number of KiB, at least 64";
		return -EINVAL;
	}
	return 0;
}

static int parse_optional(struct dm_arg_set *as, struct qcow2_image *q,
			  char **error)
{
	static const struct dm_arg count = {
		0, 64, "invalid number of optional arguments"
	};
	unsigned int nr;
	const char *arg;
	int r = 0;

	if (!as->argc)
		return 0;
	r = dm_read_arg_group(&count, as, &nr, error);
	if (r)
		return r;
	if (as->argc != nr) {
		*error = "more arguments than the number of them says";
		return -EINVAL;
	}
	while (!r && as->argc) {
		arg = dm_shift_arg(as);
		if (!strcmp(arg, "read_only")) {
			q->read_only = true;
		} else if (!strcmp(arg, "no_lock")) {
			q->no_lock = true;
		} else if (!strcmp(arg, "accept_loss")) {
			q->accept_loss = true;
		} else if (!strcmp(arg, "cache_kib")) {
			r = parse_cache(as, q, error);
		} else if (!strcmp(arg, "backing") ||
			   !strcmp(arg, "data_file")) {
			*error = "backing and data_file are not supported yet";
			r = -EOPNOTSUPP;
		} else {
			*error = "unknown optional argument";
			r = -EINVAL;
		}
	}
	return r;
}

/* Bios end in any context; dm_table_event() may sleep. */
static void event_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     event_work);

	dm_table_event(q->ti->table);
}

static void init_locks(struct qcow2_image *q)
{
	mutex_init(&q->state_lock);
	mutex_init(&q->header_lock);
	mutex_init(&q->fsync_lock);
	mutex_init(&q->alloc_lock);
	mutex_init(&q->reftable_lock);
	mutex_init(&q->free_mutex);
	spin_lock_init(&q->md_lock);
	spin_lock_init(&q->range_lock);
	spin_lock_init(&q->flush_lock);
	q->ranges = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&q->dirty_l2);
	INIT_LIST_HEAD(&q->dirty_refs);
	INIT_LIST_HEAD(&q->frees);
	INIT_LIST_HEAD(&q->flushes);
	INIT_LIST_HEAD(&q->commit_waits);
	INIT_LIST_HEAD(&q->free_ready);
	INIT_LIST_HEAD(&q->free_pool);
	init_waitqueue_head(&q->commit_wait);
	init_waitqueue_head(&q->free_wait);
	init_completion(&q->commit_io);
	xa_init(&q->hints);
	xa_init(&q->reported);
	xa_init(&q->new_meta);
	INIT_WORK(&q->commit_work, qcow2_commit_work);
	INIT_WORK(&q->free_work, qcow2_free_work);
	INIT_WORK(&q->event_work, event_work);
	INIT_DELAYED_WORK(&q->commit_later, qcow2_commit_later_work);
}

static int init_resources(struct qcow2_image *q)
{
	int r;

	q->stats = alloc_percpu(struct qcow2_stats);
	q->slots = kcalloc(QCOW2_COMMIT_SLOTS, sizeof(*q->slots), GFP_KERNEL);
	q->io_wq = alloc_workqueue("qcow2_io", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	q->commit_wq = alloc_workqueue("qcow2_commit", WQ_MEM_RECLAIM, 0);
	/* Unbound: a long batch must not keep a commit from a processor. */
	q->free_wq = alloc_workqueue("qcow2_free", WQ_MEM_RECLAIM | WQ_UNBOUND,
				     0);
	q->undo_wq = alloc_workqueue("qcow2_undo", WQ_MEM_RECLAIM, 0);
	q->store.wq = alloc_workqueue("qcow2_store", WQ_MEM_RECLAIM, 0);
	if (!q->stats || !q->slots || !q->io_wq || !q->commit_wq ||
	    !q->free_wq || !q->undo_wq || !q->store.wq)
		return -ENOMEM;
	r = mempool_init_kmalloc_pool(&q->subs, 64, sizeof(struct qcow2_sub));
	if (!r)
		r = qcow2_free_init(q);
	if (!r)
		r = qcow2_buf_init(q);
	return r ?: qcow2_cache_init(q);
}

static void destroy(struct qcow2_image *q)
{
	qcow2_copy_unregister(q);
	qcow2_loss_exit(q);
	qcow2_cache_exit(q);
	qcow2_buf_exit(q);
	mempool_exit(&q->subs);
	qcow2_free_exit(q);
	if (q->commit_wq)
		destroy_workqueue(q->commit_wq);
	if (q->free_wq)
		destroy_workqueue(q->free_wq);
	if (q->undo_wq)
		destroy_workqueue(q->undo_wq);
	if (q->io_wq)
		destroy_workqueue(q->io_wq);
	if (q->store.wq)
		destroy_workqueue(q->store.wq);
	/* Any of the work above may have raised one. */
	cancel_work_sync(&q->event_work);
	kfree(q->slots);
	free_percpu(q->stats);
	qcow2_store_close(&q->store, q->ti);
	cleanup_srcu_struct(&q->srcu);
	kfree(q->path);
	kfree(q);
}

static struct qcow2_image *create(struct dm_target *ti)
{
	struct qcow2_image *q = kzalloc(sizeof(*q), GFP_KERNEL);

	if (!q)
		return NULL;
	q->ti = ti;
	q->cache_limit = DEFAULT_CACHE_KIB;
	init_locks(q);
	xa_init(&q->l2_blocks);
	xa_init(&q->ref_blocks);
	if (init_srcu_struct(&q->srcu)) {
		kfree(q);
		return NULL;
	}
	return q;
}

/* As after a reload under a mounted file system: a suspend waits for itself. */
static bool lies_on_itself(const struct qcow2_image *q)
{
	struct gendisk *disk = dm_disk(dm_table_get_md(q->ti->table));
	struct super_block *sb;

	if (q->store.bdev)
		return q->store.bdev->bd_disk == disk;
	sb = d_real_inode(file_dentry(q->store.file))->i_sb;
	return sb->s_bdev && sb->s_bdev->bd_disk == disk;
}

static int open_image(struct qcow2_image *q, const char *spec, char **error)
{
	struct qcow2_reason why;
	int r;

	r = qcow2_store_open(&q->store, q->ti, spec, &q->path, q->read_only);
	if (r) {
		DMERR("%s: cannot open %s: error %d",
		      dm_table_device_name(q->ti->table), spec, r);
		*error = "cannot open the image";
		return r;
	}
	if (lies_on_itself(q)) {
		qcow2_err(q, "the image lies on this very device, which would wait for itself");
		*error = "the image lies on the device";
		return -EINVAL;
	}
	r = qcow2_image_probe(q, &why);
	if (r) {
		qcow2_err(q, "%s", why.text);
		*error = "the image cannot be attached";
		return r;
	}
	if (!q->store.direct)
		qcow2_info(q, "no direct I/O on this file system; using the page cache");
	return 0;
}

static int refuse_losses(struct qcow2_image *q, char **error)
{
	int r = qcow2_loss_init(q);

	if (r) {
		*error = "out of memory";
		return r;
	}
	r = qcow2_loss_check(q, false);
	if (r)
		*error = "changes could not be written";
	return r;
}

/* No limit for a bio: device-mapper would split it, see qcow2_fast_rw(). */
static void set_up_target(struct dm_target *ti)
{
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->num_discard_bios = 1;
	ti->discards_supported = true;
	ti->num_write_zeroes_bios = 1;
	ti->per_io_data_size = sizeof(struct qcow2_io);
}

/*
 * <image> [<#args> [read_only] [cache_kib <n>] [no_lock] [accept_loss]]
 *
 * <image>: /absolute/path or fd:<n>
 */
static int qcow2_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	struct qcow2_image *q;
	const char *spec;
	int r;

	if (!argc) {
		ti->error = "no image given";
		return -EINVAL;
	}
	q = create(ti);
	if (!q) {
		ti->error = "out of memory";
		return -ENOMEM;
	}
	spec = dm_shift_arg(&as);
	r = parse_optional(&as, q, &ti->error);
	if (r)
		goto bad;
	if (!(dm_table_get_mode(ti->table) & COMPAT_BLK_OPEN_WRITE))
		q->read_only = true;
	r = init_resources(q);
	if (r) {
		ti->error = "out of memory";
		goto bad;
	}
	r = open_image(q, spec, &ti->error);
	if (!r)
		r = refuse_losses(q, &ti->error);
	if (r)
		goto bad;
	r = qcow2_copy_register(q);
	if (r) {
		ti->error = "out of memory";
		goto bad;
	}
	set_up_target(ti);
	ti->private = q;
	return 0;
bad:
	destroy(q);
	return r;
}

static void qcow2_dtr(struct dm_target *ti)
{
	destroy(ti->private);
}

static int map_flush(struct qcow2_image *q, struct bio *bio,
		     struct qcow2_io *io)
{
	if (q->store.bdev && !READ_ONCE(q->unstable)) {
		bio_set_dev(bio, q->store.bdev);
		return DM_MAPIO_REMAPPED;
	}
	qcow2_flush_queue(io);
	return DM_MAPIO_SUBMITTED;
}

static int qcow2_map(struct dm_target *ti, struct bio *bio)
{
	struct qcow2_image *q = ti->private;
	struct qcow2_io *io = dm_per_bio_data(bio, sizeof(*io));

	io->image = q;
	io->flags = 0;
	io->error = 0;
	io->start = dm_target_offset(ti, bio->bi_iter.bi_sector) << SECTOR_SHIFT;
	io->end = io->start + bio->bi_iter.bi_size;

	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		if (unlikely(!bio->bi_iter.bi_size))
			return map_flush(q, bio, io);
		return qcow2_fast_rw(q, bio, io);
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		qcow2_io_punt(io);
		return DM_MAPIO_SUBMITTED;
	default:
		return DM_MAPIO_KILL;
	}
}

static int qcow2_end_io(struct dm_target *ti, struct bio *bio,
			blk_status_t *error)
{
	struct qcow2_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct qcow2_image *q = ti->private;

	if (test_bit(QCOW2_IO_SRCU, &io->flags))
		__srcu_read_unlock(&q->srcu, io->srcu);
	/* A redirected bio: others were counted where they failed. */
	if (unlikely(*error) && !io->error && *error != BLK_STS_AGAIN)
		atomic64_inc(&q->errors);
	return DM_ENDIO_DONE;
}

static int qcow2_preresume(struct dm_target *ti)
{
	struct qcow2_image *q = ti->private;

	/* Let a file system above know before it tries to write. */
	if (q->read_only)
		set_disk_ro(dm_disk(dm_table_get_md(ti->table)), true);
	return qcow2_image_start(q);
}

/*
 * A block device is reported, for NOWAIT, the alignment of memory, and whether
 * it turns. A file is nothing that device-mapper knows; that the function
 * exists makes it look at the rest: hints, NOWAIT, write-zeroes.
 */
static int qcow2_iterate_devices(struct dm_target *ti,
				 iterate_devices_callout_fn fn, void *data)
{
	struct qcow2_store *st = &((struct qcow2_image *)ti->private)->store;

	return st->dev ? fn(ti, st->dev, 0, bdev_nr_sectors(st->bdev), data) : 0;
}

static unsigned int most_zeroes(const struct qcow2_image *q)
{
	return rounddown(COMPAT_MAX_EMPTY_SECTORS,
			 qcow2_cluster(q) >> SECTOR_SHIFT);
}

/*
 * Ours, whatever those of a block device are: what does not suit it is bounced,
 * and where it wants bios to be split is no place in the image.
 */
static void qcow2_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct qcow2_image *q = ti->private;

	limits->logical_block_size = SECTOR_SIZE;
	limits->physical_block_size = qcow2_store_block(&q->store);
	limits->io_min = limits->physical_block_size;
	limits->io_opt = qcow2_cluster(q);
	limits->chunk_sectors = 0;
	compat_limits_align(limits);
	limits->dma_alignment = max(limits->dma_alignment,
				    q->store.mem_align - 1);
	limits->max_write_zeroes_sectors = most_zeroes(q);
	compat_limits_stable_writes(limits, qcow2_store_stable(&q->store));
	compat_limits_discard(limits, most_zeroes(q), qcow2_cluster(q));
}

/* What device-mapper would take from the table before, or from the store. */
static void set_limits(struct dm_target *ti)
{
	struct mapped_device *md = dm_table_get_md(ti->table);
	struct qcow2_image *q = ti->private;
	struct queue_limits lim;

	if (q->store.bdev) {
		compat_disk_write_zeroes(md, most_zeroes(q));
		return;
	}
	compat_limits_start(&lim);
	qcow2_io_hints(ti, &lim);
	compat_disk_limits(md, &lim, qcow2_store_stable(&q->store));
}

static void qcow2_resume(struct dm_target *ti)
{
	struct qcow2_image *q = ti->private;

	set_limits(ti);
	if (q->copy)
		blk_copy_activate(q->copy);
}

/* Copies wait from here on, for this table or for the one that replaces it. */
static void qcow2_presuspend(struct dm_target *ti)
{
	struct qcow2_image *q = ti->private;

	if (q->copy)
		blk_copy_pause(q->copy);
}

static void qcow2_presuspend_undo(struct dm_target *ti)
{
	struct qcow2_image *q = ti->private;

	if (q->copy)
		blk_copy_activate(q->copy);
}

static void qcow2_postsuspend(struct dm_target *ti)
{
	qcow2_image_stop(ti->private);
}

static u64 sum(const struct qcow2_image *q, enum qcow2_stat which)
{
	u64 total = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		total += per_cpu_ptr(q->stats, cpu)->n[which];
	return total;
}

static void emit_escaped(const char *s, char *result, unsigned int maxlen,
			 unsigned int *size)
{
	unsigned int sz = *size;

	for (; *s; s++) {
		if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\\')
			DMEMIT("\\");
		DMEMIT("%c", *s);
	}
	*size = sz;
}

static void status_info(struct qcow2_image *q, char *result,
			unsigned int maxlen)
{
	unsigned int sz = 0;

	DMEMIT("%s %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %u %u %s",
	       mode_names[READ_ONCE(q->mode)],
	       sum(q, QCOW2_STAT_ALLOC), sum(q, QCOW2_STAT_FREE),
	       sum(q, QCOW2_STAT_HIT), sum(q, QCOW2_STAT_MISS),
	       (u64)atomic64_read(&q->errors),
	       (u64)atomic64_read(&q->enospc_errors),
	       sum(q, QCOW2_STAT_INLINE), sum(q, QCOW2_STAT_PUNT),
	       sum(q, QCOW2_STAT_COW), sum(q, QCOW2_STAT_COMMIT),
	       READ_ONCE(q->cached), READ_ONCE(q->nr_dirty),
	       q->store.direct ? "direct" : "buffered");
}

static void status_table(struct qcow2_image *q, char *result,
			 unsigned int maxlen)
{
	unsigned int args = q->read_only + q->no_lock, sz = 0;

	if (q->cache_limit != DEFAULT_CACHE_KIB)
		args += 2;
	emit_escaped(q->path, result, maxlen, &sz);
	if (args)
		DMEMIT(" %u", args);
	if (q->read_only)
		DMEMIT(" read_only");
	if (q->cache_limit != DEFAULT_CACHE_KIB)
		DMEMIT(" cache_kib %u", q->cache_limit);
	if (q->no_lock)
		DMEMIT(" no_lock");
}

/* See Documentation/dm-qcow2.rst for the fields. */
static void qcow2_status(struct dm_target *ti, status_type_t type,
			 unsigned int status_flags, char *result,
			 unsigned int maxlen)
{
	struct qcow2_image *q = ti->private;

	switch (type) {
	case STATUSTYPE_INFO:
		status_info(q, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		status_table(q, result, maxlen);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

static int qcow2_message(struct dm_target *ti, unsigned int argc, char **argv,
			 char *result, unsigned int maxlen)
{
	struct qcow2_image *q = ti->private;
	int r = -EINVAL;

	if (argc != 1 || strcmp(argv[0], "commit"))
		return r;
	mutex_lock(&q->state_lock);
	if (q->live)
		r = qcow2_commit(q);
	mutex_unlock(&q->state_lock);
	return r;
}

static struct target_type qcow2_target = {
	.name = "qcow2",
	.version = { 1, 0, 0 },
	.features = DM_TARGET_NOWAIT | DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = qcow2_ctr,
	.dtr = qcow2_dtr,
	.map = qcow2_map,
	.end_io = qcow2_end_io,
	.preresume = qcow2_preresume,
	.resume = qcow2_resume,
	.presuspend = qcow2_presuspend,
	.presuspend_undo = qcow2_presuspend_undo,
	.postsuspend = qcow2_postsuspend,
	.status = qcow2_status,
	.message = qcow2_message,
	.iterate_devices = qcow2_iterate_devices,
	.io_hints = qcow2_io_hints,
};

static int __init qcow2_init(void)
{
	int err = compat_check_kernel();

	BUILD_BUG_ON(sizeof(struct qcow2_header) != 112);
	BUILD_BUG_ON(PAGE_SIZE != QCOW2_BLOCK_SIZE);
	return err ?: dm_register_target(&qcow2_target);
}

static void __exit qcow2_exit(void)
{
	dm_unregister_target(&qcow2_target);
	qcow2_loss_drop_all();
	/* Blocks of the cache are freed after a grace period. */
	rcu_barrier();
}

module_init(qcow2_init);
module_exit(qcow2_exit);

MODULE_DESCRIPTION("device-mapper target for QCOW2 images");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
