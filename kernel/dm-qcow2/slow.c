// SPDX-License-Identifier: GPL-2.0-only
/*
 * The slow path: a worker goes through a bio part by part. Parts are done
 * asynchronously; the bio ends with the last of them.
 *
 * A worker never waits for another bio: what is in its way parks it
 * (range.c). Takes no locks; what it calls does.
 */
#include "dm-qcow2.h"

#include <linux/blk-cgroup.h>
#include <linux/sched.h>

static void srcu_release(struct qcow2_io *io)
{
	if (test_and_clear_bit(QCOW2_IO_SRCU, &io->flags))
		__srcu_read_unlock(&io->image->srcu, io->srcu);
}

/**
 * qcow2_io_how() - on whose behalf the store does something for a bio
 * @io: the bio's data, or a copy's, which has none
 *
 * Return: for struct qcow2_sio.
 */
struct qcow2_how qcow2_io_how(struct qcow2_io *io)
{
	struct bio *bio;

	/* Somebody waits for a copy, which is no bio. */
	if (unlikely(test_bit(QCOW2_IO_COPY, &io->flags)))
		return (struct qcow2_how) { .flags = REQ_SYNC };
	bio = qcow2_io_bio(io);
	return (struct qcow2_how) {
		.flags = bio->bi_opf & QCOW2_CARRIED,
		.ioprio = bio_prio(bio),
		.group = bio_blkcg_css(bio),
	};
}

/**
 * qcow2_io_queue() - have a worker go through a bio, from io.pos on
 * @io: the bio's data
 *
 * Context: any.
 */
void qcow2_io_queue(struct qcow2_io *io)
{
	if (unlikely(test_bit(QCOW2_IO_COPY, &io->flags))) {
		qcow2_copy_wake(io);
		return;
	}
	/* What only the slow path needs is not set up for every bio. */
	if (!test_and_set_bit(QCOW2_IO_QUEUED, &io->flags)) {
		io->pos = io->start;
		atomic_set(&io->pending, 1);
		INIT_WORK(&io->work, qcow2_io_work);
	}
	/* The worker looks up anew and may wait for what waits for us. */
	srcu_release(io);
	queue_work(io->image->io_wq, &io->work);
}

/**
 * qcow2_io_punt() - have a worker go through a bio, as who sends it
 * @io: the bio's data
 *
 * Device-mapper does not tell for whom a bio is, so it is the current task's.
 * Context: .map
 */
void qcow2_io_punt(struct qcow2_io *io)
{
	bio_associate_blkg(qcow2_io_bio(io));
	qcow2_io_queue(io);
}

/**
 * qcow2_io_error() - note that a part of a bio failed
 * @io: the bio's data
 * @err: 0 or a negative error; the first one counts
 */
void qcow2_io_error(struct qcow2_io *io, int err)
{
	if (err)
		cmpxchg(&io->error, 0, err);
}

/**
 * qcow2_count_error() - count an error that somebody gets to see
 * @q: the image
 * @err: negative error; the first -ENOSPC raises an event
 *
 * Context: any.
 */
void qcow2_count_error(struct qcow2_image *q, int err)
{
	atomic64_inc(&q->errors);
	if (err != -ENOSPC)
		return;
	atomic64_inc(&q->enospc_errors);
	if (!xchg(&q->enospc, true)) {
		qcow2_limit_err(q, "no space left for the image");
		schedule_work(&q->event_work);
	}
}

/**
 * qcow2_io_done() - end a bio
 * @io: its data, with io.error final
 *
 * Context: any that bio_endio() may be called in.
 */
void qcow2_io_done(struct qcow2_io *io)
{
	struct bio *bio = qcow2_io_bio(io);

	if (unlikely(io->error)) {
		qcow2_count_error(io->image, io->error);
		bio->bi_status = errno_to_blk_status(io->error);
	}
	bio_endio(bio);
}

/**
 * qcow2_io_put() - a part of a bio is done
 * @io: the bio's data
 */
void qcow2_io_put(struct qcow2_io *io)
{
	if (!atomic_dec_and_test(&io->pending))
		return;
	if (unlikely(test_bit(QCOW2_IO_COPY, &io->flags)))
		qcow2_copy_idle(io);
	else if (!io->error && (qcow2_io_bio(io)->bi_opf & REQ_FUA))
		qcow2_flush_queue(io);
	else
		qcow2_io_done(io);
}

/**
 * qcow2_sub_new() - begin a part of a bio
 * @io: the bio's data
 *
 * Context: a worker; waits for other parts to end if memory is short.
 * Return: the part, never NULL.
 */
struct qcow2_sub *qcow2_sub_new(struct qcow2_io *io)
{
	struct qcow2_sub *sub = mempool_alloc(&io->image->subs, GFP_NOIO);

	memset(sub, 0, sizeof(*sub));
	sub->io = io;
	sub->srcu = -1;
	INIT_LIST_HEAD(&sub->frees);
	atomic_inc(&io->pending);
	return sub;
}

/**
 * qcow2_sub_free() - end a part of a bio, whatever it holds
 * @sub: the part
 *
 * The bio may end with it. Context: any.
 */
void qcow2_sub_free(struct qcow2_sub *sub)
{
	struct qcow2_io *io = sub->io;
	struct qcow2_image *q = io->image;

	if (sub->srcu >= 0)
		__srcu_read_unlock(&q->srcu, sub->srcu);
	if (sub->locked)
		qcow2_range_unlock(q, &sub->range);
	if (sub->l2)
		qcow2_block_put(sub->l2);
	if (sub->buf)
		qcow2_buf_put(q, sub->buf);
	qcow2_free_release(q, &sub->frees);
	mempool_free(sub, &q->subs);
	qcow2_io_put(io);
}

/**
 * qcow2_sub_done() - the I/O of a part is over
 * @sub: the part; gone afterwards
 * @err: 0 or a negative error
 *
 * Context: any.
 */
void qcow2_sub_done(struct qcow2_sub *sub, int err)
{
	qcow2_io_error(sub->io, err);
	if (err && sub->allocated) {
		INIT_WORK(&sub->work, qcow2_sub_undo);
		/*
		 * Not io_wq, where all may wait for what this part holds. Nor
		 * commit_wq: when memory is short one thread does it all, and
		 * who has alloc_lock, for which this waits, may wait for a
		 * commit to give memory back.
		 */
		queue_work(sub->io->image->undo_wq, &sub->work);
		return;
	}
	if (!err && sub->l2)
		qcow2_sub_link(sub);
	qcow2_sub_free(sub);
}

static void sub_done(struct qcow2_sio *sio, int err)
{
	qcow2_sub_done(container_of(sio, struct qcow2_sub, sio), err);
}

/**
 * qcow2_sub_rw() - do the I/O of a part
 * @sub: the part, with sio.bv and sio.bv_iter set; gone when it is done
 * @write: direction
 * @host: byte offset in the store
 */
void qcow2_sub_rw(struct qcow2_sub *sub, bool write, u64 host)
{
	struct qcow2_image *q = sub->io->image;

	sub->sio.store = &q->store;
	sub->sio.done = sub_done;
	sub->sio.pos = host;
	sub->sio.write = write;
	sub->sio.how = qcow2_io_how(sub->io);
	if (write && !READ_ONCE(q->data_written))
		WRITE_ONCE(q->data_written, true);
	qcow2_sio_submit(&sub->sio);
}

/**
 * qcow2_misaligned() - whether the store cannot do a bio as it is
 * @q: the image
 * @bio: the bio, or NULL to ask for the offsets only
 * @pos: guest offset
 * @len: bytes
 *
 * Return: true if it must be bounced.
 */
bool qcow2_misaligned(struct qcow2_image *q, struct bio *bio, u64 pos, u64 len)
{
	u32 mask = q->store.align - 1, mem = mask | (q->store.mem_align - 1);
	struct bvec_iter iter;
	struct bio_vec bv;

	if (!q->store.direct)
		return false;
	if ((pos | len) & mask)
		return true;
	if (!bio)
		return false;
	for_each_bvec(bv, bio->bi_io_vec, iter, bio->bi_iter)
		if ((bv.bv_len & mask) | (bv.bv_offset & mem))
			return true;
	return false;
}

static bool must_bounce(struct qcow2_io *io, u64 pos, u64 len)
{
	return test_bit(QCOW2_IO_BOUNCE, &io->flags) ||
	       qcow2_misaligned(io->image, qcow2_io_bio(io), pos, len);
}

static void zero_part(struct bio *bio, u64 skip, u64 len)
{
	struct bvec_iter iter = bio->bi_iter, pos;
	struct bio_vec bv;

	bvec_iter_advance(bio->bi_io_vec, &iter, skip);
	iter.bi_size = len;
	__bio_for_each_segment(bv, bio, pos, iter)
		memzero_bvec(&bv);
}

/* Reads what is alike from io.pos on; moves io.pos. */
static int read_step(struct qcow2_io *io)
{
	struct qcow2_image *q = io->image;
	struct bio *bio = qcow2_io_bio(io);
	u64 pos = io->pos, skip = pos - io->start, entry, len;
	unsigned int bits = q->geo.cluster_bits;
	u32 inside = pos & (qcow2_cluster(q) - 1), max, index;
	enum qcow2_cluster_type type;
	struct qcow2_block *b;
	struct qcow2_sub *sub;

	b = qcow2_l2_get(q, pos);
	if (IS_ERR(b))
		return PTR_ERR(b);
	sub = qcow2_sub_new(io);
	sub->srcu = __srcu_read_lock(&q->srcu);
	index = qcow2_l2_index(q, pos);
	max = min_t(u64, (inside + (io->end - pos) + qcow2_cluster(q) - 1) >>
		    bits, QCOW2_L2_PER_BLOCK - index);
	type = qcow2_l2_type(q, b, index, &entry);
	len = qcow2_l2_run(q, b, index, entry, max, ~QCOW2_OFLAG_COPIED) << bits;
	if (type == QCOW2_CLUSTER_NORMAL)
		len = min(len, READ_ONCE(q->limit) - (entry & QCOW2_OFFSET_MASK));
	len = min(len - inside, io->end - pos);
	qcow2_block_put(b);
	switch (type) {
	case QCOW2_CLUSTER_NORMAL:
		io->pos += len;
		qcow2_sio_bio(&sub->sio, bio, skip, len);
		qcow2_sub_rw(sub, false, (entry & QCOW2_OFFSET_MASK) + inside);
		return 0;
	case QCOW2_CLUSTER_COMPRESSED:
		qcow2_report(q, pos >> bits << 1, "unsupported compressed cluster at guest offset",
			     pos);
		break;
	case QCOW2_CLUSTER_INVALID:
		qcow2_report(q, pos >> bits << 1, "invalid L2 entry for guest offset",
			     pos);
		break;
	default:
		zero_part(bio, skip, len);
		io->pos += len;
		qcow2_sub_free(sub);
		return 0;
	}
	qcow2_sub_free(sub);
	return -EIO;
}

static void slow_read(struct qcow2_io *io)
{
	int r = 0;

	if (must_bounce(io, io->pos, io->end - io->pos)) {
		qcow2_bounce_read(io);
		return;
	}
	while (!r && io->pos < io->end)
		r = read_step(io);
	qcow2_io_error(io, r);
}

static enum qcow2_progress slow_write(struct qcow2_io *io)
{
	struct qcow2_src src = { .bio = qcow2_io_bio(io) };
	u64 done;

	if (must_bounce(io, io->pos, io->end - io->pos))
		return qcow2_bounce_write(io, io->end, false);
	while (!READ_ONCE(io->error) && io->pos < io->end) {
		src.skip = io->pos - io->start;
		if (qcow2_write_step(io, qcow2_sub_new(io), io->pos, io->end,
				     &src, &done) == QCOW2_PARKED)
			return QCOW2_PARKED;
		io->pos += done;
	}
	return QCOW2_GO_ON;
}

static enum qcow2_progress go_through(struct qcow2_io *io)
{
	struct qcow2_image *q = io->image;
	struct bio *bio = qcow2_io_bio(io);

	if (op_is_write(bio_op(bio)) && READ_ONCE(q->mode) != QCOW2_MODE_RW) {
		qcow2_io_error(io, -EIO);
		return QCOW2_GO_ON;
	}
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		slow_read(io);
		return QCOW2_GO_ON;
	case REQ_OP_WRITE:
		return slow_write(io);
	default:
		while (!READ_ONCE(io->error) && io->pos < io->end)
			if (qcow2_zero_step(io) == QCOW2_PARKED)
				return QCOW2_PARKED;
		return QCOW2_GO_ON;
	}
}

/**
 * qcow2_enter() - begin work that other I/O waits for
 *
 * Memory must not be waited for by I/O to this device, and a worker that cleans
 * pages must not be throttled for dirtying others: with a buffered store, and with
 * a direct one for parts of blocks that the file shares (XFS).
 * Return: what qcow2_leave() is to restore.
 */
unsigned int qcow2_enter(void)
{
	unsigned int old = current->flags & (PF_MEMALLOC_NOIO |
					     PF_LOCAL_THROTTLE);

	current->flags |= PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE;
	return old;
}

/**
 * qcow2_leave() - end what qcow2_enter() began
 * @old: its return value
 */
void qcow2_leave(unsigned int old)
{
	current->flags &= ~(PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE);
	current->flags |= old;
}

/**
 * qcow2_io_work() - go through a bio, from io.pos on
 * @work: qcow2_io.work
 */
void qcow2_io_work(struct work_struct *work)
{
	struct qcow2_io *io = container_of(work, struct qcow2_io, work);
	unsigned int scope = qcow2_enter();

	qcow2_count(io->image, PUNT);
	if (go_through(io) == QCOW2_GO_ON)
		qcow2_io_put(io);
	qcow2_leave(scope);
}
