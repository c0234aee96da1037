// SPDX-License-Identifier: GPL-2.0-only
/*
 * A bio's way through a worker: it is gone through part by part, may be parked
 * on the way, and ends with the last of its parts.
 *
 * Takes no locks; what it calls does.
 */
#include "io.h"

#include <linux/blk-cgroup.h>

#include "../core/scope.h"

static struct qcow2_io *bio_of(struct qcow2_request *rq)
{
	return container_of(rq, struct qcow2_io, rq);
}

static void bio_unpin(struct qcow2_io *io)
{
	if (test_and_clear_bit(QCOW2_IO_PINNED, &io->flags))
		qcow2_map_put(&io->rq.dev->map, io->pin);
}

/**
 * qcow2_bio_record() - note in bitmaps what is about to change
 * @bio: a bio that writes, as device-mapper's map function gets it
 * @io: its per-bio data, initialised
 *
 * Whatever becomes of it: nothing further down can leave it out.
 */
void qcow2_bio_record(struct bio *bio, struct qcow2_io *io)
{
	qcow2_record(&io->rq.dev->image, io->start, bio->bi_iter.bi_size);
}

/**
 * qcow2_bio_done() - end a bio
 * @io: its data, with the error final
 *
 * Context: any that bio_endio() may be called in.
 */
void qcow2_bio_done(struct qcow2_io *io)
{
	struct bio *bio = qcow2_io_bio(io);

	if (unlikely(io->rq.error)) {
		qcow2_count_error(&io->rq.dev->core, io->rq.error);
		bio->bi_status = errno_to_blk_status(io->rq.error);
	}
	bio_endio(bio);
}

static void bio_flushed(struct qcow2_waiter *w, int err)
{
	struct qcow2_io *io = container_of(w, struct qcow2_io, waiter);

	qcow2_request_error(&io->rq, err);
	qcow2_bio_done(io);
}

/**
 * qcow2_bio_flush() - end a bio after the next commit
 * @io: a FLUSH, or a FUA write whose data is written
 *
 * Context: any.
 */
void qcow2_bio_flush(struct qcow2_io *io)
{
	io->waiter.done = bio_flushed;
	qcow2_txn_wait(&io->rq.dev->image, &io->waiter);
}

static void bio_ended(struct qcow2_request *rq)
{
	struct qcow2_io *io = bio_of(rq);

	if (!rq->error && (qcow2_io_bio(io)->bi_opf & REQ_FUA))
		qcow2_bio_flush(io);
	else
		qcow2_bio_done(io);
}

static bool bio_must_bounce(struct qcow2_io *io, struct bio *bio)
{
	struct qcow2_request *rq = &io->rq;

	return test_bit(QCOW2_IO_BOUNCE, &io->flags) ||
	       qcow2_store_misaligned(qcow2_data(rq->dev), bio, rq->pos,
				      rq->end - rq->pos);
}

static enum qcow2_zeroing bio_zeroing(const struct bio *bio)
{
	if (bio_op(bio) == REQ_OP_DISCARD)
		return QCOW2_DISCARD;
	return bio->bi_opf & REQ_NOUNMAP ? QCOW2_ZERO_KEEP : QCOW2_ZERO_FREE;
}

static int bio_zero(struct qcow2_request *rq, const struct bio *bio)
{
	int r = 0;

	while (!r && !READ_ONCE(rq->error) && rq->pos < rq->end)
		r = qcow2_zero_step(rq, bio_zeroing(bio));
	return r;
}

static int bio_go_through(struct qcow2_io *io)
{
	struct qcow2_request *rq = &io->rq;
	struct bio *bio = qcow2_io_bio(io);

	if (op_is_write(bio_op(bio)) &&
	    READ_ONCE(rq->dev->core.mode) != QCOW2_MODE_RW)
		return -EIO;
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		return bio_must_bounce(io, bio) ?
			qcow2_align_read(rq, bio, io->start, rq->end) :
			qcow2_read_bio(rq, bio, io->start);
	case REQ_OP_WRITE:
		return bio_must_bounce(io, bio) ?
			qcow2_align_write(rq, bio, io->start, rq->end) :
			qcow2_write_bio(rq, bio, io->start);
	default:
		return bio_zero(rq, bio);
	}
}

/* Goes through a bio, from where it has come to. */
static void bio_work(struct work_struct *work)
{
	struct qcow2_io *io = container_of(work, struct qcow2_io, work);
	unsigned int scope = qcow2_scope_enter();
	int r;

	qcow2_count(&io->rq.dev->core, PUNT);
	r = bio_go_through(io);
	if (r != QCOW2_PARKED) {
		qcow2_request_gone_through(&io->rq);
		qcow2_request_error(&io->rq, r);
		qcow2_request_put(&io->rq);
	}
	qcow2_scope_leave(scope);
}

static void bio_go_on(struct qcow2_parked *p)
{
	qcow2_bio_queue(container_of(p, struct qcow2_io, rq.parked));
}

/* On whose behalf a bio is. */
static struct qcow2_how bio_how(struct bio *bio)
{
	return (struct qcow2_how) {
		.flags = bio->bi_opf & QCOW2_CARRIED,
		.ioprio = bio_prio(bio),
		.group = bio_blkcg_css(bio),
	};
}

/**
 * qcow2_bio_queue() - have a worker go through a bio, from rq.pos on
 * @io: the bio's data
 *
 * Context: any.
 */
void qcow2_bio_queue(struct qcow2_io *io)
{
	struct qcow2_request *rq = &io->rq;

	/* What only the slow path needs is not set up for every bio. */
	if (!test_and_set_bit(QCOW2_IO_QUEUED, &io->flags)) {
		rq->pos = io->start;
		rq->how = bio_how(qcow2_io_bio(io));
		rq->keep_space = false;
		qcow2_request_init(rq, bio_go_on, bio_ended);
		INIT_WORK(&io->work, bio_work);
	}
	/* The worker looks up anew and may wait for what waits for us. */
	bio_unpin(io);
	queue_work(rq->dev->io_wq, &io->work);
}

/**
 * qcow2_bio_punt() - have a worker go through a bio, as who sends it
 * @io: the bio's data
 *
 * Device-mapper does not tell for whom a bio is, so it is the current task's.
 * Context: .map
 */
void qcow2_bio_punt(struct qcow2_io *io)
{
	bio_associate_blkg(qcow2_io_bio(io));
	qcow2_bio_queue(io);
}
