// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters on their way back to the allocator.
 *
 * When a mapping is replaced, the old cluster goes to image.frees. A commit
 * takes the list and, once the new mapping is durable, hands it to
 * qcow2_free_release(). After an SRCU grace period no I/O that found the old
 * mapping is in flight; then the space below is given back and the refcount
 * goes down, which is what makes the cluster free. A crash anywhere before
 * leaves a leak.
 *
 * Memory: entries come from a pool of as many as one request needs at most. One
 * that finds it empty gives back what it has and takes image.free_mutex before
 * it waits for commits to refill the pool.
 *
 * Locks: image.md_lock for the lists; alloc_lock inside the refcount calls;
 * free_mutex around what waits for entries, outside all but the range.
 */
#include "dm-qcow2.h"

/**
 * qcow2_free_add() - put clusters on a list of what is to be freed
 * @q: the image
 * @list: the list
 * @host: host offset of the first
 * @count: how many
 * @discard: whether their space below is to be given back
 * @gfp: GFP_NOWAIT, or GFP_NOIO to wait for others to be freed
 *
 * Context: a worker. Whoever waits with entries on @list holds
 * image.free_mutex, so that two never wait for each other's.
 * Return: false if there is no memory.
 */
bool qcow2_free_add(struct qcow2_image *q, struct list_head *list, u64 host,
		    u32 count, bool discard, gfp_t gfp)
{
	struct qcow2_free *f;

	if (!list_empty(list)) {
		f = list_last_entry(list, struct qcow2_free, node);
		if (f->discard == discard && f->host +
		    ((u64)f->count << q->geo.cluster_bits) == host) {
			f->count += count;
			return true;
		}
	}
	f = mempool_alloc(&q->free_pool, gfp);
	if (!f)
		return false;
	f->host = host;
	f->count = count;
	f->discard = discard;
	list_add_tail(&f->node, list);
	return true;
}

/**
 * qcow2_free_release() - forget a list that is not needed after all
 * @q: the image
 * @list: emptied
 */
void qcow2_free_release(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *f, *next;

	list_for_each_entry_safe(f, next, list, node) {
		list_del(&f->node);
		mempool_free(f, &q->free_pool);
	}
}

/* Gives the space of clusters that lose their last reference back. */
static void discard_unshared(struct qcow2_image *q, u64 host, u32 count)
{
	unsigned int bits = q->geo.cluster_bits;
	u64 cluster = host >> bits, value;
	u32 i, n = 0;

	for (i = 0; i < count; i++) {
		if (!qcow2_refcount_peek(q, cluster + i, &value) && value == 1) {
			n++;
			continue;
		}
		if (n)
			qcow2_store_discard(&q->store, (cluster + i - n) << bits,
					    (u64)n << bits);
		n = 0;
	}
	if (n)
		qcow2_store_discard(&q->store, (cluster + i - n) << bits,
				    (u64)n << bits);
}

/**
 * qcow2_free_run() - dereference clusters that nothing refers to
 * @q: the image
 * @host: host offset of the first
 * @count: how many
 * @discard: whether their space below is to be given back
 *
 * Context: a worker.
 */
void qcow2_free_run(struct qcow2_image *q, u64 host, u32 count, bool discard)
{
	if (discard)
		discard_unshared(q, host, count);
	if (qcow2_refcount_drop(q, host >> q->geo.cluster_bits, count))
		qcow2_limit_err(q, "clusters at 0x%llx are leaked", host);
}

/* The first entry of a list carries the others, so that none is allocated. */
static void free_batch(struct qcow2_image *q, struct qcow2_free *first)
{
	struct qcow2_free *f, *next;
	LIST_HEAD(list);

	list_splice_init(&first->others, &list);
	list_add(&first->node, &list);
	list_for_each_entry_safe(f, next, &list, node) {
		qcow2_free_run(q, f->host, f->count, f->discard);
		list_del(&f->node);
		mempool_free(f, &q->free_pool);
	}
}

/**
 * qcow2_free_work() - dereference what has waited long enough
 * @work: image.free_work
 */
void qcow2_free_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     free_work);
	unsigned int scope = qcow2_enter();
	struct qcow2_free *first, *next;
	LIST_HEAD(ready);

	spin_lock_irq(&q->md_lock);
	list_splice_init(&q->free_ready, &ready);
	spin_unlock_irq(&q->md_lock);
	list_for_each_entry_safe(first, next, &ready, node) {
		list_del(&first->node);
		free_batch(q, first);
		if (atomic_dec_and_test(&q->free_batches))
			wake_up_all(&q->free_wait);
	}
	qcow2_leave(scope);
}

static void batch_ready(struct rcu_head *rcu)
{
	struct qcow2_free *first = container_of(rcu, struct qcow2_free, rcu);
	struct qcow2_image *q = first->image;
	unsigned long flags;

	spin_lock_irqsave(&q->md_lock, flags);
	list_add_tail(&first->node, &q->free_ready);
	spin_unlock_irqrestore(&q->md_lock, flags);
	queue_work(q->commit_wq, &q->free_work);
}

/**
 * qcow2_free_later() - dereference clusters once no I/O uses them
 * @q: the image
 * @list: unlinked on disk; emptied
 *
 * Context: a worker.
 */
void qcow2_free_later(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *first;

	if (list_empty(list))
		return;
	first = list_first_entry(list, struct qcow2_free, node);
	list_del(&first->node);
	INIT_LIST_HEAD(&first->others);
	list_splice_init(list, &first->others);
	first->image = q;
	atomic_inc(&q->free_batches);
	call_srcu(&q->srcu, &first->rcu, batch_ready);
}

/**
 * qcow2_free_drain() - wait until what can be freed is free
 * @q: the image
 *
 * Commits first. Context: a worker that does not hold image.srcu or any lock
 * that a commit or the freeing needs.
 */
void qcow2_free_drain(struct qcow2_image *q)
{
	bool any;

	spin_lock_irq(&q->md_lock);
	any = !list_empty(&q->frees);
	spin_unlock_irq(&q->md_lock);
	if (any)
		qcow2_commit(q);
	wait_event(q->free_wait, !atomic_read(&q->free_batches));
}
