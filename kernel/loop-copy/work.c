// SPDX-License-Identifier: GPL-2.0-only
/*
 * What may block: flush, discard, zeroes, copies, and reads and writes that
 * could not be done at once. Workers never wait for memory that would have to be
 * freed by writing to a disk of ours.
 *
 * Locks: see settle.c.
 */
#include <linux/blk-cgroup.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/sched/mm.h>

#include "loop-copy.h"

static int flush(struct loop_copy *lc)
{
	loop_copy_file_touch(&lc->file);
	return vfs_fsync_range(lc->file.meta, 0, LLONG_MAX, 1);
}

static int allocate(struct loop_copy *lc, struct request *rq, int mode)
{
	loff_t pos = (loff_t)blk_rq_pos(rq) << SECTOR_SHIFT;
	errseq_t since = loop_copy_mark(&lc->file);
	unsigned int len = blk_rq_bytes(rq);
	int err;

	if (!loop_copy_file_holds(&lc->file, pos, len))
		return -EIO;
	err = vfs_fallocate(lc->file.meta, mode | FALLOC_FL_KEEP_SIZE, pos, len);
	/* Parts of blocks are written. */
	return loop_copy_settle(&lc->file, pos, len, since, err);
}

static int write_zeroes(struct loop_copy *lc, struct request *rq)
{
	if (rq->cmd_flags & REQ_NOUNMAP)
		return allocate(lc, rq, FALLOC_FL_ZERO_RANGE);
	return allocate(lc, rq, FALLOC_FL_PUNCH_HOLE);
}

static int handle(struct loop_copy *lc, struct request *rq)
{
	struct blk_copy_op *op;

	switch (req_op(rq)) {
	case REQ_OP_FLUSH:
		return flush(lc);
	case REQ_OP_DISCARD:
		return allocate(lc, rq, FALLOC_FL_PUNCH_HOLE);
	case REQ_OP_WRITE_ZEROES:
		return write_zeroes(lc, rq);
	case REQ_OP_DRV_OUT:
		op = blk_copy_rq_op(rq);
		op->error = loop_copy_copy(lc, op);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* Whose request it is. A flush that nobody else's data goes with is nobody's. */
static struct cgroup_subsys_state *group_of(struct request *rq)
{
	if (req_op(rq) == REQ_OP_DRV_OUT)
		return blk_copy_rq_op(rq)->group;
	return rq->bio ? bio_blkcg_css(rq->bio) : NULL;
}

/**
 * loop_copy_work() - do what may block
 * @work: of the request
 */
void loop_copy_work(struct work_struct *work)
{
	struct loop_copy_cmd *cmd = container_of(work, struct loop_copy_cmd,
						 work);
	struct request *rq = blk_mq_rq_from_pdu(cmd);
	unsigned int flags = current->flags & PF_LOCAL_THROTTLE;
	struct loop_copy *lc = loop_copy_of(rq);
	unsigned int noio = memalloc_noio_save();
	struct blk_copy_charge charge;

	blk_copy_charge(&charge, group_of(rq));
	/* Writers to us must not be throttled for what others have dirtied. */
	current->flags |= PF_LOCAL_THROTTLE;
	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		loop_copy_rw(lc, rq);
		break;
	default:
		blk_mq_end_request(rq, errno_to_blk_status(handle(lc, rq)));
		break;
	}
	blk_copy_uncharge(&charge);
	current->flags = (current->flags & ~PF_LOCAL_THROTTLE) | flags;
	memalloc_noio_restore(noio);
}
