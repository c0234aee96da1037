// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters on their way back to the allocator.
 *
 *   reserve -> add -> put          frees.unlinked:   unlinked in the cache
 *                      take        a commit has them: unlinked on disk next
 *                      later       frees.ready: unlinked on disk
 *                      work        no I/O uses them; space below given back;
 *                                  refcounts down: free
 *
 * A crash before the last step leaves a leak. What a failed commit had taken
 * goes back to frees.unlinked.
 *
 * Bounded: there is a fixed number of entries, and no more is unlinked while
 * many clusters wait. Who needs entries reserves them first, one at a time
 * (frees.mutex), and waits for others to be freed; or gets the error for
 * which commits cannot have them freed. Entries are worked off by host offset,
 * so that neighbours become one; and a suspend has no more than these before
 * it. Compressed clusters share host clusters, so that one may have several
 * references to be dropped: those become one entry, too.
 *
 * What is on frees.unlinked has the number of the generation that collects there;
 * a commit that takes it begins the next. frees.freed_gen is the last one that
 * is done with. There is one worker, and so they are done with in their order.
 *
 * Locks: txn.lock for the lists and counts; alloc.lock inside the refcount
 * calls. frees.mutex is outside of all but the range. Who holds a reservation or
 * entries must not wait for a reservation, a commit or a drain; who waits for
 * one of them holds neither image.srcu nor a lock.
 */
#include "meta.h"

#include <linux/list_sort.h>
#include <linux/slab.h>

#include "../core/scope.h"

/* Entries for those who cannot wait, beyond what is reserved. */
#define SPARE_ENTRIES 8

/* No more is unlinked while so many clusters are on their way. */
#define MANY_CLUSTERS 131072

/* So many entries have their space given back, and then are free, at a time. */
#define CHUNK 64

/* Has a commit take what there is if that is much, or wanted. */
static void free_kick(struct qcow2_image *q)
{
	lockdep_assert_held(&q->txn.lock);
	if (list_empty(&q->frees.unlinked))
		return;
	if (q->frees.wanted || q->frees.nr_runs >= QCOW2_FREE_ENTRIES / 2 ||
	    q->frees.nr_clusters >= MANY_CLUSTERS / 4)
		qcow2_dirty_now(q);
}

static bool free_take_entries(struct qcow2_image *q, u32 n)
{
	bool got;

	spin_lock_irq(&q->txn.lock);
	got = q->frees.avail >= (s32)n && q->frees.nr_freeing < MANY_CLUSTERS;
	if (got)
		q->frees.avail -= n;
	q->frees.wanted = !got;
	free_kick(q);
	spin_unlock_irq(&q->txn.lock);
	return got;
}

/* Whether a commit has failed since there were @seen of them. */
static bool free_hopeless(struct qcow2_image *q, u64 seen, int *err)
{
	if (READ_ONCE(q->txn.commits) != seen)
		*err = READ_ONCE(q->txn.last);
	return *err;
}

/**
 * qcow2_free_reserve() - make sure of entries for qcow2_free_add()
 * @q: the image
 * @n: how many, QCOW2_FREE_STEP at most
 *
 * Waits for others to be freed. What is not used up is to be given back by
 * qcow2_free_unreserve() soon. Context: a worker without any lock, image.srcu,
 * or entries.
 * Return: 0, or the error for which nothing can be freed.
 */
int qcow2_free_reserve(struct qcow2_image *q, u32 n)
{
	u64 seen;
	int r = 0;

	mutex_lock(&q->frees.mutex);
	seen = READ_ONCE(q->txn.commits);
	if (!free_take_entries(q, n))
		wait_event(q->frees.wait, free_take_entries(q, n) ||
			   free_hopeless(q, seen, &r));
	WRITE_ONCE(q->frees.wanted, false);
	mutex_unlock(&q->frees.mutex);
	return r;
}

/**
 * qcow2_free_unreserve() - give back what is left of a reservation
 * @q: the image
 * @n: how many
 *
 * Context: a worker.
 */
void qcow2_free_unreserve(struct qcow2_image *q, u32 n)
{
	if (!n)
		return;
	spin_lock_irq(&q->txn.lock);
	q->frees.avail += n;
	spin_unlock_irq(&q->txn.lock);
	if (READ_ONCE(q->frees.wanted))
		wake_up_all(&q->frees.wait);
}

/* References that are to be dropped. */
static u64 free_refs(const struct qcow2_free *f)
{
	return (u64)f->count * f->refs;
}

/* Whether @f goes on where @prev ends. What is shared is kept apart, to be one. */
static bool free_follows(struct qcow2_image *q, const struct qcow2_free *prev,
			 const struct qcow2_free *f)
{
	return !prev->shared && prev->count <= U32_MAX - f->count &&
	       prev->host + ((u64)prev->count << q->layer.geo.cluster_bits) ==
	       f->host;
}

static bool free_merge(struct qcow2_image *q, struct list_head *list,
		       const struct qcow2_free *f)
{
	struct qcow2_free *prev;

	if (list_empty(list))
		return false;
	prev = list_last_entry(list, struct qcow2_free, node);
	if (prev->discard != f->discard || prev->shared != f->shared)
		return false;
	if (free_follows(q, prev, f)) {
		prev->count += f->count;
		return true;
	}
	if (!f->shared || prev->host != f->host ||
	    prev->refs > U32_MAX - f->refs)
		return false;
	prev->refs += f->refs;
	return true;
}

/* Puts an entry on a list, of a reservation. Returns how many that takes. */
static u32 free_add(struct qcow2_image *q, struct list_head *list,
		    const struct qcow2_free *what)
{
	struct qcow2_free *f;

	if (free_merge(q, list, what))
		return 0;
	spin_lock_irq(&q->txn.lock);
	f = list_first_entry(&q->frees.pool, struct qcow2_free, node);
	list_del_init(&f->node);
	*f = *what;
	list_add_tail(&f->node, list);
	spin_unlock_irq(&q->txn.lock);
	return 1;
}

/**
 * qcow2_free_add() - put clusters on a list of what is to be freed
 * @q: the image
 * @list: the list
 * @host: host offset of the first
 * @count: how many
 * @discard: whether their space below is to be given back
 *
 * Context: a worker with a reservation. Return: entries used up of it, 0 or 1.
 */
u32 qcow2_free_add(struct qcow2_image *q, struct list_head *list, u64 host,
		   u32 count, bool discard)
{
	const struct qcow2_free what = { .host = host, .count = count,
					 .refs = 1, .discard = discard };

	return free_add(q, list, &what);
}

/**
 * qcow2_free_add_share() - the same for a share of a cluster
 * @q: the image
 * @list: the list
 * @host: host offset of the cluster
 *
 * Others that have a share of it may be freed at the same time, and the last of
 * them gives its space back. Context, return: as qcow2_free_add().
 */
u32 qcow2_free_add_share(struct qcow2_image *q, struct list_head *list,
			 u64 host)
{
	const struct qcow2_free what = { .host = host, .count = 1, .refs = 1,
					 .discard = true, .shared = true };

	return free_add(q, list, &what);
}

/**
 * qcow2_free_try_reserve() - get an entry for qcow2_free_add() without waiting
 * @q: the image
 *
 * Return: false if there is none left, not even a spare one.
 */
bool qcow2_free_try_reserve(struct qcow2_image *q)
{
	bool got;

	spin_lock_irq(&q->txn.lock);
	/* Others may use up all that is reserved. */
	got = q->frees.avail > -SPARE_ENTRIES;
	q->frees.avail -= got;
	spin_unlock_irq(&q->txn.lock);
	return got;
}

/**
 * qcow2_free_put() - have clusters freed that the cache does not refer to now
 * @q: the image
 * @list: the clusters; emptied
 *
 * To be called in the hold of txn.lock in which their mapping changes.
 */
void qcow2_free_put(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *f, *next;

	lockdep_assert_held(&q->txn.lock);
	list_for_each_entry_safe(f, next, list, node) {
		q->frees.nr_freeing += free_refs(f);
		q->frees.nr_clusters += free_refs(f);
		if (free_merge(q, &q->frees.unlinked, f)) {
			list_move(&f->node, &q->frees.pool);
			q->frees.avail++;
			continue;
		}
		list_move_tail(&f->node, &q->frees.unlinked);
		q->frees.nr_runs++;
	}
	free_kick(q);
	if (q->frees.wanted)
		wake_up_all(&q->frees.wait);
}

/**
 * qcow2_free_release() - forget a list that is not needed after all
 * @q: the image
 * @list: not put yet; emptied
 *
 * Context: any.
 */
void qcow2_free_release(struct qcow2_image *q, struct list_head *list)
{
	unsigned long flags;

	if (list_empty(list))
		return;
	spin_lock_irqsave(&q->txn.lock, flags);
	q->frees.avail += list_count_nodes(list);
	list_splice_init(list, &q->frees.pool);
	spin_unlock_irqrestore(&q->txn.lock, flags);
	if (READ_ONCE(q->frees.wanted))
		wake_up_all(&q->frees.wait);
}

/**
 * qcow2_free_take() - take what is unlinked in the cache, for a commit
 * @q: the image
 * @list: gets it
 *
 * Only a commit does this, and ends with one of qcow2_free_later() and
 * qcow2_free_failed().
 */
void qcow2_free_take(struct qcow2_image *q, struct list_head *list)
{
	lockdep_assert_held(&q->txn.lock);
	if (list_empty(&q->frees.unlinked))
		return;
	list_splice_init(&q->frees.unlinked, list);
	q->frees.nr_runs = 0;
	q->frees.nr_clusters = 0;
	q->frees.gen++;
}

/* The commit that took it is done with the generation before the present one. */
static void free_handed_over(struct qcow2_image *q)
{
	q->frees.ready_gen = q->frees.gen - 1;
	queue_work(q->frees.wq, &q->frees.work);
}

/**
 * qcow2_free_failed() - a commit has failed: all is as if it had taken nothing
 * @q: the image
 * @list: what qcow2_free_take() gave it; emptied
 */
void qcow2_free_failed(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *f;

	lockdep_assert_held(&q->txn.lock);
	if (list_empty(list))
		return;
	list_for_each_entry(f, list, node) {
		q->frees.nr_runs++;
		q->frees.nr_clusters += free_refs(f);
	}
	list_splice_init(list, &q->frees.unlinked);
	free_handed_over(q);
}

/**
 * qcow2_free_later() - free clusters once no I/O uses them
 * @q: the image
 * @list: unlinked on disk; emptied
 */
void qcow2_free_later(struct qcow2_image *q, struct list_head *list)
{
	lockdep_assert_held(&q->txn.lock);
	if (list_empty(list))
		return;
	list_splice_tail_init(list, &q->frees.ready);
	free_handed_over(q);
}

/* If these are all references to a cluster, nobody will get another. */
static void free_discard(struct qcow2_image *q, const struct qcow2_free *f,
			 struct bio **chain)
{
	unsigned int bits = q->layer.geo.cluster_bits;
	u64 cluster = f->host >> bits, end = cluster + f->count, value;
	u64 from = cluster, n;

	if (!f->discard)
		return;
	for (; cluster < end; cluster += n) {
		if (!qcow2_refcount_run(q, cluster, end - cluster, &value, &n) &&
		    value == f->refs)
			continue;
		if (from < cluster)
			qcow2_store_discard(q->layer.meta, from << bits,
					    (cluster - from) << bits, chain);
		from = cluster + n;
	}
	if (from < end)
		qcow2_store_discard(q->layer.meta, from << bits,
				    (end - from) << bits, chain);
}

static void free_drop(struct qcow2_image *q, const struct qcow2_free *f)
{
	if (qcow2_refcount_drop(q, f->host >> q->layer.geo.cluster_bits,
				f->count, f->refs))
		qcow2_limit_err(q->layer.core, "clusters at 0x%llx are leaked", f->host);
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
	struct qcow2_free f = { .host = host, .count = count, .refs = 1,
				.discard = discard };
	struct bio *chain = NULL;

	free_discard(q, &f, &chain);
	qcow2_store_discarded(chain);
	free_drop(q, &f);
}

static int free_by_host(void *priv, const struct list_head *a,
			const struct list_head *b)
{
	u64 x = list_entry(a, struct qcow2_free, node)->host;
	u64 y = list_entry(b, struct qcow2_free, node)->host;

	return x < y ? -1 : x > y;
}

/* Sorts a batch; of neighbours, one is left and the others go to @gone. */
static void free_sort(struct qcow2_image *q, struct list_head *batch,
		      struct list_head *gone)
{
	struct qcow2_free *f, *next;
	LIST_HEAD(sorted);

	list_sort(NULL, batch, free_by_host);
	list_for_each_entry_safe(f, next, batch, node) {
		if (free_merge(q, &sorted, f))
			list_move(&f->node, gone);
		else
			list_move_tail(&f->node, &sorted);
	}
	list_splice(&sorted, batch);
}

/* Gives entries back to those who wait for them; @clusters of them are free. */
static void free_done(struct qcow2_image *q, struct list_head *list,
		      u64 clusters)
{
	spin_lock_irq(&q->txn.lock);
	q->frees.avail += list_count_nodes(list);
	q->frees.nr_freeing -= clusters;
	list_splice_init(list, &q->frees.pool);
	spin_unlock_irq(&q->txn.lock);
	wake_up_all(&q->frees.wait);
}

/*
 * Frees the beginning of a batch. Refcounts go down when the space has been
 * given back: before that nobody can get the cluster.
 */
static void free_chunk(struct qcow2_image *q, struct list_head *batch)
{
	struct bio *chain = NULL;
	struct qcow2_free *f;
	LIST_HEAD(chunk);
	u64 clusters = 0;
	u32 n;

	for (n = 0; n < CHUNK && !list_empty(batch); n++) {
		f = list_first_entry(batch, struct qcow2_free, node);
		free_discard(q, f, &chain);
		list_move_tail(&f->node, &chunk);
		clusters += free_refs(f);
	}
	qcow2_store_discarded(chain);
	list_for_each_entry(f, &chunk, node)
		free_drop(q, f);
	free_done(q, &chunk, clusters);
	cond_resched();
}

static void free_batch(struct qcow2_image *q, struct list_head *batch)
{
	LIST_HEAD(gone);

	/* Whatever looked up the old mapping, and its I/O, is over after this. */
	synchronize_srcu_expedited(&q->srcu);
	free_sort(q, batch, &gone);
	free_done(q, &gone, 0);
	while (!list_empty(batch))
		free_chunk(q, batch);
}

/**
 * qcow2_free_forget() - forget what is unlinked in the cache
 * @q: the image, about to be forgotten itself; nothing is under way
 */
void qcow2_free_forget(struct qcow2_image *q)
{
	LIST_HEAD(frees);

	spin_lock_irq(&q->txn.lock);
	list_splice_init(&q->frees.unlinked, &frees);
	q->frees.nr_freeing -= q->frees.nr_clusters;
	q->frees.nr_clusters = 0;
	q->frees.nr_runs = 0;
	spin_unlock_irq(&q->txn.lock);
	qcow2_free_release(q, &frees);
}

static void free_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     frees.work);
	unsigned int scope = qcow2_scope_enter();
	LIST_HEAD(batch);
	u64 gen;

	spin_lock_irq(&q->txn.lock);
	list_splice_init(&q->frees.ready, &batch);
	gen = q->frees.ready_gen;
	spin_unlock_irq(&q->txn.lock);
	if (!list_empty(&batch))
		free_batch(q, &batch);
	WRITE_ONCE(q->frees.freed_gen, gen);
	wake_up_all(&q->frees.wait);
	qcow2_scope_leave(scope);
}

/**
 * qcow2_free_last() - the last generation that has anything to be freed
 * @q: the image
 * @collecting: set if that waits for a commit
 *
 * Return: its number, for qcow2_free_wait().
 */
u64 qcow2_free_last(struct qcow2_image *q, bool *collecting)
{
	u64 gen;

	spin_lock_irq(&q->txn.lock);
	*collecting = !list_empty(&q->frees.unlinked);
	gen = *collecting ? q->frees.gen : q->frees.gen - 1;
	spin_unlock_irq(&q->txn.lock);
	return gen;
}

/**
 * qcow2_free_wait() - wait until a generation is done with
 * @q: the image
 * @gen: its number; a commit has taken it
 *
 * Context: as for qcow2_drain().
 */
void qcow2_free_wait(struct qcow2_image *q, u64 gen)
{
	wait_event(q->frees.wait, READ_ONCE(q->frees.freed_gen) >= gen);
}

/**
 * qcow2_free_init() - get the entries
 * @q: the image
 *
 * Return: 0 or -ENOMEM; qcow2_free_exit() is to be called either way.
 */
int qcow2_free_init(struct qcow2_image *q)
{
	u32 i, nr = QCOW2_FREE_ENTRIES + SPARE_ENTRIES;
	struct qcow2_frees *f = &q->frees;

	mutex_init(&f->mutex);
	init_waitqueue_head(&f->wait);
	INIT_LIST_HEAD(&f->pool);
	INIT_LIST_HEAD(&f->unlinked);
	INIT_LIST_HEAD(&f->ready);
	INIT_WORK(&f->work, free_work);
	f->entries = kvcalloc(nr, sizeof(*f->entries), GFP_KERNEL);
	/* Unbound: a long batch must not keep a commit from a processor. */
	f->wq = alloc_workqueue("qcow2_free", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!f->entries || !f->wq)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		list_add(&f->entries[i].node, &f->pool);
	f->avail = QCOW2_FREE_ENTRIES;
	f->gen = 1;
	return 0;
}

/**
 * qcow2_free_exit() - undo qcow2_free_init(), whole, half or not done
 * @q: the image, closed
 */
void qcow2_free_exit(struct qcow2_image *q)
{
	struct qcow2_frees *f = &q->frees;

	WARN_ON(f->gen && f->avail != QCOW2_FREE_ENTRIES);
	if (f->wq)
		destroy_workqueue(f->wq);
	kvfree(f->entries);
}
