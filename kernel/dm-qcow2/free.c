// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters on their way back to the allocator.
 *
 *   reserve -> add -> put          image.frees: unlinked in the cache
 *                      take        a commit has them: unlinked on disk next
 *                      later       image.free_ready: unlinked on disk
 *                      work        no I/O uses them; space below given back;
 *                                  refcounts down: free
 *
 * A crash before the last step leaves a leak. What a failed commit had taken
 * goes back to image.frees.
 *
 * Bounded: there is a fixed number of entries, and no more is unlinked while
 * many clusters wait. Who needs entries reserves them first, one at a time
 * (image.free_mutex), and waits for others to be freed; or gets the error for
 * which commits cannot have them freed. Entries are worked off by host offset,
 * so that neighbours become one; and a suspend has no more than these before
 * it.
 *
 * What is on image.frees has the number of the generation that collects there;
 * a commit that takes it begins the next. image.freed_gen is the last one that
 * is done with. There is one worker, and so they are done with in their order.
 *
 * Locks: image.md_lock for the lists and counts; alloc_lock inside the refcount
 * calls. free_mutex is outside of all but the range. Who holds a reservation or
 * entries must not wait for a reservation, a commit or a drain; who waits for
 * one of them holds neither image.srcu nor a lock.
 */
#include "dm-qcow2.h"

#include <linux/list_sort.h>
#include <linux/slab.h>

/* Entries for those who cannot wait, beyond what is reserved. */
#define SPARE_ENTRIES 8

/* No more is unlinked while so many clusters are on their way. */
#define MANY_CLUSTERS 131072

/* So many entries have their space given back, and then are free, at a time. */
#define CHUNK 64

/**
 * qcow2_free_init() - get the entries
 * @q: the image
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_free_init(struct qcow2_image *q)
{
	u32 i, nr = QCOW2_FREE_ENTRIES + SPARE_ENTRIES;

	q->free_entries = kvcalloc(nr, sizeof(*q->free_entries), GFP_KERNEL);
	if (!q->free_entries)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		list_add(&q->free_entries[i].node, &q->free_pool);
	q->free_avail = QCOW2_FREE_ENTRIES;
	q->frees_gen = 1;
	return 0;
}

/**
 * qcow2_free_exit() - undo qcow2_free_init(), whole or not done
 * @q: the image, stopped
 */
void qcow2_free_exit(struct qcow2_image *q)
{
	WARN_ON(q->free_entries && q->free_avail != QCOW2_FREE_ENTRIES);
	kvfree(q->free_entries);
}

/* Has a commit take what there is if that is much, or wanted. */
static void free_kick(struct qcow2_image *q)
{
	lockdep_assert_held(&q->md_lock);
	if (list_empty(&q->frees))
		return;
	if (q->free_wanted || q->nr_frees >= QCOW2_FREE_ENTRIES / 2 ||
	    q->nr_unlinked >= MANY_CLUSTERS / 4)
		qcow2_commit_kick(q);
}

static bool free_take_entries(struct qcow2_image *q, u32 n)
{
	bool got;

	spin_lock_irq(&q->md_lock);
	got = q->free_avail >= (s32)n && q->nr_freeing < MANY_CLUSTERS;
	if (got)
		q->free_avail -= n;
	q->free_wanted = !got;
	free_kick(q);
	spin_unlock_irq(&q->md_lock);
	return got;
}

/* Whether a commit has failed since there were @seen of them. */
static bool free_hopeless(struct qcow2_image *q, u64 seen, int *err)
{
	if (READ_ONCE(q->commits) != seen)
		*err = READ_ONCE(q->last_commit);
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

	mutex_lock(&q->free_mutex);
	seen = READ_ONCE(q->commits);
	if (!free_take_entries(q, n))
		wait_event(q->free_wait, free_take_entries(q, n) ||
			   free_hopeless(q, seen, &r));
	WRITE_ONCE(q->free_wanted, false);
	mutex_unlock(&q->free_mutex);
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
	spin_lock_irq(&q->md_lock);
	q->free_avail += n;
	spin_unlock_irq(&q->md_lock);
	if (READ_ONCE(q->free_wanted))
		wake_up_all(&q->free_wait);
}

static bool free_merge(struct qcow2_image *q, struct list_head *list, u64 host,
		       u32 count, bool discard)
{
	struct qcow2_free *f;

	if (list_empty(list))
		return false;
	f = list_last_entry(list, struct qcow2_free, node);
	if (f->discard != discard || f->count > U32_MAX - count ||
	    f->host + ((u64)f->count << q->geo.cluster_bits) != host)
		return false;
	f->count += count;
	return true;
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
	struct qcow2_free *f;

	if (free_merge(q, list, host, count, discard))
		return 0;
	spin_lock_irq(&q->md_lock);
	f = list_first_entry(&q->free_pool, struct qcow2_free, node);
	list_move_tail(&f->node, list);
	spin_unlock_irq(&q->md_lock);
	f->host = host;
	f->count = count;
	f->discard = discard;
	return 1;
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

	spin_lock_irq(&q->md_lock);
	/* Others may use up all that is reserved. */
	got = q->free_avail > -SPARE_ENTRIES;
	q->free_avail -= got;
	spin_unlock_irq(&q->md_lock);
	return got;
}

/**
 * qcow2_free_put() - have clusters freed that the cache does not refer to now
 * @q: the image
 * @list: the clusters; emptied
 *
 * To be called in the hold of image.md_lock in which their mapping changes.
 */
void qcow2_free_put(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *f, *next;

	lockdep_assert_held(&q->md_lock);
	list_for_each_entry_safe(f, next, list, node) {
		q->nr_freeing += f->count;
		q->nr_unlinked += f->count;
		if (free_merge(q, &q->frees, f->host, f->count, f->discard)) {
			list_move(&f->node, &q->free_pool);
			q->free_avail++;
			continue;
		}
		list_move_tail(&f->node, &q->frees);
		q->nr_frees++;
	}
	free_kick(q);
	if (q->free_wanted)
		wake_up_all(&q->free_wait);
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
	spin_lock_irqsave(&q->md_lock, flags);
	q->free_avail += list_count_nodes(list);
	list_splice_init(list, &q->free_pool);
	spin_unlock_irqrestore(&q->md_lock, flags);
	if (READ_ONCE(q->free_wanted))
		wake_up_all(&q->free_wait);
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
	lockdep_assert_held(&q->md_lock);
	if (list_empty(&q->frees))
		return;
	list_splice_init(&q->frees, list);
	q->nr_frees = 0;
	q->nr_unlinked = 0;
	q->frees_gen++;
}

/* The commit that took it is done with the generation before the present one. */
static void free_handed_over(struct qcow2_image *q)
{
	q->ready_gen = q->frees_gen - 1;
	queue_work(q->free_wq, &q->free_work);
}

/**
 * qcow2_free_failed() - a commit has failed: all is as if it had taken nothing
 * @q: the image
 * @list: what qcow2_free_take() gave it; emptied
 */
void qcow2_free_failed(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_free *f;

	lockdep_assert_held(&q->md_lock);
	if (list_empty(list))
		return;
	list_for_each_entry(f, list, node) {
		q->nr_frees++;
		q->nr_unlinked += f->count;
	}
	list_splice_init(list, &q->frees);
	free_handed_over(q);
}

/**
 * qcow2_free_later() - free clusters once no I/O uses them
 * @q: the image
 * @list: unlinked on disk; emptied
 */
void qcow2_free_later(struct qcow2_image *q, struct list_head *list)
{
	lockdep_assert_held(&q->md_lock);
	if (list_empty(list))
		return;
	list_splice_tail_init(list, &q->free_ready);
	free_handed_over(q);
}

/* Nobody else refers to a cluster with refcount 1, and nobody will. */
static void free_discard(struct qcow2_image *q, const struct qcow2_free *f,
			 struct bio **chain)
{
	unsigned int bits = q->geo.cluster_bits;
	u64 cluster = f->host >> bits, end = cluster + f->count, value;
	u64 from = cluster, n;

	if (!f->discard)
		return;
	for (; cluster < end; cluster += n) {
		if (!qcow2_refcount_run(q, cluster, end - cluster, &value, &n) &&
		    value == 1)
			continue;
		if (from < cluster)
			qcow2_store_discard(&q->store, from << bits,
					    (cluster - from) << bits, chain);
		from = cluster + n;
	}
	if (from < end)
		qcow2_store_discard(&q->store, from << bits,
				    (end - from) << bits, chain);
}

static void free_drop(struct qcow2_image *q, const struct qcow2_free *f)
{
	if (qcow2_refcount_drop(q, f->host >> q->geo.cluster_bits, f->count))
		qcow2_limit_err(q, "clusters at 0x%llx are leaked", f->host);
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
	struct qcow2_free f = { .host = host, .count = count,
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
		if (free_merge(q, &sorted, f->host, f->count, f->discard))
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
	spin_lock_irq(&q->md_lock);
	q->free_avail += list_count_nodes(list);
	q->nr_freeing -= clusters;
	list_splice_init(list, &q->free_pool);
	spin_unlock_irq(&q->md_lock);
	wake_up_all(&q->free_wait);
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
		clusters += f->count;
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
 * qcow2_free_work() - free what is unlinked on disk
 * @work: image.free_work
 */
void qcow2_free_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     free_work);
	unsigned int scope = qcow2_enter();
	LIST_HEAD(batch);
	u64 gen;

	spin_lock_irq(&q->md_lock);
	list_splice_init(&q->free_ready, &batch);
	gen = q->ready_gen;
	spin_unlock_irq(&q->md_lock);
	if (!list_empty(&batch))
		free_batch(q, &batch);
	WRITE_ONCE(q->freed_gen, gen);
	wake_up_all(&q->free_wait);
	qcow2_leave(scope);
}

/**
 * qcow2_free_forget() - forget what is unlinked in the cache
 * @q: the image, about to be forgotten itself; nothing is under way
 */
void qcow2_free_forget(struct qcow2_image *q)
{
	LIST_HEAD(frees);

	spin_lock_irq(&q->md_lock);
	list_splice_init(&q->frees, &frees);
	q->nr_freeing -= q->nr_unlinked;
	q->nr_unlinked = 0;
	q->nr_frees = 0;
	spin_unlock_irq(&q->md_lock);
	qcow2_free_release(q, &frees);
}

/**
 * qcow2_free_drain() - wait until what is unlinked now is free
 * @q: the image
 *
 * Commits first. What that fails to write is not free then. Context: a worker
 * that does not hold image.srcu or any lock that a commit or the freeing needs.
 */
void qcow2_free_drain(struct qcow2_image *q)
{
	bool collecting;
	u64 gen;

	spin_lock_irq(&q->md_lock);
	collecting = !list_empty(&q->frees);
	gen = collecting ? q->frees_gen : q->frees_gen - 1;
	spin_unlock_irq(&q->md_lock);
	if (collecting)
		qcow2_commit(q);
	/* A commit is done with it by now, or has it and will be. */
	wait_event(q->free_wait, READ_ONCE(q->freed_gen) >= gen);
}
