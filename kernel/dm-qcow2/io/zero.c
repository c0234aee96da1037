// SPDX-License-Identifier: GPL-2.0-only
/*
 * DISCARD and WRITE_ZEROES.
 *
 * Whole clusters are unmapped. A part of a cluster is left alone by a discard;
 * otherwise its whole subclusters are unmapped, if it has such, and the rest is
 * written with zeros; so is a whole one in an image of version 2 with others
 * below. Where the guest sees a data file byte for byte, zeros are
 * put there, and the tables stay.
 *
 * Takes no locks; what it calls does.
 */
#include "io.h"

/* Zeros, written as data, up to @end. */
static int zero_data(struct qcow2_request *rq, u64 end)
{
	if (qcow2_store_misaligned(qcow2_data(rq->dev), NULL, rq->pos,
				   end - rq->pos))
		return qcow2_align_write(rq, NULL, 0, end);
	return qcow2_write_zeros(rq, end);
}

/*
 * What has data, up to @end, in one cluster: parts that can be zeros by themselves
 * become so, and what is before and after them is written.
 */
static int zero_units(struct qcow2_request *rq, u64 end)
{
	struct qcow2_map *m = &rq->dev->map;
	u64 unit = qcow2_map_unit(m), first = round_up(rq->pos, unit);
	u64 last = end == m->image->layer.geo.size ? round_up(end, unit) :
						     round_down(end, unit);
	int r;

	if (unit == qcow2_cluster(&m->image->layer) || first >= last)
		return zero_data(rq, end);
	if (rq->pos < first)
		return zero_data(rq, first);
	r = qcow2_map_unmap_part(m, &rq->parked, first,
				 div_u64(last - first, unit));
	if (r == -EOPNOTSUPP)
		return zero_data(rq, end);
	if (!r)
		rq->pos = min(last, end);
	return r;
}

/* What is not to be unmapped, up to @end, in one cluster. */
static int zero_part(struct qcow2_request *rq, u64 end, bool discard)
{
	struct qcow2_map *m = &rq->dev->map;
	struct qcow2_extent e;
	int r;

	if (discard) {
		rq->pos = end;
		return 0;
	}
	r = qcow2_map_get(m, rq->pos, end - rq->pos, &e);
	if (r)
		return r;
	qcow2_map_put(m, e.pin);
	if (qcow2_extent_has_data(&e))
		return zero_units(rq, end);
	/* What shows through may be in pieces that are smaller than clusters. */
	rq->pos = min(end, rq->pos + e.len);
	return 0;
}

static int zero_clusters(struct qcow2_request *rq, u64 clusters,
			 enum qcow2_zeroing how)
{
	struct qcow2_map *m = &rq->dev->map;
	unsigned int bits = m->image->layer.geo.cluster_bits;
	u64 first = rq->pos >> bits, done;
	int r;

	r = qcow2_map_unmap(m, &rq->parked, rq->pos, clusters, how, &done);
	if (!r)
		rq->pos = min(rq->end, (first + done) << bits);
	return r;
}

/* Where the mapping has no entries at all, there is nothing to do. */
static bool zero_skip(struct qcow2_request *rq)
{
	u64 end;

	if (!qcow2_map_absent(&rq->dev->map, rq->pos, &end))
		return false;
	rq->pos = min(rq->end, end);
	return true;
}

/*
 * Version 2 has no entry that says zeros: not with a cluster that is kept, and
 * none at all where an image below would show through.
 */
static bool zero_as_data(const struct qcow2_request *rq, bool keep)
{
	const struct qcow2_map *m = &rq->dev->map;

	return m->image->layer.geo.version < 3 && (keep || m->nr_below);
}

/* Zeros in whole blocks of the data file, up to @end. */
static int zero_identity(struct qcow2_request *rq, enum qcow2_zeroing how,
			 u64 end)
{
	struct qcow2_image *q = &rq->dev->image;
	u32 bits = q->layer.geo.cluster_bits;
	struct qcow2_change c = {};
	struct qcow2_zero z = {
		.pos = rq->pos, .len = end - rq->pos, .how = how,
		.whose = rq->how,
	};
	int r;

	qcow2_change_init(&c, &rq->dev->map);
	/* A write of a part of a block would put back what it has read. */
	if (!qcow2_change_hold(&c, &rq->parked, rq->pos >> bits,
			       (end - 1) >> bits))
		return QCOW2_PARKED;
	r = qcow2_store_zero(q->layer.data, &q->bufs, &z);
	qcow2_change_end(&c);
	if (r == -EOPNOTSUPP && how == QCOW2_DISCARD)
		r = 0;
	if (!r)
		rq->pos = end;
	return r;
}

/* A piece of what is to become zeros in the data file. */
static int zero_raw(struct qcow2_request *rq, enum qcow2_zeroing how)
{
	u64 end = min(rq->end, rq->pos + QCOW2_RAW_ZEROES);
	u64 align = qcow2_data(rq->dev)->align;
	u64 first = round_up(rq->pos, align), last = round_down(end, align);

	if (first == rq->pos && last > first)
		return zero_identity(rq, how, last);
	if (first == rq->pos || first > end)
		first = end;
	if (how != QCOW2_DISCARD)
		return zero_data(rq, first);
	rq->pos = first;
	return 0;
}

/**
 * qcow2_zero_step() - do a piece of what is to become zeros
 * @rq: the request; pos moves on
 * @how: how
 *
 * Context: a worker. Return: 0; QCOW2_PARKED if another change of these
 * clusters is under way, and @rq must not be touched any more then; or a
 * negative error.
 */
int qcow2_zero_step(struct qcow2_request *rq, enum qcow2_zeroing how)
{
	const struct qcow2_geometry *g = &rq->dev->image.layer.geo;
	u64 size = qcow2_cluster_size(g), next, clusters;
	bool keep = how == QCOW2_ZERO_KEEP;

	cond_resched();
	if (qcow2_identity(&rq->dev->image.layer))
		return zero_raw(rq, how);
	if (zero_skip(rq))
		return 0;
	next = (rq->pos | (size - 1)) + 1;
	clusters = (rq->end - rq->pos) >> g->cluster_bits;
	/* The last cluster of the disk may be a partial one. */
	if (rq->end == g->size)
		clusters = DIV_ROUND_UP_ULL(rq->end - rq->pos, size);
	if ((rq->pos & (size - 1)) || !clusters || zero_as_data(rq, keep))
		return zero_part(rq, min(next, rq->end), how == QCOW2_DISCARD);
	return zero_clusters(rq, clusters, how);
}
