/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SHRINKER_H
#define SHIM_SHRINKER_H

#include <linux/shim.h>

struct shrink_control {
	unsigned long nr_to_scan;
};

struct shrinker {
	unsigned long (*count_objects)(struct shrinker *s,
				       struct shrink_control *sc);
	unsigned long (*scan_objects)(struct shrinker *s,
				      struct shrink_control *sc);
	struct shrinker *next;
};

#define SHRINK_STOP (~0UL)

int register_shrinker(struct shrinker *s, const char *name);
void unregister_shrinker(struct shrinker *s);

#endif
