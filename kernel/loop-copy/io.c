// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads and writes.
 *
 * A request is tried where it arrives, with IOCB_NOWAIT, and by a worker where
 * it would block. In the submitter's context the file system below us runs
 * inside of whatever the submitter is doing. What that entails:
 *
 * - The submitter may be in a transaction, which the file system below would
 *   take for its own: current->journal_info sends the request to a worker.
 * - Metadata (REQ_META, REQ_PRIO) is read and written under locks of the same
 *   classes that the file system below takes: to a worker.
 * - In reclaim (PF_MEMALLOC) and for swap a worker does it, which may take and
 *   wait for what the submitter must not. So it does for requests that come from
 *   a worker of somebody else's, because that one may be what others wait for
 *   (kblockd, writeback).
 * - A list of bios that wait for our return would wait forever if the file
 *   system below waits for one of its own: bio_list and plug are taken away for
 *   the time of the call. The list is empty then, or a worker does it.
 * - The plug may hold requests that whoever we wait for needs, a tag or a block
 *   of the disk below for instance, and blk-mq, which is sending them when it
 *   calls us, does not send them when we sleep. Those of this disk may wait:
 *   nothing below us depends on them. With those of others a worker does it.
 * - What is done here is charged to the control group of the submitter; what
 *   belongs to another, as pages that somebody else has dirtied, a worker does.
 * - The stack holds two file systems: below STACK_NEEDED a worker does it.
 * - A frozen file system lets no write in: the worker waits for it.
 * - A limit on the size of the submitter's files is not meant for us.
 *
 * Locks: see settle.c.
 */
#include <linux/ioprio.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "loop-copy.h"

#define STACK_NEEDED 6144

static bool stack_is_deep(void)
{
	unsigned long here = (unsigned long)__builtin_frame_address(0);

	return here - (unsigned long)end_of_stack(current) < STACK_NEEDED;
}

static bool is_inside(const struct loop_copy *lc, const struct request *rq)
{
	return loop_copy_file_holds(&lc->file,
				    (loff_t)blk_rq_pos(rq) << SECTOR_SHIFT,
				    blk_rq_bytes(rq));
}

static bool may_inline(const struct loop_copy *lc, const struct request *rq)
{
	struct bio_list *list = current->bio_list;

	if (!lc->file.nowait)
		return false;
	if (rq->cmd_flags & (REQ_META | REQ_PRIO | REQ_SWAP))
		return false;
	if (current->journal_info ||
	    current->flags & (PF_MEMALLOC | PF_WQ_WORKER))
		return false;
	if (req_op(rq) == REQ_OP_WRITE &&
	    (rlimit(RLIMIT_FSIZE) != RLIM_INFINITY || !is_inside(lc, rq)))
		return false;
	if (list && !(bio_list_empty(&list[0]) && bio_list_empty(&list[1])))
		return false;
	if (compat_plug_holds_others(rq->q) || !blk_copy_is_own(rq->bio))
		return false;
	return !stack_is_deep();
}

static void queue(struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	queue_work(loop_copy_of(rq)->wq, &cmd->work);
}

static loff_t pos_of(struct loop_copy_cmd *cmd)
{
	struct request *rq = blk_mq_rq_from_pdu(cmd);

	return ((loff_t)blk_rq_pos(rq) << SECTOR_SHIFT) + cmd->done;
}

static u64 left_of(struct loop_copy_cmd *cmd)
{
	return blk_rq_bytes(blk_mq_rq_from_pdu(cmd)) - cmd->done;
}

/* By a worker, if there is something left to clean up. */
static void fail(struct loop_copy_cmd *cmd, int err)
{
	struct request *rq = blk_mq_rq_from_pdu(cmd);

	if (req_op(rq) == REQ_OP_WRITE &&
	    loop_copy_leaves(&loop_copy_of(rq)->file, pos_of(cmd),
			     left_of(cmd))) {
		cmd->error = err;
		queue(rq);
	} else {
		blk_mq_end_request(rq, errno_to_blk_status(err));
	}
}

/* Submission and completion are both over: sees what is left to be done. */
static void put_rw(struct loop_copy_cmd *cmd)
{
	struct request *rq = blk_mq_rq_from_pdu(cmd);

	if (!atomic_dec_and_test(&cmd->refs))
		return;
	kfree(cmd->bvec);
	cmd->bvec = NULL;
	if (likely(cmd->ret == left_of(cmd))) {
		blk_mq_end_request(rq, BLK_STS_OK);
		return;
	}
	if (cmd->ret > 0) {
		/* A second try gets the rest, or the reason why not. */
		cmd->done += cmd->ret;
		queue(rq);
	} else if (cmd->iocb.ki_flags & IOCB_NOWAIT) {
		queue(rq);
	} else if (cmd->ret == -EINVAL && cmd->iocb.ki_flags & IOCB_DIRECT) {
		/* Not aligned as direct I/O has it here. */
		cmd->buffered = true;
		queue(rq);
	} else {
		/* Nothing at all is the end of a file that has shrunk. */
		fail(cmd, cmd->ret ?: -EIO);
	}
}

static void rw_ends(struct kiocb *iocb, long ret)
{
	struct loop_copy_cmd *cmd = container_of(iocb, struct loop_copy_cmd,
						 iocb);

	if (cmd->write_begun) {
		cmd->write_begun = false;
		kiocb_end_write(iocb);
	}
	cmd->ret = ret;
	put_rw(cmd);
}

/* The memory of a request as one table. */
static bool get_iter(struct request *rq, struct iov_iter *iter)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	unsigned int dir = req_op(rq) == REQ_OP_WRITE ? ITER_SOURCE : ITER_DEST;
	struct bio *bio = rq->bio;
	struct req_iterator ri;
	struct bio_vec bv, *table;
	unsigned int nr = 0, i = 0;

	rq_for_each_bvec(bv, rq, ri)
		nr++;
	if (bio == rq->biotail) {
		iov_iter_bvec(iter, dir,
			      __bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter),
			      nr, blk_rq_bytes(rq));
		iter->iov_offset = bio->bi_iter.bi_bvec_done;
	} else {
		table = kmalloc_array(nr, sizeof(*table), GFP_NOIO);
		if (!table)
			return false;
		cmd->bvec = table;
		rq_for_each_bvec(bv, rq, ri)
			table[i++] = bv;
		iov_iter_bvec(iter, dir, table, nr, blk_rq_bytes(rq));
	}
	if (cmd->done)
		iov_iter_advance(iter, cmd->done);
	return true;
}

static ssize_t issue(struct request *rq, struct iov_iter *iter)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	struct file *file = cmd->iocb.ki_filp;

	atomic_set(&cmd->refs, 2);
	if (req_op(rq) == REQ_OP_WRITE)
		return file->f_op->write_iter(&cmd->iocb, iter);
	return file->f_op->read_iter(&cmd->iocb, iter);
}

static void issued(struct request *rq, ssize_t ret)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	if (ret != -EIOCBQUEUED)
		rw_ends(&cmd->iocb, ret);
	put_rw(cmd);
}

static void fill_iocb(struct loop_copy *lc, struct request *rq, int flags)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	cmd->iocb = (struct kiocb) {
		.ki_filp = lc->file.data,
		.ki_pos = pos_of(cmd),
		.ki_flags = flags,
		.ki_ioprio = req_get_ioprio(rq),
	};
	/* Without it the call ends when the I/O has ended. */
	if (flags & IOCB_DIRECT)
		cmd->iocb.ki_complete = rw_ends;
	if (req_op(rq) != REQ_OP_WRITE)
		return;
	cmd->iocb.ki_flags |= IOCB_WRITE;
	if (!READ_ONCE(lc->file.written))
		WRITE_ONCE(lc->file.written, true);
}

static bool begin_write(struct loop_copy_cmd *cmd)
{
	struct super_block *sb = file_inode(cmd->iocb.ki_filp)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	/* Another thread will end it: tell lockdep. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	cmd->write_begun = true;
	return true;
}

/**
 * loop_copy_rw_inline() - try a read or write where it arrives
 * @lc: the disk
 * @rq: the request, started
 *
 * Return: whether it is under way, or done; if not, a worker has to do it.
 */
bool loop_copy_rw_inline(struct loop_copy *lc, struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	struct bio_list *bios = current->bio_list;
	struct blk_plug *plug;
	struct iov_iter iter;
	errseq_t since = 0;
	unsigned int noio;
	ssize_t ret;

	if (!may_inline(lc, rq))
		return false;
	if (req_op(rq) == REQ_OP_WRITE)
		since = loop_copy_mark(&lc->file);
	fill_iocb(lc, rq, IOCB_DIRECT | IOCB_NOWAIT);
	if (req_op(rq) == REQ_OP_WRITE && !begin_write(cmd))
		return false;
	if (!get_iter(rq, &iter)) {
		if (cmd->write_begun) {
			cmd->write_begun = false;
			kiocb_end_write(&cmd->iocb);
		}
		return false;
	}
	noio = memalloc_noio_save();
	current->bio_list = NULL;
	plug = compat_take_plug();
	ret = issue(rq, &iter);
	/* A worker settles it. */
	if (ret > 0 && req_op(rq) == REQ_OP_WRITE &&
	    !loop_copy_is_settled(&lc->file, pos_of(cmd), ret, since))
		ret = -EAGAIN;
	current->plug = plug;
	current->bio_list = bios;
	memalloc_noio_restore(noio);
	issued(rq, ret);
	return true;
}

static ssize_t write_settled(struct loop_copy *lc, struct request *rq,
			     struct iov_iter *iter)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	errseq_t since = loop_copy_mark(&lc->file);
	loff_t pos = cmd->iocb.ki_pos;
	u64 len = left_of(cmd);
	ssize_t ret;

	kiocb_start_write(&cmd->iocb);
	cmd->write_begun = true;
	ret = issue(rq, iter);
	/* What is queued may be over, and is past the page cache. */
	if (ret == -EIOCBQUEUED)
		return ret;
	return loop_copy_settle(&lc->file, pos, len, since, ret);
}

/**
 * loop_copy_rw() - do a read or write, which may block
 * @lc: the disk
 * @rq: the request
 *
 * Context: a worker, with memalloc_noio_save().
 */
void loop_copy_rw(struct loop_copy *lc, struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	struct iov_iter iter;

	if (cmd->error) {
		loop_copy_put_back(&lc->file, pos_of(cmd), left_of(cmd));
		blk_mq_end_request(rq, errno_to_blk_status(cmd->error));
		return;
	}
	if (req_op(rq) == REQ_OP_WRITE && !is_inside(lc, rq)) {
		blk_mq_end_request(rq, BLK_STS_IOERR);
		return;
	}
	fill_iocb(lc, rq, lc->file.direct && !cmd->buffered ? IOCB_DIRECT : 0);
	if (cmd->buffered)
		cmd->iocb.ki_filp = lc->file.meta;
	if (!get_iter(rq, &iter)) {
		blk_mq_end_request(rq, BLK_STS_IOERR);
		return;
	}
	issued(rq, req_op(rq) == REQ_OP_WRITE ? write_settled(lc, rq, &iter) :
						issue(rq, &iter));
}
