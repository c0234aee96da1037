/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The lower disk as a provider of copies. Takes no locks; above trial.h.
 */
#ifndef BLK_INTERPOSER_PROVIDER_H
#define BLK_INTERPOSER_PROVIDER_H

#include "pair.h"

int blki_provider_register(struct blki_pair *pair);
void blki_provider_unregister(struct blki_pair *pair);

#endif
