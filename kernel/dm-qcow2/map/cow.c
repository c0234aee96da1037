// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a write does not cover of the clusters that are new for it: what was in
 * the old ones, what shows through from below, or zeros.
 *
 * Takes no locks; the guest clusters are held.
 */
#include "map.h"

/* The entry of a guest offset, which is in one of the clusters. */
static enum qcow2_cluster_type cow_entry(const struct qcow2_change *c, u64 pos,
					 u64 *entry)
{
	const struct qcow2_layer *l = &c->map->image->layer;
	u32 at = (pos >> l->geo.cluster_bits) - c->range.first;

	return qcow2_entry_type(l, c->l2, c->index + at, entry);
}

/* What the guest sees from @pos on, up to @len bytes of the cluster. */
static int cow_look(const struct qcow2_change *c, u64 pos, u64 len,
		    struct qcow2_extent *e)
{
	struct qcow2_layer *l = &c->map->image->layer;
	u32 inside = pos & (qcow2_cluster(l) - 1);
	u64 entry;

	*e = (struct qcow2_extent) { .kind = QCOW2_HOLE, .len = len };
	switch (cow_entry(c, pos, &entry)) {
	case QCOW2_CLUSTER_NORMAL:
		e->kind = QCOW2_DATA;
		e->store = l->data;
		e->host = (entry & QCOW2_OFFSET_MASK) + inside;
		return 0;
	case QCOW2_CLUSTER_COMPRESSED:
		qcow2_entry_packed(l, entry, inside, len, e);
		return 0;
	case QCOW2_CLUSTER_UNALLOCATED:
		return qcow2_map_below(c->map, pos, e);
	default:
		return 0;
	}
}

/* Whether what was in a cluster is read as a whole, in one go. */
static bool cow_reads_whole(const struct qcow2_change *c, u64 pos)
{
	u64 entry;

	return cow_entry(c, pos, &entry) == QCOW2_CLUSTER_NORMAL;
}

/*
 * Reads data into a buffer. It may end inside a block, where an image below
 * ends: from there on all is zeros, which the caller sees to.
 */
static int cow_read(const struct qcow2_extent *e, struct qcow2_buf *buf,
		    u64 skip, struct qcow2_how how)
{
	if (e->kind == QCOW2_COMPRESSED)
		return qcow2_unpack_to_buf(&e->packed, e->host, buf, skip,
					   e->len, how);
	return qcow2_store_rw(e->store, false, e->host, buf->bv, skip,
			      round_up(e->len, (u64)e->store->align), how);
}

/*
 * What the guest sees from @pos to @end, whole blocks, to where @skip is; sets
 * @copied if that is not all zeros by what the tables say.
 */
static int cow_get(struct qcow2_change *c, u64 pos, u64 end,
		   struct qcow2_buf *buf, u64 skip, struct qcow2_how how,
		   bool *copied)
{
	bool counted = false;
	struct qcow2_extent e;
	int r = 0;

	for (; !r && pos < end; pos += e.len, skip += e.len) {
		r = cow_look(c, pos, end - pos, &e);
		if (r)
			break;
		if (!qcow2_extent_has_data(&e)) {
			qcow2_buf_zero(buf, skip, e.len);
			continue;
		}
		if (!counted)
			qcow2_count(c->map->image->layer.core, COW);
		counted = *copied = true;
		r = cow_read(&e, buf, skip, how);
	}
	return r;
}

/* From @pos to @end, no more than a buffer, by way of the whole blocks. */
static int cow_fill_part(struct qcow2_change *c, u64 pos, u64 end, u64 to,
			 struct qcow2_how how)
{
	struct qcow2_image *q = c->map->image;
	u64 align = c->map->align;
	u64 first = round_down(pos, align), last = round_up(end, align);
	struct qcow2_buf *buf = qcow2_buf_get(&q->bufs, last - first,
					      QCOW2_BUF_COPY);
	bool copied = false;
	int r;

	r = cow_get(c, first, last, buf, 0, how, &copied);
	if (!r)
		r = qcow2_store_rw(q->layer.data, true, to, buf->bv,
				   pos - first, end - pos, how);
	qcow2_buf_put(&q->bufs, buf);
	return r;
}

/* Whole blocks that are alike; sets @len to how much that is, maybe nothing. */
static int cow_fill_blocks(struct qcow2_change *c, u64 pos, u64 *len, u64 to,
			   bool fresh, struct qcow2_how how)
{
	struct qcow2_image *q = c->map->image;
	struct qcow2_extent e;
	struct qcow2_span s;
	int r;

	r = cow_look(c, pos, *len, &e);
	if (r)
		return r;
	*len = round_down(e.len, (u64)c->map->align);
	if (e.kind == QCOW2_COMPRESSED && *len) {
		*len = min_t(u64, *len, QCOW2_BUF_SIZE);
		return cow_fill_part(c, pos, pos + *len, to, how);
	}
	if (!qcow2_extent_has_data(&e))
		return fresh ? 0 : qcow2_store_fill_zero(q->layer.data, &q->bufs,
							 to, *len, how);
	if (!*len)
		return 0;
	s = (struct qcow2_span) {
		.src = e.store, .from = e.host,
		.dst = q->layer.data, .to = to, .len = *len,
	};
	qcow2_count(q->layer.core, COW);
	return qcow2_store_copy_for_write(&s, &q->bufs, how);
}

/**
 * qcow2_cow_fill() - fill new clusters with what the guest sees there
 * @c: the change, with its clusters and @l2 set
 * @pos: guest offset in bytes
 * @end: where to stop; in the cluster of @pos
 * @fresh: the clusters read as zeros
 * @how: on whose behalf
 *
 * Context: a worker. Return: 0 or a negative error.
 */
int qcow2_cow_fill(struct qcow2_change *c, u64 pos, u64 end, bool fresh,
		   struct qcow2_how how)
{
	u64 first = c->range.first << c->map->image->layer.geo.cluster_bits;
	u64 align = c->map->align, len, to;
	int r = 0;

	for (; !r && pos < end; pos += len) {
		to = c->host + (pos - first);
		len = 0;
		if (!(pos & (align - 1)) && end - pos >= align) {
			len = round_down(end - pos, align);
			r = cow_fill_blocks(c, pos, &len, to, fresh, how);
		}
		if (r || len)
			continue;
		len = min(round_down(pos, align) + align, end) - pos;
		r = cow_fill_part(c, pos, pos + len, to, how);
	}
	return r;
}

/*
 * Gets what the guest sees from @pos to @end, in one cluster, into the buffer.
 * Of a block that the write covers in part all of it is got: what is written
 * comes later.
 */
static int cow_fetch(struct qcow2_change *c, u64 pos, u64 end,
		     struct qcow2_how how, bool *copied)
{
	u64 first = c->range.first << c->map->image->layer.geo.cluster_bits;
	u64 align = c->map->align;

	if (pos == end)
		return 0;
	pos = round_down(pos, align);
	return cow_get(c, pos, round_up(end, align), c->whole, pos - first, how,
		       copied);
}

/* The cluster of @pos, which the write covers from there up to @end. */
static int cow_fetch_round(struct qcow2_change *c, u64 pos, u64 end,
			   struct qcow2_how how, bool *copied)
{
	u64 size = qcow2_cluster(&c->map->image->layer), first, last;
	int r;

	first = round_down(pos, size);
	last = first + size;
	if (cow_reads_whole(c, pos))
		return cow_fetch(c, first, last, how, copied);
	r = cow_fetch(c, first, pos, how, copied);
	return r ?: cow_fetch(c, min(end, last), last, how, copied);
}

/**
 * qcow2_cow_gather() - get what a write does not cover into memory
 * @c: the change, with its clusters, QCOW2_BUF_SIZE bytes at most, and @l2 set
 * @pos: guest offset in bytes of the write
 * @end: where it ends, in the last of the clusters
 * @fresh: the clusters read as zeros
 * @how: on whose behalf
 *
 * One write for all costs less than one each for what is before the data, the
 * data, and what is after it. Sets @c->whole unless that fails, or there is
 * nothing but the zeros that are there already; the change gives it back.
 * Context: a worker that has no buffer for QCOW2_BUF_COPY.
 * Return: 0 or a negative error.
 */
int qcow2_cow_gather(struct qcow2_change *c, u64 pos, u64 end, bool fresh,
		     struct qcow2_how how)
{
	struct qcow2_image *q = c->map->image;
	u64 size = qcow2_cluster(&q->layer), last = round_down(end - 1, size);
	bool copied = false;
	int r = 0;

	c->whole = qcow2_buf_get(&q->bufs, c->count * size, QCOW2_BUF_COPY);
	if ((pos & (size - 1)) || last == pos)
		r = cow_fetch_round(c, pos, end, how, &copied);
	if (!r && (end & (size - 1)) && last > pos)
		r = cow_fetch_round(c, last, end, how, &copied);
	if (r || (fresh && !copied)) {
		qcow2_buf_put(&q->bufs, c->whole);
		c->whole = NULL;
	}
	return r;
}
