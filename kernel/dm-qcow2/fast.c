// SPDX-License-Identifier: GPL-2.0-only
/*
 * I/O to mapped clusters, in the submitter's context.
 *
 * The mapping is looked up in the cache without a lock. image.srcu is held from
 * before the lookup until the I/O ends, so that the clusters it found are not
 * reused meanwhile. The bio is cut where the mapping stops being contiguous on
 * the host and the rest comes again.
 *
 * On a block device the bio is redirected. On a file its pages go into a kiocb
 * with IOCB_NOWAIT, right here. What that entails:
 *
 * - The caller may be a file system in a transaction, which the lower file
 *   system would take for its own: current->journal_info sends us to a worker.
 * - The caller may hold locks of the same class as the lower file system's.
 *   NOWAIT takes them by trylock, except around extent trees. Metadata of the
 *   upper file system (REQ_META, REQ_PRIO) is what is read and written under
 *   such locks, and goes to a worker.
 * - Memory is allocated as for I/O (memalloc_noio); in reclaim (PF_MEMALLOC)
 *   and for swap a worker does it, which has a rescuer.
 * - We are called with current->bio_list set, so that bios submitted here
 *   would wait for our return. A file system that reads a block of its own
 *   metadata and waits for it would never return. The list is taken away for
 *   the time of the call, which is harmless only while it is empty.
 * - Where the call sleeps after all, the scheduler sends what the caller has in
 *   its plug, for somebody may wait for it; but not while blk-mq is sending just
 *   that and has got to us through a driver above: to a worker.
 * - The stack holds two file systems then: below STACK_NEEDED a worker does it.
 * - NOWAIT fails with -EAGAIN where it would block, now or at completion: a
 *   worker repeats the I/O, which is idempotent.
 * - The time stamp is not updated by the write but by the next flush (store.c).
 * - A frozen file system below lets no write in: the worker waits for it.
 * - A limit on the file size of the caller's process is not meant for us: a
 *   worker has none.
 *
 * The per-bio data outlives the call even if the I/O ends during it, because
 * device-mapper holds a reference of its own until .map returns.
 *
 * Takes no locks.
 */
#include "dm-qcow2.h"

#include <linux/ioprio.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/sizes.h>
#include <linux/uio.h>

#define STACK_NEEDED 6144
#define PUNTED_BYTES SZ_8M

static bool unstable(const struct qcow2_image *q)
{
	/* Pairs with smp_wmb() in qcow2_mark_unstable(). */
	smp_rmb();
	return READ_ONCE(q->unstable);
}

static bool stack_is_deep(void)
{
	unsigned long here = (unsigned long)__builtin_frame_address(0);

	return here - (unsigned long)end_of_stack(current) < STACK_NEEDED;
}

static bool may_inline(const struct qcow2_image *q, const struct bio *bio)
{
	struct bio_list *list = current->bio_list;

	if (!q->store.nowait)
		return false;
	if (bio->bi_opf & (REQ_META | REQ_PRIO | REQ_SWAP))
		return false;
	if (current->journal_info || (current->flags & PF_MEMALLOC))
		return false;
	if (op_is_write(bio->bi_opf) && rlimit(RLIMIT_FSIZE) != RLIM_INFINITY)
		return false;
	if (list && !(bio_list_empty(&list[0]) && bio_list_empty(&list[1])))
		return false;
	if (compat_plug_is_stuck())
		return false;
	return !stack_is_deep();
}

/* Ends a bio, or has a worker repeat it: in any context. */
static void inline_complete(struct kiocb *iocb, long ret)
{
	struct qcow2_io *io = container_of(iocb, struct qcow2_io, iocb);
	struct bio *bio = qcow2_io_bio(io);

	if (test_and_clear_bit(QCOW2_IO_FB_WRITE, &io->flags))
		kiocb_end_write(iocb);
	if (likely(ret == bio->bi_iter.bi_size)) {
		bio_endio(bio);
	} else if (ret >= 0 || ret == -EAGAIN || ret == -EINVAL) {
		if (ret == -EINVAL)
			set_bit(QCOW2_IO_BOUNCE, &io->flags);
		qcow2_io_queue(io);
	} else {
		qcow2_io_error(io, ret);
		qcow2_io_done(io);
	}
}

static bool start_write(struct qcow2_io *io)
{
	struct super_block *sb = file_inode(io->iocb.ki_filp)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	/* Another thread will end it: tell lockdep. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	__set_bit(QCOW2_IO_FB_WRITE, &io->flags);
	return true;
}

static void inline_rw(struct qcow2_image *q, struct bio *bio,
		      struct qcow2_io *io, u64 host)
{
	struct bio_list *bios = current->bio_list;
	struct file *file = q->store.file;
	bool write = op_is_write(bio_op(bio));
	struct iov_iter iter;
	unsigned int noio;
	ssize_t ret;

	io->iocb = (struct kiocb) {
		.ki_filp = file,
		.ki_pos = host,
		.ki_flags = IOCB_DIRECT | IOCB_NOWAIT,
		.ki_complete = inline_complete,
		.ki_ioprio = bio_prio(bio),
	};
	if (write) {
		if (!start_write(io)) {
			qcow2_io_punt(io);
			return;
		}
		io->iocb.ki_flags |= IOCB_WRITE;
		if (!READ_ONCE(q->data_written))
			WRITE_ONCE(q->data_written, true);
	}
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST,
		      __bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter),
		      qcow2_bvecs(bio->bi_io_vec, bio->bi_iter),
		      bio->bi_iter.bi_size);
	iter.iov_offset = bio->bi_iter.bi_bvec_done;
	noio = memalloc_noio_save();
	current->bio_list = NULL;
	ret = write ? file->f_op->write_iter(&io->iocb, &iter) :
		      file->f_op->read_iter(&io->iocb, &iter);
	current->bio_list = bios;
	memalloc_noio_restore(noio);
	if (ret == -EIOCBQUEUED)
		return;
	/* A worker does the rest; as qcow2_io_punt(). */
	if (ret != bio->bi_iter.bi_size)
		bio_associate_blkg(bio);
	/* What fails at once may fail only because it is tried here. */
	inline_complete(&io->iocb, ret < 0 && ret != -EINVAL ? -EAGAIN : ret);
}

static int redirect(struct qcow2_image *q, struct bio *bio, u64 host)
{
	bio_set_dev(bio, q->store.bdev);
	bio->bi_iter.bi_sector = host >> SECTOR_SHIFT;
	/* Device-mapper repeats a polled bio from where EAGAIN is an error. */
	if (bio->bi_opf & REQ_POLLED)
		bio->bi_opf &= ~(REQ_POLLED | REQ_NOWAIT);
	if (!bdev_nowait(q->store.bdev))
		bio->bi_opf &= ~REQ_NOWAIT;
	return DM_MAPIO_REMAPPED;
}

/*
 * Looks up the first cluster of a bio. Returns its type, sets the host offset
 * of the bio's first byte and the bytes that are alike; INVALID for whatever
 * the worker should look at.
 */
static enum qcow2_cluster_type lookup(struct qcow2_image *q, u64 pos, u32 len,
				      bool write, u64 *host, u64 *run)
{
	unsigned int bits = q->geo.cluster_bits;
	u32 index = qcow2_l2_index(q, pos), inside, max;
	enum qcow2_cluster_type type;
	struct qcow2_block *b;
	u64 entry;

	b = xa_load(&q->l2_blocks, pos >> qcow2_l2_block_bits(q));
	if (!b)
		return QCOW2_CLUSTER_INVALID;
	if (!test_bit(QCOW2_BLOCK_REFERENCED, &b->flags))
		set_bit(QCOW2_BLOCK_REFERENCED, &b->flags);
	inside = pos & (qcow2_cluster(q) - 1);
	max = min_t(u32, (inside + len + qcow2_cluster(q) - 1) >> bits,
		    QCOW2_L2_PER_BLOCK - index);
	if (write) {
		max = qcow2_l2_sound(b, index, max);
		if (!max)
			return QCOW2_CLUSTER_INVALID;
	}
	entry = qcow2_l2_entry(b, index);
	type = QCOW2_CLUSTER_NORMAL;
	if (unlikely(b->bad) || !qcow2_l2_entry_normal(&q->geo, entry,
						       READ_ONCE(q->limit)))
		type = qcow2_l2_type(q, b, index, &entry);
	if (write && (type != QCOW2_CLUSTER_NORMAL ||
		      !(entry & QCOW2_OFLAG_COPIED)))
		return QCOW2_CLUSTER_INVALID;
	*run = (u64)qcow2_cluster(q) - inside;
	if (*run < len && max > 1) {
		u64 mask = write ? ~0ULL : ~QCOW2_OFLAG_COPIED;

		*run = (qcow2_l2_run(q, b, index, entry, max, mask) << bits) -
		       inside;
		/* Entries further on are as hostile as the first. */
		if (type == QCOW2_CLUSTER_NORMAL)
			*run = min(*run, READ_ONCE(q->limit) -
				   (entry & QCOW2_OFFSET_MASK) - inside);
	}
	*run = min_t(u64, *run, len);
	*host = (entry & QCOW2_OFFSET_MASK) + inside;
	qcow2_count(q, HIT);
	return type;
}

/**
 * qcow2_fast_rw() - do a read or write at once if it can be
 * @q: the image
 * @bio: the bio, as device-mapper's map function gets it
 * @io: its per-bio data, initialised
 *
 * Return: DM_MAPIO_REMAPPED or DM_MAPIO_SUBMITTED.
 */
int qcow2_fast_rw(struct qcow2_image *q, struct bio *bio, struct qcow2_io *io)
{
	bool write = op_is_write(bio_op(bio));
	enum qcow2_cluster_type type;
	u64 host = 0, run = 0;
	u32 len = bio->bi_iter.bi_size;

	io->srcu = __srcu_read_lock(&q->srcu);
	__set_bit(QCOW2_IO_SRCU, &io->flags);
	rcu_read_lock();
	type = lookup(q, io->start, len, write, &host, &run);
	rcu_read_unlock();
	/*
	 * A suspend fails a remainder that may not wait. The submitter learns
	 * of it when the whole bio ends, wherever that is, and io_uring cannot
	 * try again from there: to the program it is an I/O error.
	 */
	if (run < len && (bio->bi_opf & REQ_NOWAIT))
		goto punt;
	switch (type) {
	case QCOW2_CLUSTER_UNALLOCATED:
	case QCOW2_CLUSTER_ZERO_PLAIN:
	case QCOW2_CLUSTER_ZERO_ALLOC:
		if (run < len)
			dm_accept_partial_bio(bio, run >> SECTOR_SHIFT);
		zero_fill_bio(bio);
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	case QCOW2_CLUSTER_NORMAL:
		break;
	default:
		goto punt;
	}
	if (write && (q->mode != QCOW2_MODE_RW || qcow2_serialize(q)))
		goto punt;
	/* A file makes a write durable by a journal commit: not in here. */
	if ((bio->bi_opf & REQ_FUA) && (!q->store.bdev || unstable(q)))
		goto punt;
	if (qcow2_serialize(q) && qcow2_misaligned(q, bio, io->start, len))
		goto punt;
	if (!q->store.bdev && !may_inline(q, bio))
		goto punt;
	if (run < len) {
		dm_accept_partial_bio(bio, run >> SECTOR_SHIFT);
		io->end = io->start + run;
	}
	if (q->store.bdev)
		return redirect(q, bio, host);
	qcow2_count(q, INLINE);
	inline_rw(q, bio, io, host);
	return DM_MAPIO_SUBMITTED;
punt:
	/* What one bio has under way, and the memory for it, is bounded. */
	if (len > PUNTED_BYTES && !(bio->bi_opf & REQ_NOWAIT)) {
		dm_accept_partial_bio(bio, PUNTED_BYTES >> SECTOR_SHIFT);
		io->end = io->start + PUNTED_BYTES;
	}
	qcow2_io_punt(io);
	return DM_MAPIO_SUBMITTED;
}
