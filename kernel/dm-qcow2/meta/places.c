// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the image's tables lie, so that a corrupt entry cannot make the guest
 * write over them and the allocator cannot hand them out.
 *
 * The places found at load are sorted arrays; tables made since are in an
 * xarray. A place that was freed is marked by its lowest bit. Changes happen
 * under alloc.lock or l2_lock; readers need no lock, because a place they care
 * about cannot come or go while they look (it has a reference count).
 *
 * Lock: places.lock, a leaf, for the place of the refcount table, which is two
 * numbers.
 */
#include "meta.h"

#include <linux/sort.h>
#include <linux/vmalloc.h>

#define FORGOTTEN 1ULL

typedef bool (*places_valid_fn)(const struct qcow2_geometry *g, u64 entry,
				u64 limit);

static int places_by_offset(const void *a, const void *b)
{
	u64 x = *(const u64 *)a & ~FORGOTTEN, y = *(const u64 *)b & ~FORGOTTEN;

	return x < y ? -1 : x > y;
}

static void places_sort(u64 *list, u32 nr)
{
	u32 i;

	for (i = 1; i < nr; i++)
		if (list[i - 1] > list[i])
			break;
	if (i < nr)
		sort(list, nr, sizeof(*list), places_by_offset, NULL);
}

static u32 places_lower_bound(const u64 *list, u32 nr, u64 offset)
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
static bool places_fixed(struct qcow2_places *p, unsigned int which,
			 u64 *start, u64 *end)
{
	const struct qcow2_geometry *g = p->geo;
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
		spin_lock_irqsave(&p->lock, flags);
		*start = p->reftable.start;
		*end = p->reftable.end;
		spin_unlock_irqrestore(&p->lock, flags);
		return true;
	case 3:
		*start = g->snapshots_offset;
		len = p->snapshots_end - g->snapshots_offset;
		break;
	default:
		if (which - 4 >= p->nr_snapshot_l1)
			return false;
		*start = p->snapshot_l1[which - 4].start;
		*end = p->snapshot_l1[which - 4].end;
		return true;
	}
	*end = *start + round_up(len, (u64)1 << g->cluster_bits);
	return true;
}

/* The valid entries of a table, sorted; -EUCLEAN if there are others. */
static int places_collect(struct qcow2_layer *l, const struct qcow2_table *t,
			  u64 mask, places_valid_fn valid, const char *what,
			  u64 **list, u32 *nr)
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
		if (!valid(&l->geo, entry, l->limit)) {
			if (!bad++)
				qcow2_err(l->core, "%s entry %u is invalid: 0x%llx",
					  what, i, entry);
			continue;
		}
		if (*nr < n)
			(*list)[(*nr)++] = entry & mask;
	}
	places_sort(*list, *nr);
	return bad ? -EUCLEAN : 0;
}

static int places_check_fixed(struct qcow2_layer *l, const u64 *list, u32 nr,
			      const char *what)
{
	u64 start, end;
	u32 i, at;

	for (i = 0; places_fixed(&l->places, i, &start, &end); i++) {
		at = places_lower_bound(list, nr, start);
		if (at < nr && list[at] < end) {
			qcow2_err(l->core, "%s at 0x%llx overlaps other metadata",
				  what, list[at]);
			return -EUCLEAN;
		}
	}
	for (at = 1; at < nr; at++) {
		if (list[at] == list[at - 1]) {
			qcow2_err(l->core, "%s at 0x%llx is referenced twice", what,
				  list[at]);
			return -EUCLEAN;
		}
	}
	return 0;
}

static int places_check_disjoint(struct qcow2_layer *l)
{
	u32 i, at;

	for (i = 0; i < l->places.nr_l2_tables; i++) {
		at = places_lower_bound(l->places.ref_tables, l->places.nr_ref_tables,
					l->places.l2_tables[i]);
		if (at < l->places.nr_ref_tables &&
		    l->places.ref_tables[at] == l->places.l2_tables[i]) {
			qcow2_err(l->core, "L2 table at 0x%llx is a refcount block too",
				  l->places.l2_tables[i]);
			return -EUCLEAN;
		}
	}
	return 0;
}

/* The fixed places must not overlap; the snapshots' L1 tables are merged. */
static int places_check_tables(struct qcow2_layer *l)
{
	u64 start, end, other, other_end;
	u32 i, j;

	for (i = 1; places_fixed(&l->places, i, &start, &end); i++) {
		for (j = 0; j < min_t(u32, i, 4); j++) {
			places_fixed(&l->places, j, &other, &other_end);
			if (start < other_end && other < end && start < end) {
				qcow2_err(l->core, "tables at 0x%llx and 0x%llx overlap",
					  other, start);
				return -EUCLEAN;
			}
		}
	}
	return 0;
}

static bool places_region_exists(const struct qcow2_places *p,
				 const struct qcow2_table *reftable, u64 offset)
{
	u64 region = offset >> p->geo->cluster_bits >>
		     qcow2_refblock_bits(p->geo);

	return region < reftable->nr && qcow2_table_get(reftable, region);
}

/* A table without a refcount block would be taken for free space. */
static int places_check_regions(struct qcow2_layer *l,
				const struct qcow2_table *reftable)
{
	struct qcow2_places *p = &l->places;
	u64 start, end, lost = U64_MAX;
	u32 i;

	for (i = 0; places_fixed(p, i, &start, &end); i++, cond_resched())
		for (; start < end; start += qcow2_cluster(l))
			if (!places_region_exists(p, reftable, start))
				lost = start;
	for (i = 0; i < p->nr_l2_tables; i++)
		if (!places_region_exists(p, reftable, p->l2_tables[i]))
			lost = p->l2_tables[i];
	for (i = 0; i < p->nr_ref_tables; i++)
		if (!places_region_exists(p, reftable, p->ref_tables[i]))
			lost = p->ref_tables[i];
	if (lost == U64_MAX)
		return 0;
	qcow2_err(l->core, "metadata without a reference at 0x%llx", lost);
	return -EUCLEAN;
}

/**
 * qcow2_places_init() - set up, without any place
 * @p: zeroed
 * @geo: the layer's
 */
void qcow2_places_init(struct qcow2_places *p,
		       const struct qcow2_geometry *geo)
{
	p->geo = geo;
	spin_lock_init(&p->lock);
	xa_init(&p->new_tables);
}

/**
 * qcow2_places_reftable() - note where the refcount table is
 * @p: the places
 * @host: its offset in bytes
 * @len: its length in bytes, whole clusters
 */
void qcow2_places_reftable(struct qcow2_places *p, u64 host, u64 len)
{
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	p->reftable.start = host;
	p->reftable.end = host + len;
	spin_unlock_irqrestore(&p->lock, flags);
}

/**
 * qcow2_places_build() - find out where the tables lie
 * @l: the layer with its L1 table loaded
 * @reftable: its refcount table
 *
 * Return: 0, -ENOMEM, or -EUCLEAN if the tables contradict each other, which
 * has then been logged. A read-only image can be used all the same.
 */
int qcow2_places_build(struct qcow2_layer *l,
		       const struct qcow2_table *reftable)
{
	struct qcow2_places *p = &l->places;
	int r;

	qcow2_places_reftable(p, l->geo.reftable_offset,
			      (u64)l->geo.reftable_clusters <<
			      l->geo.cluster_bits);
	p->snapshots_end = l->geo.snapshots_offset;
	r = places_collect(l, &l->l1, QCOW2_OFFSET_MASK, qcow2_l1_entry_valid,
			   "L1 table", &p->l2_tables, &p->nr_l2_tables);
	if (!r)
		r = places_collect(l, reftable, ~QCOW2_REFTABLE_RESERVED,
				   qcow2_reftable_entry_valid, "refcount table",
				   &p->ref_tables, &p->nr_ref_tables);
	if (!r)
		r = qcow2_snapshots_load(l);
	if (!r)
		r = places_check_tables(l);
	if (!r)
		r = places_check_fixed(l, p->l2_tables, p->nr_l2_tables,
				       "L2 table");
	if (!r)
		r = places_check_fixed(l, p->ref_tables, p->nr_ref_tables,
				       "refcount block");
	if (!r)
		r = places_check_disjoint(l);
	return r ?: places_check_regions(l, reftable);
}

static bool places_have(const u64 *list, u32 nr, u64 offset)
{
	u32 at = places_lower_bound(list, nr, offset);

	return at < nr && list[at] == offset;
}

static int places_check_bitmaps(struct qcow2_layer *l,
				const struct qcow2_table *reftable)
{
	struct qcow2_places *p = &l->places;
	u64 at;
	u32 i;

	for (i = 0; i < p->nr_bitmaps; i++) {
		at = p->bitmaps[i];
		if (places_have(p->l2_tables, p->nr_l2_tables, at) ||
		    places_have(p->ref_tables, p->nr_ref_tables, at)) {
			qcow2_err(l->core, "bitmap data at 0x%llx is another table too",
				  at);
			return -EUCLEAN;
		}
		if (!places_region_exists(p, reftable, at)) {
			qcow2_err(l->core, "bitmap data without a reference at 0x%llx",
				  at);
			return -EUCLEAN;
		}
	}
	return 0;
}

/**
 * qcow2_places_take_bitmaps() - note where bitmaps are that will be written
 * @l: the layer, whose other places are known
 * @reftable: its refcount table
 * @list: host offsets of clusters inside the image; from vmalloc(), given back
 *	with the places
 * @nr: length of @list
 *
 * Return: 0, or -EUCLEAN with a line in the log if something else is there.
 */
int qcow2_places_take_bitmaps(struct qcow2_layer *l,
			      const struct qcow2_table *reftable, u64 *list,
			      u32 nr)
{
	int r;

	l->places.bitmaps = list;
	l->places.nr_bitmaps = nr;
	places_sort(list, nr);
	r = places_check_fixed(l, list, nr, "bitmap data");
	return r ?: places_check_bitmaps(l, reftable);
}

/**
 * qcow2_places_drop() - forget it all
 * @p: the places
 */
void qcow2_places_drop(struct qcow2_places *p)
{
	vfree(p->l2_tables);
	vfree(p->ref_tables);
	vfree(p->bitmaps);
	p->l2_tables = NULL;
	p->ref_tables = NULL;
	p->bitmaps = NULL;
	p->nr_l2_tables = 0;
	p->nr_ref_tables = 0;
	p->nr_bitmaps = 0;
	qcow2_snapshots_drop(p);
	xa_destroy(&p->new_tables);
}

/* Narrows @gap round @offset; returns whether @offset itself is in @list. */
static bool places_narrow(const u64 *list, u32 nr, u64 offset,
			  struct qcow2_gap *gap)
{
	u32 at = places_lower_bound(list, nr, offset);

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
 * qcow2_places_overlap() - whether a cluster holds one of the tables
 * @p: the places
 * @offset: host offset of the cluster
 * @gap: what is known from calls before, { 0, 0 } at first
 *
 * Return: true if a data cluster cannot be there.
 */
bool qcow2_places_overlap(struct qcow2_places *p, u64 offset,
			  struct qcow2_gap *gap)
{
	u64 start, end;
	u32 i;

	if (xa_load(&p->new_tables, offset >> p->geo->cluster_bits))
		return true;
	if (offset > gap->lo && offset < gap->hi)
		return false;
	gap->lo = 0;
	gap->hi = U64_MAX;
	for (i = 0; places_fixed(p, i, &start, &end); i++) {
		if (offset >= start && offset < end)
			return true;
		if (start > offset)
			gap->hi = min(gap->hi, start);
		else if (end > start)
			gap->lo = max(gap->lo, end - 1);
	}
	return places_narrow(p->l2_tables, p->nr_l2_tables, offset, gap) ||
	       places_narrow(p->ref_tables, p->nr_ref_tables, offset, gap) ||
	       places_narrow(p->bitmaps, p->nr_bitmaps, offset, gap);
}

static u64 places_unreferenced_in(struct qcow2_places *p, const u64 *list, u32 nr,
				  const void *block, u64 first, u32 count)
{
	unsigned int bits = p->geo->cluster_bits;
	u32 at = places_lower_bound(list, nr, first << bits);

	for (; at < nr && (list[at] >> bits) < first + count; at++)
		if (!(list[at] & FORGOTTEN) &&
		    !qcow2_refcount_get(block, (list[at] >> bits) - first,
					p->geo->refcount_order))
			return list[at];
	return U64_MAX;
}

/**
 * qcow2_places_unreferenced() - look for a table that counts as free space
 * @p: the places
 * @block: a block of refcounts
 * @first: the cluster index of its first entry
 * @count: number of its entries
 *
 * Return: the host offset of a table whose refcount is 0, or U64_MAX.
 */
u64 qcow2_places_unreferenced(struct qcow2_places *p, const void *block,
			      u64 first, u32 count)
{
	unsigned int bits = p->geo->cluster_bits;
	u64 start, end, c, r;
	u32 i;

	if (first > QCOW2_OFFSET_MASK >> bits)
		return U64_MAX;
	for (i = 0; places_fixed(p, i, &start, &end); i++)
		for (c = max(start >> bits, first);
		     c < min(end >> bits, first + count); c++)
			if (!qcow2_refcount_get(block, c - first,
						p->geo->refcount_order))
				return c << bits;
	r = places_unreferenced_in(p, p->l2_tables, p->nr_l2_tables, block, first,
				   count);
	if (r == U64_MAX)
		r = places_unreferenced_in(p, p->ref_tables, p->nr_ref_tables, block,
					   first, count);
	if (r == U64_MAX)
		r = places_unreferenced_in(p, p->bitmaps, p->nr_bitmaps, block,
					   first, count);
	return r;
}

/**
 * qcow2_places_add() - note a new table
 * @p: the places
 * @offset: its host offset
 *
 * Without memory the table is just not checked against.
 */
void qcow2_places_add(struct qcow2_places *p, u64 offset)
{
	xa_store(&p->new_tables, offset >> p->geo->cluster_bits, xa_mk_value(1),
		 GFP_NOIO);
}

static void places_forget_in(u64 *list, u32 nr, u64 start, u64 end)
{
	u32 at = places_lower_bound(list, nr, start);

	for (; at < nr && (list[at] & ~FORGOTTEN) < end; at++)
		WRITE_ONCE(list[at], list[at] | FORGOTTEN);
}

/**
 * qcow2_places_forget() - note that clusters are free
 * @p: the places
 * @cluster: index of the first
 * @count: how many, at least 1
 */
void qcow2_places_forget(struct qcow2_places *p, u64 cluster, u64 count)
{
	unsigned int bits = p->geo->cluster_bits;
	u64 start = cluster << bits, end = (cluster + count) << bits;
	unsigned long index;
	void *entry;

	xa_for_each_range(&p->new_tables, index, entry, cluster,
			  cluster + count - 1)
		xa_erase(&p->new_tables, index);
	places_forget_in(p->l2_tables, p->nr_l2_tables, start, end);
	places_forget_in(p->ref_tables, p->nr_ref_tables, start, end);
}
