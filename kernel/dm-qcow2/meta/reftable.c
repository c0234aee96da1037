// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refcount blocks that do not exist yet, and a larger refcount table.
 *
 * Locks: alloc.lock around everything; alloc.reftable_lock and txn.lock inside.
 */
#include "meta.h"

#include <linux/bitmap.h>
#include <linux/mm.h>

/*
 * Sets the refcounts of clusters to 1 in new refcount blocks, of which the one
 * for the region of @at is at @at and those for the next regions follow it. To
 * be done before the refcount table names them, so that no commit can write
 * the table without the refcounts.
 */
static int reftable_claim(struct qcow2_image *q, u64 at, u64 count, u64 value)
{
	u64 cluster = at, i, n, refblock;
	struct qcow2_block *b;

	while (count) {
		refblock = at + qcow2_region_of(q, cluster) - qcow2_region_of(q, at);
		b = qcow2_refcount_new_block(q, cluster / qcow2_per_block(q), refblock);
		if (IS_ERR(b))
			return PTR_ERR(b);
		i = cluster % qcow2_per_block(q);
		n = min(count, qcow2_per_block(q) - i);
		qcow2_block_prepare(b);
		qcow2_refcount_set_run(q, b, i, n, value);
		qcow2_block_put(b);
		cluster += n;
		count -= n;
	}
	return 0;
}

/* A region without a refcount block must not hold any of the tables. */
static int reftable_check_region(struct qcow2_image *q, u64 region)
{
	u64 first = region << qcow2_refblock_bits(&q->layer.geo);
	u64 end = (region + 1) << qcow2_refblock_bits(&q->layer.geo), lost;

	for (; first < end; first += qcow2_per_block(q)) {
		lost = qcow2_places_unreferenced(&q->layer.places, page_address(ZERO_PAGE(0)),
						 first, qcow2_per_block(q));
		if (lost != U64_MAX) {
			qcow2_fail(q->layer.core, "metadata without a reference",
				   lost);
			return -EIO;
		}
	}
	return 0;
}

/* Puts a refcount block for the region of a free cluster at that cluster. */
static int reftable_add_block(struct qcow2_image *q, u64 cluster,
			      struct qcow2_bytes *missing)
{
	int r = reftable_check_region(q, qcow2_region_of(q, cluster));

	if (r)
		return r;
	r = qcow2_space_reach(q, cluster, cluster + 1, missing);
	if (!r)
		r = qcow2_space_clear(q, cluster, 1);
	if (r)
		return r;
	r = reftable_claim(q, cluster, 1, 1);
	if (r)
		return r;
	spin_lock_irq(&q->txn.lock);
	qcow2_table_set(&q->reftable, qcow2_region_of(q, cluster),
			cluster << q->layer.geo.cluster_bits);
	spin_unlock_irq(&q->txn.lock);
	qcow2_places_add(&q->layer.places, cluster << q->layer.geo.cluster_bits);
	WRITE_ONCE(q->alloc.end, max(q->alloc.end, cluster + 1));
	return 0;
}

/**
 * qcow2_reftable_need() - make sure that a cluster's refcount block exists
 * @q: the image
 * @cluster: its index, before alloc.end
 * @missing: see qcow2_space_reach()
 *
 * A whole region without a reference is free: the block goes to its beginning.
 * Return: 0, -EAGAIN, or another negative error.
 */
int qcow2_reftable_need(struct qcow2_image *q, u64 cluster,
			struct qcow2_bytes *missing)
{
	u64 region = qcow2_region_of(q, cluster);

	lockdep_assert_held(&q->alloc.lock);
	/* Somebody else may have made it meanwhile. */
	if (qcow2_table_get(&q->reftable, region))
		return 0;
	return reftable_add_block(q, region <<
				     qcow2_refblock_bits(&q->layer.geo),
				  missing);
}

/**
 * struct reftable_growth - a larger refcount table and the blocks it brings along
 * @at: first cluster of the new area: refcount blocks, then the table
 * @blocks: refcount blocks, one for each region that the area touches
 * @clusters: clusters of the table
 */
struct reftable_growth {
	u64 at;
	u64 blocks;
	u64 clusters;
};

static int reftable_plan(struct qcow2_image *q, struct reftable_growth *g)
{
	u64 max = QCOW2_MAX_REFTABLE_BYTES >> q->layer.geo.cluster_bits;
	u64 first = qcow2_region_of(q, q->alloc.end), last;

	g->at = q->alloc.end;
	g->clusters = min_t(u64, (u64)q->layer.geo.reftable_clusters * 2, max);
	if (g->clusters <= q->layer.geo.reftable_clusters)
		return -ENOSPC;
	g->blocks = 1;
	for (;;) {
		last = qcow2_region_of(q, g->at + g->blocks + g->clusters - 1);
		if (last - first + 1 == g->blocks)
			break;
		g->blocks = last - first + 1;
	}
	return last < g->clusters << (q->layer.geo.cluster_bits - 3) ? 0 : -ENOSPC;
}

static void reftable_install(struct qcow2_image *q, struct qcow2_table *t,
			     const struct reftable_growth *g, struct list_head *frees)
{
	struct qcow2_table old;
	u64 i, entry;

	mutex_lock(&q->alloc.reftable_lock);
	memcpy(t->entries, q->reftable.entries,
	       (size_t)q->reftable.blocks << QCOW2_BLOCK_BITS);
	spin_lock_irq(&q->txn.lock);
	for (i = 0; i < g->blocks; i++) {
		entry = (g->at + i) << q->layer.geo.cluster_bits;
		qcow2_table_set(t, qcow2_region_of(q, g->at) + i, entry);
	}
	bitmap_fill(t->dirty, t->blocks);
	old = q->reftable;
	q->reftable = *t;
	q->txn.reftable_moved = true;
	qcow2_places_reftable(&q->layer.places, t->host,
			      g->clusters << q->layer.geo.cluster_bits);
	WRITE_ONCE(q->layer.geo.reftable_offset, t->host);
	WRITE_ONCE(q->layer.geo.reftable_clusters, g->clusters);
	qcow2_free_put(q, frees);
	spin_unlock_irq(&q->txn.lock);
	mutex_unlock(&q->alloc.reftable_lock);
	qcow2_table_exit(&old);
}

/*
 * Moves the refcount table to a larger place at the end of the image. The
 * header names the new place when a commit has made table and blocks durable;
 * the old place is free after that.
 */
static int reftable_grow(struct qcow2_image *q, struct qcow2_bytes *missing)
{
	unsigned int bits = q->layer.geo.cluster_bits;
	struct qcow2_table t = {};
	LIST_HEAD(frees);
	struct reftable_growth g;
	u64 i;
	int r;

	r = reftable_plan(q, &g);
	for (i = 0; !r && i < g.blocks; i++)
		r = reftable_check_region(q, qcow2_region_of(q, g.at) + i);
	if (r)
		return r;
	r = qcow2_space_reach(q, g.at, g.at + g.blocks + g.clusters, missing);
	if (!r)
		r = qcow2_space_clear(q, g.at, g.blocks);
	if (!r)
		r = qcow2_table_alloc(&t, &q->txn.lock,
				      (g.at + g.blocks) << bits,
				      g.clusters << (bits - 3));
	if (!r) {
		r = reftable_claim(q, g.at, g.blocks + g.clusters, 1);
		/* Nothing refers to the blocks yet: as if never made. */
		if (r)
			reftable_claim(q, g.at, g.blocks + g.clusters, 0);
	}
	if (r) {
		qcow2_table_exit(&t);
		return r;
	}
	/* Nothing is freed while alloc.lock is held: not to be waited for. */
	if (qcow2_free_try_reserve(q))
		qcow2_free_add(q, &frees, q->layer.geo.reftable_offset,
			       q->layer.geo.reftable_clusters, false);
	else
		qcow2_limit_err(q->layer.core, "clusters at 0x%llx are leaked",
				q->layer.geo.reftable_offset);
	reftable_install(q, &t, &g, &frees);
	for (i = 0; i < g.blocks; i++)
		qcow2_places_add(&q->layer.places, (g.at + i) << bits);
	WRITE_ONCE(q->alloc.end, g.at + g.blocks + g.clusters);
	return 0;
}

/**
 * qcow2_reftable_need_at_end() - make sure of the refcount block at alloc.end
 * @q: the image
 * @missing: see qcow2_space_reach()
 *
 * What it takes is taken at alloc.end.
 * Return: 0, -EAGAIN, or another negative error.
 */
int qcow2_reftable_need_at_end(struct qcow2_image *q,
			       struct qcow2_bytes *missing)
{
	u64 region = qcow2_region_of(q, q->alloc.end);

	if (region >= q->reftable.nr)
		return reftable_grow(q, missing);
	if (!qcow2_table_get(&q->reftable, region))
		return reftable_add_block(q, q->alloc.end, missing);
	return 0;
}
