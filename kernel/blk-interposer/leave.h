/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * No longer redirecting, and waiting for what was. Its worker takes pair.lock;
 * above hook.h.
 */
#ifndef BLK_INTERPOSER_LEAVE_H
#define BLK_INTERPOSER_LEAVE_H

#include "pair.h"

void blki_leave_init(struct blki_pair *pair);
void blki_leave(struct blki_pair *pair, unsigned long timeout);

#endif
