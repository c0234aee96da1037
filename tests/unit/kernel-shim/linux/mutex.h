/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_MUTEX_H
#define SHIM_MUTEX_H

#include <linux/spinlock.h>

struct mutex {
	struct sim_lock dep;
};

#define mutex_init(l)							\
do {									\
	static struct sim_class __class = { .name = #l };		\
									\
	sim_lock_init(&(l)->dep, &__class);				\
} while (0)

static inline void mutex_lock(struct mutex *l)
{
	sim_lock_take(&l->dep, true);
}

static inline void mutex_unlock(struct mutex *l)
{
	sim_lock_release(&l->dep, true);
	sim_preempt();
}

#endif
