// SPDX-License-Identifier: GPL-2.0-only
/*
 * The order in which metadata reaches the disk, and FLUSH.
 *
 * Metadata changes in the cache first. A commit writes, in this order, with a
 * flush of the store after each step that wrote anything:
 *
 *   1. blocks of refcounts (and with the same flush: guest data, the copied
 *      parts of clusters, the first content of new tables; an external data
 *      file has a flush of its own)
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
 * Locks: alloc.reftable_lock across a commit; txn.lock and txn.wait_lock inside.
 */
#include "meta.h"

#include <linux/bitmap.h>
#include <linux/list_sort.h>
#include <linux/slab.h>

#include "../core/scope.h"

/* What one commit writes. */
struct txn_commit {
	struct list_head l2;
	struct list_head refs;
	struct list_head frees;
	bool l1;
	bool reftable;
	bool moved;
};

/* Copies each block of @list to its shadow and makes it clean. */
static void txn_freeze_blocks(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_block *b;

	list_for_each_entry(b, list, commit) {
		spin_lock_irq(&q->txn.lock);
		memcpy(b->shadow, b->data, QCOW2_BLOCK_SIZE);
		clear_bit(QCOW2_BLOCK_DIRTY, &b->flags);
		list_del_init(&b->dirty);
		q->txn.nr_dirty--;
		spin_unlock_irq(&q->txn.lock);
	}
}

static void txn_collect(struct list_head *dirty, struct list_head *list)
{
	struct qcow2_block *b;

	list_for_each_entry(b, dirty, dirty)
		list_add_tail(&b->commit, list);
}

static bool txn_skip_refcounts(const struct qcow2_image *q)
{
	/* The old place of a moved table is about to be freed. */
	return qcow2_lazy(q) && !q->txn.stopping && !q->txn.reftable_moved &&
	       q->txn.nr_dirty < q->txn.dirty_limit;
}

static void txn_freeze(struct qcow2_image *q, struct txn_commit *c)
{
	bool lazy;

	spin_lock_irq(&q->txn.lock);
	lazy = txn_skip_refcounts(q);
	qcow2_free_take(q, &c->frees);
	c->l1 = qcow2_table_freeze(&q->layer.l1);
	txn_collect(&q->txn.dirty_l2, &c->l2);
	spin_unlock_irq(&q->txn.lock);
	txn_freeze_blocks(q, &c->l2);
	if (lazy)
		return;
	spin_lock_irq(&q->txn.lock);
	c->reftable = qcow2_table_freeze(&q->reftable);
	c->moved = q->txn.reftable_moved;
	q->txn.reftable_moved = false;
	txn_collect(&q->txn.dirty_refs, &c->refs);
	spin_unlock_irq(&q->txn.lock);
	txn_freeze_blocks(q, &c->refs);
}

static int txn_by_host(void *priv, const struct list_head *a,
		       const struct list_head *b)
{
	u64 x = list_entry(a, struct qcow2_block, commit)->host;
	u64 y = list_entry(b, struct qcow2_block, commit)->host;

	return x < y ? -1 : x > y;
}

static void txn_slot_done(struct qcow2_store_io *sio, int err)
{
	struct qcow2_slot *slot = container_of(sio, struct qcow2_slot, sio);
	struct qcow2_image *q = slot->image;

	if (err)
		WRITE_ONCE(q->txn.error, err);
	if (atomic_dec_and_test(&q->txn.pending))
		complete(&q->txn.io);
}

/* Writes the blocks from @b on that lie next to each other; returns the next. */
static struct qcow2_block *txn_write_run(struct qcow2_image *q,
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
	slot->sio.store = q->layer.meta;
	slot->sio.done = txn_slot_done;
	slot->sio.pos = pos;
	slot->sio.write = true;
	slot->sio.how = QCOW2_FOR_METADATA;
	qcow2_store_use_vec(&slot->sio, slot->bv, (u64)n << QCOW2_BLOCK_BITS);
	atomic_inc(&q->txn.pending);
	qcow2_store_submit(&slot->sio);
	return b;
}

static int txn_write_blocks(struct qcow2_image *q, struct list_head *list)
{
	struct qcow2_block *b;
	u32 i;

	list_sort(NULL, list, txn_by_host);
	b = list_first_entry(list, struct qcow2_block, commit);
	q->txn.error = 0;
	while (!q->txn.error && !list_entry_is_head(b, list, commit)) {
		reinit_completion(&q->txn.io);
		atomic_set(&q->txn.pending, 1);
		for (i = 0; i < QCOW2_COMMIT_SLOTS &&
		     !list_entry_is_head(b, list, commit); i++)
			b = txn_write_run(q, &q->txn.slots[i], b, list);
		if (!atomic_dec_and_test(&q->txn.pending))
			wait_for_completion_io(&q->txn.io);
	}
	return q->txn.error;
}

static int txn_write_refcounts(struct qcow2_image *q, struct txn_commit *c)
{
	int r = txn_write_blocks(q, &c->refs);

	if (!r)
		r = qcow2_store_flush(q->layer.meta);
	if (r || !c->reftable)
		return r;
	r = qcow2_table_write(&q->reftable, q->layer.meta);
	if (!r)
		r = qcow2_store_flush(q->layer.meta);
	if (!r && c->moved)
		r = qcow2_header_move(q);
	return r;
}

/*
 * What the guest has written, and was told is written, wherever that is; before
 * the entries that refer to it, of which copies have been taken.
 */
static int txn_flush_data(struct qcow2_image *q)
{
	/* Else it goes with the refcounts. */
	return qcow2_external(&q->layer) ? qcow2_store_flush(q->layer.data) : 0;
}

/* Whether the metadata is all on disk, and the guest data elsewhere. */
static bool txn_is_idle(struct qcow2_image *q, const struct txn_commit *c)
{
	return qcow2_external(&q->layer) && !c->l1 && !c->reftable &&
	       list_empty(&c->l2) && list_empty(&c->refs);
}

static int txn_write_mapping(struct qcow2_image *q, struct txn_commit *c)
{
	int r = 0;

	if (!c->l1 && list_empty(&c->l2))
		return 0;
	r = txn_write_blocks(q, &c->l2);
	if (!r && c->l1)
		r = qcow2_table_write(&q->layer.l1, q->layer.meta);
	return r ?: qcow2_store_flush(q->layer.meta);
}

static void txn_put_blocks(struct qcow2_image *q, struct list_head *list,
			   bool redo)
{
	struct qcow2_block *b, *next;

	list_for_each_entry_safe(b, next, list, commit) {
		list_del_init(&b->commit);
		if (redo) {
			spin_lock_irq(&q->txn.lock);
			qcow2_dirty_block(q, b);
			spin_unlock_irq(&q->txn.lock);
		}
		qcow2_block_put(b);
	}
}

static void txn_failed(struct qcow2_image *q, struct txn_commit *c)
{
	txn_put_blocks(q, &c->l2, true);
	txn_put_blocks(q, &c->refs, true);
	spin_lock_irq(&q->txn.lock);
	if (c->l1)
		qcow2_table_redirty(&q->layer.l1);
	if (c->reftable)
		qcow2_table_redirty(&q->reftable);
	q->txn.reftable_moved |= c->moved;
	qcow2_free_failed(q, &c->frees);
	qcow2_dirty_soon(q);
	spin_unlock_irq(&q->txn.lock);
}

static void txn_succeeded(struct qcow2_image *q, struct txn_commit *c)
{
	txn_put_blocks(q, &c->l2, false);
	txn_put_blocks(q, &c->refs, false);
	spin_lock_irq(&q->txn.lock);
	if (list_empty(&q->txn.dirty_l2) && list_empty(&q->frees.unlinked) &&
	    bitmap_empty(q->layer.l1.dirty, q->layer.l1.blocks))
		WRITE_ONCE(q->txn.unstable, false);
	else
		qcow2_dirty_soon(q);
	qcow2_free_later(q, &c->frees);
	spin_unlock_irq(&q->txn.lock);
}

static int txn_run(struct qcow2_image *q)
{
	struct txn_commit c = {};
	int r;

	INIT_LIST_HEAD(&c.l2);
	INIT_LIST_HEAD(&c.refs);
	INIT_LIST_HEAD(&c.frees);
	mutex_lock(&q->alloc.reftable_lock);
	txn_freeze(q, &c);
	r = txn_flush_data(q);
	if (!r && !txn_is_idle(q, &c)) {
		r = txn_write_refcounts(q, &c);
		if (!r)
			r = txn_write_mapping(q, &c);
	}
	if (r)
		txn_failed(q, &c);
	else
		txn_succeeded(q, &c);
	mutex_unlock(&q->alloc.reftable_lock);
	if (r)
		qcow2_limit_err(q->layer.core, "cannot commit: error %d", r);
	WRITE_ONCE(q->txn.last, r);
	qcow2_count(q->layer.core, COMMIT);
	return r;
}

/* Runs a commit for everybody who asked before it began. */
static void txn_work(struct work_struct *work)
{
	struct qcow2_image *q = container_of(work, struct qcow2_image,
					     txn.work);
	unsigned int scope = qcow2_scope_enter();
	struct qcow2_waiter *w, *next;
	LIST_HEAD(waiters);
	int r;

	spin_lock_irq(&q->txn.wait_lock);
	list_splice_init(&q->txn.waiters, &waiters);
	spin_unlock_irq(&q->txn.wait_lock);
	qcow2_store_touch(q->layer.data);
	r = q->layer.read_only ? 0 : txn_run(q);
	/* The next one has nothing to make up for what this one has written. */
	qcow2_store_touch(q->layer.meta);
	list_for_each_entry_safe(w, next, &waiters, node) {
		list_del_init(&w->node);
		w->done(w, r);
	}
	WRITE_ONCE(q->txn.commits, q->txn.commits + 1);
	wake_up_all(&q->txn.wait);
	wake_up_all(&q->frees.wait);
	qcow2_scope_leave(scope);
}

/* Writes metadata that no flush has asked for. */
static void txn_later(struct work_struct *work)
{
	struct qcow2_image *q = container_of(to_delayed_work(work),
					     struct qcow2_image, txn.later);

	qcow2_dirty_now(q);
}

/**
 * qcow2_txn_init() - set up what commits need
 * @q: the image
 *
 * Return: 0 or -ENOMEM; qcow2_txn_exit() is to be called either way.
 */
int qcow2_txn_init(struct qcow2_image *q)
{
	struct qcow2_txn *t = &q->txn;

	spin_lock_init(&t->wait_lock);
	INIT_LIST_HEAD(&t->waiters);
	INIT_WORK(&t->work, txn_work);
	INIT_DELAYED_WORK(&t->later, txn_later);
	init_completion(&t->io);
	init_waitqueue_head(&t->wait);
	t->slots = kcalloc(QCOW2_COMMIT_SLOTS, sizeof(*t->slots), GFP_KERNEL);
	t->wq = alloc_workqueue("qcow2_commit", WQ_MEM_RECLAIM, 0);
	return t->slots && t->wq ? 0 : -ENOMEM;
}

/**
 * qcow2_txn_exit() - undo qcow2_txn_init(), whole or half done
 * @q: the image, closed
 */
void qcow2_txn_exit(struct qcow2_image *q)
{
	if (q->txn.wq)
		destroy_workqueue(q->txn.wq);
	kfree(q->txn.slots);
}

/**
 * qcow2_txn_begin() - an image is to be loaded
 * @q: the image, not in use
 */
void qcow2_txn_begin(struct qcow2_image *q)
{
	q->txn.last = 0;
	q->txn.unstable = false;
	q->txn.stopping = false;
	q->txn.reftable_moved = false;
}

/**
 * qcow2_txn_stopping() - whether commits are to be the last ones
 * @q: the image
 * @stopping: they write everything there is, and nothing starts one later
 */
void qcow2_txn_stopping(struct qcow2_image *q, bool stopping)
{
	spin_lock_irq(&q->txn.lock);
	q->txn.stopping = stopping;
	spin_unlock_irq(&q->txn.lock);
}

/**
 * qcow2_txn_settle() - wait until no commit is under way or will be
 * @q: the image, which nobody uses any more
 *
 * A commit that fails would start another one later, if it were not for
 * txn.stopping.
 */
void qcow2_txn_settle(struct qcow2_image *q)
{
	qcow2_txn_stopping(q, true);
	cancel_delayed_work_sync(&q->txn.later);
	flush_workqueue(q->txn.wq);
	flush_work(&q->frees.work);
}

/**
 * qcow2_txn_wait() - be told of the end of the next commit
 * @q: the image
 * @w: what is to be called
 *
 * Context: any.
 */
void qcow2_txn_wait(struct qcow2_image *q, struct qcow2_waiter *w)
{
	unsigned long flags;

	spin_lock_irqsave(&q->txn.wait_lock, flags);
	list_add_tail(&w->node, &q->txn.waiters);
	spin_unlock_irqrestore(&q->txn.wait_lock, flags);
	qcow2_dirty_now(q);
}

struct txn_sync {
	struct qcow2_waiter waiter;
	struct completion done;
	int err;
};

static void txn_sync_done(struct qcow2_waiter *w, int err)
{
	struct txn_sync *s = container_of(w, struct txn_sync, waiter);

	s->err = err;
	complete(&s->done);
}

/**
 * qcow2_txn_commit() - write all metadata changed so far and wait for it
 * @q: the image
 *
 * Context: process, without alloc.lock or image.srcu.
 * Return: 0 or a negative error, after which all of it is still to be written.
 */
int qcow2_txn_commit(struct qcow2_image *q)
{
	struct txn_sync s = { .waiter.done = txn_sync_done };

	init_completion(&s.done);
	qcow2_txn_wait(q, &s.waiter);
	wait_for_completion_io(&s.done);
	return s.err;
}

/**
 * qcow2_txn_throttle() - keep the number of dirty blocks bounded
 * @q: the image
 *
 * Starts a commit when there are many, and waits for one when there are too
 * many. Context: a worker without alloc.lock or image.srcu.
 * Return: 0, or the error for which commits cannot make them fewer.
 */
int qcow2_txn_throttle(struct qcow2_image *q)
{
	u64 seen = READ_ONCE(q->txn.commits);
	u32 dirty = READ_ONCE(q->txn.nr_dirty);

	if (dirty < q->txn.dirty_limit)
		return 0;
	qcow2_dirty_now(q);
	if (dirty < 2 * q->txn.dirty_limit)
		return 0;
	wait_event(q->txn.wait, READ_ONCE(q->txn.commits) != seen);
	return READ_ONCE(q->txn.nr_dirty) < 2 * q->txn.dirty_limit ? 0 :
	       READ_ONCE(q->txn.last);
}
