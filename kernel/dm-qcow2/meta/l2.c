// SPDX-License-Identifier: GPL-2.0-only
/*
 * L2 tables: finding the block with the entry of a guest cluster, and making a
 * table writable. What the entries say is for map to know.
 *
 * A block of L2 entries is cached under the guest offset it maps, so that a
 * lookup needs neither the L1 table nor a lock. A block whose L2 table does not
 * exist is cached too, with host 0 and all entries 0.
 *
 * Locks: layer.l2_lock[], by L1 index, covers loading and creating the blocks
 * of one L2 table; alloc.lock and txn.lock are taken inside.
 */
#include "meta.h"

static u32 l2_l1_index(const struct qcow2_layer *l, u64 pos)
{
	return pos >> (l->geo.cluster_bits + l->geo.l2_bits);
}

static struct mutex *l2_lock_of(struct qcow2_layer *l, u32 l1)
{
	return &l->l2_lock[l1 % QCOW2_L2_LOCKS];
}

/* Blocks of one L2 table. */
static u32 l2_blocks_per_table(const struct qcow2_layer *l)
{
	return qcow2_cluster(l) >> QCOW2_BLOCK_BITS;
}

static struct qcow2_block *l2_load(struct qcow2_layer *l, u64 pos, u32 l1)
{
	u64 index = pos >> qcow2_l2_block_bits(l);
	u64 entry = qcow2_table_get(&l->l1, l1), host = 0;
	struct qcow2_block *b;
	int r = 0;

	lockdep_assert_held(l2_lock_of(l, l1));
	if (!qcow2_l1_entry_valid(&l->geo, entry, READ_ONCE(l->limit))) {
		qcow2_report(l->core, (u64)l1 << 1 | 1, "invalid L1 entry for guest offset",
			     pos);
		return ERR_PTR(-EIO);
	}
	if (entry)
		host = (entry & QCOW2_OFFSET_MASK) +
		       ((index & (l2_blocks_per_table(l) - 1)) << QCOW2_BLOCK_BITS);
	b = qcow2_block_new(&l->cache, &l->l2_blocks, index, host);
	if (host)
		r = qcow2_store_rw_buf(l->meta, false, host, b->data,
				       QCOW2_BLOCK_SIZE);
	if (!r)
		r = l->judge(l, b);
	if (!r)
		r = qcow2_block_insert(b);
	if (!r)
		return b;
	qcow2_block_destroy(b);
	return ERR_PTR(r);
}

/**
 * qcow2_l2_get() - get the block of L2 entries for a guest offset
 * @l: the layer
 * @pos: guest offset in bytes, inside the image
 *
 * Context: a worker; reads the block if it is not cached.
 * Return: the block with a reference for the caller, or an error pointer.
 */
struct qcow2_block *qcow2_l2_get(struct qcow2_layer *l, u64 pos)
{
	u64 index = pos >> qcow2_l2_block_bits(l);
	u32 l1 = l2_l1_index(l, pos);
	struct qcow2_block *b = qcow2_block_find(&l->l2_blocks, index);

	if (b)
		return b;
	qcow2_count(l->core, MISS);
	mutex_lock(l2_lock_of(l, l1));
	b = qcow2_block_find(&l->l2_blocks, index);
	if (!b)
		b = l2_load(l, pos, l1);
	mutex_unlock(l2_lock_of(l, l1));
	return b;
}

/* Points the cached blocks of an L2 table at its new place. */
static void l2_move_cached(struct qcow2_layer *l, u32 l1, u64 host)
{
	u64 first = (u64)l1 * l2_blocks_per_table(l);
	struct qcow2_block *b;
	u32 i;

	for (i = 0; i < l2_blocks_per_table(l); i++) {
		b = qcow2_block_find(&l->l2_blocks, first + i);
		if (!b)
			continue;
		WRITE_ONCE(b->host, host + ((u64)i << QCOW2_BLOCK_BITS));
		qcow2_block_put(b);
	}
}

/*
 * Makes a new L2 table: a copy of a shared one, or zeros. It is complete in the
 * store before anything points at it; a commit makes it durable before the L1
 * entry is.
 */
static int l2_make_table(struct qcow2_image *q, u32 l1, u64 old, u32 *reserved)
{
	struct qcow2_layer *l = &q->layer;
	struct qcow2_span copy = {
		.src = l->meta, .from = old, .dst = l->meta,
		.len = qcow2_cluster(l),
	};
	LIST_HEAD(frees);
	bool fresh;
	u64 host;
	u32 got;
	int r;

	r = qcow2_alloc_clusters(q, 1, &host, &got, &fresh);
	if (r)
		return r;
	copy.to = host;
	if (old)
		r = qcow2_store_copy_by_hand(&copy, &q->bufs,
					     QCOW2_FOR_METADATA);
	else if (!fresh)
		r = qcow2_store_fill_zero(l->meta, &q->bufs, host, copy.len,
					  QCOW2_FOR_METADATA);
	if (r) {
		qcow2_free_run(q, host, 1, true);
		return r;
	}
	if (old)
		*reserved -= qcow2_free_add(q, &frees, old, 1, false);
	qcow2_places_add(&l->places, host);
	l2_move_cached(l, l1, host);
	spin_lock_irq(&q->txn.lock);
	qcow2_table_set(&l->l1, l1, host | QCOW2_OFLAG_COPIED);
	qcow2_free_put(q, &frees);
	qcow2_dirty_mapping(q);
	spin_unlock_irq(&q->txn.lock);
	return 0;
}

static int l2_own_locked(struct qcow2_image *q, u32 l1, u32 *reserved)
{
	struct qcow2_layer *l = &q->layer;
	u64 entry;
	int r = 0;

	mutex_lock(l2_lock_of(l, l1));
	entry = qcow2_table_get(&l->l1, l1);
	if (!(entry & QCOW2_OFLAG_COPIED))
		r = l2_make_table(q, l1, entry & QCOW2_OFFSET_MASK, reserved);
	mutex_unlock(l2_lock_of(l, l1));
	return r;
}

/**
 * qcow2_l2_own() - make the L2 table for a guest offset writable
 * @q: the image
 * @pos: guest offset in bytes
 *
 * Makes the table if there is none, and a copy of it if a snapshot shares it.
 * Context: a worker that holds neither image.srcu nor a lock.
 * Return: 0 or a negative error.
 */
int qcow2_l2_own(struct qcow2_image *q, u64 pos)
{
	u32 l1 = l2_l1_index(&q->layer, pos), reserved;
	bool tried = false;
	int r;

	if (qcow2_table_get(&q->layer.l1, l1) & QCOW2_OFLAG_COPIED)
		return 0;
	do {
		reserved = 1;
		/* Not with the lock: who has entries may want that. */
		r = qcow2_free_reserve(q, reserved);
		if (r)
			return r;
		r = l2_own_locked(q, l1, &reserved);
		qcow2_free_unreserve(q, reserved);
	} while (qcow2_drain_and_retry(q, r, &tried));
	return r;
}

/**
 * qcow2_l2_absent() - whether there is no L2 table for a guest offset
 * @l: the layer
 * @pos: guest offset in bytes
 * @end: set to the guest offset where the next L2 table begins, if so
 *
 * Return: true if there is none.
 */
bool qcow2_l2_absent(const struct qcow2_layer *l, u64 pos, u64 *end)
{
	unsigned int bits = l->geo.cluster_bits + l->geo.l2_bits;
	u32 l1 = l2_l1_index(l, pos);

	if (qcow2_table_get(&l->l1, l1))
		return false;
	*end = (u64)(l1 + 1) << bits;
	return true;
}
