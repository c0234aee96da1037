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
 * Locks: image.cache_lock protects the LRU list. Only the lock of an xarray is
 * taken inside it, and it is never taken from interrupts.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>

/* Blocks that there is always memory for. */
#define POOL_BLOCKS 32

static u32 cache_limit_blocks(const struct qcow2_image *q)
{
	return max_t(u32, q->cache_limit >> (QCOW2_BLOCK_BITS - 10), 16);
}

/**
 * qcow2_block_find() - get a cached block
 * @xa: image.l2_blocks or image.ref_blocks
 * @index: its index
 *
 * Return: the block with a reference for the caller, or NULL.
 */
struct qcow2_block *qcow2_block_find(struct xarray *xa, u64 index)
{
	struct qcow2_block *b;

	rcu_read_lock();
	b = xa_load(xa, index);
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
static void *new_page(struct qcow2_image *q)
{
	return page_address(mempool_alloc(&q->pages, GFP_NOIO));
}

static void put_page_of(struct qcow2_image *q, void *page)
{
	if (page)
		mempool_free(virt_to_page(page), &q->pages);
}

/**
 * qcow2_block_new() - make a block that is not in the cache yet
 * @q: the image
 * @index: its index
 * @host: its place, or 0
 *
 * Context: a worker; waits for other blocks to go if there is no memory.
 * Return: a block of zeros with a reference for the caller.
 */
struct qcow2_block *qcow2_block_new(struct qcow2_image *q, u64 index, u64 host)
{
	struct qcow2_block *b = mempool_alloc(&q->blocks, GFP_NOIO);

	memset(b, 0, sizeof(*b));
	b->image = q;
	b->data = new_page(q);
	memset(b->data, 0, QCOW2_BLOCK_SIZE);
	b->index = index;
	b->host = host;
	refcount_set(&b->refs, 1);
	INIT_LIST_HEAD(&b->lru);
	INIT_LIST_HEAD(&b->dirty);
	INIT_LIST_HEAD(&b->commit);
	return b;
}

/**
 * qcow2_block_free() - free a block that nobody can see
 * @b: the block
 */
void qcow2_block_free(struct qcow2_block *b)
{
	put_page_of(b->image, b->data);
	put_page_of(b->image, b->shadow);
	bitmap_free(b->bad);
	mempool_free(b, &b->image->blocks);
}

static void block_free_rcu(struct rcu_head *rcu)
{
	qcow2_block_free(container_of(rcu, struct qcow2_block, rcu));
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
		call_rcu(&b->rcu, block_free_rcu);
}

static struct xarray *block_home(struct qcow2_image *q, struct qcow2_block *b)
{
	return test_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags) ? &q->ref_blocks :
							    &q->l2_blocks;
}

/*
 * Gives up to @want blocks to @out. Only blocks that nobody but the cache
 * holds go; looks at each block at most twice.
 */
static u32 evict(struct qcow2_image *q, u32 want, struct list_head *out)
{
	struct qcow2_block *b;
	u32 looks = min_t(u32, 2 * q->cached, 64 + 2 * want), gone = 0;

	lockdep_assert_held(&q->cache_lock);
	while (looks-- && gone < want && !list_empty(&q->lru)) {
		b = list_first_entry(&q->lru, struct qcow2_block, lru);
		list_move_tail(&b->lru, &q->lru);
		if (test_and_clear_bit(QCOW2_BLOCK_REFERENCED, &b->flags))
			continue;
		if (!refcount_dec_if_one(&b->refs))
			continue;
		/* Somebody may have loaded the same index since it was let go. */
		xa_cmpxchg(block_home(q, b), b->index, b, NULL, 0);
		list_move(&b->lru, out);
		q->cached--;
		gone++;
	}
	return gone;
}

static void free_evicted(struct list_head *list)
{
	struct qcow2_block *b, *next;

	list_for_each_entry_safe(b, next, list, lru)
		call_rcu(&b->rcu, block_free_rcu);
}

/**
 * qcow2_block_insert() - put a block into the cache
 * @q: the image
 * @xa: image.l2_blocks or image.ref_blocks
 * @b: the block; the caller keeps its reference
 *
 * The caller's lock (l2_lock or alloc_lock) keeps others from inserting the
 * same index. Return: 0 or -ENOMEM.
 */
int qcow2_block_insert(struct qcow2_image *q, struct xarray *xa,
		       struct qcow2_block *b)
{
	LIST_HEAD(out);
	int r;

	refcount_inc(&b->refs);
	set_bit(QCOW2_BLOCK_REFERENCED, &b->flags);
	r = xa_err(xa_store(xa, b->index, b, GFP_NOIO));
	if (r) {
		refcount_dec(&b->refs);
		return r;
	}
	spin_lock(&q->cache_lock);
	list_add_tail(&b->lru, &q->lru);
	q->cached++;
	if (q->cached > cache_limit_blocks(q))
		evict(q, q->cached - cache_limit_blocks(q), &out);
	spin_unlock(&q->cache_lock);
	free_evicted(&out);
	return 0;
}

/**
 * qcow2_block_prepare() - get ready to change a block
 * @q: the image
 * @b: a referenced block
 *
 * Makes the copy that a commit will write, so that a commit needs no memory.
 * Context: a worker.
 */
void qcow2_block_prepare(struct qcow2_image *q, struct qcow2_block *b)
{
	void *page;

	if (READ_ONCE(b->shadow))
		return;
	page = new_page(q);
	if (cmpxchg(&b->shadow, NULL, page))
		put_page_of(q, page);
}

/**
 * qcow2_block_dirty() - note that a block differs from the disk
 * @q: the image
 * @b: a referenced and prepared block, which the caller changes under the
 *	same hold of md_lock
 */
void qcow2_block_dirty(struct qcow2_image *q, struct qcow2_block *b)
{
	lockdep_assert_held(&q->md_lock);
	if (test_and_set_bit(QCOW2_BLOCK_DIRTY, &b->flags))
		return;
	refcount_inc(&b->refs);
	list_add_tail(&b->dirty, test_bit(QCOW2_BLOCK_REFCOUNTS, &b->flags) ?
		      &q->dirty_refs : &q->dirty_l2);
	q->nr_dirty++;
}

static unsigned long shrink_count(struct shrinker *s, struct shrink_control *sc)
{
	struct qcow2_image *q = compat_shrinker_owner(s, struct qcow2_image,
						      shrinker);

	return READ_ONCE(q->cached);
}

static unsigned long shrink_scan(struct shrinker *s, struct shrink_control *sc)
{
	struct qcow2_image *q = compat_shrinker_owner(s, struct qcow2_image,
						      shrinker);
	LIST_HEAD(out);
	u32 gone;

	if (!spin_trylock(&q->cache_lock))
		return SHRINK_STOP;
	gone = evict(q, sc->nr_to_scan, &out);
	spin_unlock(&q->cache_lock);
	free_evicted(&out);
	return gone ?: SHRINK_STOP;
}

/**
 * qcow2_cache_init() - set up an empty cache
 * @q: the image
 *
 * Return: 0 or a negative error.
 */
int qcow2_cache_init(struct qcow2_image *q)
{
	int i, r;

	r = mempool_init_kmalloc_pool(&q->blocks, POOL_BLOCKS,
				      sizeof(struct qcow2_block));
	if (!r)
		r = mempool_init_page_pool(&q->pages, 2 * POOL_BLOCKS, 0);
	if (r)
		return r;
	xa_init(&q->l2_blocks);
	xa_init(&q->ref_blocks);
	spin_lock_init(&q->cache_lock);
	INIT_LIST_HEAD(&q->lru);
	for (i = 0; i < QCOW2_L2_LOCKS; i++)
		mutex_init(&q->l2_lock[i]);
	r = compat_shrinker_register(&q->shrinker, shrink_count, shrink_scan,
				     "dm-qcow2");
	q->shrinker_registered = !r;
	return r;
}

/**
 * qcow2_cache_drop() - forget everything
 * @q: the image; no I/O is under way
 *
 * Dirty blocks that could not be written are lost; the caller has said so.
 */
void qcow2_cache_drop(struct qcow2_image *q)
{
	struct qcow2_block *b, *next;
	LIST_HEAD(dirty);
	LIST_HEAD(all);

	spin_lock_irq(&q->md_lock);
	list_splice_init(&q->dirty_l2, &dirty);
	list_splice_init(&q->dirty_refs, &dirty);
	q->nr_dirty = 0;
	spin_unlock_irq(&q->md_lock);
	list_for_each_entry_safe(b, next, &dirty, dirty) {
		list_del_init(&b->dirty);
		qcow2_block_put(b);
	}
	spin_lock(&q->cache_lock);
	list_splice_init(&q->lru, &all);
	q->cached = 0;
	list_for_each_entry(b, &all, lru)
		xa_erase(block_home(q, b), b->index);
	spin_unlock(&q->cache_lock);
	list_for_each_entry_safe(b, next, &all, lru)
		qcow2_block_put(b);
}

/**
 * qcow2_cache_exit() - undo qcow2_cache_init()
 * @q: the image, stopped
 */
void qcow2_cache_exit(struct qcow2_image *q)
{
	if (q->shrinker_registered)
		compat_shrinker_unregister(&q->shrinker);
	q->shrinker_registered = false;
	xa_destroy(&q->l2_blocks);
	xa_destroy(&q->ref_blocks);
	/* The last blocks go back to the pools after a grace period. */
	rcu_barrier();
	mempool_exit(&q->pages);
	mempool_exit(&q->blocks);
}
