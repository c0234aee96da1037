/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A disk. Calls request.c, copy.c, backing.c, file-io and blk-copy. Takes
 * gendisk.open_mutex.
 */
#ifndef LOOP_COPY_DISK_H
#define LOOP_COPY_DISK_H

#include "request.h"

/**
 * struct loop_copy - a disk
 */
struct loop_copy {
	/** @queue: its queue */
	struct loop_copy_queue queue;
	/** @number: n of loopcn */
	u32 number;
	/** @tag_set: requests of the queue */
	struct blk_mq_tag_set tag_set;
	/** @provider: at blk-copy */
	struct blk_copy_provider *provider;
	/** @closed: it cannot be opened any more; under disk->open_mutex */
	bool closed;
	/**
	 * @gone: who made it sets it: called when it has closed by itself,
	 * under disk->open_mutex, and has it removed
	 */
	void (*gone)(struct loop_copy *lc);
};

int loop_copy_create(struct loop_copy *lc, const struct loop_copy_attach *call);
int loop_copy_close_for_good(struct loop_copy *lc);
void loop_copy_remove(struct loop_copy *lc);
void loop_copy_close_file(struct loop_copy *lc);
int loop_copy_resize(struct loop_copy *lc);

#endif
