/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_MEMPOOL_H
#define SHIM_MEMPOOL_H

#include <linux/slab.h>

/**
 * struct mempool_s - memory of last resort
 * @size: bytes of an element
 * @min_nr: elements in reserve
 * @nr: of those, how many there are now
 */
typedef struct mempool_s {
	size_t size;
	int min_nr;
	int nr;
} mempool_t;

int mempool_init_kmalloc_pool(mempool_t *pool, int min_nr, size_t size);
int mempool_init_page_pool(mempool_t *pool, int min_nr, int order);
void mempool_exit(mempool_t *pool);
void *mempool_alloc(mempool_t *pool, gfp_t gfp);
void mempool_free(void *element, mempool_t *pool);

#endif
