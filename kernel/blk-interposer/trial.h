/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A first write through a target, before others write. Takes no locks; above
 * pair.h.
 */
#ifndef BLK_INTERPOSER_TRIAL_H
#define BLK_INTERPOSER_TRIAL_H

#include "pair.h"

struct blki_trial *blki_trial_alloc(struct blki_pair *pair,
				    unsigned long timeout);
void blki_trial_free(struct blki_trial *trial);
void blki_trial_note(struct blki_pair *pair, struct bio *bio);
int blki_trial_run(struct blki_trial *trial, struct block_device *target);
bool blki_trial_count(struct blki_pair *pair);
void blki_trial_uncount(struct blki_pair *pair);
void blki_trial_closed(struct blki_pair *pair);

/* A target is tried, or something is left of a trial. */
static inline bool blki_on_trial(struct blki_pair *pair)
{
	return READ_ONCE(pair->trial_state) != BLKI_TRIAL_NONE;
}

#endif
