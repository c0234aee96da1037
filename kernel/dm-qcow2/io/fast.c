// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O to mapped clusters, in the submitter's context.
 *
 * The extent is looked up without a lock, and kept until the I/O ends, so that
 * its clusters are not handed out to others meanwhile. The bio is cut where the
 * mapping stops being contiguous on the host, and the rest comes again.
 *
 * On a block device the bio is redirected. On a file its pages go into a kiocb
 * with IOCB_NOWAIT, right here; what that entails is in try.c of file-io.
 * Metadata of the upper file system (REQ_META, REQ_PRIO) and what is for swap
 * goes to a worker, which has a rescuer. So does what fails with -EAGAIN because
 * it would block, now or at completion: repeating it does no harm.
 *
 * The per-bio data outlives the call even if the I/O ends during it, because
 * device-mapper holds a reference of its own until .map returns.
 *
 * Takes no locks.
 */
#include "io.h"

#include <linux/ioprio.h>
#include <linux/sizes.h>

#define PUNTED_BYTES SZ_8M

/* Of compressed clusters that are small, a worker unpacks so many bytes. */
#define PACKED_BYTES SZ_64K

static bool fast_may_inline(const struct qcow2_store *st, const struct bio *bio)
{
	return !(bio->bi_opf & (REQ_META | REQ_PRIO | REQ_SWAP)) &&
	       file_io_may_try(&st->io, op_is_write(bio->bi_opf));
}

/* Ends a bio, or has a worker repeat it: in any context. */
static void fast_complete(struct kiocb *iocb, long ret)
{
	struct qcow2_io *io = container_of(iocb, struct qcow2_io, iocb);
	struct bio *bio = qcow2_io_bio(io);

	file_io_ended(iocb);
	if (likely(ret == bio->bi_iter.bi_size)) {
		bio_endio(bio);
	} else if (ret >= 0 || ret == -EAGAIN || ret == -EINVAL) {
		if (ret == -EINVAL)
			set_bit(QCOW2_IO_BOUNCE, &io->flags);
		qcow2_bio_queue(io);
	} else {
		qcow2_request_error(&io->rq, ret);
		qcow2_bio_done(io);
	}
}

static void fast_inline(struct bio *bio, struct qcow2_io *io,
			const struct qcow2_extent *e)
{
	ssize_t ret;

	io->iocb = (struct kiocb) {
		.ki_pos = e->host,
		.ki_complete = fast_complete,
		.ki_ioprio = bio_prio(bio),
	};
	ret = file_io_try(&e->store->io, &io->iocb, op_is_write(bio_op(bio)),
			  bio->bi_io_vec, &bio->bi_iter);
	if (ret == -EIOCBQUEUED)
		return;
	/* A worker does the rest; as qcow2_bio_punt(). */
	if (ret != bio->bi_iter.bi_size)
		bio_associate_blkg(bio);
	/* What fails at once may fail only because it is tried here. */
	fast_complete(&io->iocb, ret < 0 && ret != -EINVAL ? -EAGAIN : ret);
}

static int fast_redirect(struct bio *bio, const struct qcow2_extent *e)
{
	struct block_device *bdev = e->store->bdev;

	bio_set_dev(bio, bdev);
	bio->bi_iter.bi_sector = e->host >> SECTOR_SHIFT;
	/* Device-mapper repeats a polled bio from where EAGAIN is an error. */
	if (bio->bi_opf & REQ_POLLED)
		bio->bi_opf &= ~(REQ_POLLED | REQ_NOWAIT);
	if (!bdev_nowait(bdev))
		bio->bi_opf &= ~REQ_NOWAIT;
	return DM_MAPIO_REMAPPED;
}

/* Whether the I/O can be issued as it is, at once. */
static bool fast_may_issue(struct qcow2_device *d, struct bio *bio,
			   const struct qcow2_extent *e)
{
	const struct qcow2_store *st = e->store;
	bool holds = qcow2_align_holds(d);

	if (op_is_write(bio_op(bio)) &&
	    (d->core.mode != QCOW2_MODE_RW || holds))
		return false;
	/* A file makes a write durable by a journal commit: not in here. */
	if ((bio->bi_opf & REQ_FUA) &&
	    (!st->bdev || !qcow2_txn_is_stable(&d->image)))
		return false;
	if (st->align > SECTOR_SIZE &&
	    qcow2_store_misaligned(st, bio, e->host, e->len))
		return false;
	/* What DM tells of NOWAIT need not hold for what is below. */
	if ((bio->bi_opf & REQ_NOWAIT) && st != qcow2_data(d) && st->bdev &&
	    !bdev_nowait(st->bdev))
		return false;
	return st->bdev || fast_may_inline(st, bio);
}

/* Does the beginning of a bio, if that can be; the rest comes again. */
static void fast_cut(struct bio *bio, struct qcow2_io *io, u64 len)
{
	if (bio->bi_iter.bi_size <= len || (bio->bi_opf & REQ_NOWAIT))
		return;
	dm_accept_partial_bio(bio, len >> SECTOR_SHIFT);
	io->rq.end = io->start + len;
}

static int fast_punt(struct bio *bio, struct qcow2_io *io)
{
	/* What one bio has under way, and the memory for it, is bounded. */
	fast_cut(bio, io, PUNTED_BYTES);
	qcow2_bio_punt(io);
	return DM_MAPIO_SUBMITTED;
}

/* A piece of a cluster that is kept, or clusters for workers to unpack. */
static int fast_packed(struct qcow2_device *d, struct bio *bio,
		       struct qcow2_io *io, const struct qcow2_extent *e)
{
	struct bvec_iter iter = bio->bi_iter;

	if (e->len == iter.bi_size || !(bio->bi_opf & REQ_NOWAIT)) {
		iter.bi_size = e->len;
		if (qcow2_unpack_at_once(&e->packed, e->host, bio->bi_io_vec,
					 iter)) {
			fast_cut(bio, io, e->len);
			bio_endio(bio);
			return DM_MAPIO_SUBMITTED;
		}
	}
	/* A worker for each, so that all processors take part; none for two. */
	fast_cut(bio, io, max_t(u64, e->len, PACKED_BYTES -
				(io->start & (PACKED_BYTES - 1))));
	return fast_punt(bio, io);
}

static int fast_issue(struct qcow2_device *d, struct bio *bio,
		      struct qcow2_io *io, const struct qcow2_extent *e)
{
	if (e->kind != QCOW2_DATA) {
		zero_fill_bio(bio);
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	if (e->store->bdev)
		return fast_redirect(bio, e);
	qcow2_count(&d->core, INLINE);
	fast_inline(bio, io, e);
	return DM_MAPIO_SUBMITTED;
}

/**
 * qcow2_fast_rw() - do a read or write at once if it can be
 * @bio: the bio, as device-mapper's map function gets it
 * @io: its per-bio data, initialised
 *
 * Return: DM_MAPIO_REMAPPED or DM_MAPIO_SUBMITTED.
 */
int qcow2_fast_rw(struct bio *bio, struct qcow2_io *io)
{
	struct qcow2_device *d = io->rq.dev;
	u32 len = bio->bi_iter.bi_size;
	struct qcow2_extent e;

	if (!qcow2_map_lookup(&d->map, io->start, len,
			      op_is_write(bio_op(bio)), &e))
		return fast_punt(bio, io);
	io->pin = e.pin;
	__set_bit(QCOW2_IO_PINNED, &io->flags);
	if (unlikely(e.kind == QCOW2_COMPRESSED))
		return fast_packed(d, bio, io, &e);
	/*
	 * A suspend fails a remainder that may not wait. The submitter learns
	 * of it when the whole bio ends, wherever that is, and io_uring cannot
	 * try again from there: to the program it is an I/O error.
	 */
	if (e.len < len && (bio->bi_opf & REQ_NOWAIT))
		return fast_punt(bio, io);
	if (e.kind == QCOW2_DATA && !fast_may_issue(d, bio, &e))
		return fast_punt(bio, io);
	if (e.len < len) {
		dm_accept_partial_bio(bio, e.len >> SECTOR_SHIFT);
		io->rq.end = io->start + e.len;
	}
	return fast_issue(d, bio, io, &e);
}

/**
 * qcow2_fast_flush() - send a FLUSH on if there is nothing to be written for it
 * @bio: the bio, as device-mapper's map function gets it
 * @io: its per-bio data, initialised
 *
 * Return: DM_MAPIO_REMAPPED or DM_MAPIO_SUBMITTED.
 */
int qcow2_fast_flush(struct bio *bio, struct qcow2_io *io)
{
	struct qcow2_device *d = io->rq.dev;
	struct block_device *bdev = qcow2_data(d)->bdev;

	if (bdev && !READ_ONCE(d->image.txn.unstable)) {
		bio_set_dev(bio, bdev);
		return DM_MAPIO_REMAPPED;
	}
	qcow2_bio_flush(io);
	return DM_MAPIO_SUBMITTED;
}
