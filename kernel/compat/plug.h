/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the current task has put aside, for file-io. Each shim names the range it
 * is for; see compat.h.
 */
#ifndef LIVEBLK_COMPAT_PLUG_H
#define LIVEBLK_COMPAT_PLUG_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/version.h>

/* Between 6.1 and 6.12 it got a new name: requests got in advance, of one queue. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define compat_plug_cached(plug) rq_list_peek(&(plug)->cached_rq)
#else
#define compat_plug_cached(plug) rq_list_peek(&(plug)->cached_rqs)
#endif

/*
 * Whether the current task has put aside what others than @q wait for: requests,
 * tags, or what md keeps for itself. All kernels.
 */
static inline bool compat_plug_holds_others(struct request_queue *q)
{
	struct blk_plug *plug = current->plug;
	struct request *rq;

	if (!plug)
		return false;
	if (!list_empty(&plug->cb_list))
		return true;
	rq = compat_plug_cached(plug);
	if (rq && rq->q != q)
		return true;
	rq = rq_list_peek(&plug->mq_list);
	return rq && (plug->multiple_queues || rq->q != q);
}

/*
 * Takes the plug of the current task away for a while. From 6.9 on it holds a
 * time, which the scheduler looks for in the plug as long as a flag says so.
 */
static inline struct blk_plug *compat_take_plug(void)
{
	struct blk_plug *plug = current->plug;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	if (plug)
		plug->cur_ktime = 0;
	current->flags &= ~PF_BLOCK_TS;
#endif
	current->plug = NULL;
	return plug;
}

#endif
