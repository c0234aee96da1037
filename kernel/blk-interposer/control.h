/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The control device. Takes pair.lock, and blki_owned_lock inside of it; above
 * lifecycle.h and transition.h.
 */
#ifndef BLK_INTERPOSER_CONTROL_H
#define BLK_INTERPOSER_CONTROL_H

int blki_control_init(void);
void blki_control_exit(void);

#endif
