// SPDX-License-Identifier: GPL-2.0-only
/*
 * The order in which metadata reaches the disk, and FLUSH.
 *
 * Metadata changes in the cache first. A commit writes, in this order, with a
 * flush of the store after each step that wrote anything:
 *
 *   1. blocks of refcounts (and with the same flush: guest data, the copied
 *      parts of clusters, the first content of new tables)
 *   2. the refcount table; then the header, if the table moved
 *   3. L2 entries and the L1 table
 *   4. only then may what those entries replaced be freed (free.c)
 *
 * What it writes are copies taken at its beginning, in the opposite order: the
 * clusters to be freed, L1, L2, refcount table, refcounts. So whatever an L2
 * entry on its way to the disk refers to has its data written and its refcount
 * in the same commit or an earlier one, while the cache goes on changing.
 * A crash between any two writes leaves clusters with too high a refcount
 * (leaks) at worst.
 *
 * With lazy refcounts the dirty bit is on disk before the first change, and
 * steps 1 and 2 are left out until there is much to write or the image is
 * closed.
 *
 * One commit runs at a time. All flushes that come while it runs share the next.
 *
 * Locks: image.reftable_lock across a commit; md_lock and flush_lock inside.
 */
#include "dm-qcow2.h"

#include <linux/list_sort.h>

/* Metadata that no flush asks for is written after this long. */
#define COMMIT_AFTER (5 * HZ)

struct commit_wait {
	struct list_head node;
	struct completion done;
	int err;
};

/* What one commit writes. */
struct commit {
	struct list_head l2;
	struct list_head refs;
	struct list_head frees;
	bool l1;
	bool reftable;
	bool moved;
};

static u32 dirty_limit(const struct qcow2_image *q)
{
	return max_t(u32, q->cache_limit >> (QCOW2_BLOCK_BITS - 10 + 2), 8);
}

/* Copies each block of @list to its shadow and makes it clean. */
static void snapshot_blocks(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_block *b;

	list_for_each_entry(b, list, commit) {
		spin_lock_irq(&q->md_lock);
		memcpy(b->shadow, b->data, QCOW2_BLOCK_SIZE);
		clear_bit(QCOW2_BLOCK_DIRTY, &b->flags);
		list_del_init(&b->dirty);
		q->nr_dirty--;
		spin_unlock_irq(&q->md_lock);
	}
}

static void collect(struct list_head *dirty, struct list_head *list)
{
	struct qcow2_block *b;

	list_for_each_entry(b, dirty, dirty)
		list_add_tail(&b->commit, list);
}

static bool skip_refcounts(const struct qcow2_image *q)
{
	/* The old place of a moved table is about to be freed. */
	return qcow2_lazy(q) && !q->stopping && !q->reftable_moved &&
	       q->nr_dirty < dirty_limit(q);
}

static void snapshot(struct qcow2_image *q, struct commit *c)
{
	bool lazy;

	spin_lock_irq(&q->md_lock);
	lazy = skip_refcounts(q);
	qcow2_free_take(q, &c->frees);
	c->l1 = qcow2_table_snapshot(q, &q->l1);
	collect(&q->dirty_l2, &c->l2);
	spin_unlock_irq(&q->md_lock);
	snapshot_blocks(q, &c->l2);
	if (lazy)
		return;
	spin_lock_irq(&q->md_lock);
	c->reftable = qcow2_table_snapshot(q, &q->reftable);
	c->moved = q->reftable_moved;
	q->reftable_moved = false;
	collect(&q->dirty_refs, &c->refs);
	spin_unlock_irq(&q->md_lock);
	snapshot_blocks(q, &c->refs);
}

static int by_host(void *priv, const struct list_head *a,
		   const struct list_head *b)
{
	u64 x = list_entry(a, struct qcow2_block, commit)->host;
	u64 y = list_entry(b, struct qcow2_block, commit)->host;

	return x < y ? -1 : x > y;
}

static void slot_done(struct qcow2_sio *sio, int err)
{
	struct qcow2_slot *slot = container_of(sio, struct qcow2_slot, sio);
	struct qcow2_image *q = slot->image;

	if (err)
		WRITE_ONCE(q->commit_error, err);
	if (atomic_dec_and_test(&q->commit_pending))
		complete(&q->commit_io);
}

/* Writes the blocks from @b on that lie next to each other; returns the next. */
static struct qcow2_block *write_run(struct qcow2_image *q,
				     struct qcow2_slot *slot,
				     struct qcow2_block *b,
				     struct list_head *list)
{
	u64 pos = b->host;
	u32 n = 0;

	do {
		bvec_set_page(&slot->bv[n++], virt_to_page(b->shadow),
			      QCOW2_BLOCK_SIZE, 0);
		b = list_next_entry(b, commit);
	} while (!list_entry_is_head(b, list, commit) &&
		 n < QCOW2_SLOT_BLOCKS &&
		 b->host == pos + ((u64)n << QCOW2_BLOCK_BITS));
	slot->image = q;
	slot->sio.store = &q->store;
	slot->sio.done = slot_done;
	slot->sio.pos = pos;
	slot->sio.write = true;
	slot->sio.how = QCOW2_FOR_METADATA;
	qcow2_sio_vec(&slot->sio, slot->bv, (u64)n << QCOW2_BLOCK_BITS);
	atomic_inc(&q->commit_pending);
	qcow2_sio_submit(&slot->sio);
	return b;
}

static int write_blocks(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_block *b;
	u32 i;

	list_sort(NULL, list, by_host);
	b = list_first_entry(list, struct qcow2_block, commit);
	q->commit_error = 0;
	while (!q->commit_error && !list_entry_is_head(b, list, commit)) {
		reinit_completion(&q->commit_io);
		atomic_set(&q->commit_pending, 1);
		for (i = 0; i < QCOW2_COMMIT_SLOTS &&
		     !list_entry_is_head(b, list, commit); i++)
			b = write_run(q, &q->slots[i], b, list);
		if (!atomic_dec_and_test(&q->commit_pending))
			wait_for_completion_io(&q->commit_io);
	}
	return q->commit_error;
}

static int write_refcounts(struct qcow2_image *q, struct commit *c)
{
	int r = write_blocks(q, &c->refs);

	if (!r)
		r = qcow2_image_flush(q);
	if (r || !c->reftable)
		return r;
	r = qcow2_table_write(q, &q->reftable);
	if (!r)
		r = qcow2_image_flush(q);
	if (!r && c->moved)
		r = qcow2_header_move(q);
	return r;
}

static int write_mapping(struct qcow2_image *q, struct commit *c)
{
	int r = 0;

	if (!c->l1 && list_empty(&c->l2))
		return 0;
	r = write_blocks(q, &c->l2);
	if (!r && c->l1)
		r = qcow2_table_write(q, &q->l1);
	return r ?: qcow2_image_flush(q);
}

static void put_blocks(struct qcow2_image *q, struct list_head *list, bool redo)
{
	struct qcow2_block *b, *next;

	list_for_each_entry_safe(b, next, list, commit) {
		list_del_init(&b->commit);
		if (redo) {
			spin_lock_irq(&q->md_lock);
			qcow2_block_dirty(q, b);
			spin_unlock_irq(&q->md_lock);
		}
		qcow2_block_put(b);
	}
}

static void commit_failed(struct qcow2_image *q, struct commit *c)
{
	put_blocks(q, &c->l2, true);
	put_blocks(q, &c->refs, true);
	spin_lock_irq(&q->md_lock);
	if (c->l1)
		qcow2_table_redirty(q, &q->l1);
	if (c->reftable)
		qcow2_table_redirty(q, &q->reftable);
	q->reftable_moved |= c->moved;
	qcow2_free_failed(q, &c->frees);
	qcow2_commit_soon(q);
	spin_unlock_irq(&q->md_lock);
}

static void commit_succeeded(struct qcow2_image *q, struct commit *c)
{
	put_blocks(q, &c->l2, false);
	put_blocks(q, &c->refs, false);
	spin_lock_irq(&q->md_lock);
	if (list_empty(&q->dirty_l2) && list_empty(&q->frees) &&
	    bitmap_empty(q->l1.dirty, q->l1.blocks))
		WRITE_ONCE(q->unstable, false);
	else
		qcow2_commit_soon(q);
	qcow2_free_later(q, &c->frees);
	spin_unlock_irq(&q->md_lock);
}

static int do_commit(struct qcow2_image *q)
{
	struct commit c = {};
	int r;

	INIT_LIST_HEAD(&c.l2);
	INIT_LIST_HEAD(&c.refs);
	INIT_LIST_HEAD(&c.frees);
	mutex_lock(&q->reftable_lock);
	snapshot(q, &c);
	r = write_refcounts(q, &c);
	if (!r)
		r = write_mapping(q, &c);
	if (r)
		commit_failed(q, &c);
	else
		commit_succeeded(q, &c);
	mutex_unlock(&q->reftable_lock);
	if (r)
		qcow2_limit_err(q, "cannot write metadata: error %d", r);
	WRITE_ONCE(q->last_commit, r);
	qcow2_count(q, COMMIT);
	return r;
}

static void answer(struct list_head *flushes, struct list_head *waits, int err)
{
	struct commit_wait *w, *wnext;
	struct qcow2_io *io, *next;

	list_for_each_entry_safe(io, next, flushes, node) {
		list_del_init(&io->node);
		qcow2_io_error(io, err);
		qcow2_io_done(io);
	}
	list_for_each_entry_safe(w, wnext, waits, node) {
		list_del_init(&w->node);
		w->err = err;
		complete(&w->done);
	}
}

/**
 * qcow2_commit_work() - run a commit for everybody who asked before it began
 * @work: image.commit_work
 */
void qcow2_commit_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     commit_work);
	unsigned int scope = qcow2_enter();
	LIST_HEAD(flushes);
	LIST_HEAD(waits);
	int r;

	spin_lock_irq(&q->flush_lock);
	list_splice_init(&q->flushes, &flushes);
	list_splice_init(&q->commit_waits, &waits);
	spin_unlock_irq(&q->flush_lock);
	if (READ_ONCE(q->data_written)) {
		WRITE_ONCE(q->data_written, false);
		qcow2_store_touch(&q->store);
	}
	r = q->read_only ? 0 : do_commit(q);
	answer(&flushes, &waits, r);
	WRITE_ONCE(q->commits, q->commits + 1);
	wake_up_all(&q->commit_wait);
	wake_up_all(&q->free_wait);
	qcow2_leave(scope);
}

/**
 * qcow2_commit_soon() - have a commit in the background
 * @q: the image; nothing is done if it is being stopped
 */
void qcow2_commit_soon(struct qcow2_image *q)
{
	lockdep_assert_held(&q->md_lock);
	if (q->stopping)
		return;
	queue_delayed_work(q->commit_wq, &q->commit_later, COMMIT_AFTER);
}

/**
 * qcow2_commit_later_work() - write metadata that no flush has asked for
 * @work: image.commit_later
 */
void qcow2_commit_later_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(to_delayed_work(work),
					     struct qcow2_image, commit_later);

	qcow2_commit_kick(q);
}

/**
 * qcow2_commit_kick() - start a commit without waiting for it
 * @q: the image
 */
void qcow2_commit_kick(struct qcow2_image *q)
{
	queue_work(q->commit_wq, &q->commit_work);
}

/**
 * qcow2_commit() - write all metadata changed so far and wait for it
 * @q: the image
 *
 * Context: process, without alloc_lock or image.srcu.
 * Return: 0 or a negative error, after which all of it is still to be written.
 */
int qcow2_commit(struct qcow2_image *q)
{
	struct commit_wait w = { .err = 0 };

	init_completion(&w.done);
	spin_lock_irq(&q->flush_lock);
	list_add_tail(&w.node, &q->commit_waits);
	spin_unlock_irq(&q->flush_lock);
	qcow2_commit_kick(q);
	wait_for_completion_io(&w.done);
	return w.err;
}

/**
 * qcow2_commit_throttle() - keep the number of dirty blocks bounded
 * @q: the image
 *
 * Starts a commit when there are many, and waits for one when there are too
 * many. Context: a worker without alloc_lock or image.srcu.
 * Return: 0, or the error for which commits cannot make them fewer.
 */
int qcow2_commit_throttle(struct qcow2_image *q)
{
	u64 seen = READ_ONCE(q->commits);
	u32 dirty = READ_ONCE(q->nr_dirty);

	if (dirty < dirty_limit(q))
		return 0;
	qcow2_commit_kick(q);
	if (dirty < 2 * dirty_limit(q))
		return 0;
	wait_event(q->commit_wait, READ_ONCE(q->commits) != seen);
	return READ_ONCE(q->nr_dirty) < 2 * dirty_limit(q) ? 0 :
	       READ_ONCE(q->last_commit);
}

/**
 * qcow2_flush_queue() - end a bio after the next commit
 * @io: a FLUSH, or a FUA write whose data is written
 *
 * Context: any.
 */
void qcow2_flush_queue(struct qcow2_io *io)
{
	struct qcow2_image *q = io->image;
	unsigned long flags;

	spin_lock_irqsave(&q->flush_lock, flags);
	list_add_tail(&io->node, &q->flushes);
	spin_unlock_irqrestore(&q->flush_lock, flags);
	qcow2_commit_kick(q);
}

/**
 * qcow2_mark_unstable() - the mapping in the cache is not the one on disk
 * @q: the image
 *
 * To be called before the first entry changes, so that whoever sees the new
 * entry and then asks (fast.c) is told.
 */
void qcow2_mark_unstable(struct qcow2_image *q)
{
	lockdep_assert_held(&q->md_lock);
	if (q->unstable)
		return;
	WRITE_ONCE(q->unstable, true);
	/* Pairs with smp_rmb() in unstable(). */
	smp_wmb();
	qcow2_commit_soon(q);
}
