// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking free clusters.
 *
 * Where clusters come from, in this order: blocks of refcounts in which free
 * clusters are known (hints.c, fed by what is freed and by the search), blocks
 * that nobody has searched yet, some in each call; then the end of the image;
 * then a search of all that is left. While there are blocks left to be searched
 * only a few clusters are taken at the end: an image does not grow by more than
 * one cluster for SEARCH_BLOCKS / SEARCH_APPEND blocks while others are free.
 *
 * Blocks of refcounts are read and searched without a lock; under alloc.lock a
 * cluster that seems to be free is looked at once more and taken. A file that has
 * to become longer for it is waited for without the lock, too (space.c).
 *
 * Locks: alloc.lock; alloc.reftable_lock and txn.lock inside.
 */
#include "meta.h"

/* Blocks searched in one call, and clusters taken at the end before all are. */
#define SEARCH_BLOCKS 256
#define SEARCH_APPEND 16

/**
 * struct alloc_try - an attempt to take clusters
 * @q: the image
 * @want: how many, at the most
 * @may_grow: the file may be waited for to become longer
 * @missing: what it is to reach over then
 * @cluster: set to the index of the first
 * @got: set to how many
 * @fresh: set if they read as zeros
 */
struct alloc_try {
	struct qcow2_image *q;
	u32 want;
	bool may_grow;
	struct qcow2_bytes missing;
	u64 cluster;
	u32 got;
	bool fresh;
};

static void alloc_take(struct alloc_try *t, struct qcow2_block *b, u64 cluster,
		       u32 n)
{
	struct qcow2_image *q = t->q;

	qcow2_refcount_set_run(q, b, cluster % qcow2_per_block(q), n, 1);
	t->cluster = cluster;
	t->got = n;
	t->fresh = false;
}

/* Takes clusters from @cluster on; -EBUSY if that is not free any more. */
static int alloc_claim(struct alloc_try *t, struct qcow2_block *b, u64 cluster)
{
	struct qcow2_image *q = t->q;
	u64 i = cluster % qcow2_per_block(q), end;
	u32 n = 0;
	int r;

	lockdep_assert_held(&q->alloc.lock);
	end = min(qcow2_per_block(q), q->alloc.end - (cluster - i));
	while (n < t->want && i + n < end && !qcow2_refcount(q, b, i + n))
		n++;
	if (!n)
		return -EBUSY;
	n = qcow2_space_within(q, cluster, n) ?: 1;
	r = qcow2_space_reach(q, cluster, cluster + n, &t->missing);
	if (!r)
		alloc_take(t, b, cluster, n);
	return r;
}

/* Takes free clusters out of a block that describes those from @first on. */
static int alloc_from_block(struct alloc_try *t, struct qcow2_block *b,
			    u64 first)
{
	struct qcow2_image *q = t->q;
	u64 i = 0, end;
	int r = -EBUSY;

	qcow2_block_prepare(b);
	for (; r == -EBUSY; i++) {
		end = min(qcow2_per_block(q), READ_ONCE(q->alloc.end) - first);
		while (i < end && qcow2_refcount(q, b, i))
			i++;
		if (i >= end)
			return -ENOSPC;
		mutex_lock(&q->alloc.lock);
		r = alloc_claim(t, b, first + i);
		mutex_unlock(&q->alloc.lock);
	}
	return r;
}

/* Takes free clusters out of the block with @index. */
static int alloc_from(struct alloc_try *t, u64 index)
{
	struct qcow2_image *q = t->q;
	u64 first = index * qcow2_per_block(q);
	struct qcow2_block *b;
	int r;

	if (first >= READ_ONCE(q->alloc.end))
		return -ENOSPC;
	b = qcow2_refcount_block(q, index);
	if (PTR_ERR_OR_ZERO(b) == -ENOENT) {
		mutex_lock(&q->alloc.lock);
		r = qcow2_reftable_need(q, first, &t->missing);
		mutex_unlock(&q->alloc.lock);
		if (r)
			return r;
		b = qcow2_refcount_block(q, index);
	}
	if (IS_ERR(b))
		return PTR_ERR(b);
	r = alloc_from_block(t, b, first);
	qcow2_block_put(b);
	return r;
}

/* Keeps what is known of a block true after an attempt to take from it. */
static void alloc_learn(struct qcow2_image *q, u64 index, u64 seen, int err)
{
	lockdep_assert_held(&q->alloc.lock);
	switch (err) {
	case 0:
		qcow2_hint_worked(q, index);
		break;
	case -EIO:
		qcow2_hint_unread(q, index);
		break;
	case -ENOSPC:
		qcow2_hint_gone(q, index, seen);
		break;
	}
}

static int alloc_take_hinted(struct alloc_try *t)
{
	struct qcow2_image *q = t->q;
	bool retry = qcow2_hint_retry(q), found;
	u64 index, seen;
	int r;

	for (index = 0;; index++) {
		mutex_lock(&q->alloc.lock);
		found = qcow2_hint_next(q, retry, &index);
		seen = q->alloc.hinted;
		mutex_unlock(&q->alloc.lock);
		if (!found)
			return -ENOSPC;
		r = alloc_from(t, index);
		mutex_lock(&q->alloc.lock);
		alloc_learn(q, index, seen, r);
		mutex_unlock(&q->alloc.lock);
		if (r == -EIO || r == -ENOSPC || (r == -EAGAIN && !t->may_grow))
			continue;
		return r;
	}
}

static bool alloc_all_searched(const struct qcow2_image *q)
{
	return READ_ONCE(q->alloc.scan_next) * qcow2_per_block(q) >=
	       READ_ONCE(q->alloc.end);
}

/* Looks at the next block nobody has looked at for free clusters. */
static int alloc_search_one(struct alloc_try *t)
{
	struct qcow2_image *q = t->q;
	u64 index = READ_ONCE(q->alloc.scan_next);
	int r;

	r = alloc_from(t, index);
	/* Others may look at it as well: it counts as searched when it is known. */
	mutex_lock(&q->alloc.lock);
	if (q->alloc.scan_next == index)
		WRITE_ONCE(q->alloc.scan_next, index + 1);
	if (r == -EIO)
		qcow2_hint_unread(q, index);
	else if (r != -ENOSPC)
		qcow2_hint_free(q, index);
	mutex_unlock(&q->alloc.lock);
	return r == -EIO ? -ENOSPC : r;
}

/* Ends where the file would have to grow: so it would for all that follow. */
static int alloc_search(struct alloc_try *t, u64 blocks)
{
	int r = -ENOSPC;

	for (; r == -ENOSPC && blocks && !alloc_all_searched(t->q); blocks--) {
		r = alloc_search_one(t);
		cond_resched();
	}
	return r == -EAGAIN && !t->may_grow ? -ENOSPC : r;
}

/* Takes clusters at the end, which is in the block. */
static int alloc_claim_end(struct alloc_try *t, struct qcow2_block *b)
{
	struct qcow2_image *q = t->q;
	u64 end = q->alloc.end, room = qcow2_space_capacity(q);
	u32 n;
	int r;

	lockdep_assert_held(&q->alloc.lock);
	if (end >= room)
		return -ENOSPC;
	n = min3((u64)t->want,
		 qcow2_per_block(q) - end % qcow2_per_block(q), room - end);
	n = qcow2_space_within(q, end, n) ?: 1;
	r = qcow2_space_reach(q, end, end + n, &t->missing);
	if (r)
		return r;
	alloc_take(t, b, end, n);
	t->fresh = end >= q->alloc.fresh_from;
	WRITE_ONCE(q->alloc.end, end + n);
	return 0;
}

static int alloc_append(struct alloc_try *t)
{
	struct qcow2_image *q = t->q;
	struct qcow2_block *b;
	bool done = false;
	u64 index, end;
	int r = 0;

	while (!r && !done) {
		index = READ_ONCE(q->alloc.end) / qcow2_per_block(q);
		b = qcow2_refcount_block(q, index);
		if (IS_ERR(b) && PTR_ERR(b) != -ENOENT)
			return PTR_ERR(b);
		if (!IS_ERR(b))
			qcow2_block_prepare(b);
		mutex_lock(&q->alloc.lock);
		/* The end may have moved, or be moved by what it needs there. */
		end = q->alloc.end;
		r = qcow2_reftable_need_at_end(q, &t->missing);
		done = !r && !IS_ERR(b) && q->alloc.end == end &&
		       end / qcow2_per_block(q) == index;
		if (done)
			r = alloc_claim_end(t, b);
		mutex_unlock(&q->alloc.lock);
		if (!IS_ERR(b))
			qcow2_block_put(b);
	}
	return r;
}

static int alloc_attempt(struct alloc_try *t)
{
	struct qcow2_image *q = t->q;
	u32 want = t->want;
	int r;

	r = alloc_take_hinted(t);
	/* A lone cluster far out must not make the file as large as that. */
	if (r == -ENOSPC && qcow2_space_is_far(q))
		r = alloc_search(t, U64_MAX);
	if (r == -ENOSPC)
		r = alloc_search(t, SEARCH_BLOCKS);
	if (r == -ENOSPC) {
		if (!alloc_all_searched(q))
			t->want = min_t(u32, want, SEARCH_APPEND);
		r = alloc_append(t);
		t->want = want;
		if (r == -EAGAIN && !t->may_grow)
			r = -ENOSPC;
	}
	if (r == -ENOSPC)
		r = alloc_search(t, U64_MAX);
	return r;
}

/**
 * qcow2_alloc_clusters() - take free clusters
 * @q: the image
 * @want: how many, at least 1
 * @host: set to the host offset of the first in bytes
 * @got: set to the number of consecutive clusters taken, 1 to @want
 * @fresh: set if they read as zeros
 *
 * They have refcount 1 in the cache. Context: a worker, without alloc.lock.
 * Return: 0, -ENOSPC, or another negative error. After -ENOSPC a caller that
 * holds no lock may ask qcow2_drain_and_retry().
 */
int qcow2_alloc_clusters(struct qcow2_image *q, u32 want, u64 *host, u32 *got,
			 bool *fresh)
{
	struct alloc_try t = { .q = q, .want = want, .may_grow = true };
	int r, err = 0;

	r = qcow2_header_set_dirty(q);
	if (r)
		return r;
	do {
		r = alloc_attempt(&t);
		/* Where the file cannot grow, there may be room before its end. */
		if (r == -EAGAIN)
			err = qcow2_space_grow(q, &t.missing);
		if (err)
			t.may_grow = false;
	} while (r == -EAGAIN);
	if (r)
		return r == -ENOSPC && err ? err : r;
	if (READ_ONCE(q->layer.core->enospc))
		WRITE_ONCE(q->layer.core->enospc, false);
	qcow2_count_n(q->layer.core, ALLOC, t.got);
	*host = t.cluster << q->layer.geo.cluster_bits;
	*got = t.got;
	*fresh = t.fresh;
	return 0;
}

/**
 * qcow2_alloc_begin() - find the end of the used part of the image
 * @q: the image, about to be written to, with its tables loaded
 *
 * Return: 0 or a negative error.
 */
int qcow2_alloc_begin(struct qcow2_image *q)
{
	u64 end;
	int r;

	r = qcow2_refcount_last(q, &end);
	mutex_lock(&q->alloc.lock);
	q->alloc.scan_next = 0;
	q->alloc.nr_hints = 0;
	q->layer.core->enospc = false;
	qcow2_space_begin(q, end);
	mutex_unlock(&q->alloc.lock);
	return r;
}
