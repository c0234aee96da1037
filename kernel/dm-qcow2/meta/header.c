// SPDX-License-Identifier: GPL-2.0-only
/*
 * The header: reading it, and what may change of it on disk.
 *
 * Lock: head.lock around changes of the header block.
 */
#include "meta.h"

#include <linux/gfp.h>
#include <linux/vmalloc.h>

static int header_check_length(u64 sectors, const struct qcow2_geometry *g,
			       struct qcow2_reason *why)
{
	if (!sectors || g->size >> SECTOR_SHIFT == sectors)
		return 0;
	snprintf(why->text, sizeof(why->text),
		 "the table has %llu sectors, but the image has %llu",
		 sectors, g->size >> SECTOR_SHIFT);
	return -EINVAL;
}

static const char data_below[] =
	"the external data file \"%*pE\" of an image below another one is not supported";
static const char data_missing[] =
	"the image has the external data file \"%*pE\", but the table has no data_file";
static const char data_unknown[] =
	"the table has the data_file %s, but the image has no external data file";
static const char data_snapshots[] =
	"internal snapshots beside the external data file \"%*pE\" are not supported";
static const char data_backing[] =
	"the external data file \"%*pE\" is raw, which a backing file rules out";
static const char data_short[] =
	"the raw data file has %llu bytes, but the image has %llu";

#define header_refuse_data(why, fmt, ...)					\
	(snprintf((why)->text, sizeof((why)->text), fmt, ##__VA_ARGS__),	\
	 -EINVAL)

/* With a data file: whether the image may have it, and the table has one. */
static int header_check_external(const struct qcow2_layer *l, const char *name,
				 struct qcow2_reason *why)
{
	const struct qcow2_geometry *g = &l->geo;
	int len = strlen(name);

	if (!l->core->ti)
		return header_refuse_data(why, data_below, len, name);
	if (!qcow2_external(l))
		return header_refuse_data(why, data_missing, len, name);
	if (g->nb_snapshots)
		return header_refuse_data(why, data_snapshots, len, name);
	if (qcow2_data_file_raw(g) && qcow2_has_backing(g))
		return header_refuse_data(why, data_backing, len, name);
	if (qcow2_data_file_raw(g) && l->data->bdev &&
	    qcow2_store_size(l->data) < g->size)
		return header_refuse_data(why, data_short, qcow2_store_size(l->data),
				     g->size);
	return 0;
}

static int header_check_data(const struct qcow2_layer *l, const void *area,
			     size_t size, struct qcow2_reason *why)
{
	char name[64];

	if (qcow2_data_file(&l->geo)) {
		qcow2_data_file_name(area, size, &l->geo, name, sizeof(name));
		return header_check_external(l, name, why);
	}
	if (qcow2_external(l))
		return header_refuse_data(why, data_unknown, l->data->path);
	return 0;
}

static int header_read(struct qcow2_layer *l, void *area, bool writing,
		       u64 sectors, struct qcow2_reason *why)
{
	u64 size = min_t(u64, qcow2_store_size(l->meta), QCOW2_HEADER_AREA);
	struct qcow2_geometry *g = &l->geo;
	int r;

	r = qcow2_store_rw_buf(l->meta, false, 0, area,
			       l->meta->bdev ? size : QCOW2_HEADER_AREA);
	if (r) {
		snprintf(why->text, sizeof(why->text),
			 "cannot read the header: error %d", r);
		return r;
	}
	r = qcow2_header_parse(area, size, g, why);
	if (!r)
		r = qcow2_header_supported(area, size, g, !writing, why);
	if (!r)
		r = header_check_data(l, area, size, why);
	if (!r)
		qcow2_backing_parse(area, size, g, &l->backing);
	return r ?: header_check_length(sectors, g, why);
}

/**
 * qcow2_header_probe() - read the header of an image that is not written
 * @l: the layer with its store open
 * @sectors: how many it is to have, or 0
 * @why: filled in on error
 *
 * Only reads: another table may have the image in use, and its dirty bit set.
 * Return: 0 or a negative error.
 */
int qcow2_header_probe(struct qcow2_layer *l, u64 sectors,
		       struct qcow2_reason *why)
{
	void *area = vzalloc(QCOW2_HEADER_AREA);
	int r;

	if (!area) {
		snprintf(why->text, sizeof(why->text), "out of memory");
		return -ENOMEM;
	}
	r = header_read(l, area, false, sectors, why);
	vfree(area);
	return r;
}

static bool header_format_fits(const struct qcow2_backing *b, bool raw)
{
	return !*b->format || !strcmp(b->format, raw ? "raw" : "qcow2");
}

/**
 * qcow2_header_fits() - whether the image that is to be below is meant
 * @l: the layer with its header read
 * @below: the name of that image, or NULL for none
 * @raw: its format
 *
 * Names are not compared: a file may have many.
 * Return: 0, or -EINVAL with a line in the log.
 */
int qcow2_header_fits(const struct qcow2_layer *l, const char *below, bool raw)
{
	const struct qcow2_backing *b = &l->backing;
	bool has = qcow2_has_backing(&l->geo);

	if (has && !below)
		qcow2_err(l->core, "the image has the backing file \"%*pE\" (%*pE), but the table has none",
			  (int)strlen(b->name), b->name,
			  (int)strlen(b->format), b->format);
	else if (!has && below)
		qcow2_err(l->core, "the table has the backing image %s, but the image has none",
			  below);
	else if (has && !header_format_fits(b, raw))
		qcow2_err(l->core, "the table has the %s backing image %s, but the image has \"%*pE\" of format \"%*pE\"",
			  raw ? "raw" : "qcow2", below,
			  (int)strlen(b->name), b->name,
			  (int)strlen(b->format), b->format);
	else
		return 0;
	return -EINVAL;
}

/* Who only reads has nothing to do with them. */
static int header_find_bitmaps(struct qcow2_image *q, const void *area)
{
	u64 size = min_t(u64, qcow2_store_size(q->layer.meta), QCOW2_HEADER_AREA);
	struct qcow2_bitmaps *b = &q->recorders.directory;
	int r;

	memset(b, 0, sizeof(*b));
	if (q->layer.read_only)
		return 0;
	r = qcow2_bitmaps_find(area, size, &q->layer.geo, b);
	if (r)
		qcow2_err(q->layer.core, "the header extension of bitmaps is too short");
	return r;
}

/**
 * qcow2_header_load() - read the header
 * @q: the image; qcow2_header_drop() is to be called after an error, too
 *
 * Return: 0 or a negative error with a line in the log.
 */
int qcow2_header_load(struct qcow2_image *q)
{
	void *area = vzalloc(QCOW2_HEADER_AREA);
	struct qcow2_reason why;
	int r;

	q->head.dirty_bit = false;
	q->head.dirty_durable = false;
	q->head.block = (void *)get_zeroed_page(GFP_KERNEL);
	if (!area || !q->head.block) {
		vfree(area);
		return -ENOMEM;
	}
	r = header_read(&q->layer, area, !q->layer.read_only, q->sectors, &why);
	if (r)
		qcow2_err(q->layer.core, "%s", why.text);
	else
		r = header_find_bitmaps(q, area);
	memcpy(q->head.block, area, QCOW2_BLOCK_SIZE);
	vfree(area);
	return r;
}

/**
 * qcow2_header_drop() - forget the header
 * @q: the image
 */
void qcow2_header_drop(struct qcow2_image *q)
{
	free_page((unsigned long)q->head.block);
	q->head.block = NULL;
}

static int header_put(struct qcow2_image *q, bool dirty)
{
	struct qcow2_header *h = q->head.block;
	u64 incompat = q->layer.geo.incompat & ~QCOW2_INCOMPAT_DIRTY;
	bool failed = READ_ONCE(q->layer.core->mode) == QCOW2_MODE_FAIL;
	int r;

	lockdep_assert_held(&q->head.lock);
	if (q->layer.geo.version >= 3) {
		if (dirty)
			incompat |= QCOW2_INCOMPAT_DIRTY;
		if (failed)
			incompat |= QCOW2_INCOMPAT_CORRUPT;
		h->incompatible_features = cpu_to_be64(incompat);
		h->autoclear_features =
			cpu_to_be64(qcow2_autoclear_kept(q));
	}
	r = qcow2_store_rw_buf(q->layer.meta, true, 0, h, QCOW2_BLOCK_SIZE);
	q->head.dirty_bit |= dirty;
	if (!r)
		r = qcow2_store_flush(q->layer.meta);
	if (!r)
		q->head.dirty_bit = dirty;
	WRITE_ONCE(q->head.dirty_durable, !r && dirty);
	return r;
}

/**
 * qcow2_header_write() - write the header block
 * @q: the image
 * @dirty: value of the dirty bit
 *
 * Clears all autoclear bits but those of a raw data file and of bitmaps, and
 * marks the image corrupt if it was found to be; everything else stays as it was
 * read. Above all the refcount table's place, which is that of the last commit that moved it: a
 * table in memory may be nowhere on disk yet. Durable on return.
 * Return: 0 or a negative error.
 */
int qcow2_header_write(struct qcow2_image *q, bool dirty)
{
	int r;

	mutex_lock(&q->head.lock);
	r = header_put(q, dirty);
	mutex_unlock(&q->head.lock);
	return r;
}

/**
 * qcow2_header_move() - have the header name the refcount table's new place
 * @q: the image, whose refcount table is durable there
 *
 * Return: 0 or a negative error, after which either place may be named.
 */
int qcow2_header_move(struct qcow2_image *q)
{
	int r;

	lockdep_assert_held(&q->alloc.reftable_lock);
	mutex_lock(&q->head.lock);
	q->head.block->refcount_table_offset = cpu_to_be64(q->layer.geo.reftable_offset);
	q->head.block->refcount_table_clusters =
		cpu_to_be32(q->layer.geo.reftable_clusters);
	r = header_put(q, q->head.dirty_bit);
	mutex_unlock(&q->head.lock);
	return r;
}

/**
 * qcow2_header_set_dirty() - get ready to let refcounts lag behind
 * @q: the image
 *
 * With lazy refcounts the dirty bit is on disk before the first change.
 * Return: 0 or a negative error.
 */
int qcow2_header_set_dirty(struct qcow2_image *q)
{
	int r = 0;

	if (!qcow2_lazy(q) || READ_ONCE(q->head.dirty_durable))
		return 0;
	mutex_lock(&q->head.lock);
	if (!q->head.dirty_durable)
		r = header_put(q, true);
	mutex_unlock(&q->head.lock);
	return r;
}
