/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Waiting for what the original had in flight before the hook. Takes
 * device-mapper's suspend_lock; above pair.h.
 */
#ifndef BLK_INTERPOSER_QUIESCE_H
#define BLK_INTERPOSER_QUIESCE_H

#include "pair.h"

bool blki_sees_inflight(struct block_device *bdev);
int blki_quiesce_original(struct blki_pair *pair, unsigned long timeout);
int blki_wait_counted(struct blki_pair *pair, unsigned long end);

#endif
