// SPDX-License-Identifier: GPL-2.0-only
/*
 * What differs from the disk: blocks on the dirty lists, and whether a mapping
 * that is in use is on disk yet.
 *
 * Lock: txn.lock.
 */
#include "meta.h"

#include <linux/bitmap.h>

/* Metadata that no flush asks for is written after this long. */
#define COMMIT_AFTER (5 * HZ)

/**
 * qcow2_dirty_init() - set up, with nothing dirty
 * @q: the image
 * @cache_kib: KiB of metadata to be cached at the most
 */
void qcow2_dirty_init(struct qcow2_image *q, u32 cache_kib)
{
	struct qcow2_txn *t = &q->txn;

	spin_lock_init(&t->lock);
	INIT_LIST_HEAD(&t->dirty_l2);
	INIT_LIST_HEAD(&t->dirty_refs);
	t->dirty_limit = max_t(u32, cache_kib >> (QCOW2_BLOCK_BITS - 10 + 2),
			       8);
}

/**
 * qcow2_dirty_drop() - forget what differs from the disk
 * @q: the image; no I/O is under way
 *
 * What could not be written is lost; the caller has said so.
 */
void qcow2_dirty_drop(struct qcow2_image *q)
{
	struct qcow2_block *b, *next;
	LIST_HEAD(dirty);

	spin_lock_irq(&q->txn.lock);
	list_splice_init(&q->txn.dirty_l2, &dirty);
	list_splice_init(&q->txn.dirty_refs, &dirty);
	q->txn.nr_dirty = 0;
	spin_unlock_irq(&q->txn.lock);
	list_for_each_entry_safe(b, next, &dirty, dirty) {
		list_del_init(&b->dirty);
		qcow2_block_put(b);
	}
}

/**
 * qcow2_dirty_block() - note that a block differs from the disk
 * @q: the image
 * @b: a referenced and prepared block, which the caller changes under the
 *	same hold of txn.lock
 */
void qcow2_dirty_block(struct qcow2_image *q, struct qcow2_block *b)
{
	lockdep_assert_held(&q->txn.lock);
	if (test_and_set_bit(QCOW2_BLOCK_DIRTY, &b->flags))
		return;
	refcount_inc(&b->refs);
	list_add_tail(&b->dirty, test_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags) ?
		      &q->txn.dirty_refs : &q->txn.dirty_l2);
	q->txn.nr_dirty++;
}

/**
 * qcow2_dirty_soon() - have a commit in the background
 * @q: the image; nothing is done if it is being closed
 */
void qcow2_dirty_soon(struct qcow2_image *q)
{
	lockdep_assert_held(&q->txn.lock);
	if (q->txn.stopping)
		return;
	queue_delayed_work(q->txn.wq, &q->txn.later, COMMIT_AFTER);
}

/**
 * qcow2_dirty_now() - start a commit without waiting for it
 * @q: the image
 */
void qcow2_dirty_now(struct qcow2_image *q)
{
	queue_work(q->txn.wq, &q->txn.work);
}

/**
 * qcow2_dirty_mapping() - the mapping in the cache is not the one on disk
 * @q: the image
 *
 * To be called before the first entry changes, so that whoever sees the new
 * entry and then asks (qcow2_txn_is_stable()) is told.
 */
void qcow2_dirty_mapping(struct qcow2_image *q)
{
	lockdep_assert_held(&q->txn.lock);
	if (q->txn.unstable)
		return;
	WRITE_ONCE(q->txn.unstable, true);
	/* Pairs with smp_rmb() in qcow2_txn_is_stable(). */
	smp_wmb();
	qcow2_dirty_soon(q);
}

/**
 * qcow2_dirty_nothing() - whether all of the image is on disk
 * @q: the image
 *
 * Return: true if nothing is to be written or freed.
 */
bool qcow2_dirty_nothing(struct qcow2_image *q)
{
	bool clean;

	spin_lock_irq(&q->txn.lock);
	clean = !q->txn.nr_dirty && list_empty(&q->frees.unlinked) &&
		!q->txn.reftable_moved &&
		bitmap_empty(q->layer.l1.dirty, q->layer.l1.blocks) &&
		bitmap_empty(q->reftable.dirty, q->reftable.blocks);
	spin_unlock_irq(&q->txn.lock);
	return clean;
}
