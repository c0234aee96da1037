/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SRCU_H
#define SHIM_SRCU_H

/* An index is of one reader alone, so that it is known whose it is. */
#include <linux/rcupdate.h>

struct srcu_struct {
	unsigned int readers;
};

int init_srcu_struct(struct srcu_struct *s);
void cleanup_srcu_struct(struct srcu_struct *s);
int __srcu_read_lock(struct srcu_struct *s);
void __srcu_read_unlock(struct srcu_struct *s, int idx);
void synchronize_srcu(struct srcu_struct *s);

#define synchronize_srcu_expedited synchronize_srcu

#endif
