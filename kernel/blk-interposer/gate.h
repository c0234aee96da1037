/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The gate: bios are let through and counted, or parked while it is closed.
 * pair.park_lock is in here, and a leaf. Above forward.h.
 */
#ifndef BLK_INTERPOSER_GATE_H
#define BLK_INTERPOSER_GATE_H

#include "pair.h"

void blki_gate_init(struct blki_pair *pair);
bool blki_gate_admit(struct blki_pair *pair, struct bio *bio);
void blki_gate_prepare(struct blki_pair *pair);
void blki_gate_done(struct blki_pair *pair);
void blki_gate_close(struct blki_pair *pair);
void blki_gate_open(struct blki_pair *pair);

/*
 * Through the gate with a reference to pair.inflight, if it is open and nothing
 * waits there; else see blki_gate_admit().
 */
static inline bool blki_gate_enter(struct blki_pair *pair)
{
	return !READ_ONCE(pair->parking) &&
	       percpu_ref_tryget_live(&pair->inflight);
}

/* A bio that changes what is on a disk, or its zones. */
static inline bool blki_writes(struct bio *bio)
{
	return bio_sectors(bio) ? op_is_write(bio_op(bio)) :
				  op_is_zone_mgmt(bio_op(bio));
}

#endif
