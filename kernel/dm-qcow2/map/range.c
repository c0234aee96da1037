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
 * Who is sure to need the clusters for itself has its turn: they are held for
 * the first of those who wait, and the others wait for that. Were all called,
 * one would get them, and with each of thousands of writes to a cluster the rest
 * would be called again. Who may find, once others have come to their end, that
 * it need not hold them any more is called with all others of its kind.
 *
 * Lock: ranges.lock, a leaf, taken from any context.
 */
#include "map.h"

#include <linux/interval_tree_generic.h>

#define RANGE_START(r) ((r)->first)
#define RANGE_LAST(r) ((r)->last)

INTERVAL_TREE_DEFINE(struct qcow2_range, node, u64, subtree_last, RANGE_START,
		     RANGE_LAST, static inline, range_tree)

/* Ends the wait of those whose turn it is; they are to be called. */
static void range_pass_on(struct qcow2_ranges *rs, u64 first, u64 last,
			  struct list_head *waiters, struct list_head *called)
{
	struct qcow2_range *holder;
	struct qcow2_parked *p, *next;

	lockdep_assert_held(&rs->lock);
	list_for_each_entry_safe(p, next, waiters, node) {
		holder = p->in_turn ? range_tree_iter_first(&rs->root,
							    p->range.first,
							    p->range.last) : NULL;
		if (holder) {
			list_move_tail(&p->node, &holder->waiters);
			continue;
		}
		list_move_tail(&p->node, called);
		if (!p->in_turn)
			continue;
		range_tree_insert(&p->range, &rs->root);
		p->reserved = true;
		/* All others want a part of it, too. */
		if (p->range.first <= first && p->range.last >= last) {
			list_splice_tail_init(waiters, &p->range.waiters);
			break;
		}
	}
}

static void range_call(struct list_head *called)
{
	struct qcow2_parked *p, *next;

	list_for_each_entry_safe(p, next, called, node) {
		list_del_init(&p->node);
		p->go_on(p);
	}
}

/* What was held for somebody is so no more; who waits for it is on @waiters. */
static void range_unreserve(struct qcow2_ranges *rs, struct qcow2_parked *p,
			    struct list_head *waiters)
{
	lockdep_assert_held(&rs->lock);
	p->reserved = false;
	range_tree_remove(&p->range, &rs->root);
	list_splice_init(&p->range.waiters, waiters);
}

static void range_park(struct qcow2_range *holder, struct qcow2_parked *p,
		       u64 first, u64 last)
{
	p->range.first = first;
	p->range.last = last;
	INIT_LIST_HEAD(&p->range.waiters);
	list_add_tail(&p->node, &holder->waiters);
}

/**
 * qcow2_range_lock() - hold guest clusters, or park until they are free
 * @rs: all ranges
 * @r: the range to be held
 * @p: who wants it, with @in_turn set; what is held for it may be another range
 * @first: first cluster
 * @last: last cluster
 *
 * Return: true with the range held; false with @p parked, in which case it
 * belongs to whoever holds the range and must not be touched any more.
 */
bool qcow2_range_lock(struct qcow2_ranges *rs, struct qcow2_range *r,
		      struct qcow2_parked *p, u64 first, u64 last)
{
	u64 had_first = 0, had_last = 0;
	struct qcow2_range *holder;
	LIST_HEAD(waiters);
	unsigned long flags;
	LIST_HEAD(called);

	r->first = first;
	r->last = last;
	INIT_LIST_HEAD(&r->waiters);
	spin_lock_irqsave(&rs->lock, flags);
	if (p->reserved) {
		had_first = p->range.first;
		had_last = p->range.last;
		range_unreserve(rs, p, &waiters);
	}
	holder = range_tree_iter_first(&rs->root, first, last);
	if (holder)
		range_park(holder, p, first, last);
	else
		range_tree_insert(r, &rs->root);
	if (!holder && first <= had_first && last >= had_last)
		list_splice_init(&waiters, &r->waiters);
	else
		range_pass_on(rs, had_first, had_last, &waiters, &called);
	spin_unlock_irqrestore(&rs->lock, flags);
	range_call(&called);
	return !holder;
}

/**
 * qcow2_range_give_up() - somebody does not come for what is held for it
 * @rs: all ranges
 * @p: who was called, if it was
 *
 * Context: any.
 */
void qcow2_range_give_up(struct qcow2_ranges *rs, struct qcow2_parked *p)
{
	unsigned long flags;
	LIST_HEAD(waiters);
	LIST_HEAD(called);

	if (!p->reserved)
		return;
	spin_lock_irqsave(&rs->lock, flags);
	range_unreserve(rs, p, &waiters);
	range_pass_on(rs, p->range.first, p->range.last, &waiters, &called);
	spin_unlock_irqrestore(&rs->lock, flags);
	range_call(&called);
}

/**
 * qcow2_range_trim() - let go of the end of a range
 * @rs: all ranges
 * @r: a held range
 * @last: its new last cluster, not before its first
 */
void qcow2_range_trim(struct qcow2_ranges *rs, struct qcow2_range *r, u64 last)
{
	u64 had_last = r->last;
	unsigned long flags;
	LIST_HEAD(waiters);
	LIST_HEAD(called);

	if (last == had_last)
		return;
	spin_lock_irqsave(&rs->lock, flags);
	range_tree_remove(r, &rs->root);
	r->last = last;
	range_tree_insert(r, &rs->root);
	list_splice_init(&r->waiters, &waiters);
	range_pass_on(rs, r->first, had_last, &waiters, &called);
	spin_unlock_irqrestore(&rs->lock, flags);
	range_call(&called);
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
	LIST_HEAD(called);

	spin_lock_irqsave(&rs->lock, flags);
	range_tree_remove(r, &rs->root);
	range_pass_on(rs, r->first, r->last, &r->waiters, &called);
	spin_unlock_irqrestore(&rs->lock, flags);
	range_call(&called);
}
