// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cached blocks of L2 tables and refcount blocks.
 *
 * A block is found in an xarray without a lock. It stays valid for a reader
 * inside rcu_read_lock(), and for longer with a reference. Clean blocks nobody
 * uses are given up in clock order when the limit is reached or memory is
 * short; a dirty block is referenced by its dirty list until a commit has
 * written it.
 *
 * Locks: cache.lock protects the LRU list. Only the lock of an xarray is taken
 * inside it, and it is never taken from interrupts.
 */
#include "meta.h"

#include <linux/slab.h>

/* Blocks that there is always memory for. */
#define POOL_BLOCKS 32

/* No limit is lower. */
#define LEAST_BLOCKS 16

/**
 * qcow2_block_find() - get a cached block
 * @home: where blocks of its kind are
 * @index: its index
 *
 * Return: the block with a reference for the caller, or NULL.
 */
struct qcow2_block *qcow2_block_find(struct xarray *home, u64 index)
{
	struct qcow2_block *b;

	rcu_read_lock();
	b = xa_load(home, index);
	if (b && !refcount_inc_not_zero(&b->refs))
		b = NULL;
	rcu_read_unlock();
	if (b && !test_bit(QCOW2_BLOCK_REFERENCED, &b->flags))
		set_bit(QCOW2_BLOCK_REFERENCED, &b->flags);
	return b;
}

/*
 * Never fails: when memory is short the shrinker and commits give pages back to
 * the pool.
 */
static void *cache_page(struct qcow2_cache *c)
{
	return page_address(mempool_alloc(&c->pages, GFP_NOIO));
}

static void cache_put_page(struct qcow2_cache *c, void *page)
{
	if (page)
		mempool_free(virt_to_page(page), &c->pages);
}

/**
 * qcow2_block_new() - make a block that is not in the cache yet
 * @c: the cache
 * @home: where blocks of its kind are
 * @index: its index
 * @host: its place, or 0
 *
 * Context: a worker; waits for other blocks to go if there is no memory.
 * Return: a block of zeros with a reference for the caller.
 */
struct qcow2_block *qcow2_block_new(struct qcow2_cache *c, struct xarray *home,
				    u64 index, u64 host)
{
	struct qcow2_block *b = mempool_alloc(&c->blocks, GFP_NOIO);

	memset(b, 0, sizeof(*b));
	b->cache = c;
	b->home = home;
	b->data = cache_page(c);
	memset(b->data, 0, QCOW2_BLOCK_SIZE);
	b->index = index;
	b->host = host;
	seqcount_init(&b->pairs);
	refcount_set(&b->refs, 1);
	INIT_LIST_HEAD(&b->lru);
	INIT_LIST_HEAD(&b->dirty);
	INIT_LIST_HEAD(&b->commit);
	return b;
}

/**
 * qcow2_block_destroy() - free a block that nobody can see
 * @b: the block
 */
void qcow2_block_destroy(struct qcow2_block *b)
{
	cache_put_page(b->cache, b->data);
	cache_put_page(b->cache, b->shadow);
	bitmap_free(b->bad);
	mempool_free(b, &b->cache->blocks);
}

static void cache_destroy_rcu(struct rcu_head *rcu)
{
	qcow2_block_destroy(container_of(rcu, struct qcow2_block, rcu));
}

/**
 * qcow2_block_put() - drop a reference
 * @b: the block
 *
 * Context: any.
 */
void qcow2_block_put(struct qcow2_block *b)
{
	if (refcount_dec_and_test(&b->refs))
		call_rcu(&b->rcu, cache_destroy_rcu);
}

/*
 * Gives up to @want blocks to @out. Only blocks that nobody but the cache
 * holds go; looks at each block at most twice.
 */
static u32 cache_evict(struct qcow2_cache *c, u32 want, struct list_head *out)
{
	struct qcow2_block *b;
	u32 looks = min_t(u32, 2 * c->cached, 64 + 2 * want), gone = 0;

	lockdep_assert_held(&c->lock);
	while (looks-- && gone < want && !list_empty(&c->lru)) {
		b = list_first_entry(&c->lru, struct qcow2_block, lru);
		list_move_tail(&b->lru, &c->lru);
		if (test_and_clear_bit(QCOW2_BLOCK_REFERENCED, &b->flags))
			continue;
		if (!refcount_dec_if_one(&b->refs))
			continue;
		/* Somebody may have loaded the same index since it was let go. */
		xa_cmpxchg(b->home, b->index, b, NULL, 0);
		list_move(&b->lru, out);
		c->cached--;
		gone++;
	}
	return gone;
}

static void cache_let_go(struct list_head *list)
{
	struct qcow2_block *b, *next;

	list_for_each_entry_safe(b, next, list, lru)
		call_rcu(&b->rcu, cache_destroy_rcu);
}

/**
 * qcow2_block_insert() - put a block into the cache
 * @b: the block; the caller keeps its reference
 *
 * The caller's lock (l2_lock or alloc.load_lock) keeps others from inserting the
 * same index. Return: 0 or -ENOMEM.
 */
int qcow2_block_insert(struct qcow2_block *b)
{
	struct qcow2_cache *c = b->cache;
	LIST_HEAD(out);
	int r;

	refcount_inc(&b->refs);
	set_bit(QCOW2_BLOCK_REFERENCED, &b->flags);
	r = xa_err(xa_store(b->home, b->index, b, GFP_NOIO));
	if (r) {
		refcount_dec(&b->refs);
		return r;
	}
	spin_lock(&c->lock);
	list_add_tail(&b->lru, &c->lru);
	c->cached++;
	if (c->cached > c->limit)
		cache_evict(c, c->cached - c->limit, &out);
	spin_unlock(&c->lock);
	cache_let_go(&out);
	return 0;
}

/**
 * qcow2_block_prepare() - get ready to change a block
 * @b: a referenced block
 *
 * Makes the copy that a commit will write, so that a commit needs no memory.
 * Context: a worker.
 */
void qcow2_block_prepare(struct qcow2_block *b)
{
	void *page;

	if (READ_ONCE(b->shadow))
		return;
	page = cache_page(b->cache);
	if (cmpxchg(&b->shadow, NULL, page))
		cache_put_page(b->cache, page);
}

static unsigned long cache_shrink_count(struct shrinker *s,
					struct shrink_control *sc)
{
	struct qcow2_cache *c = compat_shrinker_owner(s, struct qcow2_cache,
						      shrinker);

	return READ_ONCE(c->cached);
}

static unsigned long cache_shrink_scan(struct shrinker *s,
				       struct shrink_control *sc)
{
	struct qcow2_cache *c = compat_shrinker_owner(s, struct qcow2_cache,
						      shrinker);
	LIST_HEAD(out);
	u32 gone;

	if (!spin_trylock(&c->lock))
		return SHRINK_STOP;
	gone = cache_evict(c, sc->nr_to_scan, &out);
	spin_unlock(&c->lock);
	cache_let_go(&out);
	return gone ?: SHRINK_STOP;
}

/**
 * qcow2_cache_init() - set up an empty cache
 * @c: zeroed
 * @kib: KiB of metadata to be cached at the most
 *
 * Return: 0 or a negative error; qcow2_cache_exit() is to be called either way.
 */
int qcow2_cache_init(struct qcow2_cache *c, u32 kib)
{
	int r;

	c->limit = max_t(u32, kib >> (QCOW2_BLOCK_BITS - 10), LEAST_BLOCKS);
	spin_lock_init(&c->lock);
	INIT_LIST_HEAD(&c->lru);
	r = mempool_init_kmalloc_pool(&c->blocks, POOL_BLOCKS,
				      sizeof(struct qcow2_block));
	if (!r)
		r = mempool_init_page_pool(&c->pages, 2 * POOL_BLOCKS, 0);
	if (r)
		return r;
	r = compat_shrinker_register(&c->shrinker, cache_shrink_count,
				     cache_shrink_scan, "dm-qcow2");
	c->shrinker_registered = !r;
	return r;
}

/**
 * qcow2_cache_drop() - forget everything
 * @c: the cache; nobody uses a block, and none is dirty
 */
void qcow2_cache_drop(struct qcow2_cache *c)
{
	struct qcow2_block *b, *next;
	LIST_HEAD(all);

	spin_lock(&c->lock);
	list_splice_init(&c->lru, &all);
	c->cached = 0;
	list_for_each_entry(b, &all, lru)
		xa_erase(b->home, b->index);
	spin_unlock(&c->lock);
	list_for_each_entry_safe(b, next, &all, lru)
		qcow2_block_put(b);
}

/**
 * qcow2_cache_exit() - undo qcow2_cache_init()
 * @c: the cache, empty
 */
void qcow2_cache_exit(struct qcow2_cache *c)
{
	if (c->shrinker_registered)
		compat_shrinker_unregister(&c->shrinker);
	c->shrinker_registered = false;
	/* The last blocks go back to the pools after a grace period. */
	rcu_barrier();
	mempool_exit(&c->pages);
	mempool_exit(&c->blocks);
}
