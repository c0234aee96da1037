/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Waiting for what was submitted before the hook. Takes RCU's lock alone; above
 * pair.h.
 */
#ifndef BLK_INTERPOSER_SETTLE_H
#define BLK_INTERPOSER_SETTLE_H

#include "pair.h"

int blki_settle(struct blki_pair *pair, unsigned long timeout);

#endif
