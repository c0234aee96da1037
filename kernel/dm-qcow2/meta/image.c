// SPDX-License-Identifier: GPL-2.0-only
/*
 * One image: loading everything that is needed to use it, and leaving it clean.
 *
 * Takes no locks; nobody else uses an image that is being loaded or closed.
 */
#include "meta.h"

/* A commit frees clusters, which changes refcounts, which the next one writes. */
#define CLOSING_COMMITS 8

static int image_begin_writing(struct qcow2_image *q)
{
	int r = qcow2_alloc_begin(q);

	if (!r && q->layer.core->mode == QCOW2_MODE_FAIL)
		r = -EUCLEAN;
	/* Other programs' data that depends on us not writing is void now. */
	if (!r && q->layer.geo.autoclear != qcow2_autoclear_kept(q))
		r = qcow2_header_write(q, false);
	if (!r) {
		r = qcow2_bitmaps_begin(q);
		if (r)
			qcow2_bitmaps_undo(q);
	}
	if (r)
		qcow2_err(q->layer.core, "cannot get ready to write: error %d",
			  r);
	return r;
}

/**
 * qcow2_image_load() - read what is needed to use an image
 * @q: the image, unloaded; its store's turn has begun
 * @below: the image that the table has below it, or NULL for none
 * @raw: the format of that
 *
 * Return: 0 or a negative error with a line in the log; then
 * qcow2_image_unload() is to be called.
 */
int qcow2_image_load(struct qcow2_image *q, const char *below, bool raw)
{
	int r;

	qcow2_txn_begin(q);
	r = qcow2_header_load(q);
	if (!r)
		r = qcow2_header_fits(&q->layer, below, raw);
	if (r)
		return r;
	r = qcow2_layer_load(&q->layer,
			     q->layer.read_only ? NULL : &q->txn.lock,
			     &q->reftable);
	if (r || q->layer.read_only)
		return r;
	r = qcow2_bitmaps_load(q);
	return r ?: image_begin_writing(q);
}

/**
 * qcow2_image_unload() - forget what was read
 * @q: the image, whole or half loaded; nobody uses it
 */
void qcow2_image_unload(struct qcow2_image *q)
{
	qcow2_dirty_drop(q);
	qcow2_bitmaps_drop(q);
	qcow2_layer_unload(&q->layer);
	qcow2_table_exit(&q->reftable);
	xa_destroy(&q->alloc.hints);
	qcow2_header_drop(q);
}

/*
 * What is known to be wrong must not pass for clean; what the last flush tells is
 * known too late for that, and so the header is written again.
 */
static int image_close_header(struct qcow2_image *q, int r)
{
	const enum qcow2_mode *mode = &q->layer.core->mode;
	bool failed = *mode == QCOW2_MODE_FAIL;

	if (failed)
		r = qcow2_header_write(q, q->head.dirty_bit) ?: r;
	else if (!r && q->head.dirty_bit)
		r = qcow2_header_write(q, false);
	if (!r && !q->layer.meta->bdev &&
	    qcow2_store_trim(q->layer.meta, qcow2_tail_end(q)))
		qcow2_err(q->layer.core, "the file could not be cut after its last cluster");
	r = r ?: qcow2_store_flush(q->layer.meta);
	if (!failed && *mode == QCOW2_MODE_FAIL)
		qcow2_header_write(q, q->head.dirty_bit);
	return r;
}

/**
 * qcow2_image_close() - write everything, so that the image is complete
 * @q: the image, which nobody uses any more
 *
 * Return: 0, or a negative error if not everything could be written.
 */
int qcow2_image_close(struct qcow2_image *q)
{
	int i, r = qcow2_bitmaps_write(q);

	qcow2_space_settle(q);
	qcow2_txn_stopping(q, true);
	for (i = 0; !r && i < CLOSING_COMMITS; i++) {
		r = qcow2_txn_commit(q);
		qcow2_drain(q);
		if (qcow2_dirty_nothing(q))
			break;
	}
	if (!r && !qcow2_dirty_nothing(q))
		r = -EIO;
	r = r ?: qcow2_bitmaps_end(q);
	return image_close_header(q, r);
}

/**
 * qcow2_image_settle() - wait until nothing is under way or will be
 * @q: the image, which nobody uses any more
 */
void qcow2_image_settle(struct qcow2_image *q)
{
	qcow2_txn_settle(q);
	qcow2_space_settle(q);
}

/**
 * qcow2_image_init() - set up an image
 * @q: zeroed but for the core, the stores and read_only of its layer
 * @cache_kib: KiB of metadata to be cached at the most
 *
 * Return: 0 or a negative error; qcow2_image_exit() is to be called either way.
 */
int qcow2_image_init(struct qcow2_image *q, u32 cache_kib)
{
	int r;

	mutex_init(&q->head.lock);
	xa_init(&q->ref_blocks);
	mutex_init(&q->alloc.load_lock);
	mutex_init(&q->alloc.lock);
	mutex_init(&q->alloc.reftable_lock);
	xa_init(&q->alloc.hints);
	qcow2_dirty_init(q, cache_kib);
	r = init_srcu_struct(&q->srcu);
	q->srcu_made = !r;
	r = qcow2_layer_init(&q->layer, cache_kib) ?: r;
	if (!r)
		r = qcow2_txn_init(q);
	if (!r)
		r = qcow2_space_init(q);
	if (!r)
		r = qcow2_free_init(q);
	return r ?: qcow2_bufs_init(&q->bufs);
}

/**
 * qcow2_image_exit() - undo qcow2_image_init(), whole or half done
 * @q: the image, unloaded
 */
void qcow2_image_exit(struct qcow2_image *q)
{
	qcow2_txn_exit(q);
	qcow2_free_exit(q);
	qcow2_space_exit(q);
	qcow2_bufs_exit(&q->bufs);
	qcow2_layer_exit(&q->layer);
	xa_destroy(&q->ref_blocks);
	if (q->srcu_made)
		cleanup_srcu_struct(&q->srcu);
}
