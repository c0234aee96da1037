/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Redirected bios and their end. Takes no locks; above clone.h, which knows
 * what a chain is.
 */
#ifndef BLK_INTERPOSER_CONTEXT_H
#define BLK_INTERPOSER_CONTEXT_H

#include "pair.h"

void blki_context_attach(struct blki_pair *pair, struct bio *bio,
			 struct block_device *bdev, struct blki_context *ctx);
struct blki_context *blki_context_of(struct blki_pair *pair, struct bio *bio);

#endif
