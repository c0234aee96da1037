/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_REFCOUNT_H
#define SHIM_REFCOUNT_H

/* As the kernel's, which warns of what fails here. */
#include <linux/shim.h>

typedef struct {
	int refs;
} refcount_t;

static inline void refcount_set(refcount_t *r, int n)
{
	r->refs = n;
}

static inline bool refcount_inc_not_zero(refcount_t *r)
{
	return r->refs ? r->refs++ : 0;
}

static inline void refcount_inc(refcount_t *r)
{
	if (!refcount_inc_not_zero(r))
		sim_fail("a reference is taken to what has none left");
}

static inline bool refcount_dec_and_test(refcount_t *r)
{
	if (r->refs <= 0)
		sim_fail("a reference is dropped that nobody has");
	return --r->refs == 0;
}

static inline void refcount_dec(refcount_t *r)
{
	if (refcount_dec_and_test(r))
		sim_fail("the last reference is dropped by refcount_dec()");
}

static inline bool refcount_dec_if_one(refcount_t *r)
{
	if (r->refs != 1)
		return false;
	r->refs = 0;
	return true;
}

#endif
