/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_INTERNAL_H
#define SHIM_INTERNAL_H

/* What the sources of the shim know of each other. */
#include <linux/sched.h>
#include <linux/workqueue.h>

#include "sim.h"

#define SIM_HELD 16

/**
 * struct sim_task - a thread, or an interrupt
 * @ts: what current is; first, so that it can be found by it
 */
struct sim_task {
	struct task_struct ts;
	struct sim_lock *held[SIM_HELD];
	unsigned int nr_held;
	unsigned int atomic;
	unsigned int srcu;
	bool irqs_off;
	bool interrupt;
};

extern struct sim_config sim_config;

struct sim_task *sim_task(void);
void sim_alloc_count(long n);
void sim_memory_reset(void);

#endif
