// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest clusters whose mapping is being changed.
 *
 * Whoever changes the mapping of clusters (allocating write, discard, zeroes)
 * holds them exclusively from before it looks at their entries until the new
 * entries are in the cache. Reads and writes in place do not take part. A bio
 * that finds a part held is parked there and queued again when it is let go;
 * nobody waits with a lock held, so there is nothing to deadlock on.
 *
 * Lock: image.range_lock, a leaf, taken from any context.
 */
#include "dm-qcow2.h"

#include <linux/interval_tree_generic.h>

#define RANGE_START(r) ((r)->first)
#define RANGE_LAST(r) ((r)->last)

INTERVAL_TREE_DEFINE(struct qcow2_range, node, u64, subtree_last, RANGE_START,
		     RANGE_LAST, static inline, range_tree)

/**
 * qcow2_range_lock() - hold guest clusters, or park until they are free
 * @q: the image
 * @r: the range to be held
 * @io: who wants it
 * @first: first cluster
 * @last: last cluster
 *
 * Return: true with the range held; false with @io parked, in which case it
 * belongs to whoever holds the range and must not be touched any more.
 */
bool qcow2_range_lock(struct qcow2_image *q, struct qcow2_range *r,
		      struct qcow2_io *io, u64 first, u64 last)
{
	struct qcow2_range *holder;
	unsigned long flags;

	r->first = first;
	r->last = last;
	INIT_LIST_HEAD(&r->waiters);
	spin_lock_irqsave(&q->range_lock, flags);
	holder = range_tree_iter_first(&q->ranges, first, last);
	if (holder)
		list_add_tail(&io->node, &holder->waiters);
	else
		range_tree_insert(r, &q->ranges);
	spin_unlock_irqrestore(&q->range_lock, flags);
	return !holder;
}

static void wake(struct list_head *waiters)
{
	struct qcow2_io *io, *next;

	list_for_each_entry_safe(io, next, waiters, node) {
		list_del_init(&io->node);
		qcow2_io_queue(io);
	}
}

/**
 * qcow2_range_trim() - let go of the end of a range
 * @q: the image
 * @r: a held range
 * @last: its new last cluster, not before its first
 */
void qcow2_range_trim(struct qcow2_image *q, struct qcow2_range *r, u64 last)
{
	unsigned long flags;
	LIST_HEAD(waiters);

	if (last == r->last)
		return;
	spin_lock_irqsave(&q->range_lock, flags);
	range_tree_remove(r, &q->ranges);
	r->last = last;
	range_tree_insert(r, &q->ranges);
	list_splice_init(&r->waiters, &waiters);
	spin_unlock_irqrestore(&q->range_lock, flags);
	wake(&waiters);
}

/**
 * qcow2_range_unlock() - let go of a range
 * @q: the image
 * @r: a held range
 *
 * Context: any.
 */
void qcow2_range_unlock(struct qcow2_image *q, struct qcow2_range *r)
{
	unsigned long flags;
	LIST_HEAD(waiters);

	spin_lock_irqsave(&q->range_lock, flags);
	range_tree_remove(r, &q->ranges);
	list_splice_init(&r->waiters, &waiters);
	spin_unlock_irqrestore(&q->range_lock, flags);
	wake(&waiters);
}
