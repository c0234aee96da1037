/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_INTERVAL_TREE_H
#define SHIM_INTERVAL_TREE_H

/* What overlaps is found by looking at all: the first by where it begins. */
#include <linux/rbtree.h>

#define INTERVAL_TREE_DEFINE(type, rb, itype, sub, START, LAST, scope, prefix) \
scope void prefix##_insert(type *n, struct rb_root_cached *root)	\
{									\
	struct rb_node **at = &root->first;				\
									\
	while (*at && START(container_of(*at, type, rb)) <= START(n))	\
		at = &(*at)->next;					\
	n->sub = LAST(n);						\
	n->rb.next = *at;						\
	*at = &n->rb;							\
}									\
									\
scope void prefix##_remove(type *n, struct rb_root_cached *root)	\
{									\
	struct rb_node **at = &root->first;				\
									\
	while (*at && *at != &n->rb)					\
		at = &(*at)->next;					\
	if (!*at)							\
		sim_fail("an interval is removed that is not there");	\
	*at = n->rb.next;						\
}									\
									\
scope type *prefix##_iter_first(struct rb_root_cached *root, itype start, \
				itype last)				\
{									\
	struct rb_node *p;						\
									\
	for (p = root->first; p; p = p->next) {				\
		type *n = container_of(p, type, rb);			\
									\
		if (START(n) <= last && LAST(n) >= start)		\
			return n;					\
	}								\
	return NULL;							\
}

#endif
