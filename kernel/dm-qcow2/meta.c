// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the image's tables lie, so that a corrupt entry cannot make the guest
 * write over them and the allocator cannot hand them out.
 *
 * The places found at start are two sorted arrays; tables made since are in an
 * xarray. A place that was freed is marked by its lowest bit. Changes happen
 * under image.alloc_lock or l2_lock; readers need no lock, because a place they
 * care about cannot come or go while they look (it has a reference count). The
 * place of the refcount table is two numbers, read under image.md_lock.
 */
#include "dm-qcow2.h"

#include <linux/bsearch.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#define FORGOTTEN 1ULL

static int by_offset(const void *a, const void *b)
{
	u64 x = *(const u64 *)a & ~FORGOTTEN, y = *(const u64 *)b & ~FORGOTTEN;

	return x < y ? -1 : x > y;
}

static void sort_offsets(u64 *list, u32 nr)
{
	u32 i;

	for (i = 1; i < nr; i++)
		if (list[i - 1] > list[i])
			break;
	if (i < nr)
		sort(list, nr, sizeof(*list), by_offset, NULL);
}

static u32 lower_bound(const u64 *list, u32 nr, u64 offset)
{
	u32 lo = 0, hi = nr;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if ((READ_ONCE(list[mid]) & ~FORGOTTEN) < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The fixed places: header, L1 table, refcount table, and the snapshots'. */
static bool fixed_place(struct qcow2_image *q, unsigned int which, u64 *start,
			u64 *end)
{
	const struct qcow2_geometry *g = &q->geo;
	unsigned long flags;
	u64 len;

	switch (which) {
	case 0:
		*start = 0;
		len = 1;
		break;
	case 1:
		*start = g->l1_offset;
		len = (u64)g->l1_size * 8;
		break;
	case 2:
		spin_lock_irqsave(&q->md_lock, flags);
		*start = g->reftable_offset;
		len = (u64)g->reftable_clusters << g->cluster_bits;
		spin_unlock_irqrestore(&q->md_lock, flags);
		break;
	case 3:
		*start = g->snapshots_offset;
		len = q->snapshots_end - g->snapshots_offset;
		break;
	default:
		if (which - 4 >= q->nr_snapshot_l1)
			return false;
		*start = q->snapshot_l1[which - 4].start;
		*end = q->snapshot_l1[which - 4].end;
		return true;
	}
	*end = *start + round_up(len, (u64)qcow2_cluster(q));
	return true;
}

static int collect(struct qcow2_image *q, struct qcow2_table *t, u64 mask,
		   bool (*valid)(const struct qcow2_geometry *g, u64 entry,
				 u64 limit),
		   const char *what, u64 **list, u32 *nr)
{
	u32 i, bad = 0, n = 0;
	u64 entry;

	for (i = 0; i < t->nr; i++)
		n += !!qcow2_table_get(t, i);
	*list = vmalloc(array_size(n + 1, sizeof(u64)));
	if (!*list)
		return -ENOMEM;
	*nr = 0;
	for (i = 0; i < t->nr; i++) {
		entry = qcow2_table_get(t, i);
		if (!entry)
			continue;
		if (!valid(&q->geo, entry, q->limit)) {
			if (!bad++)
				qcow2_err(q, "%s entry %u is invalid: 0x%llx",
					  what, i, entry);
			continue;
		}
		if (*nr < n)
			(*list)[(*nr)++] = entry & mask;
	}
	sort_offsets(*list, *nr);
	return bad ? -EUCLEAN : 0;
}

static int check_fixed(struct qcow2_image *q, const u64 *list, u32 nr,
		       const char *what)
{
	u64 start, end;
	u32 i, at;

	for (i = 0; fixed_place(q, i, &start, &end); i++) {
		at = lower_bound(list, nr, start);
		if (at < nr && list[at] < end) {
			qcow2_err(q, "%s at 0x%llx overlaps other metadata",
				  what, list[at]);
			return -EUCLEAN;
		}
	}
	for (at = 1; at < nr; at++) {
		if (list[at] == list[at - 1]) {
			qcow2_err(q, "%s at 0x%llx is referenced twice", what,
				  list[at]);
			return -EUCLEAN;
		}
	}
	return 0;
}

static int check_disjoint(struct qcow2_image *q)
{
	u32 i, at;

	for (i = 0; i < q->nr_l2_tables; i++) {
		at = lower_bound(q->ref_tables, q->nr_ref_tables,
				 q->l2_tables[i]);
		if (at < q->nr_ref_tables &&
		    q->ref_tables[at] == q->l2_tables[i]) {
			qcow2_err(q, "L2 table at 0x%llx is a refcount block too",
				  q->l2_tables[i]);
			return -EUCLEAN;
		}
	}
	return 0;
}

/* The fixed places must not overlap; the snapshots' L1 tables are merged. */
static int check_places(struct qcow2_image *q)
{
	u64 start, end, other, other_end;
	u32 i, j;

	for (i = 1; fixed_place(q, i, &start, &end); i++) {
		for (j = 0; j < min_t(u32, i, 4); j++) {
			fixed_place(q, j, &other, &other_end);
			if (start < other_end && other < end && start < end) {
				qcow2_err(q, "tables at 0x%llx and 0x%llx overlap",
					  other, start);
				return -EUCLEAN;
			}
		}
	}
	return 0;
}

static bool region_exists(struct qcow2_image *q, u64 offset)
{
	u64 region = offset >> q->geo.cluster_bits >>
		     qcow2_refblock_bits(&q->geo);

	return region < q->reftable.nr && qcow2_table_get(&q->reftable, region);
}

/* A table without a refcount block would be taken for free space. */
static int check_regions(struct qcow2_image *q)
{
	u64 start, end, lost = U64_MAX;
	u32 i;

	for (i = 0; fixed_place(q, i, &start, &end); i++, cond_resched())
		for (; start < end; start += qcow2_cluster(q))
			if (!region_exists(q, start))
				lost = start;
	for (i = 0; i < q->nr_l2_tables; i++)
		if (!region_exists(q, q->l2_tables[i]))
			lost = q->l2_tables[i];
	for (i = 0; i < q->nr_ref_tables; i++)
		if (!region_exists(q, q->ref_tables[i]))
			lost = q->ref_tables[i];
	if (lost == U64_MAX)
		return 0;
	qcow2_err(q, "metadata without a reference at 0x%llx", lost);
	return -EUCLEAN;
}

/**
 * qcow2_meta_build() - find out where the tables lie
 * @q: the image with @l1 and @reftable loaded
 *
 * Return: 0, -ENOMEM, or -EUCLEAN if the tables contradict each other, which
 * has then been logged. A read-only image can be used all the same.
 */
int qcow2_meta_build(struct qcow2_image *q)
{
	int r;

	r = collect(q, &q->l1, QCOW2_OFFSET_MASK, qcow2_l1_entry_valid,
		    "L1 table", &q->l2_tables, &q->nr_l2_tables);
	if (!r)
		r = collect(q, &q->reftable, ~QCOW2_REFTABLE_RESERVED,
			    qcow2_reftable_entry_valid, "refcount table",
			    &q->ref_tables, &q->nr_ref_tables);
	if (!r)
		r = qcow2_snapshots_load(q);
	if (!r)
		r = check_places(q);
	if (!r)
		r = check_fixed(q, q->l2_tables, q->nr_l2_tables, "L2 table");
	if (!r)
		r = check_fixed(q, q->ref_tables, q->nr_ref_tables,
				"refcount block");
	if (!r)
		r = check_disjoint(q);
	return r ?: check_regions(q);
}

/**
 * qcow2_meta_drop() - forget it all
 * @q: the image
 */
void qcow2_meta_drop(struct qcow2_image *q)
{
	vfree(q->l2_tables);
	vfree(q->ref_tables);
	q->l2_tables = NULL;
	q->ref_tables = NULL;
	q->nr_l2_tables = 0;
	q->nr_ref_tables = 0;
	qcow2_snapshots_drop(q);
	xa_destroy(&q->new_meta);
}

/* Narrows @gap round @offset; returns whether @offset itself is in @list. */
static bool narrow(const u64 *list, u32 nr, u64 offset, struct qcow2_gap *gap)
{
	u32 at = lower_bound(list, nr, offset);

	if (at < nr) {
		if (list[at] == offset)
			return true;
		gap->hi = min(gap->hi, list[at] & ~FORGOTTEN);
	}
	if (at)
		gap->lo = max(gap->lo, list[at - 1] & ~FORGOTTEN);
	return false;
}

/**
 * qcow2_meta_overlaps() - whether a cluster holds one of the tables
 * @q: the image
 * @offset: host offset of the cluster
 * @gap: what is known from calls before, { 0, 0 } at first
 *
 * Return: true if a data cluster cannot be there.
 */
bool qcow2_meta_overlaps(struct qcow2_image *q, u64 offset,
			 struct qcow2_gap *gap)
{
	u64 start, end;
	u32 i;

	if (xa_load(&q->new_meta, offset >> q->geo.cluster_bits))
		return true;
	if (offset > gap->lo && offset < gap->hi)
		return false;
	gap->lo = 0;
	gap->hi = U64_MAX;
	for (i = 0; fixed_place(q, i, &start, &end); i++) {
		if (offset >= start && offset < end)
			return true;
		if (start > offset)
			gap->hi = min(gap->hi, start);
		else if (end > start)
			gap->lo = max(gap->lo, end - 1);
	}
	return narrow(q->l2_tables, q->nr_l2_tables, offset, gap) ||
	       narrow(q->ref_tables, q->nr_ref_tables, offset, gap);
}

static u64 unreferenced_in(struct qcow2_image *q, const u64 *list, u32 nr,
			   const void *block, u64 first, u32 count)
{
	unsigned int bits = q->geo.cluster_bits;
	u32 at = lower_bound(list, nr, first << bits);

	for (; at < nr && (list[at] >> bits) < first + count; at++)
		if (!(list[at] & FORGOTTEN) &&
		    !qcow2_refcount_get(block, (list[at] >> bits) - first,
					q->geo.refcount_order))
			return list[at];
	return U64_MAX;
}

/**
 * qcow2_meta_unreferenced() - look for a table that counts as free space
 * @q: the image
 * @block: a block of refcounts
 * @first: the cluster index of its first entry
 * @count: number of its entries
 *
 * Return: the host offset of a table whose refcount is 0, or U64_MAX.
 */
u64 qcow2_meta_unreferenced(struct qcow2_image *q, const void *block,
			    u64 first, u32 count)
{
	unsigned int bits = q->geo.cluster_bits;
	u64 start, end, c, r;
	u32 i;

	if (first > QCOW2_OFFSET_MASK >> bits)
		return U64_MAX;
	for (i = 0; fixed_place(q, i, &start, &end); i++)
		for (c = max(start >> bits, first);
		     c < min(end >> bits, first + count); c++)
			if (!qcow2_refcount_get(block, c - first,
						q->geo.refcount_order))
				return c << bits;
	r = unreferenced_in(q, q->l2_tables, q->nr_l2_tables, block, first,
			    count);
	if (r == U64_MAX)
		r = unreferenced_in(q, q->ref_tables, q->nr_ref_tables, block,
				    first, count);
	return r;
}

/**
 * qcow2_meta_add() - note a new table
 * @q: the image
 * @offset: its host offset
 *
 * Without memory the table is just not checked against.
 */
void qcow2_meta_add(struct qcow2_image *q, u64 offset)
{
	xa_store(&q->new_meta, offset >> q->geo.cluster_bits, xa_mk_value(1),
		 GFP_NOIO);
}

static void forget_in(u64 *list, u32 nr, u64 start, u64 end)
{
	u32 at = lower_bound(list, nr, start);

	for (; at < nr && (list[at] & ~FORGOTTEN) < end; at++)
		WRITE_ONCE(list[at], list[at] | FORGOTTEN);
}

/**
 * qcow2_meta_forget() - note that clusters are free
 * @q: the image
 * @cluster: index of the first
 * @count: how many, at least 1
 */
void qcow2_meta_forget(struct qcow2_image *q, u64 cluster, u64 count)
{
	unsigned int bits = q->geo.cluster_bits;
	u64 start = cluster << bits, end = (cluster + count) << bits;
	unsigned long index;
	void *entry;

	xa_for_each_range(&q->new_meta, index, entry, cluster,
			  cluster + count - 1)
		xa_erase(&q->new_meta, index);
	forget_in(q->l2_tables, q->nr_l2_tables, start, end);
	forget_in(q->ref_tables, q->nr_ref_tables, start, end);
}
