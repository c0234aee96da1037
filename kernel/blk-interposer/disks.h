/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two disks of a pair. Takes no locks of its own; above gate.h and
 * provider.h, and what these stand on.
 */
#ifndef BLK_INTERPOSER_DISKS_H
#define BLK_INTERPOSER_DISKS_H

#include "pair.h"

bool blki_is_own_disk(struct gendisk *disk);
void blki_disks_init(struct blki_pair *pair);
int blki_disks_make(struct blki_pair *pair);
void blki_disks_remove(struct blki_pair *pair);

#endif
