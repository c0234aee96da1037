// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the internal snapshots keep their tables, so that nothing else is put
 * there. Only read; snapshots are made and deleted by other programs while the
 * device is suspended. Takes no locks.
 */
#include "meta.h"

#include <linux/sort.h>
#include <linux/vmalloc.h>

/* A window of the table in memory. */
struct snapshots_reader {
	struct qcow2_layer *l;
	void *buf;
	u64 at;		/* host offset of @buf */
	bool valid;
};

/* Reads @len bytes at @pos, which may cross from one block into the next. */
static int snapshots_fetch(struct snapshots_reader *r, u64 pos, u8 *out, u32 len)
{
	while (len) {
		u64 block = round_down(pos, QCOW2_BLOCK_SIZE);
		u32 part = min_t(u32, len, block + QCOW2_BLOCK_SIZE - pos);
		int err;

		if (!r->valid || r->at != block) {
			if (block + QCOW2_BLOCK_SIZE > qcow2_layer_readable(r->l))
				return -EUCLEAN;
			err = qcow2_store_rw_buf(r->l->meta, false, block,
						 r->buf, QCOW2_BLOCK_SIZE);
			if (err)
				return err;
			r->at = block;
			r->valid = true;
		}
		memcpy(out, r->buf + (pos - block), part);
		pos += part;
		out += part;
		len -= part;
	}
	return 0;
}

static int snapshots_read_entry(struct snapshots_reader *r, u64 *pos,
				struct qcow2_bytes *l1)
{
	const struct qcow2_geometry *g = &r->l->geo;
	u8 fixed[QCOW2_SNAPSHOT_FIXED];
	struct qcow2_snapshot s;
	u64 bytes;
	int err;

	err = snapshots_fetch(r, *pos, fixed, sizeof(fixed));
	if (err)
		return err;
	qcow2_snapshot_parse(fixed, &s);
	l1->start = s.l1_offset;
	bytes = (u64)s.l1_size * 8;
	*pos += round_up(qcow2_snapshot_bytes(&s), 8);
	if (bytes > QCOW2_MAX_L1_BYTES || *pos - g->snapshots_offset >
	    QCOW2_MAX_SNAPSHOT_TABLE)
		return -EUCLEAN;
	if (bytes && ((l1->start & (qcow2_cluster(r->l) - 1)) || !l1->start ||
		      l1->start > r->l->limit - min(bytes, r->l->limit)))
		return -EUCLEAN;
	l1->end = l1->start + round_up(bytes, (u64)qcow2_cluster(r->l));
	return 0;
}

static int snapshots_by_start(const void *a, const void *b)
{
	const struct qcow2_bytes *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Joins what overlaps or touches; the rest is no more than the image holds. */
static u32 snapshots_merge(struct qcow2_bytes *list, u32 nr)
{
	u32 i, out = 0;

	for (i = 0; i < nr; i++) {
		if (out && list[i].start <= list[out - 1].end)
			list[out - 1].end = max(list[out - 1].end, list[i].end);
		else
			list[out++] = list[i];
	}
	return out;
}

/**
 * qcow2_snapshots_load() - find the snapshot table's end and the L1 tables
 * @l: the layer, with its header read
 *
 * Source: specification, "Snapshots". Return: 0, -ENOMEM, an I/O error, or
 * -EUCLEAN for a table that makes no sense, which has been logged.
 */
int qcow2_snapshots_load(struct qcow2_layer *l)
{
	u64 pos = l->geo.snapshots_offset;
	struct snapshots_reader r = { .l = l };
	u32 i, nr = l->geo.nb_snapshots;
	int err = 0;

	l->places.snapshots_end = pos;
	l->places.nr_snapshot_l1 = 0;
	if (!nr)
		return 0;
	l->places.snapshot_l1 = vmalloc(array_size(nr, sizeof(*l->places.snapshot_l1)));
	r.buf = (void *)__get_free_page(GFP_NOIO);
	if (!l->places.snapshot_l1 || !r.buf)
		err = -ENOMEM;
	for (i = 0; !err && i < nr; i++)
		err = snapshots_read_entry(&r, &pos, &l->places.snapshot_l1[i]);
	free_page((unsigned long)r.buf);
	if (err == -EUCLEAN)
		qcow2_err(l->core, "entry %u of the snapshot table is invalid", i - 1);
	if (err)
		return err;
	l->places.snapshots_end = pos;
	sort(l->places.snapshot_l1, nr, sizeof(*l->places.snapshot_l1),
	     snapshots_by_start, NULL);
	l->places.nr_snapshot_l1 = snapshots_merge(l->places.snapshot_l1, nr);
	return 0;
}

/**
 * qcow2_snapshots_drop() - forget it all
 * @p: the layer's places
 */
void qcow2_snapshots_drop(struct qcow2_places *p)
{
	vfree(p->snapshot_l1);
	p->snapshot_l1 = NULL;
	p->nr_snapshot_l1 = 0;
}
