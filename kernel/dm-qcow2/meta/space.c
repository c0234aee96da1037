// SPDX-License-Identifier: GPL-2.0-only
/*
 * How far the store reaches.
 *
 * A file grows ahead of what is used; what is left over is cut when the image
 * is closed (tail.c).
 *
 * Locks: alloc.grow_mutex, held while one waits for the file to grow; alloc.lock
 * inside.
 */
#include "meta.h"

#include <linux/bitmap.h>
#include <linux/jiffies.h>
#include <linux/workqueue.h>

#include "../core/scope.h"

/*
 * Space is reserved ahead of what is used, so that nobody has to wait for it: file
 * systems hold up all direct I/O to a file while they do that. An eighth of the
 * file, between these; what is left over is cut when the image is closed.
 */
#define AHEAD_LEAST (16ULL << 20)
#define AHEAD_MOST (256ULL << 20)

/* When there is no space to be reserved ahead, that is not tried for so long. */
#define AHEAD_PAUSE (5 * HZ)

/**
 * qcow2_space_capacity() - how many clusters the image may have
 * @q: the image
 *
 * Return: their number.
 */
u64 qcow2_space_capacity(const struct qcow2_image *q)
{
	return min_t(u64, qcow2_store_most(q->layer.meta), QCOW2_OFFSET_MASK) >>
	       q->layer.geo.cluster_bits;
}

static u64 space_ahead(const struct qcow2_alloc *a)
{
	if (time_before(jiffies, a->ahead_after))
		return 0;
	return clamp(a->file_end / 8, AHEAD_LEAST, AHEAD_MOST);
}

/* Whether it is time to reserve more. What ends beyond the file has a gap there. */
static bool space_is_short(const struct qcow2_image *q)
{
	const struct qcow2_alloc *a = &q->alloc;
	u64 used = a->end << q->layer.geo.cluster_bits;

	return used <= a->file_end && a->file_end < used + space_ahead(a) / 2;
}

/* What the file is to reach next, and from where; nothing if they are equal. */
static void space_plan(struct qcow2_image *q, u64 *from, u64 *to, u64 *least)
{
	struct qcow2_alloc *a = &q->alloc;
	unsigned int bits = q->layer.geo.cluster_bits;
	u64 ahead;

	mutex_lock(&a->lock);
	ahead = space_ahead(a);
	*from = a->file_end;
	*to = a->file_end;
	*least = a->file_end;
	if (a->wanted.end > a->file_end) {
		*from = max(a->file_end, a->wanted.start);
		*least = a->wanted.end;
		*to = a->wanted.end + ahead;
	} else if (space_is_short(q)) {
		*to = (a->end << bits) + ahead;
	}
	*to = clamp(round_up(*to, (u64)qcow2_cluster(&q->layer)), *least,
		    qcow2_space_capacity(q) << bits);
	mutex_unlock(&a->lock);
}

/* Has the file reach what is needed, and some more if there is space for it. */
static void space_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     alloc.grow_work);
	unsigned int scope = qcow2_scope_enter();
	u64 from, to, least;
	bool ahead = true;
	int r = 0;

	space_plan(q, &from, &to, &least);
	if (from < to)
		r = qcow2_store_extend(q->layer.meta, from, to);
	if (r) {
		ahead = false;
		to = least;
		r = from < to ? qcow2_store_extend(q->layer.meta, from, to) : 0;
	}
	mutex_lock(&q->alloc.lock);
	if (!ahead)
		q->alloc.ahead_after = jiffies + AHEAD_PAUSE;
	if (!r)
		q->alloc.file_end = max(q->alloc.file_end, to);
	q->alloc.grow_error = r;
	mutex_unlock(&q->alloc.lock);
	qcow2_scope_leave(scope);
}

/**
 * qcow2_space_init() - set up what a file needs to grow
 * @q: the image
 *
 * Return: 0 or -ENOMEM; qcow2_space_exit() is to be called either way.
 */
int qcow2_space_init(struct qcow2_image *q)
{
	mutex_init(&q->alloc.grow_mutex);
	INIT_WORK(&q->alloc.grow_work, space_work);
	q->alloc.grow_wq = alloc_workqueue("qcow2_grow", WQ_MEM_RECLAIM, 0);
	return q->alloc.grow_wq ? 0 : -ENOMEM;
}

/**
 * qcow2_space_exit() - undo qcow2_space_init(), whole or not done
 * @q: the image
 */
void qcow2_space_exit(struct qcow2_image *q)
{
	if (q->alloc.grow_wq)
		destroy_workqueue(q->alloc.grow_wq);
}

/**
 * qcow2_space_within() - how many clusters the store reaches over
 * @q: the image
 * @start: index of the first
 * @n: how many to look at
 *
 * Return: how many of those, from the first on.
 */
u32 qcow2_space_within(const struct qcow2_image *q, u64 start, u32 n)
{
	u64 end = q->alloc.file_end >> q->layer.geo.cluster_bits;

	lockdep_assert_held(&q->alloc.lock);
	if (q->layer.meta->bdev)
		return n;
	return start < end ? min_t(u64, n, end - start) : 0;
}

/**
 * qcow2_space_reach() - see that the store reaches over clusters
 * @q: the image
 * @start: index of the first
 * @end: index after the last
 * @missing: after -EAGAIN: for qcow2_space_grow(), which is to be called without
 *	alloc.lock
 *
 * Return: 0; -EAGAIN if the file has to grow for that; or -ENOSPC.
 */
int qcow2_space_reach(struct qcow2_image *q, u64 start, u64 end,
		      struct qcow2_bytes *missing)
{
	unsigned int bits = q->layer.geo.cluster_bits;
	struct qcow2_alloc *a = &q->alloc;

	lockdep_assert_held(&a->lock);
	if (end > qcow2_space_capacity(q))
		return -ENOSPC;
	if (!q->layer.meta->bdev) {
		if (end << bits > a->file_end) {
			missing->start = start << bits;
			missing->end = end << bits;
			return -EAGAIN;
		}
		if (space_is_short(q))
			queue_work(a->grow_wq, &a->grow_work);
	}
	if (end << bits > q->layer.limit) {
		WRITE_ONCE(q->layer.limit, end << bits);
		if (!qcow2_external(&q->layer))
			WRITE_ONCE(q->layer.data_limit, end << bits);
	}
	return 0;
}

/**
 * qcow2_space_grow() - have the file grow
 * @q: the image
 * @missing: what it is to reach over, from qcow2_space_reach()
 *
 * Context: a worker without alloc.lock. Return: 0 or a negative error.
 */
int qcow2_space_grow(struct qcow2_image *q, const struct qcow2_bytes *missing)
{
	struct qcow2_alloc *a = &q->alloc;
	bool enough;
	int r = 0;

	mutex_lock(&a->grow_mutex);
	mutex_lock(&a->lock);
	enough = a->file_end >= missing->end;
	if (!enough)
		a->wanted = *missing;
	mutex_unlock(&a->lock);
	if (!enough) {
		queue_work(a->grow_wq, &a->grow_work);
		flush_work(&a->grow_work);
		mutex_lock(&a->lock);
		r = a->file_end < missing->end ? a->grow_error : 0;
		a->wanted.end = 0;
		mutex_unlock(&a->lock);
	}
	mutex_unlock(&a->grow_mutex);
	return r;
}

/**
 * qcow2_space_settle() - wait until the file grows no more
 * @q: the image, of which nothing is allocated any more
 */
void qcow2_space_settle(struct qcow2_image *q)
{
	flush_work(&q->alloc.grow_work);
}

/**
 * qcow2_space_clear() - have clusters read as zeros
 * @q: the image
 * @cluster: index of the first
 * @count: how many
 *
 * Return: 0 or a negative error.
 */
int qcow2_space_clear(struct qcow2_image *q, u64 cluster, u64 count)
{
	if (cluster >= q->alloc.fresh_from)
		return 0;
	return qcow2_store_fill_zero(q->layer.meta, &q->bufs,
				     cluster << q->layer.geo.cluster_bits,
				     count << q->layer.geo.cluster_bits,
				     QCOW2_FOR_METADATA);
}

/**
 * qcow2_space_is_far() - whether the image ends far beyond the file
 * @q: the image
 *
 * Return: true if the next cluster there would make the file much larger.
 */
bool qcow2_space_is_far(const struct qcow2_image *q)
{
	return !q->layer.meta->bdev &&
	       READ_ONCE(q->alloc.end) << q->layer.geo.cluster_bits >
	       READ_ONCE(q->alloc.file_end) + AHEAD_LEAST;
}

static u64 space_file_end(const struct qcow2_image *q)
{
	return q->layer.meta->bdev ? 0 : qcow2_store_size(q->layer.meta);
}

/**
 * qcow2_space_begin() - find out how far the store reaches
 * @q: the image
 * @end: index after the last cluster in use
 */
void qcow2_space_begin(struct qcow2_image *q, u64 end)
{
	struct qcow2_alloc *a = &q->alloc;

	lockdep_assert_held(&a->lock);
	a->end = end;
	a->tail_end = end;
	bitmap_zero(a->tail_freed, QCOW2_TAIL_CLUSTERS);
	a->file_end = space_file_end(q);
	a->wanted.end = 0;
	a->ahead_after = jiffies;
	a->fresh_from = q->layer.meta->bdev ? U64_MAX :
			DIV_ROUND_UP_ULL(a->file_end,
					 qcow2_cluster(&q->layer));
	/* What somebody has put beyond is not ours to cut. */
	a->keep_size = a->file_end > end << q->layer.geo.cluster_bits ?
		       a->file_end : 0;
}

/**
 * qcow2_space_again() - an image that could not be closed is in use again
 * @q: the image, which may have been cut before that failed
 */
void qcow2_space_again(struct qcow2_image *q)
{
	mutex_lock(&q->alloc.lock);
	q->alloc.file_end = space_file_end(q);
	mutex_unlock(&q->alloc.lock);
}

/**
 * qcow2_space_tail_index() - where alloc.tail_freed tells of a cluster
 * @q: the image
 * @cluster: its index
 *
 * Return: the bit, or -1 if there is none.
 */
s64 qcow2_space_tail_index(const struct qcow2_image *q, u64 cluster)
{
	u64 back = q->alloc.tail_end - cluster;

	return cluster < q->alloc.tail_end && back <= QCOW2_TAIL_CLUSTERS ?
	       QCOW2_TAIL_CLUSTERS - back : -1;
}

/**
 * qcow2_space_note_freed() - note that the last reference of clusters is gone
 * @q: the image
 * @cluster: index of the first
 * @count: how many
 */
void qcow2_space_note_freed(struct qcow2_image *q, u64 cluster, u64 count)
{
	s64 at;

	lockdep_assert_held(&q->alloc.lock);
	for (; count && cluster < q->alloc.tail_end; count--, cluster++) {
		at = qcow2_space_tail_index(q, cluster);
		if (at >= 0)
			__set_bit(at, q->alloc.tail_freed);
	}
}
