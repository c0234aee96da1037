/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A piece of a copy. Calls file-io and blk-copy, and takes no locks.
 */
#ifndef LOOP_COPY_COPY_H
#define LOOP_COPY_COPY_H

#include "../blk-copy/api.h"
#include "backing.h"

int loop_copy_copy(struct loop_copy_backing *src, struct loop_copy_backing *dst,
		   struct blk_copy_op *op);
void loop_copy_free_spare(struct loop_copy_backing *b);

#endif
