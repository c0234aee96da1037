/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Making and removing pairs. Takes pair.lock in a worker; above transition.h and
 * all that a pair consists of.
 */
#ifndef BLK_INTERPOSER_LIFECYCLE_H
#define BLK_INTERPOSER_LIFECYCLE_H

#include "pair.h"

struct blki_pair *blki_create(struct block_device *original,
			      struct blk_interposer_error *error);
int blki_destroy(struct blki_pair *pair, struct blk_interposer_error *error);
void blki_reap_soon(struct blki_pair *pair);

#endif
