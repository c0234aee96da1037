// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests. A read or write is tried where it arrives, and done by a worker
 * where it would block, or may not be tried: see try.c of file-io. So are
 * metadata and swap, and what another control group than the submitter's is
 * charged for, as pages that somebody else has dirtied. All else may block.
 *
 * Workers never wait for memory that would have to be freed by writing to a disk
 * of ours. What they do is charged to whom the request belongs to.
 *
 * Takes no locks; file-io does.
 */
#include <linux/blk-cgroup.h>
#include <linux/ioprio.h>
#include <linux/slab.h>

#include "request.h"

static struct loop_copy_queue *loop_copy_queue_of(struct request *rq)
{
	return rq->q->queuedata;
}

static struct file_io *loop_copy_file_of(struct request *rq)
{
	return &loop_copy_queue_of(rq)->backing.file;
}

static void loop_copy_end(struct request *rq, int err)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	kfree(cmd->bvec);
	cmd->bvec = NULL;
	blk_mq_end_request(rq, errno_to_blk_status(err));
}

static void loop_copy_rw_done(struct file_io_req *req, int err)
{
	struct loop_copy_cmd *cmd = container_of(req, struct loop_copy_cmd, io);

	loop_copy_end(blk_mq_rq_from_pdu(cmd), err);
}

static void loop_copy_punt(struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	queue_work(loop_copy_file_of(rq)->wq, &cmd->work);
}

/* The memory of several bios as one table. */
static bool loop_copy_make_table(struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	unsigned int nr = 0, i = 0;
	struct req_iterator ri;
	struct bio_vec bv;

	rq_for_each_bvec(bv, rq, ri)
		nr++;
	cmd->bvec = kmalloc_array(nr, sizeof(*cmd->bvec), GFP_NOIO);
	if (!cmd->bvec)
		return false;
	rq_for_each_bvec(bv, rq, ri)
		cmd->bvec[i++] = bv;
	cmd->io.bv = cmd->bvec;
	cmd->io.part = (struct bvec_iter) { .bi_size = blk_rq_bytes(rq) };
	return true;
}

/* False if there is no memory for the table. */
static bool loop_copy_prepare(struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);
	struct bio *bio = rq->bio;

	if (cmd->prepared)
		return true;
	cmd->io.file = loop_copy_file_of(rq);
	cmd->io.done = loop_copy_rw_done;
	cmd->io.write = req_op(rq) == REQ_OP_WRITE;
	cmd->io.ioprio = req_get_ioprio(rq);
	cmd->io.pos = (loff_t)blk_rq_pos(rq) << SECTOR_SHIFT;
	cmd->io.group = bio_blkcg_css(bio);
	cmd->io.bv = bio->bi_io_vec;
	cmd->io.part = bio->bi_iter;
	cmd->prepared = bio == rq->biotail || loop_copy_make_table(rq);
	return cmd->prepared;
}

/* Submission or completion of a try is over; a worker does what it has not. */
static void loop_copy_tried(struct loop_copy_cmd *cmd)
{
	struct request *rq = blk_mq_rq_from_pdu(cmd);

	if (!atomic_dec_and_test(&cmd->io.refs))
		return;
	if (likely(cmd->io.ret == cmd->io.part.bi_size)) {
		loop_copy_end(rq, 0);
		return;
	}
	if (cmd->io.ret > 0)
		file_io_advance(&cmd->io, cmd->io.ret);
	loop_copy_punt(rq);
}

static void loop_copy_try_ends(struct kiocb *iocb, long ret)
{
	struct loop_copy_cmd *cmd = container_of(iocb, struct loop_copy_cmd,
						 io.iocb);

	file_io_ended(iocb);
	cmd->io.ret = ret;
	loop_copy_tried(cmd);
}

static bool loop_copy_may_try(struct request *rq)
{
	return !(rq->cmd_flags & (REQ_META | REQ_PRIO | REQ_SWAP)) &&
	       file_io_may_try(loop_copy_file_of(rq),
			       req_op(rq) == REQ_OP_WRITE) &&
	       blk_copy_is_own(rq->bio);
}

static void loop_copy_try(struct loop_copy_cmd *cmd)
{
	ssize_t ret;

	cmd->io.iocb = (struct kiocb) {
		.ki_pos = cmd->io.pos,
		.ki_complete = loop_copy_try_ends,
		.ki_ioprio = cmd->io.ioprio,
	};
	atomic_set(&cmd->io.refs, 2);
	ret = file_io_try(cmd->io.file, &cmd->io.iocb, cmd->io.write, cmd->io.bv,
			  &cmd->io.part);
	if (ret != -EIOCBQUEUED)
		loop_copy_try_ends(&cmd->io.iocb, ret);
	loop_copy_tried(cmd);
}

/* By a worker: what could not be done at once, or the rest of it. */
static void loop_copy_rw(struct request *rq)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	if (loop_copy_prepare(rq))
		file_io_submit(&cmd->io);
	else
		loop_copy_end(rq, -EIO);
}

static int loop_copy_flush(struct request *rq)
{
	file_io_touch(loop_copy_file_of(rq));
	return file_io_flush(loop_copy_file_of(rq));
}

static int loop_copy_punch(struct request *rq)
{
	return file_io_punch(loop_copy_file_of(rq),
			     (loff_t)blk_rq_pos(rq) << SECTOR_SHIFT,
			     blk_rq_bytes(rq));
}

static int loop_copy_write_zeroes(struct request *rq)
{
	if (!(rq->cmd_flags & REQ_NOUNMAP))
		return loop_copy_punch(rq);
	return file_io_zero(loop_copy_file_of(rq),
			    (loff_t)blk_rq_pos(rq) << SECTOR_SHIFT,
			    blk_rq_bytes(rq));
}

static void loop_copy_copy_op(struct request *rq)
{
	struct blk_copy_op *op = blk_copy_rq_op(rq);
	struct loop_copy_queue *src = op->src_disk->queue->queuedata;

	op->error = loop_copy_copy(&src->backing,
				   &loop_copy_queue_of(rq)->backing, op);
}

static int loop_copy_handle(struct request *rq)
{
	switch (req_op(rq)) {
	case REQ_OP_FLUSH:
		return loop_copy_flush(rq);
	case REQ_OP_DISCARD:
		return loop_copy_punch(rq);
	case REQ_OP_WRITE_ZEROES:
		return loop_copy_write_zeroes(rq);
	case REQ_OP_DRV_OUT:
		loop_copy_copy_op(rq);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* Whose request it is. A flush that nobody else's data goes with is nobody's. */
static struct cgroup_subsys_state *loop_copy_group_of(struct request *rq)
{
	if (req_op(rq) == REQ_OP_DRV_OUT)
		return blk_copy_rq_op(rq)->group;
	return rq->bio ? bio_blkcg_css(rq->bio) : NULL;
}

static void loop_copy_work(struct work_struct *work)
{
	struct loop_copy_cmd *cmd = container_of(work, struct loop_copy_cmd,
						 work);
	struct request *rq = blk_mq_rq_from_pdu(cmd);
	unsigned int scope = file_io_scope_save();
	struct blk_copy_charge charge;

	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		loop_copy_rw(rq);
		break;
	default:
		blk_copy_charge(&charge, loop_copy_group_of(rq));
		loop_copy_end(rq, loop_copy_handle(rq));
		blk_copy_uncharge(&charge);
	}
	file_io_scope_restore(scope);
}

/*
 * Whoever has claimed it, or writes. An open would tell, but before 6.5 a driver
 * does not learn of those of a partition that is open already.
 */
static void loop_copy_note_use(struct loop_copy_queue *q, struct request *rq)
{
	if (READ_ONCE(q->used))
		return;
	/* A copy is a write without a bio. */
	if (op_is_write(req_op(rq)) ||
	    (rq->bio && READ_ONCE(rq->bio->bi_bdev->bd_holder)))
		WRITE_ONCE(q->used, true);
}

static blk_status_t loop_copy_queue_rq(struct blk_mq_hw_ctx *hctx,
				       const struct blk_mq_queue_data *bd)
{
	struct loop_copy_queue *q = hctx->queue->queuedata;
	struct request *rq = bd->rq;
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	blk_mq_start_request(rq);
	/* The block layer only warns of writes to a read-only disk. */
	if (unlikely(op_is_write(req_op(rq)) &&
		     q->flags & LOOP_COPY_READ_ONLY))
		return BLK_STS_IOERR;
	if (q->flags & LOOP_COPY_AUTOCLEAR)
		loop_copy_note_use(q, rq);
	cmd->prepared = false;
	if ((req_op(rq) == REQ_OP_READ || req_op(rq) == REQ_OP_WRITE) &&
	    loop_copy_may_try(rq) && loop_copy_prepare(rq))
		loop_copy_try(cmd);
	else
		loop_copy_punt(rq);
	return BLK_STS_OK;
}

static int loop_copy_init_request(struct blk_mq_tag_set *set,
				  struct request *rq, unsigned int hctx,
				  unsigned int node)
{
	struct loop_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	INIT_WORK(&cmd->work, loop_copy_work);
	return 0;
}

const struct blk_mq_ops loop_copy_mq_ops = {
	.queue_rq = loop_copy_queue_rq,
	.init_request = loop_copy_init_request,
};
