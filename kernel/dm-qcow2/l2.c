// SPDX-License-Identifier: GPL-2.0-only
/*
 * L2 tables: finding the entry of a guest cluster, and making an entry
 * writable.
 *
 * A block of L2 entries is cached under the guest offset it maps, so that a
 * lookup needs neither the L1 table nor a lock. A block whose L2 table does not
 * exist is cached too, with host 0 and all entries 0.
 *
 * Locks: image.l2_lock[], by L1 index, covers loading and creating the blocks
 * of one L2 table; image.alloc_lock and md_lock are taken inside.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>

static u32 l1_index(const struct qcow2_image *q, u64 pos)
{
	return pos >> (q->geo.cluster_bits + q->geo.l2_bits);
}

static struct mutex *l2_lock(struct qcow2_image *q, u32 l1)
{
	return &q->l2_lock[l1 % QCOW2_L2_LOCKS];
}

/* Blocks of one L2 table. */
static u32 blocks_per_table(const struct qcow2_image *q)
{
	return 1U << (q->geo.l2_bits + 3 - QCOW2_BLOCK_BITS);
}

/**
 * qcow2_l2_set() - change an entry of a cached block, under image.md_lock
 * @b: the block
 * @index: entry in the block
 * @entry: new value in native order
 */
void qcow2_l2_set(struct qcow2_block *b, u32 index, u64 entry)
{
	WRITE_ONCE(((__be64 *)b->data)[index], cpu_to_be64(entry));
}

/**
 * qcow2_l2_type() - read and classify an entry of a cached block
 * @q: the image
 * @b: the block
 * @index: entry in the block
 * @entry: set to the entry in native order
 *
 * Return: its type; QCOW2_CLUSTER_INVALID also for what was found bad at load.
 */
enum qcow2_cluster_type qcow2_l2_type(struct qcow2_image *q,
				      struct qcow2_block *b, u32 index,
				      u64 *entry)
{
	*entry = qcow2_l2_entry(b, index);
	if (unlikely(b->bad) && test_bit(index, b->bad))
		return QCOW2_CLUSTER_INVALID;
	return qcow2_l2_entry_type(&q->geo, *entry, READ_ONCE(q->limit));
}

/**
 * qcow2_l2_run() - how far an entry's host clusters go on
 * @q: the image
 * @b: the block
 * @index: the first entry
 * @first: its value; for one without a host cluster, what the others must equal
 * @max: at most so many entries, all in the block
 * @mask: the flags that must be alike
 *
 * Return: the number of entries from @index on that map consecutive host
 * clusters (or none, alike) with the same flags.
 */
u64 qcow2_l2_run(struct qcow2_image *q, struct qcow2_block *b, u32 index,
		 u64 first, u32 max, u64 mask)
{
	u64 step = (first & QCOW2_OFFSET_MASK) ? qcow2_cluster(q) : 0;
	u64 want = first & mask;
	u32 n;

	for (n = 1; n < max; n++) {
		want += step;
		if ((qcow2_l2_entry(b, index + n) & mask) != want)
			break;
		if (unlikely(b->bad) && test_bit(index + n, b->bad))
			break;
	}
	return n;
}

/* Marks the entries of a loaded block that nothing may follow. */
static int judge(struct qcow2_image *q, struct qcow2_block *b)
{
	struct qcow2_gap gap = { 0, 0 };
	enum qcow2_cluster_type type;
	u64 entry;
	u32 i;

	for (i = 0; i < QCOW2_L2_PER_BLOCK; i++) {
		entry = qcow2_l2_entry(b, i);
		if (!entry)
			continue;
		type = qcow2_l2_entry_type(&q->geo, entry, q->limit);
		if (type == QCOW2_CLUSTER_NORMAL ||
		    type == QCOW2_CLUSTER_ZERO_ALLOC) {
			if (!qcow2_meta_overlaps(q, entry & QCOW2_OFFSET_MASK,
						 &gap))
				continue;
		} else if (type != QCOW2_CLUSTER_INVALID) {
			continue;
		}
		if (!b->bad)
			b->bad = bitmap_zalloc(QCOW2_L2_PER_BLOCK, GFP_NOIO);
		if (!b->bad)
			return -ENOMEM;
		__set_bit(i, b->bad);
	}
	return 0;
}

static struct qcow2_block *load(struct qcow2_image *q, u64 pos, u32 l1)
{
	u64 index = pos >> qcow2_l2_block_bits(q);
	u64 entry = qcow2_table_get(&q->l1, l1), host = 0;
	struct qcow2_block *b;
	int r = 0;

	lockdep_assert_held(l2_lock(q, l1));
	if (!qcow2_l1_entry_valid(&q->geo, entry, READ_ONCE(q->limit))) {
		qcow2_report(q, (u64)l1 << 1 | 1, "invalid L1 entry for guest offset",
			     pos);
		return ERR_PTR(-EIO);
	}
	if (entry)
		host = (entry & QCOW2_OFFSET_MASK) +
		       ((index & (blocks_per_table(q) - 1)) << QCOW2_BLOCK_BITS);
	b = qcow2_block_new(q, index, host);
	if (host)
		r = qcow2_store_rw_buf(&q->store, false, host, b->data,
				       QCOW2_BLOCK_SIZE);
	if (!r)
		r = judge(q, b);
	if (!r)
		r = qcow2_block_insert(q, &q->l2_blocks, b);
	if (!r)
		return b;
	qcow2_block_free(b);
	return ERR_PTR(r);
}

/**
 * qcow2_l2_get() - get the block of L2 entries for a guest offset
 * @q: the image
 * @pos: guest offset in bytes, inside the image
 *
 * Context: a worker; reads the block if it is not cached.
 * Return: the block with a reference for the caller, or an error pointer.
 */
struct qcow2_block *qcow2_l2_get(struct qcow2_image *q, u64 pos)
{
	u64 index = pos >> qcow2_l2_block_bits(q);
	u32 l1 = l1_index(q, pos);
	struct qcow2_block *b = qcow2_block_find(&q->l2_blocks, index);

	if (b)
		return b;
	qcow2_count(q, MISS);
	mutex_lock(l2_lock(q, l1));
	b = qcow2_block_find(&q->l2_blocks, index);
	if (!b)
		b = load(q, pos, l1);
	mutex_unlock(l2_lock(q, l1));
	return b;
}

/* Points the cached blocks of an L2 table at its new place. */
static void move_cached(struct qcow2_image *q, u32 l1, u64 host)
{
	u64 first = (u64)l1 * blocks_per_table(q);
	struct qcow2_block *b;
	u32 i;

	for (i = 0; i < blocks_per_table(q); i++) {
		b = qcow2_block_find(&q->l2_blocks, first + i);
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
static int make_table(struct qcow2_image *q, u32 l1, u64 old, u32 *reserved)
{
	LIST_HEAD(frees);
	bool fresh;
	u64 host;
	u32 got;
	int r;

	r = qcow2_alloc_clusters(q, 1, &host, &got, &fresh);
	if (r)
		return r;
	if (old)
		r = qcow2_copy(q, old, host, qcow2_cluster(q),
			       QCOW2_FOR_METADATA);
	else if (!fresh)
		r = qcow2_fill_zero(q, host, qcow2_cluster(q),
				    QCOW2_FOR_METADATA);
	if (r) {
		qcow2_free_run(q, host, 1, true);
		return r;
	}
	if (old)
		*reserved -= qcow2_free_add(q, &frees, old, 1, false);
	qcow2_meta_add(q, host);
	move_cached(q, l1, host);
	spin_lock_irq(&q->md_lock);
	qcow2_table_set(q, &q->l1, l1, host | QCOW2_OFLAG_COPIED);
	qcow2_free_put(q, &frees);
	qcow2_mark_unstable(q);
	spin_unlock_irq(&q->md_lock);
	return 0;
}

static int own_locked(struct qcow2_image *q, u32 l1, u32 *reserved)
{
	u64 entry;
	int r = 0;

	mutex_lock(l2_lock(q, l1));
	entry = qcow2_table_get(&q->l1, l1);
	if (!(entry & QCOW2_OFLAG_COPIED))
		r = make_table(q, l1, entry & QCOW2_OFFSET_MASK, reserved);
	mutex_unlock(l2_lock(q, l1));
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
	u32 l1 = l1_index(q, pos), reserved = 1;
	int r;

	if (qcow2_table_get(&q->l1, l1) & QCOW2_OFLAG_COPIED)
		return 0;
	/* Not to be waited for with the lock: who has entries may want that. */
	r = qcow2_free_reserve(q, reserved);
	if (r)
		return r;
	r = own_locked(q, l1, &reserved);
	if (r == -ENOSPC) {
		/* What was discarded lately may be waiting for a commit. */
		qcow2_free_unreserve(q, reserved);
		qcow2_free_drain(q);
		reserved = 1;
		r = qcow2_free_reserve(q, reserved);
		if (r)
			return r;
		r = own_locked(q, l1, &reserved);
	}
	qcow2_free_unreserve(q, reserved);
	return r;
}
