// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes in a worker: in place, or into new clusters with copy-on-write.
 *
 * An allocating write holds its guest clusters (range.c), takes host clusters,
 * fills what it does not write itself (from the old cluster, or with zeros),
 * writes the data, and only then changes the L2 entries in the cache. Until
 * then nothing refers to the new clusters, so a failure just frees them.
 *
 * Locks: those of what it calls; image.md_lock in qcow2_sub_link().
 */
#include "dm-qcow2.h"

/* A write of zeros from memory takes at most this much at a time. */
#define ZERO_BYTES ((u64)QCOW2_ZERO_PAGES * PAGE_SIZE)

/* A write on its way through qcow2_write_step(). */
struct step {
	struct qcow2_io *io;
	struct qcow2_image *q;
	struct qcow2_sub *sub;
	struct qcow2_block *b;
	struct qcow2_src *src;
	u64 pos;
	u64 end;
	u32 index;
	u32 max;
};

static void set_source(struct step *s, u64 len)
{
	struct qcow2_sio *sio = &s->sub->sio;

	if (s->src->bio)
		qcow2_sio_bio(sio, s->src->bio, s->src->skip, len);
	else if (s->sub->buf)
		qcow2_sio_vec(sio, s->sub->buf->bv, len);
	else
		qcow2_sio_vec(sio, s->q->zero_bv, len);
}

static u64 bound(const struct step *s, u64 len)
{
	return s->src->bio || s->sub->buf || s->src->copy ? len :
		min(len, ZERO_BYTES);
}

/* Puts the part's bytes where they belong; the part may be gone then. */
static void put_data(struct step *s, u64 len, u64 host)
{
	u64 from = s->src->from + (s->pos - s->src->to);

	if (s->src->copy) {
		qcow2_sub_done(s->sub, qcow2_copy_guest(s->q, from, host, len,
							s->src->parent));
		return;
	}
	set_source(s, len);
	qcow2_sub_rw(s->sub, true, host);
}

static bool in_place(enum qcow2_cluster_type type, u64 entry)
{
	return type == QCOW2_CLUSTER_NORMAL && (entry & QCOW2_OFLAG_COPIED);
}

/*
 * Writes over allocated clusters that are sound; image.srcu or the range is held.
 */
static u64 write_in_place(struct step *s, u64 entry)
{
	u32 inside = s->pos & (qcow2_cluster(s->q) - 1);
	u64 host = entry & QCOW2_OFFSET_MASK, len;

	len = (u64)qcow2_l2_run(s->q, s->b, s->index, entry, s->max, ~0ULL) <<
	      s->q->geo.cluster_bits;
	len = min(len, READ_ONCE(s->q->limit) - host) - inside;
	len = bound(s, min(len, s->end - s->pos));
	put_data(s, len, host + inside);
	return len;
}

/**
 * qcow2_sub_link() - make the L2 entries of a part refer to its clusters
 * @sub: the part, with l2, index, count, host and frees set
 *
 * Context: any; the data is in the store.
 */
void qcow2_sub_link(struct qcow2_sub *sub)
{
	struct qcow2_image *q = sub->io->image;
	unsigned long flags;
	u32 i;

	spin_lock_irqsave(&q->md_lock, flags);
	qcow2_mark_unstable(q);
	for (i = 0; i < sub->count; i++)
		qcow2_l2_set(sub->l2, sub->index + i, QCOW2_OFLAG_COPIED |
			     (sub->host + ((u64)i << q->geo.cluster_bits)));
	/* Pairs with smp_rmb() in qcow2_l2_sound(). */
	smp_mb__before_atomic();
	for (i = 0; i < sub->count; i++)
		set_bit(sub->index + i, sub->l2->sound);
	qcow2_block_dirty(q, sub->l2);
	qcow2_free_put(q, &sub->frees);
	spin_unlock_irqrestore(&q->md_lock, flags);
}

/**
 * qcow2_sub_undo() - free the clusters of a write that failed
 * @work: qcow2_sub.work
 */
void qcow2_sub_undo(struct work_struct *work)
{
	struct qcow2_sub *sub = container_of(work, struct qcow2_sub, work);
	struct qcow2_image *q = sub->io->image;
	unsigned int scope = qcow2_enter();
	/* A store that was suspended in the middle of a copy would hold us up. */
	bool copy = test_bit(QCOW2_IO_COPY, &sub->io->flags);

	qcow2_free_run(q, sub->host, sub->count, !(copy && q->store.bdev));
	qcow2_sub_free(sub);
	qcow2_leave(scope);
}

/* Whether an entry's cluster is to be replaced by a new one. */
static bool replaceable(enum qcow2_cluster_type type, u64 entry)
{
	switch (type) {
	case QCOW2_CLUSTER_UNALLOCATED:
	case QCOW2_CLUSTER_ZERO_PLAIN:
		return true;
	case QCOW2_CLUSTER_ZERO_ALLOC:
	case QCOW2_CLUSTER_NORMAL:
		return !(entry & QCOW2_OFLAG_COPIED);
	default:
		return false;
	}
}

/* Not more than there may be entries for. */
static u32 replaceable_run(struct step *s)
{
	enum qcow2_cluster_type type;
	u32 n, old = 0;
	u64 entry;

	for (n = 0; n < s->max && old < QCOW2_FREE_STEP; n++) {
		type = qcow2_l2_type(s->q, s->b, s->index + n, &entry);
		if (!replaceable(type, entry))
			break;
		old += !!(entry & QCOW2_OFFSET_MASK);
	}
	return n;
}

/* Notes what the entries refer to now, to be freed when they are replaced. */
static int note_old(struct step *s)
{
	u32 i, old = 0;
	u64 host;
	int r;

	for (i = 0; i < s->sub->count; i++)
		old += !!(qcow2_l2_entry(s->b, s->index + i) &
			  QCOW2_OFFSET_MASK);
	if (!old)
		return 0;
	r = qcow2_free_reserve(s->q, old);
	for (i = 0; !r && i < s->sub->count; i++) {
		host = qcow2_l2_entry(s->b, s->index + i) & QCOW2_OFFSET_MASK;
		if (host)
			old -= qcow2_free_add(s->q, &s->sub->frees, host, 1,
					      true);
	}
	if (!r)
		qcow2_free_unreserve(s->q, old);
	return r;
}

/* Fills [@from, @to) of the part's clusters with what the guest sees there. */
static int fill(struct step *s, u64 from, u64 to, bool fresh)
{
	struct qcow2_image *q = s->q;
	u64 first = s->pos & ~((u64)qcow2_cluster(q) - 1), entry, host;
	u32 at = (from - first) >> q->geo.cluster_bits;

	if (from == to)
		return 0;
	host = s->sub->host + (from - first);
	if (qcow2_l2_type(q, s->b, s->index + at, &entry) ==
	    QCOW2_CLUSTER_NORMAL) {
		qcow2_count(q, COW);
		return qcow2_copy_data(q, (entry & QCOW2_OFFSET_MASK) +
				       (from & (qcow2_cluster(q) - 1)), host,
				       to - from, qcow2_io_how(s->io));
	}
	return fresh ? 0 : qcow2_fill_zero(q, host, to - from,
					   qcow2_io_how(s->io));
}

/* Gets clusters for the part: its own zero clusters, or new ones. */
static int get_clusters(struct step *s, bool *fresh)
{
	struct qcow2_sub *sub = s->sub;
	enum qcow2_cluster_type type;
	u64 entry;
	u32 n;
	int r;

	type = qcow2_l2_type(s->q, s->b, s->index, &entry);
	if (type == QCOW2_CLUSTER_ZERO_ALLOC && (entry & QCOW2_OFLAG_COPIED)) {
		sub->host = entry & QCOW2_OFFSET_MASK;
		sub->count = qcow2_l2_run(s->q, s->b, s->index, entry, s->max,
					  ~0ULL);
		*fresh = false;
		return qcow2_refcount_vouch(s->q, s->b, s->index, sub->count);
	}
	n = replaceable_run(s);
	r = qcow2_alloc_clusters(s->q, n, &sub->host, &sub->count, fresh);
	if (r == -ENOSPC) {
		/* What was discarded lately may be waiting for a commit. */
		qcow2_free_drain(s->q);
		r = qcow2_alloc_clusters(s->q, n, &sub->host, &sub->count,
					 fresh);
	}
	if (r)
		return r;
	sub->allocated = true;
	return note_old(s);
}

/* Allocates, fills and writes; returns bytes under way, or a negative error. */
static s64 write_new(struct step *s)
{
	struct qcow2_image *q = s->q;
	struct qcow2_sub *sub = s->sub;
	u64 size = qcow2_cluster(q), first = s->pos & ~(size - 1), last, end;
	bool fresh = false;
	int r;

	r = qcow2_commit_throttle(q);
	if (!r)
		r = qcow2_l2_own(q, s->pos);
	if (!r)
		r = get_clusters(s, &fresh);
	if (r)
		return r;
	qcow2_block_prepare(q, s->b);
	last = first + sub->count * size;
	end = min(s->end, last);
	if (bound(s, end - s->pos) < end - s->pos) {
		/* Zeros from memory: the rest of the run is filled the same. */
		r = qcow2_fill_zero(q, sub->host + (s->pos - first) +
				    ZERO_BYTES, end - s->pos - ZERO_BYTES,
				    qcow2_io_how(s->io));
	}
	qcow2_range_trim(q, &sub->range, (last >> q->geo.cluster_bits) - 1);
	if (!r)
		r = fill(s, first, s->pos, fresh);
	if (!r)
		r = fill(s, end, last, fresh);
	if (r)
		return r;
	refcount_inc(&s->b->refs);
	sub->l2 = s->b;
	sub->index = s->index;
	put_data(s, bound(s, end - s->pos), sub->host + (s->pos - first));
	return end - s->pos;
}

/* With the range held: what is to be done is settled now. */
static s64 write_locked(struct step *s)
{
	enum qcow2_cluster_type type;
	s64 r = -EIO;
	u64 entry;

	type = qcow2_l2_type(s->q, s->b, s->index, &entry);
	if (in_place(type, entry)) {
		s->max = qcow2_l2_run(s->q, s->b, s->index, entry, s->max,
				      ~0ULL);
		r = qcow2_refcount_vouch(s->q, s->b, s->index, s->max);
		if (!r)
			return write_in_place(s, entry);
	} else if (type == QCOW2_CLUSTER_COMPRESSED) {
		qcow2_report(s->q, s->pos >> s->q->geo.cluster_bits << 1,
			     "unsupported compressed cluster at guest offset",
			     s->pos);
	} else if (type == QCOW2_CLUSTER_INVALID) {
		qcow2_report(s->q, s->pos >> s->q->geo.cluster_bits << 1,
			     "invalid L2 entry for guest offset", s->pos);
	} else {
		r = write_new(s);
	}
	if (r < 0 && s->sub->allocated) {
		qcow2_io_error(s->io, r);
		qcow2_sub_undo(&s->sub->work);
	} else if (r < 0) {
		qcow2_io_error(s->io, r);
		qcow2_sub_free(s->sub);
	}
	return r;
}

/* Tries without the range, which a write in place does not need. */
static bool try_in_place(struct step *s, u64 *done)
{
	enum qcow2_cluster_type type;
	u32 sound;
	u64 entry;

	/* A copy looks up its source, which it must not do within SRCU. */
	if (s->sub->locked || qcow2_serialize(s->q) || s->src->copy)
		return false;
	sound = qcow2_l2_sound(s->b, s->index, s->max);
	if (!sound)
		return false;
	s->sub->srcu = __srcu_read_lock(&s->q->srcu);
	type = qcow2_l2_type(s->q, s->b, s->index, &entry);
	if (in_place(type, entry)) {
		s->max = sound;
		*done = write_in_place(s, entry);
		return true;
	}
	/* Allocation may wait for a grace period. */
	__srcu_read_unlock(&s->q->srcu, s->sub->srcu);
	s->sub->srcu = -1;
	return false;
}

/**
 * qcow2_write_step() - begin to write what can be written in one piece
 * @io: the bio's data
 * @sub: a new part, which may hold a range and a buffer already; taken over
 * @pos: guest offset in bytes
 * @end: where the write ends
 * @src: what is written
 * @done: set to the bytes begun, 0 after an error noted in @io
 *
 * Context: a worker. Return: QCOW2_PARKED if another change of these clusters
 * is under way; @io must not be touched any more then.
 */
enum qcow2_progress qcow2_write_step(struct qcow2_io *io, struct qcow2_sub *sub,
				     u64 pos, u64 end, struct qcow2_src *src,
				     u64 *done)
{
	struct qcow2_image *q = io->image;
	unsigned int bits = q->geo.cluster_bits;
	struct step s = {
		.io = io, .q = q, .sub = sub, .src = src, .pos = pos,
		.end = end, .index = qcow2_l2_index(q, pos),
	};
	s64 r;

	*done = 0;
	s.max = min_t(u64, ((end - 1) >> bits) - (pos >> bits) + 1,
		      QCOW2_L2_PER_BLOCK - s.index);
	s.b = qcow2_l2_get(q, pos);
	if (IS_ERR(s.b)) {
		qcow2_io_error(io, PTR_ERR(s.b));
		qcow2_sub_free(sub);
		return QCOW2_GO_ON;
	}
	if (try_in_place(&s, done))
		goto out;
	if (!sub->locked) {
		if (!qcow2_range_lock(q, &sub->range, io, pos >> bits,
				      (pos >> bits) + s.max - 1)) {
			qcow2_block_put(s.b);
			qcow2_sub_free(sub);
			return QCOW2_PARKED;
		}
		sub->locked = true;
	}
	r = write_locked(&s);
	if (r > 0)
		*done = r;
out:
	qcow2_block_put(s.b);
	return QCOW2_GO_ON;
}
