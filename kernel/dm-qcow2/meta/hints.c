// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks of refcounts in which there are free clusters, as far as is known, and
 * those that could not be read when that was to be found out.
 *
 * Locks: alloc.lock.
 */
#include "meta.h"

/* What could not be read is left alone for so long. */
#define UNREAD_FOR (5 * HZ)

/* What is known of a block. */
enum { HINT_FREE = 1, HINT_UNREAD };

/* Notes of more blocks would take too much memory. */
#define MAX_HINTS 1024

/* Notes what is to be looked at again; false if there are too many notes. */
static bool hint_note(struct qcow2_image *q, u64 index, unsigned long what)
{
	bool known = xa_load(&q->alloc.hints, index);

	lockdep_assert_held(&q->alloc.lock);
	if ((!known && q->alloc.nr_hints >= MAX_HINTS) ||
	    xa_is_err(xa_store(&q->alloc.hints, index, xa_mk_value(what), GFP_NOIO)))
		return false;
	q->alloc.nr_hints += !known;
	return true;
}

/**
 * qcow2_hint_unread() - note that a block could not be read
 * @q: the image
 * @index: its index
 *
 * It is of no use now. It may have free clusters.
 */
void qcow2_hint_unread(struct qcow2_image *q, u64 index)
{
	q->alloc.unread_until = jiffies + UNREAD_FOR;
	hint_note(q, index, HINT_UNREAD);
}

/**
 * qcow2_hint_free() - note that a block has free clusters
 * @q: the image
 * @index: its index
 *
 * If there are too many notes, it is to be searched again.
 */
void qcow2_hint_free(struct qcow2_image *q, u64 index)
{
	q->alloc.hinted++;
	if (!hint_note(q, index, HINT_FREE))
		WRITE_ONCE(q->alloc.scan_next, min(q->alloc.scan_next, index));
}

/**
 * qcow2_hint_retry() - whether it is time to try what could not be read
 * @q: the image
 *
 * Return: the answer for all of a pass through the hints, which itself may put
 * the next one off.
 */
bool qcow2_hint_retry(const struct qcow2_image *q)
{
	return time_after_eq(jiffies, q->alloc.unread_until);
}

/**
 * qcow2_hint_next() - the next block to be looked at
 * @q: the image
 * @retry: also of those that could not be read
 * @index: where to begin; set to the index of the block
 *
 * Return: false if there is none.
 */
bool qcow2_hint_next(struct qcow2_image *q, bool retry, u64 *index)
{
	unsigned long at;
	void *entry;

	lockdep_assert_held(&q->alloc.lock);
	xa_for_each_start(&q->alloc.hints, at, entry, *index) {
		if (xa_to_value(entry) == HINT_UNREAD && !retry)
			continue;
		*index = at;
		return true;
	}
	return false;
}

/**
 * qcow2_hint_worked() - a block had free clusters indeed
 * @q: the image
 * @index: its index, from qcow2_hint_next()
 */
void qcow2_hint_worked(struct qcow2_image *q, u64 index)
{
	struct xarray *hints = &q->alloc.hints;

	void *hint = xa_load(hints, index);

	if (hint && xa_to_value(hint) == HINT_UNREAD)
		xa_store(hints, index, xa_mk_value(HINT_FREE), GFP_NOIO);
}

/**
 * qcow2_hint_gone() - no free cluster was found in a block
 * @q: the image
 * @index: its index, from qcow2_hint_next()
 * @seen: alloc.hinted at that time; one may have been freed since
 */
void qcow2_hint_gone(struct qcow2_image *q, u64 index, u64 seen)
{
	if (q->alloc.hinted == seen && xa_erase(&q->alloc.hints, index))
		q->alloc.nr_hints--;
}
