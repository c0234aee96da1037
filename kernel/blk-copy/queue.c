// SPDX-License-Identifier: GPL-2.0-only
/*
 * A piece as a request in the queue of the driver that copies it, so that
 * freezing, quiescing and removing the disk work as for any other request.
 * Nobody but that driver ever sees it. And a piece in a worker, for drivers
 * without a queue.
 *
 * Workers of pieces that are handed on have a queue of their own for each
 * level, so that all workers of one level may wait for the next. The queues
 * have no rescuers: what runs there goes into file systems, which wait for
 * workers without one. Nobody frees memory by copying.
 *
 * Takes no locks.
 */
#include <linux/blk-mq.h>
#include <linux/export.h>

#include "blk-copy.h"

static enum rq_end_io_ret blk_copy_piece_ends(struct request *rq,
					      blk_status_t status)
{
	struct blk_copy_op *op = rq->end_io_data;

	if (status && !op->error)
		op->error = blk_status_to_errno(status);
	complete(&op->complete);
	return RQ_END_IO_FREE;
}

static void blk_copy_wait_for_piece(struct blk_copy_op *op)
{
	long left;

	do {
		left = wait_for_completion_killable_timeout(&op->complete,
							    BLK_COPY_POLL);
	} while (!left && !blk_copy_interrupted(op));
	if (left > 0)
		return;
	WRITE_ONCE(op->cancelled, true);
	wait_for_completion_io(&op->complete);
}

/**
 * blk_copy_execute() - send a piece through a queue and wait for it
 * @q: of the disk that it goes to
 * @op: the piece
 *
 * The driver gets a request of type REQ_OP_DRV_OUT, finds @op with
 * blk_copy_rq_op(), sets its done and error and ends the request. It should
 * stop when blk_copy_cancelled() says so.
 *
 * Context: may sleep. Return: 0 or a negative error.
 */
int blk_copy_execute(struct request_queue *q, struct blk_copy_op *op)
{
	struct request *rq = blk_mq_alloc_request(q, REQ_OP_DRV_OUT, 0);

	if (IS_ERR(rq))
		return PTR_ERR(rq);
	op->error = 0;
	init_completion(&op->complete);
	rq->end_io = blk_copy_piece_ends;
	rq->end_io_data = op;
	blk_execute_rq_nowait(rq, false);
	blk_copy_wait_for_piece(op);
	return op->error;
}
EXPORT_SYMBOL_GPL(blk_copy_execute);

static struct workqueue_struct *blk_copy_call_wq[BLK_COPY_MAX_DEPTH];

/**
 * blk_copy_queue_init() - make the queues of workers
 *
 * Return: 0 or a negative error.
 */
int blk_copy_queue_init(void)
{
	unsigned int i;

	for (i = 0; i < BLK_COPY_MAX_DEPTH; i++) {
		blk_copy_call_wq[i] = alloc_workqueue("blk-copy-%u", WQ_UNBOUND,
						      0, i);
		if (!blk_copy_call_wq[i]) {
			blk_copy_queue_exit();
			return -ENOMEM;
		}
	}
	return 0;
}

/**
 * blk_copy_queue_exit() - take away those that there are
 */
void blk_copy_queue_exit(void)
{
	unsigned int i;

	for (i = 0; i < BLK_COPY_MAX_DEPTH && blk_copy_call_wq[i]; i++)
		destroy_workqueue(blk_copy_call_wq[i]);
}

struct blk_copy_work {
	struct work_struct work;
	struct blk_copy_op *op;
	int (*fn)(struct blk_copy_op *op);
};

static void blk_copy_call_work(struct work_struct *work)
{
	struct blk_copy_work *w = container_of(work, struct blk_copy_work, work);
	struct blk_copy_charge charge;

	blk_copy_charge(&charge, w->op->group);
	w->op->error = w->fn(w->op);
	blk_copy_uncharge(&charge);
	complete(&w->op->complete);
}

/**
 * blk_copy_call() - do a piece in a worker and wait for it
 * @op: the piece
 * @fn: does it: sets op->done and returns 0 or a negative error
 *
 * Neither the credentials of the caller nor its limits are in force there. @fn
 * should stop when blk_copy_cancelled() says so.
 *
 * Context: may sleep. Return: what @fn has returned.
 */
int blk_copy_call(struct blk_copy_op *op, int (*fn)(struct blk_copy_op *op))
{
	struct blk_copy_work w = { .op = op, .fn = fn };

	init_completion(&op->complete);
	INIT_WORK_ONSTACK(&w.work, blk_copy_call_work);
	queue_work(blk_copy_call_wq[op->depth], &w.work);
	blk_copy_wait_for_piece(op);
	flush_work(&w.work);
	destroy_work_on_stack(&w.work);
	return op->error;
}
EXPORT_SYMBOL_GPL(blk_copy_call);
