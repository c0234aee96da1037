/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ftrace callback that redirects bios. blki_hook_lock is in here, inside of
 * pair.lock. Above gate.h, context.h and clone.h.
 */
#ifndef BLK_INTERPOSER_HOOK_H
#define BLK_INTERPOSER_HOOK_H

#include "pair.h"

int blki_hook_init(void);
void blki_hook_exit(void);
int blki_hook_add(struct blki_pair *pair);
void blki_hook_remove(struct blki_pair *pair);

#endif
