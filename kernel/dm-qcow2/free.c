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
 * Locks: image.md_lock for the lists; alloc_lock inside the refcount calls.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>

struct batch {
	struct list_head node;
	struct list_head frees;
	struct rcu_head rcu;
	struct qcow2_image *image;
};

/**
 * qcow2_free_add() - put clusters on a list of what is to be freed
 * @q: the image
 * @list: the list
 * @host: host offset of the first
 * @count: how many
 * @discard: whether their space below is to be given back
 *
 * Context: a worker; waits for others to be freed if there is no memory.
 */
void qcow2_free_add(struct qcow2_image *q, struct list_head *list, u64 host,
		    u32 count, bool discard)
{
	struct qcow2_free *f;

	if (!list_empty(list)) {
		f = list_last_entry(list, struct qcow2_free, node);
		if (f->discard == discard && f->host +
		    ((u64)f->count << q->geo.cluster_bits) == host) {
			f->count += count;
			return;
		}
	}
	f = mempool_alloc(&q->free_pool, GFP_NOIO);
	f->host = host;
	f->count = count;
	f->discard = discard;
	list_add_tail(&f->node, list);
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
static void discard_unshared(struct qcow2_image *q, const struct qcow2_free *f)
{
	unsigned int bits = q->geo.cluster_bits;
	u64 cluster = f->host >> bits, value;
	u32 i, n = 0;

	for (i = 0; i < f->count; i++) {
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
 * qcow2_free_now() - dereference clusters that nothing refers to
 * @q: the image
 * @list: emptied
 *
 * Context: a worker.
 */
void qcow2_free_now(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *f, *next;

	list_for_each_entry_safe(f, next, list, node) {
		if (f->discard)
			discard_unshared(q, f);
		if (qcow2_refcount_drop(q, f->host >> q->geo.cluster_bits,
					f->count))
			qcow2_limit_err(q, "clusters at 0x%llx are leaked",
					f->host);
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
	unsigned int scope = qcow2_enter(q);
	struct batch *b, *next;
	LIST_HEAD(ready);

	spin_lock_irq(&q->md_lock);
	list_splice_init(&q->free_ready, &ready);
	spin_unlock_irq(&q->md_lock);
	list_for_each_entry_safe(b, next, &ready, node) {
		qcow2_free_now(q, &b->frees);
		kfree(b);
		if (atomic_dec_and_test(&q->free_batches))
			wake_up_all(&q->free_wait);
	}
	qcow2_leave(scope);
}

static void batch_ready(struct rcu_head *rcu)
{
	struct batch *b = container_of(rcu, struct batch, rcu);
	struct qcow2_image *q = b->image;
	unsigned long flags;

	spin_lock_irqsave(&q->md_lock, flags);
	list_add_tail(&b->node, &q->free_ready);
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
	struct batch *b;

	if (list_empty(list))
		return;
	b = kmalloc(sizeof(*b), GFP_NOIO | __GFP_NOFAIL);
	INIT_LIST_HEAD(&b->frees);
	list_splice_init(list, &b->frees);
	b->image = q;
	atomic_inc(&q->free_batches);
	call_srcu(&q->srcu, &b->rcu, batch_ready);
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
