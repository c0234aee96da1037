// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refcounts and the allocation of clusters.
 *
 * A cluster is free exactly when its refcount in the cache is 0. A refcount
 * goes up when a cluster is handed out, before anything is written to it, and
 * down only when nothing on disk and no I/O in flight can refer to it any more
 * (free.c), so the allocator needs no other state to be safe.
 *
 * Where clusters come from, in this order: blocks of refcounts in which free
 * clusters are known (hints, fed by what is freed and by the search), blocks
 * that nobody has searched yet, some in each call; then the end of the image;
 * then a search of all that is left. While there are blocks left to be searched
 * only a few clusters are taken at the end: an image does not grow by more than
 * one cluster for SEARCH_BLOCKS / SEARCH_APPEND blocks while others are free.
 *
 * Locks: image.alloc_lock around everything; reftable_lock and md_lock inside.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>

/* A file grows by this much at a time; what is left over is cut at suspend. */
#define EXTEND_BYTES (16ULL << 20)

/* What could not be read is left alone for so long. */
#define UNREAD_FOR (5 * HZ)

/* What image.hints says of a block of refcounts. */
enum { HINT_FREE = 1, HINT_UNREAD };
/* Notes of more blocks would take too much memory. */
#define MAX_HINTS 1024

/* Blocks searched in one call, and clusters taken at the end before all are. */
#define SEARCH_BLOCKS 256
#define SEARCH_APPEND 16

/* Blocks looked at for where the image ends, when it is closed. */
#define TAIL_BLOCKS 64

static u64 per_block(const struct qcow2_image *q)
{
	return qcow2_refcounts_per_block(&q->geo);
}

static u64 region_of(const struct qcow2_image *q, u64 cluster)
{
	return cluster >> qcow2_refblock_bits(&q->geo);
}

/* Clusters that the image may have. */
static u64 capacity(const struct qcow2_image *q)
{
	if (q->store.bdev)
		return qcow2_store_size(&q->store) >> q->geo.cluster_bits;
	return min_t(u64, file_inode(q->store.file)->i_sb->s_maxbytes,
		     QCOW2_OFFSET_MASK) >> q->geo.cluster_bits;
}

static struct qcow2_block *load(struct qcow2_image *q, u64 index, u64 host)
{
	struct qcow2_block *b = qcow2_block_new(q, index, host);
	u64 first = index * per_block(q), lost;
	int r;

	__set_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags);
	r = qcow2_store_rw_buf(&q->store, false, host, b->data,
			       QCOW2_BLOCK_SIZE);
	if (!r) {
		lost = qcow2_meta_unreferenced(q, b->data, first,
					       per_block(q));
		if (lost != U64_MAX) {
			qcow2_image_fail(q, "metadata without a reference", lost);
			r = -EIO;
		}
	}
	if (!r)
		r = qcow2_block_insert(q, &q->ref_blocks, b);
	if (!r)
		return b;
	qcow2_block_free(b);
	return ERR_PTR(r);
}

/* The block of refcounts with @index; -ENOENT if its refcount block is absent. */
static struct qcow2_block *ref_get(struct qcow2_image *q, u64 index)
{
	u64 cluster = index * per_block(q), region = region_of(q, cluster);
	u64 entry, inside;
	struct qcow2_block *b;

	lockdep_assert_held(&q->alloc_lock);
	b = qcow2_block_find(&q->ref_blocks, index);
	if (b)
		return b;
	entry = region < q->reftable.nr ?
		qcow2_table_get(&q->reftable, region) : 0;
	if (!entry)
		return ERR_PTR(-ENOENT);
	inside = cluster & (BIT_ULL(qcow2_refblock_bits(&q->geo)) - 1);
	return load(q, index, entry + ((inside / per_block(q)) <<
				       QCOW2_BLOCK_BITS));
}

static u64 get(const struct qcow2_image *q, const struct qcow2_block *b, u64 i)
{
	return qcow2_refcount_get(b->data, i, q->geo.refcount_order);
}

/* Sets @count refcounts from entry @i on; the block must be prepared. */
static void set_run(struct qcow2_image *q, struct qcow2_block *b, u64 i,
		    u64 count, u64 value)
{
	spin_lock_irq(&q->md_lock);
	for (; count; count--, i++)
		qcow2_refcount_set(b->data, i, q->geo.refcount_order, value);
	qcow2_block_dirty(q, b);
	spin_unlock_irq(&q->md_lock);
}

/* Makes the store reach over clusters @start to @end, @end excluded. */
static int extend_to(struct qcow2_image *q, u64 start, u64 end)
{
	u64 bytes = end << q->geo.cluster_bits, ahead, from;
	int r;

	if (end > capacity(q))
		return -ENOSPC;
	if (!q->store.bdev && bytes > q->file_end) {
		from = max(q->file_end, start << q->geo.cluster_bits);
		ahead = min(bytes + EXTEND_BYTES,
			    capacity(q) << q->geo.cluster_bits);
		r = qcow2_store_extend(&q->store, from, ahead);
		if (r) {
			ahead = bytes;
			r = qcow2_store_extend(&q->store, from, ahead);
		}
		if (r)
			return r;
		q->file_end = ahead;
	}
	if (bytes > q->limit)
		WRITE_ONCE(q->limit, bytes);
	return 0;
}

static int clear_unless_fresh(struct qcow2_image *q, u64 cluster, u64 count)
{
	if (cluster >= q->fresh_from)
		return 0;
	return qcow2_fill_zero(q, cluster << q->geo.cluster_bits,
			       count << q->geo.cluster_bits,
			       QCOW2_FOR_METADATA);
}

/*
 * Makes the cached block with @index for a refcount block at cluster @refblock
 * that is not in the refcount table yet, and reads as zeros.
 */
static struct qcow2_block *ref_make(struct qcow2_image *q, u64 index,
				    u64 refblock)
{
	u64 region = BIT_ULL(qcow2_refblock_bits(&q->geo));
	u64 inside = (index * per_block(q)) & (region - 1);
	struct qcow2_block *b = qcow2_block_find(&q->ref_blocks, index);

	if (b)
		return b;
	b = qcow2_block_new(q, index, (refblock << q->geo.cluster_bits) +
			    ((inside / per_block(q)) << QCOW2_BLOCK_BITS));
	__set_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags);
	if (!qcow2_block_insert(q, &q->ref_blocks, b))
		return b;
	qcow2_block_free(b);
	return ERR_PTR(-ENOMEM);
}

/*
 * Sets the refcounts of clusters to 1 in new refcount blocks, of which the one
 * for the region of @at is at @at and those for the next regions follow it. To
 * be done before the refcount table names them, so that no commit can write
 * the table without the refcounts.
 */
static int claim(struct qcow2_image *q, u64 at, u64 count, u64 value)
{
	u64 cluster = at, i, n, refblock;
	struct qcow2_block *b;

	while (count) {
		refblock = at + region_of(q, cluster) - region_of(q, at);
		b = ref_make(q, cluster / per_block(q), refblock);
		if (IS_ERR(b))
			return PTR_ERR(b);
		i = cluster % per_block(q);
		n = min(count, per_block(q) - i);
		qcow2_block_prepare(q, b);
		set_run(q, b, i, n, value);
		qcow2_block_put(b);
		cluster += n;
		count -= n;
	}
	return 0;
}

/* A region without a refcount block must not hold any of the tables. */
static int check_region(struct qcow2_image *q, u64 region)
{
	u64 first = region << qcow2_refblock_bits(&q->geo);
	u64 end = (region + 1) << qcow2_refblock_bits(&q->geo), lost;

	for (; first < end; first += per_block(q)) {
		lost = qcow2_meta_unreferenced(q, page_address(ZERO_PAGE(0)),
					       first, per_block(q));
		if (lost != U64_MAX) {
			qcow2_image_fail(q, "metadata without a reference",
					 lost);
			return -EIO;
		}
	}
	return 0;
}

/* Puts a refcount block for the region of a free cluster at that cluster. */
static int add_refblock(struct qcow2_image *q, u64 cluster)
{
	int r = check_region(q, region_of(q, cluster));

	if (r)
		return r;
	r = extend_to(q, cluster, cluster + 1);
	if (!r)
		r = clear_unless_fresh(q, cluster, 1);
	if (r)
		return r;
	r = claim(q, cluster, 1, 1);
	if (r)
		return r;
	spin_lock_irq(&q->md_lock);
	qcow2_table_set(q, &q->reftable, region_of(q, cluster),
			cluster << q->geo.cluster_bits);
	spin_unlock_irq(&q->md_lock);
	qcow2_meta_add(q, cluster << q->geo.cluster_bits);
	q->alloc_end = max(q->alloc_end, cluster + 1);
	return 0;
}

/* Takes up to @want consecutive free clusters out of one block. */
static int take_free(struct qcow2_image *q, u64 index, u32 want, u64 *cluster,
		     u32 *got)
{
	u64 first = index * per_block(q), i, n, end;
	struct qcow2_block *b;
	int r;

	if (first >= q->alloc_end)
		return -ENOSPC;
	b = ref_get(q, index);
	if (PTR_ERR_OR_ZERO(b) == -ENOENT) {
		/* A whole region without a reference: all of it is free. */
		r = add_refblock(q, region_of(q, first) <<
				    qcow2_refblock_bits(&q->geo));
		if (r)
			return r;
		b = ref_get(q, index);
	}
	if (IS_ERR(b))
		return PTR_ERR(b);
	end = min(per_block(q), q->alloc_end - first);
	for (i = 0; i < end && get(q, b, i); i++)
		;
	for (n = 0; n < want && i + n < end && !get(q, b, i + n); n++)
		;
	r = n ? extend_to(q, first + i, first + i + n) : -ENOSPC;
	if (r == -ENOSPC && n > 1) {
		n = 1;
		r = extend_to(q, first + i, first + i + n);
	}
	if (!r) {
		qcow2_block_prepare(q, b);
		set_run(q, b, i, n, 1);
		*cluster = first + i;
		*got = n;
	}
	qcow2_block_put(b);
	return r;
}

/* Notes what is to be looked at again; false if there are too many notes. */
static bool note(struct qcow2_image *q, u64 index, unsigned long what)
{
	bool known = xa_load(&q->hints, index);

	lockdep_assert_held(&q->alloc_lock);
	if ((!known && q->nr_hints >= MAX_HINTS) ||
	    xa_is_err(xa_store(&q->hints, index, xa_mk_value(what), GFP_NOIO)))
		return false;
	q->nr_hints += !known;
	return true;
}

/* A block that cannot be read is of no use now. It may have free clusters. */
static void hint_unread(struct qcow2_image *q, u64 index)
{
	q->unread_until = jiffies + UNREAD_FOR;
	note(q, index, HINT_UNREAD);
}

/* Notes that a block has free clusters, or that it is to be searched again. */
static void hint(struct qcow2_image *q, u64 index)
{
	if (!note(q, index, HINT_FREE))
		q->scan_next = min(q->scan_next, index);
}

static int take_hinted(struct qcow2_image *q, u32 want, u64 *cluster, u32 *got)
{
	bool retry = time_after_eq(jiffies, q->unread_until);
	unsigned long index;
	void *entry;
	int r;

	xa_for_each(&q->hints, index, entry) {
		if (xa_to_value(entry) == HINT_UNREAD && !retry)
			continue;
		r = take_free(q, index, want, cluster, got);
		if (r == -EIO) {
			hint_unread(q, index);
			continue;
		}
		if (!r && xa_to_value(entry) == HINT_UNREAD)
			xa_store(&q->hints, index, xa_mk_value(HINT_FREE),
				 GFP_NOIO);
		if (r != -ENOSPC)
			return r;
		xa_erase(&q->hints, index);
		q->nr_hints--;
	}
	return -ENOSPC;
}

/* Looks at the next block nobody has looked at for free clusters. */
static int search_one(struct qcow2_image *q, u32 want, u64 *cluster, u32 *got)
{
	u64 index = q->scan_next;
	int r;

	r = take_free(q, index, want, cluster, got);
	if (r == -EIO) {
		hint_unread(q, index);
		r = -ENOSPC;
	}
	if (!r || r == -ENOSPC)
		q->scan_next++;
	if (!r)
		hint(q, index);
	return r;
}

static bool all_searched(const struct qcow2_image *q)
{
	return q->scan_next * per_block(q) >= q->alloc_end;
}

static int search(struct qcow2_image *q, u64 blocks, u32 want, u64 *cluster,
		  u32 *got)
{
	int r = -ENOSPC;

	for (; r == -ENOSPC && blocks && !all_searched(q); blocks--) {
		r = search_one(q, want, cluster, got);
		cond_resched();
	}
	return r;
}

/**
 * struct growth - a larger refcount table and the blocks it brings along
 * @at: first cluster of the new area: refcount blocks, then the table
 * @blocks: refcount blocks, one for each region that the area touches
 * @clusters: clusters of the table
 */
struct growth {
	u64 at;
	u64 blocks;
	u64 clusters;
};

static int plan_growth(struct qcow2_image *q, struct growth *g)
{
	u64 max = QCOW2_MAX_REFTABLE_BYTES >> q->geo.cluster_bits;
	u64 first = region_of(q, q->alloc_end), last;

	g->at = q->alloc_end;
	g->clusters = min_t(u64, (u64)q->geo.reftable_clusters * 2, max);
	if (g->clusters <= q->geo.reftable_clusters)
		return -ENOSPC;
	g->blocks = 1;
	for (;;) {
		last = region_of(q, g->at + g->blocks + g->clusters - 1);
		if (last - first + 1 == g->blocks)
			break;
		g->blocks = last - first + 1;
	}
	return last < g->clusters << (q->geo.cluster_bits - 3) ? 0 : -ENOSPC;
}

static void install_reftable(struct qcow2_image *q, struct qcow2_table *t,
			     const struct growth *g, struct list_head *frees)
{
	struct qcow2_table old;
	u64 i, entry;

	mutex_lock(&q->reftable_lock);
	memcpy(t->entries, q->reftable.entries,
	       (size_t)q->reftable.blocks << QCOW2_BLOCK_BITS);
	spin_lock_irq(&q->md_lock);
	for (i = 0; i < g->blocks; i++) {
		entry = (g->at + i) << q->geo.cluster_bits;
		qcow2_table_set(q, t, region_of(q, g->at) + i, entry);
	}
	bitmap_fill(t->dirty, t->blocks);
	old = q->reftable;
	q->reftable = *t;
	q->reftable_moved = true;
	WRITE_ONCE(q->geo.reftable_offset, t->host);
	WRITE_ONCE(q->geo.reftable_clusters, g->clusters);
	qcow2_free_put(q, frees);
	spin_unlock_irq(&q->md_lock);
	mutex_unlock(&q->reftable_lock);
	qcow2_table_free(&old);
}

/*
 * Moves the refcount table to a larger place at the end of the image. The
 * header names the new place when a commit has made table and blocks durable;
 * the old place is free after that.
 */
static int grow_reftable(struct qcow2_image *q)
{
	unsigned int bits = q->geo.cluster_bits;
	struct qcow2_table t = {};
	LIST_HEAD(frees);
	struct growth g;
	u64 i;
	int r;

	r = plan_growth(q, &g);
	for (i = 0; !r && i < g.blocks; i++)
		r = check_region(q, region_of(q, g.at) + i);
	if (r)
		return r;
	r = extend_to(q, g.at, g.at + g.blocks + g.clusters);
	if (!r)
		r = clear_unless_fresh(q, g.at, g.blocks);
	if (!r)
		r = qcow2_table_alloc(&t, (g.at + g.blocks) << bits,
				      g.clusters << (bits - 3), true);
	if (!r) {
		r = claim(q, g.at, g.blocks + g.clusters, 1);
		/* Nothing refers to the blocks yet: as if never made. */
		if (r)
			claim(q, g.at, g.blocks + g.clusters, 0);
	}
	if (r) {
		qcow2_table_free(&t);
		return r;
	}
	/* Nothing is freed while alloc_lock is held: not to be waited for. */
	if (qcow2_free_try_reserve(q))
		qcow2_free_add(q, &frees, q->geo.reftable_offset,
			       q->geo.reftable_clusters, false);
	else
		qcow2_limit_err(q, "clusters at 0x%llx are leaked",
				q->geo.reftable_offset);
	install_reftable(q, &t, &g, &frees);
	for (i = 0; i < g.blocks; i++)
		qcow2_meta_add(q, (g.at + i) << bits);
	q->alloc_end = g.at + g.blocks + g.clusters;
	return 0;
}

/* Makes sure that the refcount block for alloc_end exists. */
static int need_refblock(struct qcow2_image *q)
{
	u64 region = region_of(q, q->alloc_end);

	if (region >= q->reftable.nr)
		return grow_reftable(q);
	if (!qcow2_table_get(&q->reftable, region))
		return add_refblock(q, q->alloc_end);
	return 0;
}

static int append(struct qcow2_image *q, u32 want, u64 *cluster, u32 *got)
{
	struct qcow2_block *b;
	u64 i, n, room;
	int r;

	do {
		room = q->alloc_end;
		r = need_refblock(q);
		if (r)
			return r;
	} while (room != q->alloc_end);
	room = capacity(q);
	if (q->alloc_end >= room)
		return -ENOSPC;
	i = q->alloc_end % per_block(q);
	n = min3((u64)want, per_block(q) - i, room - q->alloc_end);
	b = ref_get(q, q->alloc_end / per_block(q));
	if (IS_ERR(b))
		return PTR_ERR(b);
	r = extend_to(q, q->alloc_end, q->alloc_end + n);
	if (r == -ENOSPC && n > 1) {
		n = 1;
		r = extend_to(q, q->alloc_end, q->alloc_end + n);
	}
	if (!r) {
		qcow2_block_prepare(q, b);
		set_run(q, b, i, n, 1);
		*cluster = q->alloc_end;
		*got = n;
		q->alloc_end += n;
	}
	qcow2_block_put(b);
	return r;
}

static int alloc_locked(struct qcow2_image *q, u32 want, u64 *cluster,
			u32 *got, bool *fresh)
{
	int r;

	*fresh = false;
	r = take_hinted(q, want, cluster, got);
	/* A lone cluster far out must not make the file as large as that. */
	if (r == -ENOSPC && !q->store.bdev &&
	    q->alloc_end << q->geo.cluster_bits > q->file_end + EXTEND_BYTES)
		r = search(q, U64_MAX, want, cluster, got);
	if (r == -ENOSPC)
		r = search(q, SEARCH_BLOCKS, want, cluster, got);
	if (r == -ENOSPC) {
		if (!all_searched(q))
			want = min_t(u32, want, SEARCH_APPEND);
		r = append(q, want, cluster, got);
		*fresh = !r && *cluster >= q->fresh_from;
	}
	if (r == -ENOSPC)
		r = search(q, U64_MAX, want, cluster, got);
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
 * They have refcount 1 in the cache. Context: a worker.
 * Return: 0, -ENOSPC, or another negative error. After -ENOSPC a caller that
 * holds no lock may call qcow2_free_drain() and try once more.
 */
int qcow2_alloc_clusters(struct qcow2_image *q, u32 want, u64 *host, u32 *got,
			 bool *fresh)
{
	u64 cluster = 0;
	int r;

	r = qcow2_header_set_dirty(q);
	if (r)
		return r;
	mutex_lock(&q->alloc_lock);
	r = alloc_locked(q, want, &cluster, got, fresh);
	if (!r) {
		WRITE_ONCE(q->enospc, false);
		qcow2_count_n(q, ALLOC, *got);
	}
	mutex_unlock(&q->alloc_lock);
	*host = cluster << q->geo.cluster_bits;
	return r;
}

/* How many refcounts from entry @i to @end are alike. */
static u64 run_of(const struct qcow2_image *q, const struct qcow2_block *b,
		  u64 i, u64 end)
{
	u64 value = get(q, b, i), at = i + 1;

	while (at < end && get(q, b, at) == value)
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
	u64 i = cluster % per_block(q), end = min(i + max, per_block(q));
	struct qcow2_block *b;

	*count = end - i;
	mutex_lock(&q->alloc_lock);
	b = ref_get(q, cluster / per_block(q));
	if (!IS_ERR(b)) {
		*value = get(q, b, i);
		*count = run_of(q, b, i, end);
		qcow2_block_put(b);
	}
	mutex_unlock(&q->alloc_lock);
	return PTR_ERR_OR_ZERO(b);
}

/* Vouches for all entries of @l2 that the refcounts in @b tell of. */
static void vouch(struct qcow2_image *q, struct qcow2_block *l2,
		  const struct qcow2_block *b)
{
	u64 entry, cluster;
	u32 i;

	for (i = 0; i < QCOW2_L2_PER_BLOCK; i++) {
		entry = qcow2_l2_entry(l2, i);
		cluster = (entry & QCOW2_OFFSET_MASK) >> q->geo.cluster_bits;
		if ((entry & QCOW2_OFLAG_COPIED) &&
		    cluster / per_block(q) == b->index &&
		    get(q, b, cluster % per_block(q)))
			set_bit(i, l2->sound);
	}
}

static int vouch_for_one(struct qcow2_image *q, struct qcow2_block *l2, u32 i)
{
	u64 host = qcow2_l2_entry(l2, i) & QCOW2_OFFSET_MASK;
	struct qcow2_block *b;
	int r = 0;

	b = ref_get(q, (host >> q->geo.cluster_bits) / per_block(q));
	if (!IS_ERR(b)) {
		vouch(q, l2, b);
		qcow2_block_put(b);
	} else if (PTR_ERR(b) != -ENOENT) {
		return PTR_ERR(b);
	}
	if (!test_bit(i, l2->sound)) {
		qcow2_image_fail(q, "guest data in a cluster without a reference at",
				 host);
		r = -EIO;
	}
	return r;
}

/**
 * qcow2_refcount_vouch() - make sure that clusters may be written in place
 * @q: the image
 * @l2: a block of L2 entries
 * @index: the first entry, of a cluster that is written in place
 * @count: how many such entries
 *
 * A cluster that counts as free may be handed out for something else, a table
 * even, which the guest would then write over. So its refcount is looked at
 * before the first write in place; those of its neighbours, as far as they are
 * in the same block, come along. Entries that change later are sound, because
 * their clusters are from here.
 *
 * Context: a worker that holds the guest clusters, but not image.srcu.
 * Return: 0 or a negative error; without a reference the image turns read-only.
 */
int qcow2_refcount_vouch(struct qcow2_image *q, struct qcow2_block *l2,
			 u32 index, u32 count)
{
	u32 i;
	int r = 0;

	if (qcow2_l2_sound(l2, index, count) == count)
		return 0;
	mutex_lock(&q->alloc_lock);
	for (i = index; !r && i < index + count; i++)
		if (!test_bit(i, l2->sound))
			r = vouch_for_one(q, l2, i);
	mutex_unlock(&q->alloc_lock);
	return r;
}

/* Index of a cluster in image.tail_freed, or -1. */
static s64 tail_index(const struct qcow2_image *q, u64 cluster)
{
	u64 back = q->tail_end - cluster;

	return cluster < q->tail_end && back <= QCOW2_TAIL_CLUSTERS ?
	       QCOW2_TAIL_CLUSTERS - back : -1;
}

static void note_freed(struct qcow2_image *q, u64 cluster, u64 count)
{
	s64 at;

	lockdep_assert_held(&q->alloc_lock);
	for (; count && cluster < q->tail_end; count--, cluster++) {
		at = tail_index(q, cluster);
		if (at >= 0)
			__set_bit(at, q->tail_freed);
	}
}

/*
 * That a refcount is 0 is no proof that nothing refers to the cluster: the image
 * may have come to us with wrong ones. What was freed here had its reference.
 */
static bool may_be_cut(const struct qcow2_image *q, u64 cluster)
{
	s64 at = tail_index(q, cluster);

	return cluster >= q->tail_end ||
	       (at >= 0 && test_bit(at, q->tail_freed));
}

static void drop_fail(struct qcow2_image *q, u64 cluster)
{
	qcow2_image_fail(q, "no reference left to drop of cluster at",
			 cluster << q->geo.cluster_bits);
}

/* Clusters that one block describes. */
static int drop_in_block(struct qcow2_image *q, u64 cluster, u64 count)
{
	u64 i = cluster % per_block(q), end = i + count, first = cluster - i;
	struct qcow2_block *b = ref_get(q, cluster / per_block(q));
	u64 value, n;
	int r = 0;

	if (PTR_ERR_OR_ZERO(b) == -ENOENT)
		drop_fail(q, cluster);
	if (IS_ERR(b))
		return PTR_ERR(b);
	qcow2_block_prepare(q, b);
	for (; i < end; i += n) {
		value = get(q, b, i);
		n = run_of(q, b, i, end);
		if (!value) {
			drop_fail(q, first + i);
			r = -EUCLEAN;
			continue;
		}
		if (value == 1) {
			qcow2_meta_forget(q, first + i, n);
			note_freed(q, first + i, n);
			hint(q, b->index);
		}
		set_run(q, b, i, n, value - 1);
		qcow2_count_n(q, FREE, n);
	}
	qcow2_block_put(b);
	return r;
}

/**
 * qcow2_refcount_drop() - take one reference from each of some clusters
 * @q: the image
 * @cluster: index of the first
 * @count: how many
 *
 * A cluster without references is a contradiction in the image, which turns
 * read-only then. Return: 0 or the first error; the rest is dropped even so.
 */
int qcow2_refcount_drop(struct qcow2_image *q, u64 cluster, u64 count)
{
	int r, first = 0;
	u64 n;

	for (; count; count -= n, cluster += n) {
		n = min(count, per_block(q) - cluster % per_block(q));
		mutex_lock(&q->alloc_lock);
		r = drop_in_block(q, cluster, n);
		mutex_unlock(&q->alloc_lock);
		first = first ?: r;
		cond_resched();
	}
	return first;
}

/* The index after the last cluster in use, as far as @region tells. */
static int end_of_region(struct qcow2_image *q, u64 region, u64 *end)
{
	u64 first = region << qcow2_refblock_bits(&q->geo);
	u64 blocks = BIT_ULL(qcow2_refblock_bits(&q->geo)) / per_block(q);
	u64 index = first / per_block(q), i;
	struct qcow2_block *b;

	*end = 0;
	while (!*end && blocks--) {
		b = ref_get(q, index + blocks);
		if (IS_ERR(b))
			return PTR_ERR(b);
		for (i = per_block(q); i && !get(q, b, i - 1); i--)
			;
		if (i)
			*end = (index + blocks) * per_block(q) + i;
		qcow2_block_put(b);
	}
	return 0;
}

/**
 * qcow2_refcount_start() - find the end of the used part of the image
 * @q: the image, about to be written to, with its tables loaded
 *
 * Looks from the end of the refcount table backwards, so that the cost does
 * not grow with the image. Return: 0 or a negative error.
 */
int qcow2_refcount_start(struct qcow2_image *q)
{
	u64 region = q->reftable.nr, end = 0;
	int r = 0;

	mutex_lock(&q->alloc_lock);
	while (!r && !end && region--)
		if (qcow2_table_get(&q->reftable, region))
			r = end_of_region(q, region, &end);
	q->alloc_end = end;
	q->tail_end = end;
	bitmap_zero(q->tail_freed, QCOW2_TAIL_CLUSTERS);
	q->scan_next = 0;
	q->nr_hints = 0;
	q->enospc = false;
	q->file_end = q->store.bdev ? 0 : qcow2_store_size(&q->store);
	q->fresh_from = q->store.bdev ? U64_MAX :
			DIV_ROUND_UP_ULL(q->file_end, qcow2_cluster(q));
	/* What somebody has put beyond is not ours to cut. */
	q->keep_size = q->file_end > end << q->geo.cluster_bits ?
		       q->file_end : 0;
	mutex_unlock(&q->alloc_lock);
	return r;
}

/**
 * qcow2_refcount_end() - where a file can be cut
 * @q: the image, about to be closed
 *
 * Looks at a bounded number of blocks; what is free before those stays.
 * Return: the end of the clusters in use, in bytes.
 */
u64 qcow2_refcount_end(struct qcow2_image *q)
{
	u64 end, i, first;
	struct qcow2_block *b;
	u32 looks = TAIL_BLOCKS;

	mutex_lock(&q->alloc_lock);
	end = q->alloc_end;
	/* What is known to be wrong must not be the reason to cut anything. */
	while (READ_ONCE(q->mode) == QCOW2_MODE_RW && end && looks--) {
		i = (end - 1) % per_block(q) + 1;
		first = end - i;
		b = ref_get(q, first / per_block(q));
		if (IS_ERR(b))
			break;
		while (i && may_be_cut(q, first + i - 1) && !get(q, b, i - 1))
			i--;
		qcow2_block_put(b);
		end = first + i;
		if (i)
			break;
	}
	mutex_unlock(&q->alloc_lock);
	return max(end << q->geo.cluster_bits, q->keep_size);
}
