// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refcounts.
 *
 * A cluster is free exactly when its refcount in the cache is 0. A refcount
 * goes up when a cluster is handed out, before anything is written to it, and
 * down only when nothing on disk and no I/O in flight can refer to it any more
 * (free.c), so the allocator needs no other state to be safe.
 *
 * Locks: alloc.load_lock while a block is read, so that it is read once;
 * alloc.lock while refcounts change, and while it matters that they do not;
 * txn.lock inside.
 */
#include "meta.h"

static struct qcow2_block *refcount_load(struct qcow2_image *q, u64 index,
					 u64 host)
{
	struct qcow2_block *b = qcow2_block_new(&q->layer.cache,
						&q->ref_blocks, index, host);
	u64 first = index * qcow2_per_block(q), lost;
	int r;

	__set_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags);
	r = qcow2_store_rw_buf(q->layer.meta, false, host, b->data,
			       QCOW2_BLOCK_SIZE);
	if (!r) {
		lost = qcow2_places_unreferenced(&q->layer.places, b->data, first,
						 qcow2_per_block(q));
		if (lost != U64_MAX) {
			qcow2_fail(q->layer.core, "metadata without a reference", lost);
			r = -EIO;
		}
	}
	if (!r)
		r = qcow2_block_insert(b);
	if (!r)
		return b;
	qcow2_block_destroy(b);
	return ERR_PTR(r);
}

static struct qcow2_block *refcount_fetch(struct qcow2_image *q, u64 index)
{
	u64 cluster = index * qcow2_per_block(q), entry = 0, inside;
	u64 region = qcow2_region_of(q, cluster);
	struct qcow2_block *b;

	lockdep_assert_held(&q->alloc.load_lock);
	/* If the table has come to name it meanwhile, it has come with that. */
	mutex_lock(&q->alloc.lock);
	b = qcow2_block_find(&q->ref_blocks, index);
	if (!b && region < q->reftable.nr)
		entry = qcow2_table_get(&q->reftable, region);
	mutex_unlock(&q->alloc.lock);
	if (b)
		return b;
	if (!entry)
		return ERR_PTR(-ENOENT);
	inside = cluster & (BIT_ULL(qcow2_refblock_bits(&q->layer.geo)) - 1);
	return refcount_load(q, index, entry + ((inside / qcow2_per_block(q)) <<
				       QCOW2_BLOCK_BITS));
}

/**
 * qcow2_refcount_block() - get a block of refcounts
 * @q: the image
 * @index: its index
 *
 * Context: a worker without alloc.lock; reads the block if it is not cached.
 * Return: the block with a reference for the caller, or an error pointer;
 * -ENOENT if the refcount block it is a part of does not exist.
 */
struct qcow2_block *qcow2_refcount_block(struct qcow2_image *q, u64 index)
{
	struct qcow2_block *b = qcow2_block_find(&q->ref_blocks, index);

	if (b)
		return b;
	mutex_lock(&q->alloc.load_lock);
	b = refcount_fetch(q, index);
	mutex_unlock(&q->alloc.load_lock);
	return b;
}

/**
 * qcow2_refcount_new_block() - make a cached block of a new refcount block
 * @q: the image
 * @index: its index
 * @refblock: the cluster of the refcount block, which is not in the refcount
 *	table yet, and reads as zeros
 *
 * Return: the block with a reference for the caller, or an error pointer.
 */
struct qcow2_block *qcow2_refcount_new_block(struct qcow2_image *q, u64 index,
					     u64 refblock)
{
	u64 region = BIT_ULL(qcow2_refblock_bits(&q->layer.geo));
	u64 inside = (index * qcow2_per_block(q)) & (region - 1);
	struct qcow2_block *b = qcow2_block_find(&q->ref_blocks, index);

	if (b)
		return b;
	b = qcow2_block_new(&q->layer.cache, &q->ref_blocks, index,
			    (refblock << q->layer.geo.cluster_bits) +
			    ((inside / qcow2_per_block(q)) << QCOW2_BLOCK_BITS));
	__set_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags);
	if (!qcow2_block_insert(b))
		return b;
	qcow2_block_destroy(b);
	return ERR_PTR(-ENOMEM);
}

/**
 * qcow2_refcount_set_run() - set refcounts
 * @q: the image
 * @b: a prepared block of them
 * @i: the first
 * @count: how many
 * @value: what they become
 */
void qcow2_refcount_set_run(struct qcow2_image *q, struct qcow2_block *b, u64 i,
			    u64 count, u64 value)
{
	spin_lock_irq(&q->txn.lock);
	for (; count; count--, i++)
		qcow2_refcount_set(b->data, i, q->layer.geo.refcount_order, value);
	qcow2_dirty_block(q, b);
	spin_unlock_irq(&q->txn.lock);
}

/* How many refcounts from entry @i to @end are alike. */
static u64 refcount_run_of(const struct qcow2_image *q,
			   const struct qcow2_block *b, u64 i, u64 end)
{
	u64 value = qcow2_refcount(q, b, i), at = i + 1;

	while (at < end && qcow2_refcount(q, b, at) == value)
		at++;
	return at - i;
}

/**
 * qcow2_refcount_run() - the refcount of a cluster, and of those after it
 * @q: the image
 * @cluster: its index
 * @max: how many to look at, at least 1
 * @value: set to the refcount
 * @count: set to the number of clusters that have it; after an error, of those
 *	that there is no need to ask for
 *
 * Return: 0 or a negative error.
 */
int qcow2_refcount_run(struct qcow2_image *q, u64 cluster, u64 max, u64 *value,
		       u64 *count)
{
	u64 i = cluster % qcow2_per_block(q), end = min(i + max, qcow2_per_block(q));
	struct qcow2_block *b;

	*count = end - i;
	b = qcow2_refcount_block(q, cluster / qcow2_per_block(q));
	if (IS_ERR(b))
		return PTR_ERR(b);
	mutex_lock(&q->alloc.lock);
	*value = qcow2_refcount(q, b, i);
	*count = refcount_run_of(q, b, i, end);
	mutex_unlock(&q->alloc.lock);
	qcow2_block_put(b);
	return 0;
}

/**
 * qcow2_refcount_see() - look at the refcounts round a cluster
 * @q: the image
 * @cluster: its index
 * @see: called with the block of refcounts that its own is in, under alloc.lock
 * @arg: for @see
 *
 * Context: a worker, not within SRCU. Return: 0, also if there is no such
 * block, which @see is not called for; or a negative error.
 */
int qcow2_refcount_see(struct qcow2_image *q, u64 cluster,
		       void (*see)(const struct qcow2_block *b, void *arg),
		       void *arg)
{
	struct qcow2_block *b;

	b = qcow2_refcount_block(q, cluster / qcow2_per_block(q));
	if (IS_ERR(b))
		return PTR_ERR(b) == -ENOENT ? 0 : PTR_ERR(b);
	mutex_lock(&q->alloc.lock);
	see(b, arg);
	mutex_unlock(&q->alloc.lock);
	qcow2_block_put(b);
	return 0;
}

static void refcount_drop_fail(struct qcow2_image *q, u64 cluster)
{
	qcow2_fail(q->layer.core, "no reference left to drop of cluster at",
		   cluster << q->layer.geo.cluster_bits);
}

/* Clusters that one block describes. */
static int refcount_drop_in_block(struct qcow2_image *q, u64 cluster, u64 count,
				  u64 refs)
{
	u64 i = cluster % qcow2_per_block(q), end = i + count, first = cluster - i;
	struct qcow2_block *b = qcow2_refcount_block(q, cluster / qcow2_per_block(q));
	u64 value, n;
	int r = 0;

	if (PTR_ERR_OR_ZERO(b) == -ENOENT)
		refcount_drop_fail(q, cluster);
	if (IS_ERR(b))
		return PTR_ERR(b);
	qcow2_block_prepare(b);
	mutex_lock(&q->alloc.lock);
	for (; i < end; i += n) {
		value = qcow2_refcount(q, b, i);
		n = refcount_run_of(q, b, i, end);
		if (value < refs) {
			refcount_drop_fail(q, first + i);
			r = -EUCLEAN;
			continue;
		}
		if (value == refs) {
			qcow2_places_forget(&q->layer.places, first + i, n);
			qcow2_space_note_freed(q, first + i, n);
			qcow2_hint_free(q, b->index);
		}
		qcow2_refcount_set_run(q, b, i, n, value - refs);
		qcow2_count_n(q->layer.core, FREE, n * refs);
	}
	mutex_unlock(&q->alloc.lock);
	qcow2_block_put(b);
	return r;
}

/**
 * qcow2_refcount_drop() - take references from each of some clusters
 * @q: the image
 * @cluster: index of the first
 * @count: how many
 * @refs: how many references from each
 *
 * A cluster without so many references is a contradiction in the image, which turns
 * read-only then. Return: 0 or the first error; the rest is dropped even so.
 */
int qcow2_refcount_drop(struct qcow2_image *q, u64 cluster, u64 count, u64 refs)
{
	int r, first = 0;
	u64 n;

	for (; count; count -= n, cluster += n) {
		n = min(count, qcow2_per_block(q) - cluster % qcow2_per_block(q));
		r = refcount_drop_in_block(q, cluster, n, refs);
		first = first ?: r;
		cond_resched();
	}
	return first;
}

/* The index after the last cluster in use, as far as @region tells. */
static int refcount_end_of_region(struct qcow2_image *q, u64 region, u64 *end)
{
	u64 first = region << qcow2_refblock_bits(&q->layer.geo);
	u64 blocks = BIT_ULL(qcow2_refblock_bits(&q->layer.geo)) / qcow2_per_block(q);
	u64 index = first / qcow2_per_block(q), i;
	struct qcow2_block *b;

	*end = 0;
	while (!*end && blocks--) {
		b = qcow2_refcount_block(q, index + blocks);
		if (IS_ERR(b))
			return PTR_ERR(b);
		for (i = qcow2_per_block(q); i && !qcow2_refcount(q, b, i - 1); i--)
			;
		if (i)
			*end = (index + blocks) * qcow2_per_block(q) + i;
		qcow2_block_put(b);
	}
	return 0;
}

/**
 * qcow2_refcount_last() - find the end of the used part of the image
 * @q: the image, with its tables loaded
 * @end: set to the index after the last cluster with a reference
 *
 * Looks from the end of the refcount table backwards, so that the cost does
 * not grow with the image. Return: 0 or a negative error.
 */
int qcow2_refcount_last(struct qcow2_image *q, u64 *end)
{
	u64 region = q->reftable.nr;
	int r = 0;

	*end = 0;
	while (!r && !*end && region--)
		if (qcow2_table_get(&q->reftable, region))
			r = refcount_end_of_region(q, region, end);
	return r;
}
