// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bitmaps of an image that record what changes ("auto" in the
 * specification), from load to close. All others are left as they are.
 *
 * One that records is marked as being in use, durably, before the image is
 * written to; the mark is taken away when all it has recorded is durable, and
 * nothing will change any more. A crash in between leaves the mark, and whoever
 * comes next takes the bitmap for inconsistent. So its data and its table may be
 * written in place, in any order, as long as new clusters have their reference
 * before the table names them.
 *
 * Where there is no space for a new cluster its bits are all said to be set,
 * which takes none: a backup copies too much then, and misses nothing.
 *
 * Takes no locks; nobody else uses an image that is being loaded or closed.
 * Source: specification, "Bitmaps".
 */
#include "meta.h"

#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

/* Each write looks at all of them. */
#define MOST_RECORDERS 256

/**
 * struct bitmaps_load - what is known of bitmaps that are being loaded
 * @q: the image
 * @directory: the bitmap directory
 * @size: bytes of it
 * @bytes: bytes of memory for bits
 * @places: host offsets of clusters
 * @nr_places: their number
 */
struct bitmaps_load {
	struct qcow2_image *q;
	u8 *directory;
	u64 size;
	u64 bytes;
	u64 *places;
	u32 nr_places;
};

static int bitmaps_refuse(const struct bitmaps_load *b, u32 i, const char *why)
{
	qcow2_err(b->q->layer.core, "bitmap %u %s: attach read_only, or remove it with qcow2-maint bitmap remove",
		  i, why);
	return -EUCLEAN;
}

/* Whether clusters from @host on are where clusters can be. */
static bool bitmaps_inside(const struct qcow2_layer *l, u64 host, u64 bytes)
{
	u64 end = qcow2_layer_readable(l);

	return qcow2_aligned(&l->geo, host) && host >= qcow2_cluster(l) &&
	       host < end && bytes <= end - host;
}

static int bitmaps_read_directory(struct bitmaps_load *b)
{
	const struct qcow2_bitmaps *d = &b->q->recorders.directory;
	struct qcow2_layer *l = &b->q->layer;
	u64 size = round_up(d->directory_size, QCOW2_BLOCK_SIZE);

	if (d->nb_bitmaps > QCOW2_MAX_BITMAPS || !d->directory_size ||
	    d->directory_size > QCOW2_MAX_BITMAP_DIRECTORY ||
	    !bitmaps_inside(l, d->directory_offset, size)) {
		qcow2_err(l->core, "the bitmap directory at 0x%llx is out of range",
			  d->directory_offset);
		return -EUCLEAN;
	}
	b->size = d->directory_size;
	b->directory = vzalloc(size);
	if (!b->directory)
		return -ENOMEM;
	return qcow2_store_rw_buf(l->meta, false, d->directory_offset,
				  b->directory, size);
}

/* Notes a bitmap that records; the memory for more than it is there. */
static int bitmaps_choose(struct bitmaps_load *b, u64 at, u32 i,
			  const struct qcow2_bitmap *bitmap)
{
	struct qcow2_recorders *r = &b->q->recorders;
	const struct qcow2_geometry *g = &b->q->layer.geo;
	const char *fault = qcow2_bitmap_fault(g, bitmap);
	struct qcow2_recorder *rec = &r->list[r->nr];
	u64 bytes;

	if (!(bitmap->flags & QCOW2_BITMAP_AUTO) ||
	    (bitmap->flags & QCOW2_BITMAP_IN_USE))
		return 0;
	if (fault)
		return bitmaps_refuse(b, i, fault);
	if (r->nr == MOST_RECORDERS)
		return bitmaps_refuse(b, i, "is one too many");
	bytes = DIV_ROUND_UP_ULL(qcow2_bitmap_bits(g, bitmap), 8);
	rec->entry = r->directory.directory_offset + at;
	rec->flags = bitmap->flags;
	rec->granularity_bits = bitmap->granularity_bits;
	rec->cluster_bits = g->cluster_bits;
	rec->size = round_up(bytes, QCOW2_BLOCK_SIZE);
	rec->table.host = bitmap->table_offset;
	rec->table.nr = DIV_ROUND_UP_ULL(bytes, qcow2_cluster_size(g));
	b->bytes += rec->size;
	if (b->bytes > QCOW2_MAX_BITMAP_BYTES)
		return bitmaps_refuse(b, i, "needs too much memory");
	r->nr++;
	return 0;
}

static int bitmaps_choose_all(struct bitmaps_load *b)
{
	struct qcow2_recorders *r = &b->q->recorders;
	u32 i, nr = r->directory.nb_bitmaps;
	struct qcow2_bitmap bitmap;
	u64 at = 0;
	s64 bytes;
	int err = 0;

	r->list = kcalloc(min(nr, MOST_RECORDERS), sizeof(*r->list), GFP_NOIO);
	if (!r->list)
		return -ENOMEM;
	for (i = 0; !err && i < nr; i++, at += bytes) {
		bytes = at < b->size ? qcow2_bitmap_parse(b->directory + at,
							  b->size - at,
							  &bitmap) : -EINVAL;
		if (bytes < 0)
			return bitmaps_refuse(b, i, "ends past the end of the bitmap directory");
		err = bitmaps_choose(b, at, i, &bitmap);
	}
	return err;
}

static int bitmaps_load_table(struct qcow2_layer *l, struct qcow2_recorder *rec)
{
	u64 host = rec->table.host;

	if (!bitmaps_inside(l, host, round_up((u64)rec->table.nr * 8,
					      QCOW2_BLOCK_SIZE)))
		return -EUCLEAN;
	return qcow2_table_load(&rec->table, NULL, l->meta, host,
				rec->table.nr);
}

/* Bytes of @bits that the cluster of a table entry has. */
static u32 bitmaps_part(const struct qcow2_layer *l,
			const struct qcow2_recorder *rec, u32 i)
{
	return min_t(u64, qcow2_cluster(l),
		     rec->size - ((u64)i << rec->cluster_bits));
}

static void *bitmaps_bits(const struct qcow2_recorder *rec, u32 i)
{
	return (u8 *)rec->bits + ((u64)i << rec->cluster_bits);
}

static int bitmaps_load_part(struct qcow2_layer *l, struct qcow2_recorder *rec,
			     u32 i)
{
	u64 entry = qcow2_table_get(&rec->table, i);
	u64 host = entry & QCOW2_OFFSET_MASK;
	u32 len = bitmaps_part(l, rec, i);

	if (!qcow2_bitmap_entry_valid(entry))
		return -EUCLEAN;
	if (host) {
		if (!bitmaps_inside(l, host, len))
			return -EUCLEAN;
		return qcow2_store_rw_buf(l->meta, false, host,
					  bitmaps_bits(rec, i), len);
	}
	if (entry & QCOW2_BITMAP_ALL_ONES)
		memset(bitmaps_bits(rec, i), 0xff, len);
	return 0;
}

static int bitmaps_load_one(struct qcow2_layer *l, struct qcow2_recorder *rec)
{
	u32 i;
	int r;

	rec->bits = vzalloc(rec->size);
	rec->changed = bitmap_zalloc(rec->table.nr, GFP_NOIO);
	if (!rec->bits || !rec->changed)
		return -ENOMEM;
	r = bitmaps_load_table(l, rec);
	for (i = 0; !r && i < rec->table.nr; i++)
		r = bitmaps_load_part(l, rec, i);
	return r;
}

static int bitmaps_load_all(struct bitmaps_load *b)
{
	struct qcow2_recorders *recs = &b->q->recorders;
	struct qcow2_recorder *rec;
	int r = 0;

	for (rec = recs->list; !r && rec < recs->list + recs->nr; rec++)
		r = bitmaps_load_one(&b->q->layer, rec);
	if (r)
		qcow2_err(b->q->layer.core, "cannot read the bitmap with its table at 0x%llx: error %d",
			  rec[-1].table.host, r);
	return r;
}

static void bitmaps_place(struct bitmaps_load *b, u64 host, u64 bytes)
{
	u32 cluster = qcow2_cluster(&b->q->layer);
	u64 end = host + bytes;

	for (; host < end; host += cluster)
		b->places[b->nr_places++] = host;
}

/* What will be written to must not be anything else. */
static int bitmaps_find_places(struct bitmaps_load *b)
{
	struct qcow2_image *q = b->q;
	struct qcow2_recorders *recs = &q->recorders;
	u32 bits = q->layer.geo.cluster_bits, i;
	u64 nr = (b->size >> bits) + 1;
	struct qcow2_recorder *rec;
	u64 host;

	for (rec = recs->list; rec < recs->list + recs->nr; rec++)
		nr += ((u64)rec->table.nr * 8 >> bits) + 1 + rec->table.nr;
	b->places = vmalloc(array_size(nr, sizeof(*b->places)));
	if (!b->places)
		return -ENOMEM;
	bitmaps_place(b, recs->directory.directory_offset, b->size);
	for (rec = recs->list; rec < recs->list + recs->nr; rec++) {
		bitmaps_place(b, rec->table.host, (u64)rec->table.nr * 8);
		for (i = 0; i < rec->table.nr; i++) {
			host = qcow2_table_get(&rec->table, i) & QCOW2_OFFSET_MASK;
			if (host)
				bitmaps_place(b, host, 1);
		}
	}
	return qcow2_places_take_bitmaps(&q->layer, &q->reftable, b->places,
					 b->nr_places);
}

/**
 * qcow2_bitmaps_load() - read the bitmaps that record
 * @q: the image, which will be written to, with its tables loaded
 *
 * Return: 0 or a negative error with a line in the log; qcow2_bitmaps_drop() is
 * to be called either way.
 */
int qcow2_bitmaps_load(struct qcow2_image *q)
{
	struct bitmaps_load b = { .q = q };
	int r;

	if (!q->recorders.directory.nb_bitmaps)
		return 0;
	r = bitmaps_read_directory(&b);
	if (!r)
		r = bitmaps_choose_all(&b);
	if (!r)
		r = bitmaps_load_all(&b);
	if (!r && q->recorders.nr)
		r = bitmaps_find_places(&b);
	vfree(b.directory);
	return r;
}

/**
 * qcow2_bitmaps_drop() - forget them
 * @q: the image, whole or half loaded; nobody uses it
 */
void qcow2_bitmaps_drop(struct qcow2_image *q)
{
	struct qcow2_recorders *recs = &q->recorders;
	u32 i;

	for (i = 0; i < recs->nr; i++) {
		qcow2_table_exit(&recs->list[i].table);
		vfree(recs->list[i].bits);
		bitmap_free(recs->list[i].changed);
	}
	kfree(recs->list);
	recs->list = NULL;
	recs->nr = 0;
}

/* Changes the flags of an entry of the directory. */
static int bitmaps_set_flags(struct qcow2_image *q, u64 entry, u32 flags)
{
	struct qcow2_store *st = q->layer.meta;
	u64 pos = round_down(entry, QCOW2_BLOCK_SIZE);
	void *block = (void *)__get_free_page(GFP_NOIO);
	int r;

	if (!block)
		return -ENOMEM;
	/* The flags are in the first words: these do not cross a block. */
	r = qcow2_store_rw_buf(st, false, pos, block, QCOW2_BLOCK_SIZE);
	if (!r) {
		qcow2_bitmap_store_flags(block + (entry - pos), flags);
		r = qcow2_store_rw_buf(st, true, pos, block, QCOW2_BLOCK_SIZE);
	}
	free_page((unsigned long)block);
	return r;
}

static int bitmaps_mark(struct qcow2_image *q, u32 in_use)
{
	const struct qcow2_recorders *recs = &q->recorders;
	u32 i;
	int r = 0;

	for (i = 0; !r && i < recs->nr; i++)
		r = bitmaps_set_flags(q, recs->list[i].entry,
				      recs->list[i].flags | in_use);
	return r ?: qcow2_store_flush(q->layer.meta);
}

/**
 * qcow2_bitmaps_begin() - have bitmaps that record count as inconsistent
 * @q: the image, before it is written to
 *
 * Durable on return; so are the marks that were there. Return: 0 or a negative
 * error.
 */
int qcow2_bitmaps_begin(struct qcow2_image *q)
{
	return q->recorders.directory.nb_bitmaps ?
		bitmaps_mark(q, QCOW2_BITMAP_IN_USE) : 0;
}

/**
 * qcow2_bitmaps_undo() - have them count as good again, if that is possible
 * @q: the image, which was loaded and not written to, because
 *	qcow2_bitmaps_begin() has failed
 */
void qcow2_bitmaps_undo(struct qcow2_image *q)
{
	if (q->recorders.nr)
		bitmaps_mark(q, 0);
}

static void bitmaps_set_entry(struct qcow2_recorder *rec, u32 i, u64 entry)
{
	rec->table.entries[i] = cpu_to_be64(entry);
	rec->table_changed = true;
}

/* Takes a cluster for a part; what of it is not written reads as zeros. */
static int bitmaps_alloc(struct qcow2_image *q, u64 *host)
{
	bool fresh, tried = false;
	u64 place;
	u32 got;
	int r;

	do {
		r = qcow2_alloc_clusters(q, 1, &place, &got, &fresh);
	} while (qcow2_drain_and_retry(q, r, &tried));
	if (r)
		return r;
	if (!fresh)
		r = qcow2_space_clear(q, place >> q->layer.geo.cluster_bits, 1);
	if (r) {
		qcow2_free_run(q, place, 1, false);
		return r;
	}
	qcow2_places_add(&q->layer.places, place);
	*host = place;
	return 0;
}

/* Writes a part; the table is changed in memory only. */
static int bitmaps_write_part(struct qcow2_image *q, struct qcow2_recorder *rec,
			      u32 i)
{
	u64 host = qcow2_table_get(&rec->table, i) & QCOW2_OFFSET_MASK;
	u32 len = bitmaps_part(&q->layer, rec, i);
	int r = 0;

	if (!host) {
		if (memchr_inv(bitmaps_bits(rec, i), 0xff, len))
			r = bitmaps_alloc(q, &host);
		if (r && r != -ENOSPC)
			return r;
		bitmaps_set_entry(rec, i, host ?: QCOW2_BITMAP_ALL_ONES);
	}
	return host ? qcow2_store_rw_buf(q->layer.meta, true, host,
					 bitmaps_bits(rec, i), len) : 0;
}

/**
 * qcow2_bitmaps_write() - write what was recorded
 * @q: the image, which is about to be closed
 *
 * New clusters are not referred to before qcow2_bitmaps_end().
 * Return: 0 or a negative error.
 */
int qcow2_bitmaps_write(struct qcow2_image *q)
{
	struct qcow2_recorders *recs = &q->recorders;
	struct qcow2_recorder *rec;
	unsigned long i;
	int r;

	if (READ_ONCE(q->layer.core->mode) != QCOW2_MODE_RW)
		return 0;
	for (rec = recs->list; rec < recs->list + recs->nr; rec++) {
		for_each_set_bit(i, rec->changed, rec->table.nr) {
			r = bitmaps_write_part(q, rec, i);
			if (r)
				return r;
			clear_bit(i, rec->changed);
		}
	}
	return 0;
}

static int bitmaps_write_tables(struct qcow2_image *q)
{
	const struct qcow2_recorders *recs = &q->recorders;
	struct qcow2_recorder *rec;
	int r;

	for (rec = recs->list; rec < recs->list + recs->nr; rec++) {
		if (!rec->table_changed)
			continue;
		r = qcow2_store_rw_buf(q->layer.meta, true, rec->table.host,
				       rec->table.entries,
				       (u64)rec->table.blocks << QCOW2_BLOCK_BITS);
		if (r)
			return r;
		rec->table_changed = false;
	}
	return 0;
}

/**
 * qcow2_bitmaps_end() - have bitmaps that record count as good
 * @q: the image, after qcow2_bitmaps_write(); all refcounts are durable, and
 *	nothing will be recorded
 *
 * Those of an image that was found corrupt stay marked.
 * Return: 0 or a negative error.
 */
int qcow2_bitmaps_end(struct qcow2_image *q)
{
	int r;

	if (!q->recorders.nr ||
	    READ_ONCE(q->layer.core->mode) != QCOW2_MODE_RW)
		return 0;
	r = bitmaps_write_tables(q);
	if (!r)
		r = qcow2_store_flush(q->layer.meta);
	return r ?: bitmaps_mark(q, 0);
}
