/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a bio goes that is past the gate. Takes no locks; above trial.h and
 * proof.h, which note what goes to the original, and clone.h.
 */
#ifndef BLK_INTERPOSER_FORWARD_H
#define BLK_INTERPOSER_FORWARD_H

#include "pair.h"

void blki_forward(struct blki_pair *pair, struct bio *bio);

#endif
