// SPDX-License-Identifier: GPL-2.0-only
/*
 * DISCARD and WRITE_ZEROES.
 *
 * Whole clusters change their L2 entry: to a zero cluster in version 3, to an
 * unallocated one in version 2 (which reads as zeros, there being no backing
 * file). Their host clusters are freed, or with REQ_NOUNMAP kept. A part of a
 * cluster is left alone by a discard and written with zeros otherwise.
 *
 * Locks: the guest clusters (range.c); image.md_lock for the entries.
 */
#include "dm-qcow2.h"

/* A copy of zeros has no bio. */
static blk_opf_t opf(struct qcow2_io *io)
{
	return test_bit(QCOW2_IO_COPY, &io->flags) ? REQ_OP_WRITE_ZEROES :
						     qcow2_io_bio(io)->bi_opf;
}

static bool is_discard(struct qcow2_io *io)
{
	return (opf(io) & REQ_OP_MASK) == REQ_OP_DISCARD;
}

static bool keeps_space(struct qcow2_io *io)
{
	return !is_discard(io) && (opf(io) & REQ_NOUNMAP);
}

/* What an entry becomes, and whether its host cluster is set free. */
static u64 zeroed(struct qcow2_io *io, enum qcow2_cluster_type type, u64 entry,
		  bool *frees)
{
	bool v3 = io->image->geo.version >= 3;

	*frees = false;
	if (type == QCOW2_CLUSTER_UNALLOCATED ||
	    type == QCOW2_CLUSTER_ZERO_PLAIN)
		return entry;
	if (keeps_space(io) && (entry & QCOW2_OFLAG_COPIED))
		return entry | QCOW2_OFLAG_ZERO;
	*frees = true;
	return v3 ? QCOW2_OFLAG_ZERO : 0;
}

/*
 * Notes what entries refer to now. Returns how many of them, which are all
 * unless what they refer to is in many pieces; or a negative error.
 */
static int note_all(struct qcow2_io *io, struct qcow2_sub *sub,
		    struct qcow2_block *b, u32 index, u32 max, u32 *reserved)
{
	struct qcow2_image *q = io->image;
	enum qcow2_cluster_type type;
	bool frees;
	u64 entry;
	u32 i;

	for (i = 0; i < max && *reserved; i++) {
		type = qcow2_l2_type(q, b, index + i, &entry);
		if (type == QCOW2_CLUSTER_COMPRESSED ||
		    type == QCOW2_CLUSTER_INVALID)
			break;
		zeroed(io, type, entry, &frees);
		if (frees)
			*reserved -= qcow2_free_add(q, &sub->frees,
						    entry & QCOW2_OFFSET_MASK,
						    1, true);
	}
	if (i)
		return i;
	qcow2_report(q, io->pos >> q->geo.cluster_bits << 1,
		     "cannot zero the cluster at guest offset", io->pos);
	return -EIO;
}

static int note_old(struct qcow2_io *io, struct qcow2_sub *sub,
		    struct qcow2_block *b, u32 index, u32 max)
{
	u32 reserved = min_t(u32, max, QCOW2_FREE_STEP);
	int r = qcow2_free_reserve(io->image, reserved);

	if (r)
		return r;
	r = note_all(io, sub, b, index, max, &reserved);
	qcow2_free_unreserve(io->image, reserved);
	return r;
}

static void unlink_run(struct qcow2_io *io, struct qcow2_sub *sub,
		       struct qcow2_block *b, u32 index, u32 max)
{
	struct qcow2_image *q = io->image;
	enum qcow2_cluster_type type;
	bool frees;
	u64 entry;
	u32 i;

	spin_lock_irq(&q->md_lock);
	qcow2_mark_unstable(q);
	for (i = index; i < index + max; i++) {
		type = qcow2_l2_type(q, b, i, &entry);
		qcow2_l2_set(b, i, zeroed(io, type, entry, &frees));
	}
	qcow2_block_dirty(q, b);
	qcow2_free_put(q, &sub->frees);
	spin_unlock_irq(&q->md_lock);
}

/* Whether no entry of the run refers to a host cluster. */
static bool nothing_there(struct qcow2_image *q, struct qcow2_block *b,
			  u32 index, u32 max)
{
	u64 entry;
	u32 i;

	for (i = 0; i < max; i++) {
		switch (qcow2_l2_type(q, b, index + i, &entry)) {
		case QCOW2_CLUSTER_UNALLOCATED:
		case QCOW2_CLUSTER_ZERO_PLAIN:
			break;
		default:
			return false;
		}
	}
	return true;
}

/* Returns how many clusters were done, at least one, or a negative error. */
static int zero_held(struct qcow2_io *io, struct qcow2_sub *sub,
		     struct qcow2_block *b, u32 index, u32 max)
{
	struct qcow2_image *q = io->image;
	int r;

	r = qcow2_commit_throttle(q);
	if (!r)
		r = qcow2_header_set_dirty(q);
	if (!r)
		r = qcow2_l2_own(q, io->pos);
	if (!r)
		r = note_old(io, sub, b, index, max);
	if (r < 0)
		return r;
	qcow2_block_prepare(q, b);
	unlink_run(io, sub, b, index, r);
	return r;
}

/* The whole clusters from io.pos on that one block of entries maps. */
static enum qcow2_progress zero_clusters(struct qcow2_io *io, u64 clusters)
{
	struct qcow2_image *q = io->image;
	unsigned int bits = q->geo.cluster_bits;
	u32 index = qcow2_l2_index(q, io->pos);
	u32 max = min_t(u64, clusters, QCOW2_L2_PER_BLOCK - index);
	u64 first = io->pos >> bits;
	struct qcow2_block *b;
	struct qcow2_sub *sub;
	int r = max;

	b = qcow2_l2_get(q, io->pos);
	if (IS_ERR(b)) {
		qcow2_io_error(io, PTR_ERR(b));
		return QCOW2_GO_ON;
	}
	sub = qcow2_sub_new(io);
	if (!nothing_there(q, b, index, max)) {
		if (!qcow2_range_lock(q, &sub->range, io, first,
				      first + max - 1)) {
			qcow2_block_put(b);
			qcow2_sub_free(sub);
			return QCOW2_PARKED;
		}
		sub->locked = true;
		r = zero_held(io, sub, b, index, max);
	}
	if (r > 0)
		io->pos = min(io->end, (first + r) << bits);
	else
		qcow2_io_error(io, r);
	qcow2_block_put(b);
	qcow2_sub_free(sub);
	return QCOW2_GO_ON;
}

/* Zeros, written as data, up to @end. */
static enum qcow2_progress zero_data(struct qcow2_io *io, u64 end)
{
	struct qcow2_image *q = io->image;
	struct qcow2_src src = {};
	enum qcow2_progress p;
	u64 done;

	if (qcow2_misaligned(q, NULL, io->pos, end - io->pos))
		return qcow2_bounce_write(io, end, true);
	p = qcow2_write_step(io, qcow2_sub_new(io), io->pos, end, &src, &done);
	if (p == QCOW2_GO_ON)
		io->pos += done;
	return p;
}

/* What is not to be unmapped, up to @end, in one cluster. */
static enum qcow2_progress zero_part(struct qcow2_io *io, u64 end)
{
	struct qcow2_image *q = io->image;
	struct qcow2_block *b;
	bool nothing;

	if (is_discard(io)) {
		io->pos = end;
		return QCOW2_GO_ON;
	}
	b = qcow2_l2_get(q, io->pos);
	if (IS_ERR(b)) {
		qcow2_io_error(io, PTR_ERR(b));
		return QCOW2_GO_ON;
	}
	nothing = nothing_there(q, b, qcow2_l2_index(q, io->pos), 1);
	qcow2_block_put(b);
	if (!nothing)
		return zero_data(io, end);
	io->pos = end;
	return QCOW2_GO_ON;
}

/* Where the L2 table for io.pos does not exist, there is nothing to do. */
static bool skip_table(struct qcow2_io *io)
{
	struct qcow2_image *q = io->image;
	unsigned int bits = q->geo.cluster_bits + q->geo.l2_bits;
	u32 l1 = io->pos >> bits;

	if (qcow2_table_get(&q->l1, l1))
		return false;
	io->pos = min(io->end, (u64)(l1 + 1) << bits);
	return true;
}

/**
 * qcow2_zero_step() - do a piece of a DISCARD or WRITE_ZEROES, or copy of zeros
 * @io: the bio's data, or the copy's; pos moves on
 *
 * Context: a worker. Return: QCOW2_PARKED if another change of these clusters
 * is under way; @io must not be touched any more then.
 */
enum qcow2_progress qcow2_zero_step(struct qcow2_io *io)
{
	struct qcow2_image *q = io->image;
	u64 size = qcow2_cluster(q), next, clusters;

	cond_resched();
	if (skip_table(io))
		return QCOW2_GO_ON;
	next = (io->pos | (size - 1)) + 1;
	clusters = (io->end - io->pos) >> q->geo.cluster_bits;
	/* The last cluster of the disk may be a partial one. */
	if (io->end == q->geo.size)
		clusters = DIV_ROUND_UP_ULL(io->end - io->pos, size);
	if ((io->pos & (size - 1)) || !clusters)
		return zero_part(io, min(next, io->end));
	if (keeps_space(io) && q->geo.version < 3)
		return zero_part(io, min(next, io->end));
	return zero_clusters(io, clusters);
}
