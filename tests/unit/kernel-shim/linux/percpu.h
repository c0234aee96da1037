/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_PERCPU_H
#define SHIM_PERCPU_H

#include <linux/slab.h>

#define alloc_percpu(type) ((type *)kzalloc(sizeof(type), GFP_KERNEL))
#define free_percpu(p) kfree(p)
#define per_cpu_ptr(p, cpu) ((void)(cpu), (p))
#define for_each_possible_cpu(cpu) for ((cpu) = 0; (cpu) < 1; (cpu)++)
#define this_cpu_inc(v) ((void)(v)++)
#define this_cpu_add(v, n) ((void)((v) += (n)))

#endif
