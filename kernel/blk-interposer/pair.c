// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pair as an object: its references, pools and counters; and the list of pairs.
 *
 * Locks: blki_pairs_lock for the lists. It is held for no longer than it takes to
 * go through them: to open a disk or to add one may take as long as that disk does
 * not answer.
 */
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "pair.h"

#define BLKI_MIN_CONTEXTS	64
#define BLKI_MIN_CLONES		64

static DEFINE_MUTEX(blki_pairs_lock);
static LIST_HEAD(blki_pairs);
/* Not found by anybody yet, but in the way of another pair for the same disk. */
static LIST_HEAD(blki_making);
static u32 blki_last_id;
static atomic_t blki_alive = ATOMIC_INIT(0);
static struct kmem_cache *blki_context_cache;

/* Waits for what may take as long as a disk does not answer. */
struct workqueue_struct *blki_reap_wq;
/* Sends on what was parked; reclaim may wait for that. */
struct workqueue_struct *blki_io_wq;

static void blki_users_zero(struct percpu_ref *ref)
{
	wake_up_all(&container_of(ref, struct blki_pair, users)->wait);
}

static void blki_inflight_zero(struct percpu_ref *ref)
{
	wake_up_all(&container_of(ref, struct blki_pair, inflight)->wait);
}

/* The pools and references of a pair; after an error nothing is left behind. */
static int blki_init_counts(struct blki_pair *pair)
{
	init_waitqueue_head(&pair->wait);
	atomic_set(&pair->below, 1);
	if (bioset_init(&pair->bs, BLKI_MIN_CLONES, 0, 0))
		return -ENOMEM;
	if (mempool_init_slab_pool(&pair->contexts, BLKI_MIN_CONTEXTS,
				   blki_context_cache))
		goto no_contexts;
	if (percpu_ref_init(&pair->users, blki_users_zero,
			    PERCPU_REF_INIT_DEAD, GFP_KERNEL))
		goto no_users;
	if (percpu_ref_init(&pair->inflight, blki_inflight_zero,
			    PERCPU_REF_ALLOW_REINIT, GFP_KERNEL))
		goto no_inflight;
	return 0;

no_inflight:
	percpu_ref_exit(&pair->users);
no_users:
	mempool_exit(&pair->contexts);
no_contexts:
	bioset_exit(&pair->bs);
	return -ENOMEM;
}

/* Nobody sends anything to its disks. */
static void blki_exit_counts(struct blki_pair *pair)
{
	percpu_ref_exit(&pair->inflight);
	percpu_ref_exit(&pair->users);
	mempool_exit(&pair->contexts);
	bioset_exit(&pair->bs);
}

static void blki_release(struct kref *kref)
{
	struct blki_pair *pair = container_of(kref, struct blki_pair, kref);

	blki_exit_counts(pair);
	free_percpu(pair->redirected);
	if (pair->original.bdev)
		compat_bdev_close(&pair->original);
	kfree(pair);
	if (atomic_dec_and_test(&blki_alive))
		wake_up_var(&blki_alive);
}

/**
 * blki_put() - Give a reference to a pair back.
 * @pair: the pair
 *
 * Context: may sleep.
 */
void blki_put(struct blki_pair *pair)
{
	kref_put(&pair->kref, blki_release);
}

/**
 * blki_pair_alloc() - Make a pair that nobody finds yet.
 *
 * Return: the pair with a reference, and with its pools and counters; or NULL.
 */
struct blki_pair *blki_pair_alloc(void)
{
	struct blki_pair *pair = kzalloc(sizeof(*pair), GFP_KERNEL);

	if (!pair)
		return NULL;
	kref_init(&pair->kref);
	mutex_init(&pair->lock);
	INIT_LIST_HEAD(&pair->owned);
	pair->redirected = alloc_percpu(u64);
	if (!pair->redirected)
		goto no_counter;
	if (blki_init_counts(pair))
		goto no_counts;
	atomic_inc(&blki_alive);
	return pair;

no_counts:
	free_percpu(pair->redirected);
no_counter:
	kfree(pair);
	return NULL;
}

/**
 * blki_get() - Find a pair.
 * @id: its id
 * @next: the first with a greater id instead
 *
 * Return: the pair with a reference, or NULL.
 */
struct blki_pair *blki_get(u32 id, bool next)
{
	struct blki_pair *pair, *found = NULL;

	mutex_lock(&blki_pairs_lock);
	list_for_each_entry(pair, &blki_pairs, node)
		if (next ? pair->id > id && (!found || pair->id < found->id) :
			   pair->id == id)
			found = pair;
	if (found)
		kref_get(&found->kref);
	mutex_unlock(&blki_pairs_lock);
	return found;
}

/**
 * blki_find() - Find the pair of an original.
 * @original: any block device
 *
 * Return: the pair with a reference, or NULL.
 */
struct blki_pair *blki_find(struct block_device *original)
{
	struct blki_pair *pair, *found = NULL;

	mutex_lock(&blki_pairs_lock);
	list_for_each_entry(pair, &blki_pairs, node) {
		if (pair->original.bdev == original) {
			found = pair;
			kref_get(&found->kref);
			break;
		}
	}
	mutex_unlock(&blki_pairs_lock);
	return found;
}

/**
 * blki_begin_making() - Have an original for a pair alone.
 * @pair: new
 * @original: that of the pair
 *
 * Nobody else can make a pair for the same disk from here on, until the pair is
 * listed and removed, or blki_end_making() is told of an error.
 *
 * Return: BLK_INTERPOSER_OK, or BLK_INTERPOSER_EXISTS if somebody has.
 */
enum blk_interposer_reason blki_begin_making(struct blki_pair *pair,
					     struct block_device *original)
{
	enum blk_interposer_reason reason = BLK_INTERPOSER_OK;
	struct blki_pair *other;

	mutex_lock(&blki_pairs_lock);
	list_for_each_entry(other, &blki_pairs, node)
		if (blki_overlaps(other->claimed, original))
			reason = BLK_INTERPOSER_EXISTS;
	list_for_each_entry(other, &blki_making, node)
		if (blki_overlaps(other->claimed, original))
			reason = BLK_INTERPOSER_EXISTS;
	if (!reason) {
		pair->claimed = original;
		pair->id = ++blki_last_id;
		list_add_tail(&pair->node, &blki_making);
	}
	mutex_unlock(&blki_pairs_lock);
	return reason;
}

/**
 * blki_pair_open() - Open the original.
 * @pair: blki_begin_making() was called for it
 *
 * Context: takes as long as the disk does not answer.
 *
 * Return: 0 or an error.
 */
int blki_pair_open(struct blki_pair *pair)
{
	int err = compat_bdev_open(&pair->original, pair->claimed->bd_dev);

	if (err)
		return err;
	/* Its number may have been given to another one. */
	return pair->original.bdev == pair->claimed ? 0 : -ENODEV;
}

/**
 * blki_end_making() - Let a pair be found, or give its original up.
 * @pair: blki_begin_making() was called for it
 * @err: of making it; then it is not listed, and its original may have another pair
 */
void blki_end_making(struct blki_pair *pair, int err)
{
	mutex_lock(&blki_pairs_lock);
	if (err)
		list_del(&pair->node);
	else
		list_move_tail(&pair->node, &blki_pairs);
	mutex_unlock(&blki_pairs_lock);
}

/**
 * blki_pair_unlist() - Let it be found no more.
 * @pair: listed
 */
void blki_pair_unlist(struct blki_pair *pair)
{
	mutex_lock(&blki_pairs_lock);
	list_del(&pair->node);
	mutex_unlock(&blki_pairs_lock);
}

/**
 * blki_pairs_init() - Make what all pairs share.
 *
 * Return: 0 or -ENOMEM.
 */
int __init blki_pairs_init(void)
{
	blki_context_cache = KMEM_CACHE(blki_context, 0);
	if (!blki_context_cache)
		return -ENOMEM;
	blki_reap_wq = alloc_workqueue("blk-interposer", WQ_UNBOUND, 0);
	if (!blki_reap_wq)
		goto no_reap;
	blki_io_wq = alloc_workqueue("blk-interposer-io",
				     WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (blki_io_wq)
		return 0;
	destroy_workqueue(blki_reap_wq);
no_reap:
	kmem_cache_destroy(blki_context_cache);
	return -ENOMEM;
}

/**
 * blki_pairs_exit() - Wait for the last pair to be freed.
 *
 * There is none on the list, as each holds the module. Work of theirs may be
 * waiting for a timer yet, with a reference, so that the queues go afterwards.
 */
void blki_pairs_exit(void)
{
	wait_var_event(&blki_alive, !atomic_read(&blki_alive));
	destroy_workqueue(blki_io_wq);
	destroy_workqueue(blki_reap_wq);
	kmem_cache_destroy(blki_context_cache);
}
