/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The control device. Calls disk.c. Takes loop_copy_entry.lock and xa_lock of the
 * table of disks.
 */
#ifndef LOOP_COPY_CONTROL_H
#define LOOP_COPY_CONTROL_H

int loop_copy_control_init(void);
void loop_copy_control_exit(void);

#endif
