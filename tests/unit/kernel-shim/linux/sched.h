/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SCHED_H
#define SHIM_SCHED_H

#include <linux/jiffies.h>
#include <linux/shim.h>

#define PF_MEMALLOC_NOIO 1
#define PF_LOCAL_THROTTLE 2

struct task_struct {
	unsigned int flags;
};

struct task_struct *sim_current(void);

#define current sim_current()
#define might_sleep() sim_might_sleep(__func__)

static inline void cond_resched(void)
{
	might_sleep();
	sim_preempt();
}

#endif
