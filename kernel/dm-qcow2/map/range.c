// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest clusters whose mapping is being changed.
 *
 * Whoever changes the mapping of clusters (allocating write, discard, zeroes)
 * holds them exclusively from before it looks at their entries until the new
 * entries are in the cache. Reads and writes in place do not take part. Who
 * finds a part held is parked there and called when it is let go;
 * nobody waits with a lock held, so there is nothing to deadlock on.
 *
 * Lock: ranges.lock, a leaf, taken from any context.
 */
#include "map.h"

#include <linux/interval_tree_generic.h>

#define RANGE_START(r) ((r)->first)
#define RANGE_LAST(r) ((r)->last)

INTERVAL_TREE_DEFINE(struct qcow2_range, node, u64, subtree_last, RANGE_START,
		     RANGE_LAST, static inline, range_tree)

/**
 * qcow2_range_lock() - hold guest clusters, or park until they are free
 * @rs: all ranges
 * @r: the range to be held
 * @p: who wants it
 * @first: first cluster
 * @last: last cluster
 *
 * Return: true with the range held; false with @p parked, in which case it
 * belongs to whoever holds the range and must not be touched any more.
 */
bool qcow2_range_lock(struct qcow2_ranges *rs, struct qcow2_range *r,
		      struct qcow2_parked *p, u64 first, u64 last)
{
	struct qcow2_range *holder;
	unsigned long flags;

	r->first = first;
	r->last = last;
	INIT_LIST_HEAD(&r->waiters);
	spin_lock_irqsave(&rs->lock, flags);
	holder = range_tree_iter_first(&rs->root, first, last);
	if (holder)
		list_add_tail(&p->node, &holder->waiters);
	else
		range_tree_insert(r, &rs->root);
	spin_unlock_irqrestore(&rs->lock, flags);
	return !holder;
}

static void range_wake(struct list_head *waiters)
{
	struct qcow2_parked *p, *next;

	list_for_each_entry_safe(p, next, waiters, node) {
		list_del_init(&p->node);
		p->go_on(p);
	}
}

/**
 * qcow2_range_trim() - let go of the end of a range
 * @rs: all ranges
 * @r: a held range
 * @last: its new last cluster, not before its first
 */
void qcow2_range_trim(struct qcow2_ranges *rs, struct qcow2_range *r, u64 last)
{
	unsigned long flags;
	LIST_HEAD(waiters);

	if (last == r->last)
		return;
	spin_lock_irqsave(&rs->lock, flags);
	range_tree_remove(r, &rs->root);
	r->last = last;
	range_tree_insert(r, &rs->root);
	list_splice_init(&r->waiters, &waiters);
	spin_unlock_irqrestore(&rs->lock, flags);
	range_wake(&waiters);
}

/**
 * qcow2_range_unlock() - let go of a range
 * @rs: all ranges
 * @r: a held range
 *
 * Context: any.
 */
void qcow2_range_unlock(struct qcow2_ranges *rs, struct qcow2_range *r)
{
	unsigned long flags;
	LIST_HEAD(waiters);

	spin_lock_irqsave(&rs->lock, flags);
	range_tree_remove(r, &rs->root);
	list_splice_init(&r->waiters, &waiters);
	spin_unlock_irqrestore(&rs->lock, flags);
	range_wake(&waiters);
}
