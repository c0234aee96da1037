// SPDX-License-Identifier: GPL-2.0-only
/*
 * One image from preresume to postsuspend: the header, loading everything,
 * and leaving it clean.
 *
 * Locks: image.state_lock around start and stop; header_lock around changes of
 * the header block.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>
#include <linux/vmalloc.h>

/* A commit frees clusters, which changes refcounts, which the next one writes. */
#define CLOSING_COMMITS 8

/*
 * A cluster may lie partly beyond the end: of a file, whose rest reads as
 * zeros, or of a block device, where I/O to the rest fails. None is allocated
 * there (capacity() in refcount.c).
 */
static u64 image_limit(struct qcow2_image *q)
{
	return round_up(qcow2_store_size(&q->store), (u64)qcow2_cluster(q));
}

static int check_length(struct qcow2_image *q, const struct qcow2_geometry *g,
			struct qcow2_reason *why)
{
	if (g->size >> SECTOR_SHIFT == q->ti->len)
		return 0;
	snprintf(why->text, sizeof(why->text),
		 "the table has %llu sectors, but the image has %llu",
		 (u64)q->ti->len, g->size >> SECTOR_SHIFT);
	return -EINVAL;
}

static int read_header(struct qcow2_image *q, void *area, bool writing,
		       struct qcow2_geometry *g, struct qcow2_reason *why)
{
	u64 size = min_t(u64, qcow2_store_size(&q->store), QCOW2_HEADER_AREA);
	int r;

	r = qcow2_store_rw_buf(&q->store, false, 0, area,
			       q->store.bdev ? size : QCOW2_HEADER_AREA);
	if (r) {
		snprintf(why->text, sizeof(why->text),
			 "cannot read the header: error %d", r);
		return r;
	}
	r = qcow2_header_parse(area, size, g, why);
	if (!r)
		r = qcow2_header_supported(area, size, g, !writing, why);
	return r ?: check_length(q, g, why);
}

/**
 * qcow2_image_probe() - see whether an image can be attached
 * @q: the image with its store open
 * @why: filled in on error
 *
 * Only reads: another table may have the image in use, and its dirty bit set.
 * Return: 0 or a negative error.
 */
int qcow2_image_probe(struct qcow2_image *q, struct qcow2_reason *why)
{
	void *area = vzalloc(QCOW2_HEADER_AREA);
	int r;

	if (!area) {
		snprintf(why->text, sizeof(why->text), "out of memory");
		return -ENOMEM;
	}
	r = read_header(q, area, false, &q->geo, why);
	vfree(area);
	return r;
}

/*
 * A failed fsync has dropped dirty pages of the page cache for good, and tells
 * of it once, to one of those who ask: what is lost may be what somebody was
 * told is written, or what the next commit is about to refer to. So all fail
 * from then on. One that was interrupted has lost nothing.
 */
static int flush_cached(struct qcow2_image *q)
{
	int r;

	mutex_lock(&q->fsync_lock);
	r = qcow2_store_flush(&q->store);
	if (r && r != -EINTR && r != -ERESTARTSYS && !q->writes_lost) {
		q->writes_lost = true;
		qcow2_image_fail(q, "the page cache lost writes, of", 0);
	}
	if (!r && q->writes_lost)
		r = -EIO;
	mutex_unlock(&q->fsync_lock);
	return r;
}

/**
 * qcow2_image_flush() - make everything written so far durable
 * @q: the image
 *
 * Context: may sleep. Return: 0 or a negative error.
 */
int qcow2_image_flush(struct qcow2_image *q)
{
	return q->store.direct ? qcow2_store_flush(&q->store) : flush_cached(q);
}

static int write_header(struct qcow2_image *q, bool dirty)
{
	struct qcow2_header *h = q->header;
	u64 incompat = q->geo.incompat & ~QCOW2_INCOMPAT_DIRTY;
	bool failed = READ_ONCE(q->mode) == QCOW2_MODE_FAIL;
	int r;

	lockdep_assert_held(&q->header_lock);
	if (q->geo.version >= 3) {
		if (dirty)
			incompat |= QCOW2_INCOMPAT_DIRTY;
		if (failed)
			incompat |= QCOW2_INCOMPAT_CORRUPT;
		h->incompatible_features = cpu_to_be64(incompat);
		h->autoclear_features = 0;
	}
	r = qcow2_store_rw_buf(&q->store, true, 0, h, QCOW2_BLOCK_SIZE);
	q->header_dirty_bit |= dirty;
	if (!r)
		r = qcow2_image_flush(q);
	if (!r)
		q->header_dirty_bit = dirty;
	WRITE_ONCE(q->dirty_durable, !r && dirty);
	return r;
}

/**
 * qcow2_header_write() - write the header block
 * @q: the image
 * @dirty: value of the dirty bit
 *
 * Clears all autoclear bits and marks the image corrupt if it was found to be;
 * everything else stays as it was read. Above all the refcount table's place,
 * which is that of the last commit that moved it: a table in memory may be
 * nowhere on disk yet. Durable on return.
 * Return: 0 or a negative error.
 */
int qcow2_header_write(struct qcow2_image *q, bool dirty)
{
	int r;

	mutex_lock(&q->header_lock);
	r = write_header(q, dirty);
	mutex_unlock(&q->header_lock);
	return r;
}

/**
 * qcow2_header_move() - have the header name the refcount table's new place
 * @q: the image, whose refcount table is durable there
 *
 * Return: 0 or a negative error, after which either place may be named.
 */
int qcow2_header_move(struct qcow2_image *q)
{
	int r;

	lockdep_assert_held(&q->reftable_lock);
	mutex_lock(&q->header_lock);
	q->header->refcount_table_offset = cpu_to_be64(q->geo.reftable_offset);
	q->header->refcount_table_clusters =
		cpu_to_be32(q->geo.reftable_clusters);
	r = write_header(q, q->header_dirty_bit);
	mutex_unlock(&q->header_lock);
	return r;
}

/**
 * qcow2_header_set_dirty() - get ready to let refcounts lag behind
 * @q: the image
 *
 * With lazy refcounts the dirty bit is on disk before the first change.
 * Return: 0 or a negative error.
 */
int qcow2_header_set_dirty(struct qcow2_image *q)
{
	int r = 0;

	if (!qcow2_lazy(q) || READ_ONCE(q->dirty_durable))
		return 0;
	mutex_lock(&q->header_lock);
	if (!q->dirty_durable)
		r = write_header(q, true);
	mutex_unlock(&q->header_lock);
	return r;
}

/**
 * qcow2_report() - log what is wrong with an image, once for each place
 * @q: the image
 * @key: names the place
 * @what: what is wrong
 * @where: offset in bytes
 */
void qcow2_report(struct qcow2_image *q, u64 key, const char *what, u64 where)
{
	if (xa_load(&q->reported, key))
		return;
	if (atomic_inc_return(&q->nr_reported) > QCOW2_REPORTED_MAX)
		return;
	if (xa_is_err(xa_store(&q->reported, key, xa_mk_value(1), GFP_NOIO)))
		return;
	qcow2_err(q, "%s 0x%llx", what, where);
}

/**
 * qcow2_image_fail() - refuse all writing from now on
 * @q: the image
 * @what: what is wrong with it
 * @where: host offset in bytes
 */
void qcow2_image_fail(struct qcow2_image *q, const char *what, u64 where)
{
	if (xchg(&q->mode, QCOW2_MODE_FAIL) == QCOW2_MODE_FAIL)
		return;
	qcow2_err(q, "image is corrupt: %s 0x%llx; refusing writes from now on",
		  what, where);
	schedule_work(&q->event_work);
}

static int load_tables(struct qcow2_image *q)
{
	const struct qcow2_geometry *g = &q->geo;
	u32 rt_entries = g->reftable_clusters << (g->cluster_bits - 3);
	u64 regions = (QCOW2_OFFSET_MASK >> g->cluster_bits >>
		       qcow2_refblock_bits(g)) + 1;
	int r;

	if (g->l1_offset + round_up((u64)g->l1_size * 8, QCOW2_BLOCK_SIZE) >
	    q->limit ||
	    g->reftable_offset + (u64)rt_entries * 8 > q->limit) {
		qcow2_err(q, "L1 table or refcount table lies beyond the end of the image");
		return -EUCLEAN;
	}
	r = qcow2_table_load(q, &q->l1, g->l1_offset, g->l1_size);
	if (!r)
		r = qcow2_table_load(q, &q->reftable, g->reftable_offset,
				     rt_entries);
	if (r) {
		qcow2_err(q, "cannot read the L1 table or refcount table: error %d",
			  r);
		return r;
	}
	/* No cluster can be where the rest of the table would describe it. */
	q->reftable.nr = min_t(u64, q->reftable.nr, regions);
	q->snapshots_end = g->snapshots_offset;
	r = qcow2_meta_build(q);
	if (r == -EUCLEAN && q->read_only)
		r = 0;
	if (r == -EUCLEAN)
		qcow2_err(q, "metadata is corrupt; attach read_only, or run qemu-img check -r all");
	return r;
}

static int load_header(struct qcow2_image *q)
{
	void *area = vzalloc(QCOW2_HEADER_AREA);
	struct qcow2_reason why;
	int r;

	q->header = (void *)get_zeroed_page(GFP_KERNEL);
	if (!area || !q->header) {
		vfree(area);
		return -ENOMEM;
	}
	r = read_header(q, area, !q->read_only, &q->geo, &why);
	if (r)
		qcow2_err(q, "%s", why.text);
	memcpy(q->header, area, QCOW2_BLOCK_SIZE);
	vfree(area);
	return r;
}

static int start_writing(struct qcow2_image *q)
{
	int r = qcow2_refcount_start(q);

	if (!r && q->mode == QCOW2_MODE_FAIL)
		r = -EUCLEAN;
	/* Other programs' data that depends on us not writing is void now. */
	if (!r && q->geo.autoclear)
		r = qcow2_header_write(q, false);
	if (r)
		qcow2_err(q, "cannot get ready to write: error %d", r);
	return r;
}

static void unload(struct qcow2_image *q)
{
	unsigned long index;
	void *entry;

	qcow2_cache_drop(q);
	qcow2_table_free(&q->l1);
	qcow2_table_free(&q->reftable);
	qcow2_meta_drop(q);
	xa_destroy(&q->hints);
	xa_for_each(&q->reported, index, entry)
		xa_erase(&q->reported, index);
	free_page((unsigned long)q->header);
	q->header = NULL;
}

/* The changes are in use again, and not about to be lost. */
static void go_on(struct qcow2_image *q)
{
	qcow2_loss_averted(q);
	q->unsaved = false;
	/* It may have been cut before the suspend failed. */
	mutex_lock(&q->alloc_lock);
	q->file_end = q->store.bdev ? 0 : qcow2_store_size(&q->store);
	mutex_unlock(&q->alloc_lock);
	spin_lock_irq(&q->md_lock);
	qcow2_commit_soon(q);
	spin_unlock_irq(&q->md_lock);
}

/**
 * qcow2_image_start() - lock an image and read it anew
 * @q: the image
 *
 * Context: preresume. Return: 0 or a negative error with a line in the log.
 */
int qcow2_image_start(struct qcow2_image *q)
{
	unsigned int scope;
	int r = 0;

	if (!q->live) {
		r = qcow2_loss_check(q, true);
		if (r)
			return r;
	}
	mutex_lock(&q->state_lock);
	/* I/O that reclaim starts on this device waits for us. */
	scope = qcow2_enter();
	if (q->live) {
		/* The last suspend could not write everything. */
		go_on(q);
		goto out;
	}
	r = qcow2_lock_image(q);
	if (r)
		goto out;
	qcow2_store_begin(&q->store);
	q->mode = q->read_only ? QCOW2_MODE_RO : QCOW2_MODE_RW;
	q->header_dirty_bit = false;
	q->dirty_durable = false;
	q->last_commit = 0;
	q->unstable = false;
	q->stopping = false;
	q->unsaved = false;
	q->writes_lost = false;
	q->reftable_moved = false;
	atomic_set(&q->nr_reported, 0);
	/* Whoever edited the image may have been killed before it was durable. */
	if (!q->read_only)
		r = qcow2_store_flush(&q->store);
	if (!r)
		r = load_header(q);
	if (!r) {
		q->limit = image_limit(q);
		r = load_tables(q);
	}
	if (!r && !q->read_only)
		r = start_writing(q);
	if (r) {
		unload(q);
		qcow2_unlock_image(q);
	} else {
		q->live = true;
		qcow2_loss_accepted(q);
		qcow2_store_drop_cache(&q->store);
	}
out:
	qcow2_leave(scope);
	mutex_unlock(&q->state_lock);
	return r;
}

static bool all_clean(struct qcow2_image *q)
{
	bool clean;

	spin_lock_irq(&q->md_lock);
	clean = !q->nr_dirty && list_empty(&q->frees) && !q->reftable_moved &&
		bitmap_empty(q->l1.dirty, q->l1.blocks) &&
		bitmap_empty(q->reftable.dirty, q->reftable.blocks);
	spin_unlock_irq(&q->md_lock);
	return clean;
}

static void set_stopping(struct qcow2_image *q, bool stopping)
{
	spin_lock_irq(&q->md_lock);
	q->stopping = stopping;
	spin_unlock_irq(&q->md_lock);
}

/*
 * What is known to be wrong must not pass for clean; what the last flush tells is
 * known too late for that, and so the header is written again.
 */
static int close_header(struct qcow2_image *q, int r)
{
	bool failed = q->mode == QCOW2_MODE_FAIL;

	if (failed)
		r = qcow2_header_write(q, q->header_dirty_bit) ?: r;
	else if (!r && q->header_dirty_bit)
		r = qcow2_header_write(q, false);
	if (!r && !q->store.bdev &&
	    qcow2_store_trim(&q->store, qcow2_refcount_end(q)))
		qcow2_err(q, "the file could not be cut after its last cluster");
	r = r ?: qcow2_image_flush(q);
	if (!failed && q->mode == QCOW2_MODE_FAIL)
		qcow2_header_write(q, q->header_dirty_bit);
	return r;
}

/* Writes everything; the image is complete afterwards. */
static int close_image(struct qcow2_image *q)
{
	int i, r = 0;

	set_stopping(q, true);
	for (i = 0; !r && i < CLOSING_COMMITS; i++) {
		r = qcow2_commit(q);
		qcow2_free_drain(q);
		if (all_clean(q))
			break;
	}
	if (!r && !all_clean(q))
		r = -EIO;
	return close_header(q, r);
}

static void end_turn(struct qcow2_image *q)
{
	int r = qcow2_store_end(&q->store);

	if (r)
		qcow2_info(q, "XFS keeps blocks reserved, error %d: copies made by looking for holes may lack data until all have closed the file",
			   r);
}

/*
 * Waits until nothing is under way or will be. A commit that fails would start
 * another one later, if it were not for image.stopping.
 */
static void settle_work(struct qcow2_image *q)
{
	set_stopping(q, true);
	cancel_delayed_work_sync(&q->commit_later);
	flush_workqueue(q->commit_wq);
	flush_work(&q->free_work);
}

/*
 * What is in memory may be lost with the table. That should not go unnoticed
 * even if the machine is started anew: if the header can be written, it is.
 */
static void keep(struct qcow2_image *q, int err)
{
	bool marked = q->geo.version >= 3 && !qcow2_header_write(q, true);

	qcow2_err(q, "could not write all metadata: error %d; the image stays in use, and resuming tries again%s",
		  err, marked ? "; marked dirty until then" : "");
	q->unsaved = true;
	qcow2_loss_threatens(q);
	set_stopping(q, false);
}

static void let_go(struct qcow2_image *q)
{
	qcow2_free_forget(q);
	unload(q);
	end_turn(q);
	qcow2_unlock_image(q);
	q->live = false;
}

/**
 * qcow2_image_stop() - write everything, let go of the image
 * @q: the image
 *
 * If that fails, the image stays locked and all is kept for the next resume:
 * whoever uses the device must not find it as it was some time ago. A corrupt
 * image takes no more writes, so nothing is gained by keeping it.
 * Context: postsuspend, or preresume of the table that replaces this one; no
 * bio is under way or will come.
 * Return: 0, or a negative error if not everything could be written.
 */
int qcow2_image_stop(struct qcow2_image *q)
{
	unsigned int scope;
	int r = 0;

	mutex_lock(&q->state_lock);
	scope = qcow2_enter();
	if (!q->live)
		goto out;
	synchronize_srcu(&q->srcu);
	flush_workqueue(q->io_wq);
	if (!q->read_only)
		r = close_image(q);
	settle_work(q);
	if (r && q->mode != QCOW2_MODE_FAIL) {
		keep(q, r);
		goto out;
	}
	if (r)
		qcow2_err(q, "could not write all metadata: error %d; run qemu-img check",
			  r);
	if (r || q->writes_lost)
		qcow2_loss_note(q);
	else
		qcow2_loss_averted(q);
	let_go(q);
out:
	qcow2_leave(scope);
	mutex_unlock(&q->state_lock);
	return r;
}

/**
 * qcow2_image_forget() - drop what is in memory of a live image
 * @q: the image
 *
 * For a table that is destroyed without having been suspended, because another
 * device's failure kept it from being resumed, or whose suspend could not write
 * everything. Writes nothing. Context: record.busy is held (loss.c), so that
 * nobody stops the image at the same time.
 */
void qcow2_image_forget(struct qcow2_image *q)
{
	unsigned int scope;

	mutex_lock(&q->state_lock);
	scope = qcow2_enter();
	if (q->live) {
		settle_work(q);
		if (!q->read_only &&
		    (q->unsaved || q->writes_lost || !all_clean(q)))
			qcow2_loss_note(q);
		let_go(q);
	}
	qcow2_leave(scope);
	mutex_unlock(&q->state_lock);
}
