/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SORT_H
#define SHIM_SORT_H

#include <stdlib.h>

static inline void sort(void *base, size_t num, size_t size,
			int (*cmp)(const void *a, const void *b), void *swap)
{
	(void)swap;
	qsort(base, num, size, cmp);
}

#endif
