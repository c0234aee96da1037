// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies that touch the same bytes, one of them writing, go one after the
 * other, in the order in which they came.
 *
 * Each waits only for those that came before it, and holds nothing while it
 * waits, so that none waits in a circle. A piece that a driver hands on to a
 * disk below takes no range, because its caller holds one above. There are as
 * many as there are callers: a list will do.
 *
 * Locks: blk_copy_ranges_lock, a leaf.
 */
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "blk-copy.h"

static DEFINE_SPINLOCK(blk_copy_ranges_lock);
static LIST_HEAD(blk_copy_ranges);
static DECLARE_WAIT_QUEUE_HEAD(blk_copy_ranges_wait);

static bool blk_copy_touches(struct gendisk *a_disk, u64 a, u64 a_len,
			     struct gendisk *b_disk, u64 b, u64 b_len)
{
	return a_disk == b_disk && a < b + b_len && b < a + a_len;
}

/**
 * blk_copy_overlaps() - whether a copy would write what it reads
 * @span: the bytes
 *
 * Return: true if source and destination share bytes.
 */
bool blk_copy_overlaps(const struct blk_copy_span *span)
{
	return blk_copy_touches(span->src_disk, span->src, span->len,
				span->dst_disk, span->dst, span->len);
}

static bool blk_copy_conflict(const struct blk_copy_span *a,
			      const struct blk_copy_span *b)
{
	return blk_copy_touches(a->dst_disk, a->dst, a->len,
				b->dst_disk, b->dst, b->len) ||
	       blk_copy_touches(a->dst_disk, a->dst, a->len,
				b->src_disk, b->src, b->len) ||
	       blk_copy_touches(a->src_disk, a->src, a->len,
				b->dst_disk, b->dst, b->len);
}

static bool blk_copy_may_go(const struct blk_copy_span *span)
{
	struct blk_copy_span *other;
	bool may = true;

	spin_lock(&blk_copy_ranges_lock);
	list_for_each_entry(other, &blk_copy_ranges, node) {
		if (other == span)
			break;
		if (blk_copy_conflict(span, other)) {
			may = false;
			break;
		}
	}
	spin_unlock(&blk_copy_ranges_lock);
	return may;
}

/**
 * blk_copy_lock_span() - wait until nobody else copies the same bytes
 * @span: the bytes
 *
 * Return: 0, or -EINTR after a signal, with nothing locked.
 */
int blk_copy_lock_span(struct blk_copy_span *span)
{
	long left;

	spin_lock(&blk_copy_ranges_lock);
	list_add_tail(&span->node, &blk_copy_ranges);
	spin_unlock(&blk_copy_ranges_lock);
	do {
		left = wait_event_killable_timeout(blk_copy_ranges_wait,
						   blk_copy_may_go(span),
						   BLK_COPY_POLL);
	} while (!left && !task_sigpending(current));
	if (left > 0)
		return 0;
	blk_copy_unlock_span(span);
	return -EINTR;
}

/**
 * blk_copy_unlock_span() - let others have the bytes
 * @span: as locked
 */
void blk_copy_unlock_span(struct blk_copy_span *span)
{
	spin_lock(&blk_copy_ranges_lock);
	list_del(&span->node);
	spin_unlock(&blk_copy_ranges_lock);
	wake_up_all(&blk_copy_ranges_wait);
}
