/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_ATOMIC_H
#define SHIM_ATOMIC_H

#include <linux/shim.h>

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	s64 counter;
} atomic64_t;

#define atomic_read(v) ((v)->counter)
#define atomic_set(v, i) ((void)((v)->counter = (i)))
#define atomic_inc(v) ((void)(v)->counter++)
#define atomic_inc_return(v) (++(v)->counter)
#define atomic_dec_and_test(v) (--(v)->counter == 0)
#define atomic64_read(v) ((v)->counter)
#define atomic64_inc(v) ((void)(v)->counter++)
#define atomic64_or(i, v) ((void)((v)->counter |= (i)))

#endif
