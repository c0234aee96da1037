// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies within the image, for blk-copy.
 *
 * A piece is a write like any other, whose bytes are copied inside the store
 * when the clusters they go to are there: in a file by sharing extents, by a
 * file system that copies by itself, or by hand; on a block device by its
 * driver. Zeros and what was never written become zeros. Clusters are not
 * shared: each keeps its own.
 *
 * Only while the table is live: before a suspend device-mapper has us pause,
 * which has pieces under way end. Who wants to copy waits for the resume, of
 * this table or of another.
 *
 * Locks: those of qcow2_write_step(). The source is looked up with the range of
 * the destination held; that of the source is not, as for a read.
 */
#include "dm-qcow2.h"

#include <linux/sizes.h>

#define COPY_BYTES SZ_64M

/* What is copied before somebody is asked whether to go on. */
#define COPY_CHUNK SZ_1M

/*
 * From here on copy-on-write asks the file system below to share extents. It
 * takes locks for that which other I/O on the file waits for, and a write to
 * what is shared costs more later: not worth it for less.
 */
#define SHARE_BYTES SZ_512K

/* Somebody waits for it; blk-copy has the worker charge it to whom it is for. */
#define FOR_COPY ((struct qcow2_how) { .flags = REQ_SYNC })

/**
 * struct qcow2_copy - a piece on its way
 * @io: in place of a bio's data
 * @turn: the range that was in the way is free
 * @idle: all parts are over
 */
struct qcow2_copy {
	struct qcow2_io io;
	struct completion turn;
	struct completion idle;
};

/**
 * qcow2_copy_wake() - a piece that was parked may go on
 * @io: its data
 *
 * Context: any.
 */
void qcow2_copy_wake(struct qcow2_io *io)
{
	complete(&container_of(io, struct qcow2_copy, io)->turn);
}

/**
 * qcow2_copy_idle() - the last part of a piece is over
 * @io: its data
 *
 * Context: any.
 */
void qcow2_copy_idle(struct qcow2_io *io)
{
	complete(&container_of(io, struct qcow2_copy, io)->idle);
}

/**
 * qcow2_copy_data() - copy data inside the store for copy-on-write
 * @q: the image
 * @from: byte offset
 * @to: byte offset
 * @len: bytes
 * @how: on whose behalf
 *
 * Not for metadata: a write to an extent that is shared needs new space, and a
 * commit must not fail for want of it. As qcow2_copy() otherwise.
 */
int qcow2_copy_data(struct qcow2_image *q, u64 from, u64 to, u64 len,
		    struct qcow2_how how)
{
	u64 shared = 0;

	if (len >= SHARE_BYTES)
		shared = qcow2_store_share(&q->store, from, to, len);
	return shared == len ? 0 : qcow2_copy(q, from + shared, to + shared,
					      len - shared, how);
}

/*
 * What the guest sees at @pos, and how many bytes are alike. The host offset is
 * good for as long as the caller's SRCU section lasts.
 */
static int look_up(struct qcow2_image *q, struct qcow2_block *b, u64 pos,
		   u64 *host, u64 *len)
{
	u32 inside = pos & (qcow2_cluster(q) - 1), index, max;
	unsigned int bits = q->geo.cluster_bits;
	enum qcow2_cluster_type type;
	u64 entry, run;

	index = qcow2_l2_index(q, pos);
	max = min_t(u64, (inside + *len + qcow2_cluster(q) - 1) >> bits,
		    QCOW2_L2_PER_BLOCK - index);
	type = qcow2_l2_type(q, b, index, &entry);
	run = qcow2_l2_run(q, b, index, entry, max, ~QCOW2_OFLAG_COPIED) << bits;
	*host = entry & QCOW2_OFFSET_MASK;
	if (type == QCOW2_CLUSTER_NORMAL)
		run = min(run, READ_ONCE(q->limit) - *host);
	*host += inside;
	*len = min(run - inside, *len);
	return type;
}

/* By sharing, by what is below, or by hand. */
static int copy_stored(struct qcow2_image *q, u64 from, u64 to, u64 len,
		       const struct blk_copy_op *parent)
{
	u64 shared = qcow2_store_share(&q->store, from, to, len);
	int r;

	if (shared == len)
		return 0;
	from += shared;
	to += shared;
	len -= shared;
	r = qcow2_store_copy(&q->store, from, to, len, parent);
	return r == -EOPNOTSUPP ? qcow2_copy(q, from, to, len, FOR_COPY) : r;
}

/* The beginning of what qcow2_copy_guest() is to copy; sets @len to it. */
static int copy_run(struct qcow2_image *q, u64 from, u64 host, u64 *len,
		    const struct blk_copy_op *parent)
{
	struct qcow2_block *b = qcow2_l2_get(q, from);
	int srcu, type, r;
	u64 source;

	if (IS_ERR(b))
		return PTR_ERR(b);
	srcu = __srcu_read_lock(&q->srcu);
	type = look_up(q, b, from, &source, len);
	qcow2_block_put(b);
	switch (type) {
	case QCOW2_CLUSTER_NORMAL:
		r = copy_stored(q, source, host, *len, parent);
		break;
	case QCOW2_CLUSTER_COMPRESSED:
	case QCOW2_CLUSTER_INVALID:
		r = -EIO;
		break;
	default:
		r = qcow2_fill_zero(q, host, *len, FOR_COPY);
		break;
	}
	__srcu_read_unlock(&q->srcu, srcu);
	return r;
}

/**
 * qcow2_copy_guest() - copy what the guest sees to host clusters
 * @q: the image
 * @from: guest offset
 * @host: byte offset in the store, of clusters that are the caller's
 * @len: bytes
 * @parent: for blk_copy_request.parent
 *
 * All aligned to the store. Context: a worker; not within SRCU.
 * Return: 0 or a negative error.
 */
int qcow2_copy_guest(struct qcow2_image *q, u64 from, u64 host, u64 len,
		     const struct blk_copy_op *parent)
{
	u64 done, part;
	int r = 0;

	if (!READ_ONCE(q->data_written))
		WRITE_ONCE(q->data_written, true);
	for (done = 0; !r && done < len; done += part) {
		if (blk_copy_cancelled(parent))
			return -EINTR;
		part = min_t(u64, len - done, COPY_CHUNK);
		r = copy_run(q, from + done, host + done, &part, parent);
	}
	return r;
}

/* How far there is nothing but zeros, or something else. */
static int source_run(struct qcow2_image *q, u64 pos, u64 *len, bool *zeros)
{
	struct qcow2_block *b = qcow2_l2_get(q, pos);
	u64 host;
	int type;

	if (IS_ERR(b))
		return PTR_ERR(b);
	type = look_up(q, b, pos, &host, len);
	qcow2_block_put(b);
	*zeros = type == QCOW2_CLUSTER_UNALLOCATED ||
		 type == QCOW2_CLUSTER_ZERO_PLAIN ||
		 type == QCOW2_CLUSTER_ZERO_ALLOC;
	return 0;
}

/* Writes what can be written in one go; returns bytes. */
static s64 write_some(struct qcow2_copy *c, u64 src, u64 dst, u64 len,
		      const struct blk_copy_op *op)
{
	struct qcow2_src source = { .copy = true, .from = src, .to = dst,
				    .parent = op };
	/* Writes to these clusters wait for it. */
	u64 end = dst + min_t(u64, len, COPY_CHUNK);
	enum qcow2_progress progress;
	u64 done;

	do {
		progress = qcow2_write_step(&c->io, qcow2_sub_new(&c->io), dst,
					    end, &source, &done);
		if (progress == QCOW2_PARKED)
			wait_for_completion(&c->turn);
	} while (progress == QCOW2_PARKED);
	return done;
}

/*
 * Not as bios to our own disk: those may be sent elsewhere (blk-interposer), and
 * whoever has handed this piece on wants it done here.
 */
static s64 zero_some(struct qcow2_copy *c, u64 dst, u64 len)
{
	c->io.pos = dst;
	c->io.end = dst + len;
	while (!READ_ONCE(c->io.error) && c->io.pos < c->io.end)
		if (qcow2_zero_step(&c->io) == QCOW2_PARKED)
			wait_for_completion(&c->turn);
	return len;
}

/* Waits for the parts that were begun; returns how they ended. */
static int settle(struct qcow2_copy *c)
{
	qcow2_io_put(&c->io);
	wait_for_completion(&c->idle);
	atomic_set(&c->io.pending, 1);
	return c->io.error;
}

static s64 copy_some(struct qcow2_image *q, struct qcow2_copy *c,
		     struct blk_copy_op *op)
{
	u64 src = op->src + op->done, dst = op->dst + op->done;
	u64 len = op->len - op->done;
	bool zeros;
	s64 begun;
	int r;

	if (READ_ONCE(q->mode) != QCOW2_MODE_RW)
		return -EIO;
	r = source_run(q, src, &len, &zeros);
	if (r)
		return r;
	begun = zeros ? zero_some(c, dst, len) :
			write_some(c, src, dst, len, op);
	return settle(c) ?: begun;
}

static int copy_piece(struct blk_copy_op *op)
{
	struct qcow2_image *q = op->private;
	struct qcow2_copy c = { .io = { .image = q } };
	unsigned int scope = qcow2_enter();
	s64 r = 0;

	__set_bit(QCOW2_IO_COPY, &c.io.flags);
	atomic_set(&c.io.pending, 1);
	init_completion(&c.turn);
	init_completion(&c.idle);
	while (r >= 0 && op->done < op->len) {
		r = blk_copy_cancelled(op) ? -EINTR : copy_some(q, &c, op);
		if (r > 0)
			op->done += r;
		cond_resched();
	}
	if (r < 0 && r != -EINTR && r != BLK_COPY_AGAIN)
		qcow2_count_error(q, r);
	qcow2_leave(scope);
	return min_t(s64, r, 0);
}

static bool inside(const struct qcow2_image *q, u64 pos, u64 len)
{
	return len <= q->geo.size && pos <= q->geo.size - len;
}

/* Nothing is begun while the store is suspended: it would have to be undone. */
static int qcow2_copy_possible(void *private, unsigned int depth)
{
	struct qcow2_image *q = private;
	const struct blk_copy_request req = {
		.src = q->store.bdev,
		.dst = q->store.bdev,
	};

	return q->store.bdev ? blk_copy_possible(&req, depth) : 1;
}

static int copy_op(struct blk_copy_op *op)
{
	struct qcow2_image *q = op->private;
	int possible;

	/* There are no entries in the tables for what is beyond. */
	if (!inside(q, op->src, op->len) || !inside(q, op->dst, op->len))
		return -EIO;
	/* Without help from below, reading and writing is what is left. */
	possible = qcow2_copy_possible(q, op->depth + 1);
	if (possible <= 0)
		return possible ?: -EOPNOTSUPP;
	return blk_copy_call(op, copy_piece);
}

static const struct blk_copy_ops qcow2_copy_ops = {
	.name = "dm-qcow2",
	.copy = copy_op,
	.possible = qcow2_copy_possible,
};

/**
 * qcow2_copy_register() - tell blk-copy of an image that is about to be live
 * @q: the image, opened
 *
 * Return: 0 or a negative error.
 */
int qcow2_copy_register(struct qcow2_image *q)
{
	struct blk_copy_limits lim = {
		.max_bytes = COPY_BYTES,
		.granularity = max_t(u32, SECTOR_SIZE, q->store.align),
		.optimal = qcow2_cluster(q),
		.private = q,
	};
	struct blk_copy_provider *p;

	if (q->read_only)
		return 0;
	p = blk_copy_register_idle(dm_disk(dm_table_get_md(q->ti->table)),
				   &qcow2_copy_ops, &lim);
	if (IS_ERR(p))
		return PTR_ERR(p);
	q->copy = p;
	return 0;
}

/**
 * qcow2_copy_unregister() - undo qcow2_copy_register()
 * @q: the image, not live
 */
void qcow2_copy_unregister(struct qcow2_image *q)
{
	if (q->copy)
		blk_copy_unregister(q->copy);
	q->copy = NULL;
}
