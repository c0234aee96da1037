/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is above and below a device. Takes open_mutex of a disk for a moment;
 * above pair.h.
 */
#ifndef BLK_INTERPOSER_STACK_H
#define BLK_INTERPOSER_STACK_H

#include "pair.h"

bool blki_takes_requests(struct block_device *original);
int blki_check_below(struct blki_pair *pair, struct block_device *target,
		     enum blk_interposer_reason *reason);

#endif
