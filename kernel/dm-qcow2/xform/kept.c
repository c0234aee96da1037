// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters that were unpacked, kept for those who want another piece. All
 * images together have one limit; what was not used for the longest goes first,
 * and all of it goes when memory is short.
 *
 * One is found in a hash without a lock, by where its compressed form is. It is
 * found while it is loaded already, so that it is loaded once.
 *
 * Lock: kept_lock, a leaf, from processes only.
 */
#include "kept.h"

#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/rculist.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#define KEPT_BYTES SZ_32M
#define KEPT_HASH_BITS 12
/* How many are passed over, at most, in search of one to go. */
#define KEPT_LOOKS 64

static DEFINE_SPINLOCK(kept_lock);
static struct hlist_head kept_hash[1 << KEPT_HASH_BITS];
static LIST_HEAD(kept_lru);
/* Of the data of clusters, also while it is not kept; not of reserves. */
static atomic_long_t kept_bytes;
static struct compat_shrinker kept_shrinker;
static bool kept_shrinker_registered;

static struct hlist_head *kept_home(const struct qcow2_packed *p)
{
	return &kept_hash[hash_64(p->host ^ (unsigned long)p->unpacker,
				  KEPT_HASH_BITS)];
}

static bool kept_is(const struct qcow2_unpacked *c,
		    const struct qcow2_packed *p)
{
	return c->packed.unpacker == p->unpacker && c->packed.host == p->host &&
	       c->packed.len == p->len;
}

/* With a reference more, if the hash still has one. */
static struct qcow2_unpacked *kept_lookup(const struct qcow2_packed *p)
{
	struct qcow2_unpacked *c;

	hlist_for_each_entry_rcu(c, kept_home(p), hash,
				 lockdep_is_held(&kept_lock))
		if (kept_is(c, p) && refcount_inc_not_zero(&c->refs))
			return c;
	return NULL;
}

/**
 * qcow2_kept_find() - find a cluster
 * @p: where it is
 *
 * Context: any. Return: the cluster, loaded or not, with a reference for the
 * caller; or NULL.
 */
struct qcow2_unpacked *qcow2_kept_find(const struct qcow2_packed *p)
{
	struct qcow2_unpacked *c;

	rcu_read_lock();
	c = kept_lookup(p);
	rcu_read_unlock();
	if (c && !READ_ONCE(c->used))
		WRITE_ONCE(c->used, true);
	return c;
}

/**
 * qcow2_kept_insert() - have a cluster found that is about to be loaded
 * @c: the cluster, with one reference, the caller's
 *
 * Return: NULL; or another for the same place, with a reference for the caller.
 */
struct qcow2_unpacked *qcow2_kept_insert(struct qcow2_unpacked *c)
{
	struct qcow2_unpacked *other;

	spin_lock(&kept_lock);
	other = kept_lookup(&c->packed);
	if (!other) {
		refcount_inc(&c->refs);
		hlist_add_head_rcu(&c->hash, kept_home(&c->packed));
	}
	spin_unlock(&kept_lock);
	return other;
}

/* Returns whether the hash had it, whose reference is the caller's now. */
static bool kept_unhash(struct qcow2_unpacked *c)
{
	lockdep_assert_held(&kept_lock);
	if (hlist_unhashed(&c->hash))
		return false;
	hlist_del_init_rcu(&c->hash);
	list_del_init(&c->lru);
	return true;
}

/**
 * qcow2_kept_remove() - have a cluster found no more
 * @c: the cluster, to which the caller has a reference
 */
void qcow2_kept_remove(struct qcow2_unpacked *c)
{
	bool had;

	spin_lock(&kept_lock);
	had = kept_unhash(c);
	spin_unlock(&kept_lock);
	if (had)
		qcow2_kept_put(c);
}

/**
 * qcow2_kept_loaded() - tell those who wait for a cluster how it went
 * @c: the cluster, to which the caller has a reference
 * @state: 0 or a negative error
 */
void qcow2_kept_loaded(struct qcow2_unpacked *c, int state)
{
	/* Pairs with smp_load_acquire() in qcow2_unpack_at_once(). */
	smp_store_release(&c->state, state);
	complete_all(&c->loaded);
	/* After an error it is tried again. */
	if (state) {
		qcow2_kept_remove(c);
		return;
	}
	spin_lock(&kept_lock);
	if (!hlist_unhashed(&c->hash))
		list_add_tail(&c->lru, &kept_lru);
	spin_unlock(&kept_lock);
}

static void kept_free_rcu(struct rcu_head *rcu)
{
	struct qcow2_unpacked *c = container_of(rcu, struct qcow2_unpacked,
						rcu);

	qcow2_kept_free(c->data, c->size);
	kfree(c);
}

/**
 * qcow2_kept_put() - drop a reference
 * @c: the cluster
 *
 * Context: any.
 */
void qcow2_kept_put(struct qcow2_unpacked *c)
{
	if (!refcount_dec_and_test(&c->refs))
		return;
	/* Never in the hash, so that nobody looks at it any more. */
	if (c->reserved)
		qcow2_unpacker_give_back(c->packed.unpacker);
	else
		call_rcu(&c->rcu, kept_free_rcu);
}

/* Whether the first of the LRU goes, which nobody can get hold of any more then. */
static bool kept_evict_first(struct qcow2_unpacked *c, bool spare)
{
	lockdep_assert_held(&kept_lock);
	if (spare && READ_ONCE(c->used))
		WRITE_ONCE(c->used, false);
	else if (refcount_dec_if_one(&c->refs))
		return kept_unhash(c);
	list_move_tail(&c->lru, &kept_lru);
	return false;
}

/* The next to go; NULL if those that were looked at are in use. */
static struct qcow2_unpacked *kept_evict(void)
{
	struct qcow2_unpacked *c = NULL;
	int looks;

	spin_lock(&kept_lock);
	for (looks = KEPT_LOOKS; looks; looks--) {
		c = list_first_entry_or_null(&kept_lru, struct qcow2_unpacked,
					     lru);
		if (!c || kept_evict_first(c, looks > 1))
			break;
		c = NULL;
	}
	spin_unlock(&kept_lock);
	return c;
}

/* Frees what was evicted, and its data unless that is of the size wanted. */
static void *kept_reuse(struct qcow2_unpacked *c, u32 size)
{
	void *data = c->data;

	if (c->size != size) {
		qcow2_kept_free(data, c->size);
		data = NULL;
	}
	kfree_rcu(c, rcu);
	return data;
}

/**
 * qcow2_kept_alloc() - get memory for the data of a cluster
 * @size: bytes
 *
 * Others make room for it. Context: a worker.
 * Return: whole pages, or NULL.
 */
void *qcow2_kept_alloc(u32 size)
{
	gfp_t gfp = GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN;
	struct qcow2_unpacked *c;
	void *data = NULL;

	/* Back to the limit, if those that were in use at once went beyond it. */
	while (atomic_long_read(&kept_bytes) + (data ? 0 : size) > KEPT_BYTES) {
		c = kept_evict();
		if (!c)
			break;
		qcow2_kept_free(data, size);
		data = kept_reuse(c, size);
	}
	if (data)
		return data;
	data = kvmalloc(size, gfp);
	if (data)
		atomic_long_add(size, &kept_bytes);
	while (!data && (c = kept_evict()))
		data = kept_reuse(c, size);
	return data;
}

/**
 * qcow2_kept_free() - undo qcow2_kept_alloc()
 * @data: the memory, or NULL
 * @size: bytes
 *
 * Context: a process that may sleep, or a softirq.
 */
void qcow2_kept_free(void *data, u32 size)
{
	if (!data)
		return;
	kvfree(data);
	atomic_long_sub(size, &kept_bytes);
}

/**
 * qcow2_kept_drop() - forget all clusters of an image
 * @u: its unpacker; nobody uses it
 */
void qcow2_kept_drop(const struct qcow2_unpacker *u)
{
	struct qcow2_unpacked *c, *next;
	LIST_HEAD(gone);

	spin_lock(&kept_lock);
	list_for_each_entry_safe(c, next, &kept_lru, lru) {
		if (c->packed.unpacker != u)
			continue;
		hlist_del_init_rcu(&c->hash);
		list_move(&c->lru, &gone);
	}
	spin_unlock(&kept_lock);
	list_for_each_entry_safe(c, next, &gone, lru)
		qcow2_kept_put(c);
}

static unsigned long kept_shrink_count(struct shrinker *s,
				       struct shrink_control *sc)
{
	return atomic_long_read(&kept_bytes) >> PAGE_SHIFT;
}

static unsigned long kept_shrink_scan(struct shrinker *s,
				      struct shrink_control *sc)
{
	unsigned long gone = 0;
	struct qcow2_unpacked *c;

	while (gone < sc->nr_to_scan) {
		c = kept_evict();
		if (!c)
			break;
		gone += c->size >> PAGE_SHIFT;
		kept_reuse(c, 0);
	}
	return gone ?: SHRINK_STOP;
}

/**
 * qcow2_kept_init() - get ready to keep clusters
 *
 * Return: 0 or a negative error; qcow2_kept_exit() is to be called either way.
 */
int qcow2_kept_init(void)
{
	int r = compat_shrinker_register(&kept_shrinker, kept_shrink_count,
					 kept_shrink_scan, "dm-qcow2-unpacked");

	kept_shrinker_registered = !r;
	return r;
}

/**
 * qcow2_kept_exit() - undo qcow2_kept_init(), whole or not done
 *
 * Nothing is kept any more; what is on its way to be freed is waited for by
 * rcu_barrier() at the module's end.
 */
void qcow2_kept_exit(void)
{
	if (kept_shrinker_registered)
		compat_shrinker_unregister(&kept_shrinker);
	kept_shrinker_registered = false;
}
