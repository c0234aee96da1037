/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A read of our own that the hook has to see. Takes no locks; above pair.h.
 */
#ifndef BLK_INTERPOSER_PROOF_H
#define BLK_INTERPOSER_PROOF_H

#include "pair.h"

void blki_proof_arrived(struct blki_context *ctx);
void blki_proof_exit(void);
int blki_prove(struct blki_pair *pair);

#endif
