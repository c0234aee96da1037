/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_COMPAT_H
#define SHIM_COMPAT_H

/*
 * In place of kernel/compat/compat.h: force-included before each source of a
 * module. What the real one brings along, and shims of its own.
 */
#include <linux/bitmap.h>
#include <linux/shim.h>
#include <linux/shrinker.h>
#include <linux/unaligned.h>

struct compat_shrinker {
	struct shrinker s;
};

static inline int compat_shrinker_register(struct compat_shrinker *c,
					   unsigned long (*count)(struct shrinker *s,
								  struct shrink_control *sc),
					   unsigned long (*scan)(struct shrinker *s,
								 struct shrink_control *sc),
					   const char *name)
{
	c->s.count_objects = count;
	c->s.scan_objects = scan;
	return register_shrinker(&c->s, name);
}

static inline void compat_shrinker_unregister(struct compat_shrinker *c)
{
	unregister_shrinker(&c->s);
}

#define compat_shrinker_owner(sh, type, member) container_of(sh, type, member.s)

#endif
