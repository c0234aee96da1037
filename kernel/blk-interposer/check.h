/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a target may be attached. Takes no locks; above disks.h, stack.h and
 * quiesce.h.
 */
#ifndef BLK_INTERPOSER_CHECK_H
#define BLK_INTERPOSER_CHECK_H

#include "pair.h"

int blki_check(struct blki_pair *pair, struct block_device *target,
	       struct blk_interposer_error *error);

#endif
