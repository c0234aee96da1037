// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads in a worker. Takes no locks.
 */
#include "io.h"

static void read_zeros(struct bio *bio, u64 skip, u64 len)
{
	struct bvec_iter iter = bio->bi_iter, pos;
	struct bio_vec bv;

	bvec_iter_advance(bio->bi_io_vec, &iter, skip);
	iter.bi_size = len;
	__bio_for_each_segment(bv, bio, pos, iter)
		memzero_bvec(&bv);
}

/* What is no data, or has to be unpacked. */
static int read_in_memory(struct qcow2_request *rq, struct bio *bio, u64 skip,
			  const struct qcow2_extent *e)
{
	if (e->kind == QCOW2_COMPRESSED)
		return qcow2_unpack_to_bio(&e->packed, e->host, bio, skip,
					   e->len, rq->how);
	read_zeros(bio, skip, e->len);
	return 0;
}

/*
 * Whether the store can read an extent as it is; cuts what is in a part of a
 * block off. An image below may have a store of its own kind, or end in a block;
 * subclusters may be smaller than one.
 */
static bool read_as_it_is(struct qcow2_device *d, const struct bio *bio,
			  struct qcow2_extent *e)
{
	u64 whole = round_down(e->len, (u64)e->store->align);
	/* For our own store the bio's memory is fit, or it would not be here. */
	const struct bio *mem = e->store == qcow2_data(d) ? NULL : bio;

	if (!qcow2_store_misaligned(e->store, mem, e->host, e->len))
		return true;
	if (!whole || qcow2_store_misaligned(e->store, mem, e->host, whole))
		return false;
	e->len = whole;
	return true;
}

/* Reads what is alike from rq->pos on, which moves on. */
static int read_step(struct qcow2_request *rq, struct bio *bio, u64 start)
{
	u64 skip = rq->pos - start;
	struct qcow2_part *p = qcow2_part_new(rq);
	struct qcow2_extent e;
	int r;

	r = qcow2_map_get(&rq->dev->map, rq->pos, rq->end - rq->pos, &e);
	if (r) {
		qcow2_part_end(p);
		return r;
	}
	p->pin = e.pin;
	if (e.kind == QCOW2_DATA && !read_as_it_is(rq->dev, bio, &e)) {
		qcow2_part_end(p);
		return qcow2_align_read(rq, bio, start, rq->pos + e.len);
	}
	rq->pos += e.len;
	if (e.kind != QCOW2_DATA) {
		r = read_in_memory(rq, bio, skip, &e);
		qcow2_part_end(p);
		return r;
	}
	qcow2_store_use_bio(&p->sio, bio, skip, e.len);
	qcow2_part_rw(p, false, e.store, e.host);
	return 0;
}

/**
 * qcow2_read_bio() - begin to read a bio, from rq->pos on
 * @rq: its request; pos moves on
 * @bio: the bio
 * @start: its guest offset in bytes
 *
 * Context: a worker. Return: 0 or a negative error.
 */
int qcow2_read_bio(struct qcow2_request *rq, struct bio *bio, u64 start)
{
	int r = 0;

	while (!r && rq->pos < rq->end)
		r = read_step(rq, bio, start);
	return r;
}
