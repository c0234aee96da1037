// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is in an extent, in memory. Takes no locks of its own.
 */
#include "map.h"

/*
 * Reads what an extent has of its first block, inside of which it begins, by way
 * of memory for that block. Returns how many bytes that is, or a negative error.
 */
static s64 fetch_edge(struct qcow2_map *m, const struct qcow2_extent *e,
		      struct qcow2_buf *buf, u64 skip, struct qcow2_how how)
{
	struct qcow2_bufs *bufs = &m->image->bufs;
	u32 align = e->store->align, inside = e->host & (align - 1);
	u64 len = min_t(u64, e->len, align - inside);
	struct qcow2_buf *block;
	int r;

	if (!inside)
		return 0;
	block = qcow2_buf_get(bufs, align, QCOW2_BUF_EDGE);
	r = qcow2_store_rw(e->store, false, e->host - inside, block->bv, 0,
			   align, how);
	if (!r)
		qcow2_buf_copy(buf, skip, block, inside, len);
	qcow2_buf_put(bufs, block);
	return r ?: (s64)len;
}

/*
 * How much of an extent can be read. A data file that is a device may end where
 * the disk does, inside of a subcluster.
 */
static u64 fetch_there(const struct qcow2_map *m, const struct qcow2_extent *e)
{
	const struct qcow2_layer *l = &m->image->layer;
	u64 end = round_up(l->geo.size, (u64)e->store->align);

	if (!qcow2_external(l) || e->store != l->data)
		return e->len;
	return e->host < end ? min(e->len, end - e->host) : 0;
}

/* Data, as it is stored. */
static int fetch_data(struct qcow2_map *m, const struct qcow2_extent *e,
		      struct qcow2_buf *buf, u64 skip, struct qcow2_how how)
{
	u64 there = fetch_there(m, e);
	s64 edge = 0;
	int r = 0;

	if (there)
		edge = fetch_edge(m, e, buf, skip, how);
	if (edge < 0)
		return edge;
	if (edge < there)
		r = qcow2_store_rw(e->store, false, e->host + edge, buf->bv,
				   skip + edge, round_up(there - edge,
							 (u64)e->store->align),
				   how);
	if (there < e->len)
		qcow2_buf_zero(buf, skip + there, e->len - there);
	return r;
}

/**
 * qcow2_extent_fetch() - get what is in an extent into a buffer
 * @m: the mapping
 * @e: the extent
 * @buf: the buffer, for whole blocks of all stores
 * @skip: where in it the extent goes; as far into a block as it is in the store
 * @how: on whose behalf
 *
 * An extent may begin and end inside a block: where an image below ends, or
 * between subclusters. What is behind it in its last block is overwritten in the
 * buffer, too, which is therefore filled from its beginning on.
 * Context: a worker that has no buffer for QCOW2_BUF_EDGE; waits for the I/O.
 * Return: 0 or a negative error.
 */
int qcow2_extent_fetch(struct qcow2_map *m, const struct qcow2_extent *e,
		       struct qcow2_buf *buf, u64 skip, struct qcow2_how how)
{
	if (!qcow2_extent_has_data(e)) {
		qcow2_buf_zero(buf, skip, e->len);
		return 0;
	}
	if (e->kind == QCOW2_COMPRESSED)
		return qcow2_unpack_to_buf(&e->packed, e->host, buf, skip,
					   e->len, how);
	return fetch_data(m, e, buf, skip, how);
}
