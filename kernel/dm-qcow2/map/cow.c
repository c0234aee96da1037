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
	if (qcow2_extended_l2(&l->geo)) {
		if (!qcow2_sub_lookup(l, c->l2, pos, len, 1, false, e))
			return qcow2_entry_refuse(l, pos);
		return e->kind == QCOW2_HOLE ?
		       qcow2_map_below(c->map, pos, e) : 0;
	}
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
		if (qcow2_extent_has_data(&e)) {
			if (!counted)
				qcow2_count(c->map->image->layer.core, COW);
			counted = *copied = true;
		}
		r = qcow2_extent_fetch(c->map, &e, buf, skip, how);
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

	c->whole_at = c->host;
	c->whole_len = c->count * size;
	c->whole = qcow2_buf_get(&q->bufs, c->whole_len, QCOW2_BUF_COPY);
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

/*
 * Adds what is in the same blocks of the store, which are written as a whole: in
 * new clusters it does no harm. What the guest writes is whole blocks, too.
 */
static u64 cow_whole_blocks(const struct qcow2_layer *l, u64 subs)
{
	u32 per = l->data->align >> qcow2_subcluster_bits(&l->geo), sub;
	u64 block;

	if (per <= 1)
		return subs;
	for (sub = 0; sub < QCOW2_SUBCLUSTERS; sub += per) {
		block = qcow2_sub_range(sub, sub + per - 1);
		if (subs & block)
			subs |= block;
	}
	return subs;
}

/*
 * The subclusters of a cluster, as bits of QCOW2_SUB_DATA, of which something is
 * to be filled: those that the write covers in part, unless they are there
 * already, and what a new host cluster gets of the one that it replaces.
 */
static u64 cow_subs(const struct qcow2_change *c, u32 i, u64 pos, u64 end)
{
	const struct qcow2_layer *l = &c->map->image->layer;
	u64 touched = qcow2_sub_touched(c, i), part = 0, data, entry, subs;
	u32 mask = (1U << qcow2_subcluster_bits(&l->geo)) - 1;

	if (i == 0 && (pos & mask))
		part |= BIT_ULL(c->sub_first);
	if (i == c->count - 1 && (end & mask))
		part |= BIT_ULL(c->sub_last);
	data = qcow2_sub_read(c->l2, c->index + i, &entry) & QCOW2_SUB_DATA;
	if (!c->allocated)
		return part & ~data;
	if (entry & QCOW2_OFLAG_COMPRESSED)
		data = QCOW2_SUB_DATA;
	subs = (data & ~touched) | part;
	return cow_whole_blocks(l, subs);
}

/* Whether the subcluster of a guest offset is among some of its cluster. */
static bool cow_sub_is_in(const struct qcow2_change *c, u64 subs, u64 pos)
{
	u32 bits = qcow2_subcluster_bits(&c->map->image->layer.geo);

	return subs & BIT_ULL((pos >> bits) & (QCOW2_SUBCLUSTERS - 1));
}

/* Fills those of some subclusters of a cluster that lie from @pos to @end. */
static int cow_fill_some(struct qcow2_change *c, u64 subs, u64 pos, u64 end,
			 bool fresh, struct qcow2_how how)
{
	u64 size = 1ULL << qcow2_subcluster_bits(&c->map->image->layer.geo);
	u64 next;
	int r = 0;

	for (; !r && pos < end; pos = next) {
		next = min(round_down(pos, size) + size, end);
		if (!cow_sub_is_in(c, subs, pos))
			continue;
		while (next < end && cow_sub_is_in(c, subs, next))
			next = min(next + size, end);
		r = qcow2_cow_fill(c, pos, next, fresh, how);
	}
	return r;
}

/* What is to be filled right before and right after the write. */
static void cow_subs_around(const struct qcow2_change *c, u64 head, u64 tail,
			    u64 *from, u64 *to)
{
	const struct qcow2_geometry *g = &c->map->image->layer.geo;
	u64 size = 1ULL << qcow2_subcluster_bits(g);
	u64 first = round_down(*from, (u64)qcow2_cluster_size(g));
	u64 last = round_up(*to, (u64)qcow2_cluster_size(g));

	while (*from > first && cow_sub_is_in(c, head, *from - 1))
		*from = round_down(*from - 1, size);
	while (*to < last && cow_sub_is_in(c, tail, *to))
		*to = round_down(*to, size) + size;
}

/*
 * Gets what is from @from to @pos and from @end to @to into memory, with room for
 * what is written between; as qcow2_cow_gather().
 */
static int cow_gather_subs(struct qcow2_change *c, u64 from, u64 pos, u64 end,
			   u64 to, bool fresh, struct qcow2_how how)
{
	struct qcow2_image *q = c->map->image;
	u64 align = c->map->align, first;
	bool copied = false;
	int r = 0;

	first = c->range.first << q->layer.geo.cluster_bits;
	c->whole_at = c->host + (from - first);
	c->whole_len = to - from;
	/* Of a block that the write covers in part all is got. */
	c->whole = qcow2_buf_get(&q->bufs, round_up(to, align) - from,
				 QCOW2_BUF_COPY);
	if (from < pos)
		r = cow_get(c, from, round_up(pos, align), c->whole, 0, how,
			    &copied);
	if (!r && end < to) {
		end = round_down(end, align);
		r = cow_get(c, end, to, c->whole, end - from, how, &copied);
	}
	if (r || (fresh && !copied)) {
		qcow2_buf_put(&q->bufs, c->whole);
		c->whole = NULL;
	}
	return r;
}

/**
 * qcow2_cow_fill_subs() - fill subclusters that are new for a write
 * @c: the change of extended entries, with its clusters and @l2 set
 * @w: the write
 * @end: where it ends, in the last of the clusters
 * @last: where that ends, or the store does
 * @fresh: the clusters read as zeros
 *
 * What is right before and after the write is got into memory if it may, to be
 * written with it. Subclusters that no bit will say anything of are left alone.
 * Context: a worker that has no buffer for QCOW2_BUF_COPY.
 * Return: 0 or a negative error.
 */
int qcow2_cow_fill_subs(struct qcow2_change *c, const struct qcow2_wish *w,
			u64 end, u64 last, bool fresh)
{
	u64 size = qcow2_cluster(&c->map->image->layer), pos = w->pos;
	u64 head = cow_subs(c, 0, pos, end), from = pos, to = end;
	u64 tail = cow_subs(c, c->count - 1, pos, end);
	int r;

	cow_subs_around(c, head, tail, &from, &to);
	to = min(to, last);
	r = cow_fill_some(c, head, round_down(pos, size), from, fresh, w->how);
	if (!r)
		r = cow_fill_some(c, tail, to, last, fresh, w->how);
	if (r || (from == pos && to == end))
		return r;
	/*
	 * Last, because who has a buffer must not want another one. Of a block at
	 * either end that is there already, the rest is not in the buffer.
	 */
	if (w->whole && to - from <= QCOW2_BUF_SIZE &&
	    !((from | to) & (c->map->align - 1)) &&
	    !cow_gather_subs(c, from, pos, end, to, fresh, w->how))
		return 0;
	r = cow_fill_some(c, head, from, pos, fresh, w->how);
	return r ?: cow_fill_some(c, tail, end, to, fresh, w->how);
}
