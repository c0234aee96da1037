// SPDX-License-Identifier: GPL-2.0-only
/* Memory, counted; pools with a reserve; xarrays. */
#include "internal.h"

#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>

#include <stdlib.h>

char sim_zero_page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static struct shrinker *shrinkers;

static void *memory_get(size_t size, size_t align)
{
	void *p;

	sim_might_sleep("allocation");
	p = align > 1 ? aligned_alloc(align, round_up(size, align)) :
			malloc(size);
	if (!p)
		abort();
	/* Nobody may count on what is in it. */
	memset(p, 0xa5, size);
	sim_alloc_count(1);
	return p;
}

static void memory_put(const void *p)
{
	if (!p)
		return;
	sim_alloc_count(-1);
	free((void *)p);
}

void *kmalloc(size_t size, gfp_t gfp)
{
	(void)gfp;
	return memory_get(size, 1);
}

void *kzalloc(size_t size, gfp_t gfp)
{
	return memset(kmalloc(size, gfp), 0, size);
}

void *kcalloc(size_t n, size_t size, gfp_t gfp)
{
	return kzalloc(n * size, gfp);
}

void kfree(const void *p)
{
	memory_put(p);
}

void *vmalloc(size_t size)
{
	return memory_get(size, PAGE_SIZE);
}

void *vzalloc(size_t size)
{
	return memset(vmalloc(size), 0, size);
}

void vfree(const void *p)
{
	memory_put(p);
}

unsigned long __get_free_page(gfp_t gfp)
{
	(void)gfp;
	return (unsigned long)memory_get(PAGE_SIZE, PAGE_SIZE);
}

unsigned long get_zeroed_page(gfp_t gfp)
{
	unsigned long page = __get_free_page(gfp);

	memset((void *)page, 0, PAGE_SIZE);
	return page;
}

void free_page(unsigned long addr)
{
	memory_put((void *)addr);
}

void sim_memory_reset(void)
{
	shrinkers = NULL;
}

int register_shrinker(struct shrinker *s, const char *name)
{
	(void)name;
	s->next = shrinkers;
	shrinkers = s;
	return 0;
}

void unregister_shrinker(struct shrinker *s)
{
	struct shrinker **at = &shrinkers;

	while (*at && *at != s)
		at = &(*at)->next;
	if (!*at)
		sim_fail("a shrinker is unregistered that is not registered");
	*at = s->next;
}

void sim_shrink(unsigned long nr)
{
	struct shrink_control sc = { .nr_to_scan = nr };
	struct shrinker *s;

	for (s = shrinkers; s; s = s->next)
		if (s->count_objects(s, &sc))
			s->scan_objects(s, &sc);
}

static int mempool_init(mempool_t *pool, int min_nr, size_t size)
{
	pool->size = size;
	pool->min_nr = min_nr;
	pool->nr = min_nr;
	return 0;
}

int mempool_init_kmalloc_pool(mempool_t *pool, int min_nr, size_t size)
{
	return mempool_init(pool, min_nr, size);
}

int mempool_init_page_pool(mempool_t *pool, int min_nr, int order)
{
	return mempool_init(pool, min_nr, PAGE_SIZE << order);
}

void mempool_exit(mempool_t *pool)
{
	if (pool->nr != pool->min_nr)
		sim_fail("%d elements of a mempool are not back at its end",
			 pool->min_nr - pool->nr);
}

static bool mempool_has_some(void *arg)
{
	return ((mempool_t *)arg)->nr > 0;
}

void *mempool_alloc(mempool_t *pool, gfp_t gfp)
{
	(void)gfp;
	sim_might_sleep(__func__);
	if (sim_random(100) < sim_config.memory_short) {
		if (!pool->nr) {
			sim_shrink(64);
			sim_wait(mempool_has_some, pool, "mempool");
		}
		pool->nr--;
	}
	return memory_get(pool->size, pool->size % PAGE_SIZE ? 1 : PAGE_SIZE);
}

void mempool_free(void *element, mempool_t *pool)
{
	memory_put(element);
	if (pool->nr < pool->min_nr)
		pool->nr++;
}

/* The first slot with at least this index. */
static size_t xa_slot_from(const struct xarray *xa, unsigned long index)
{
	size_t lo = 0, hi = xa->nr, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (xa->slots[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void *xa_find_from(const struct xarray *xa, unsigned long *index,
		   unsigned long max)
{
	size_t at = xa_slot_from(xa, *index);

	if (at == xa->nr || xa->slots[at].index > max)
		return NULL;
	*index = xa->slots[at].index;
	return xa->slots[at].entry;
}

void *xa_load(const struct xarray *xa, unsigned long index)
{
	return xa_find_from(xa, &index, index);
}

static void xa_make_room(struct xarray *xa, size_t at)
{
	if (xa->nr == xa->room) {
		sim_alloc_count(!xa->room);
		xa->room = 2 * xa->room + 16;
		xa->slots = realloc(xa->slots, xa->room * sizeof(*xa->slots));
		if (!xa->slots)
			abort();
	}
	memmove(xa->slots + at + 1, xa->slots + at,
		(xa->nr++ - at) * sizeof(*xa->slots));
}

void *xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp)
{
	size_t at = xa_slot_from(xa, index);
	bool known = at < xa->nr && xa->slots[at].index == index;
	void *old = known ? xa->slots[at].entry : NULL;

	(void)gfp;
	if (entry) {
		if (!known)
			xa_make_room(xa, at);
		xa->slots[at] = (struct xa_slot) { index, entry };
	} else if (known) {
		memmove(xa->slots + at, xa->slots + at + 1,
			(--xa->nr - at) * sizeof(*xa->slots));
	}
	if (!xa->nr)
		xa_destroy(xa);
	return old;
}

void xa_destroy(struct xarray *xa)
{
	sim_alloc_count(-!!xa->room);
	free(xa->slots);
	*xa = (struct xarray) {};
}
