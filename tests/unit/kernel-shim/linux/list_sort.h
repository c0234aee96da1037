/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_LIST_SORT_H
#define SHIM_LIST_SORT_H

#include <linux/list.h>

/* Stable, as the kernel's: by insertion, for short lists. */
static inline void list_sort(void *priv, struct list_head *head,
			     int (*cmp)(void *priv, const struct list_head *a,
					const struct list_head *b))
{
	struct list_head *p, *next, *at;

	for (p = head->next; p != head; p = next) {
		next = p->next;
		for (at = p->prev; at != head && cmp(priv, at, p) > 0;
		     at = at->prev)
			;
		if (at == p->prev)
			continue;
		list_join(p->prev, p->next);
		list_add(p, at);
	}
}

#endif
