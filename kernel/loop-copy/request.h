/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Requests. Calls copy.c, file-io and blk-copy, and takes no locks.
 */
#ifndef LOOP_COPY_REQUEST_H
#define LOOP_COPY_REQUEST_H

#include <linux/blk-mq.h>

#include "copy.h"

/**
 * struct loop_copy_queue - what requests are for
 *
 * It is the queuedata of the disk's queue.
 */
struct loop_copy_queue {
	/** @backing: what is below */
	struct loop_copy_backing backing;
	/** @flags: LOOP_COPY_* */
	u32 flags;
	/**
	 * @used: somebody has used it, and did not only look; it is never unset
	 */
	bool used;
};

/**
 * struct loop_copy_cmd - beside each request
 */
struct loop_copy_cmd {
	/** @io: its read or write */
	struct file_io_req io;
	/** @work: when it may block */
	struct work_struct work;
	/**
	 * @bvec: its memory, if the request has several bios; NULL: it has not
	 */
	struct bio_vec *bvec;
	/** @prepared: @io is filled in */
	bool prepared;
};

extern const struct blk_mq_ops loop_copy_mq_ops;

#endif
