/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Clones: what goes to an original. Takes no locks; above pair.h.
 */
#ifndef BLK_INTERPOSER_CLONE_H
#define BLK_INTERPOSER_CLONE_H

#include "pair.h"

/* What bio_chain() has a bio end with, which is static in the kernel. */
extern bio_end_io_t *blki_chain_end_io;

void blki_clone_init(void);
bool blki_clone_has_split(struct blki_pair *pair, struct bio *bio);
void blki_clone_end_io(struct bio *clone);
bool blki_clone_send(struct blki_pair *pair, struct bio *bio,
		     bio_end_io_t *end_io);

/* A clone for the original, or what was split from one. */
static inline bool blki_is_clone(struct blki_pair *pair, struct bio *bio)
{
	if (bio->bi_pool == &pair->bs)
		return true;
	if (likely(!bio_flagged(bio, BIO_CLONED)))
		return false;
	return blki_clone_has_split(pair, bio);
}

#endif
