// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the internal snapshots keep their tables, so that nothing else is put
 * there. Only read; snapshots are made and deleted by other programs while the
 * device is suspended. Takes no locks.
 */
#include "dm-qcow2.h"

#include <linux/sort.h>
#include <linux/vmalloc.h>

/* An entry of the snapshot table: the fixed part, then variable ones. */
#define ENTRY_FIXED	40
#define L1_SIZE_AT	8
#define ID_LEN_AT	12
#define NAME_LEN_AT	14
#define EXTRA_LEN_AT	36

/* A window of the table in memory. */
struct reader {
	struct qcow2_image *q;
	void *buf;
	u64 at;		/* host offset of @buf */
	bool valid;
};

/* Bytes that can be read: a disk may end inside its last cluster. */
static u64 readable(const struct qcow2_image *q)
{
	return q->store.bdev ? qcow2_store_size(&q->store) : q->limit;
}

/* Reads @len bytes at @pos, which may cross from one block into the next. */
static int fetch(struct reader *r, u64 pos, u8 *out, u32 len)
{
	while (len) {
		u64 block = round_down(pos, QCOW2_BLOCK_SIZE);
		u32 part = min_t(u32, len, block + QCOW2_BLOCK_SIZE - pos);
		int err;

		if (!r->valid || r->at != block) {
			if (block + QCOW2_BLOCK_SIZE > readable(r->q))
				return -EUCLEAN;
			err = qcow2_store_rw_buf(&r->q->store, false, block,
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

static int read_entry(struct reader *r, u64 *pos, struct qcow2_extent *l1)
{
	const struct qcow2_geometry *g = &r->q->geo;
	u8 e[ENTRY_FIXED];
	u64 bytes, len;
	int err;

	err = fetch(r, *pos, e, sizeof(e));
	if (err)
		return err;
	l1->start = get_unaligned_be64(e);
	bytes = (u64)get_unaligned_be32(e + L1_SIZE_AT) * 8;
	len = ENTRY_FIXED + (u64)get_unaligned_be32(e + EXTRA_LEN_AT) +
	      get_unaligned_be16(e + ID_LEN_AT) +
	      get_unaligned_be16(e + NAME_LEN_AT);
	*pos += round_up(len, 8);
	if (bytes > QCOW2_MAX_L1_BYTES || *pos - g->snapshots_offset >
	    QCOW2_MAX_SNAPSHOT_TABLE)
		return -EUCLEAN;
	if (bytes && ((l1->start & (qcow2_cluster(r->q) - 1)) || !l1->start ||
		      l1->start > r->q->limit - min(bytes, r->q->limit)))
		return -EUCLEAN;
	l1->end = l1->start + round_up(bytes, (u64)qcow2_cluster(r->q));
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct qcow2_extent *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Joins what overlaps or touches; the rest is no more than the image holds. */
static u32 merge(struct qcow2_extent *list, u32 nr)
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
 * @q: the image
 *
 * Source: specification, "Snapshots". Return: 0, -ENOMEM, an I/O error, or
 * -EUCLEAN for a table that makes no sense, which has been logged.
 */
int qcow2_snapshots_load(struct qcow2_image *q)
{
	u64 pos = q->geo.snapshots_offset;
	struct reader r = { .q = q };
	u32 i, nr = q->geo.nb_snapshots;
	int err = 0;

	q->snapshots_end = pos;
	q->nr_snapshot_l1 = 0;
	if (!nr)
		return 0;
	q->snapshot_l1 = vmalloc(array_size(nr, sizeof(*q->snapshot_l1)));
	r.buf = (void *)__get_free_page(GFP_NOIO);
	if (!q->snapshot_l1 || !r.buf)
		err = -ENOMEM;
	for (i = 0; !err && i < nr; i++)
		err = read_entry(&r, &pos, &q->snapshot_l1[i]);
	free_page((unsigned long)r.buf);
	if (err == -EUCLEAN)
		qcow2_err(q, "entry %u of the snapshot table is invalid", i - 1);
	if (err)
		return err;
	q->snapshots_end = pos;
	sort(q->snapshot_l1, nr, sizeof(*q->snapshot_l1), by_start, NULL);
	q->nr_snapshot_l1 = merge(q->snapshot_l1, nr);
	return 0;
}

/**
 * qcow2_snapshots_drop() - forget it all
 * @q: the image
 */
void qcow2_snapshots_drop(struct qcow2_image *q)
{
	vfree(q->snapshot_l1);
	q->snapshot_l1 = NULL;
	q->nr_snapshot_l1 = 0;
}
