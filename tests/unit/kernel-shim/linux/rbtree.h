/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_RBTREE_H
#define SHIM_RBTREE_H

/* A list; interval_tree_generic.h is all that uses it. */
#include <linux/shim.h>

struct rb_node {
	struct rb_node *next;
};

struct rb_root_cached {
	struct rb_node *first;
};

#define RB_ROOT_CACHED ((struct rb_root_cached) { NULL })

#endif
