// SPDX-License-Identifier: GPL-2.0-only
/*
 * A write's way to its clusters: in place, or new ones.
 *
 * Who reserves is told where to write. If that is in new clusters, the guest
 * clusters are held (range.c) and what the write does not cover of the new ones
 * is filled. Nothing refers to them before they are published, which is done
 * when the data is in the store; so a failure just gives them back. In a data
 * file a cluster has one place for good: what is "new" there is that its entry
 * refers to it, and there is nothing to give back.
 *
 * Locks: those of what it calls; txn.lock in qcow2_map_publish().
 */
#include "map.h"

#include "../core/scope.h"

/* A change on its way through qcow2_map_reserve(). */
struct change_step {
	struct qcow2_change *c;
	struct qcow2_image *q;
	struct qcow2_layer *l;
	const struct qcow2_wish *w;
	struct qcow2_block *b;
	u32 index;
	u32 max;
	/* What the write does not cover of its clusters is right as it is. */
	bool stays;
};

/**
 * qcow2_map_init() - set up the mapping of an image
 * @m: zeroed
 * @q: the image
 *
 * Return: 0 or -ENOMEM; qcow2_map_exit() is to be called either way.
 */
int qcow2_map_init(struct qcow2_map *m, struct qcow2_image *q)
{
	m->image = q;
	m->align = SECTOR_SIZE;
	q->layer.judge = qcow2_entry_judge;
	spin_lock_init(&m->ranges.lock);
	m->ranges.root = RB_ROOT_CACHED;
	/*
	 * Not what bios are worked off in, where all may wait for what a failed
	 * write holds. Nor what commits are run in: when memory is short one
	 * thread does it all, and who has alloc.lock, for which this waits, may
	 * wait for a commit to give memory back.
	 */
	m->undo_wq = alloc_workqueue("qcow2_undo", WQ_MEM_RECLAIM, 0);
	return m->undo_wq ? 0 : -ENOMEM;
}

/**
 * qcow2_map_exit() - undo qcow2_map_init(), whole, half or not done
 * @m: the mapping; nobody uses it
 */
void qcow2_map_exit(struct qcow2_map *m)
{
	if (m->undo_wq)
		destroy_workqueue(m->undo_wq);
}

/**
 * qcow2_change_init() - begin a change, of nothing yet
 * @c: zeroed
 * @m: the mapping
 */
void qcow2_change_init(struct qcow2_change *c, struct qcow2_map *m)
{
	c->map = m;
	INIT_LIST_HEAD(&c->frees);
}

static bool change_hold(struct qcow2_change *c, struct qcow2_parked *p,
			u64 first, u64 last)
{
	c->locked = qcow2_range_lock(&c->map->ranges, &c->range, p, first,
				     last);
	return c->locked;
}

/**
 * qcow2_change_hold() - hold guest clusters, or park until they are free
 * @c: the change, which holds none
 * @p: who wants them
 * @first: first cluster
 * @last: last cluster
 *
 * Return: as qcow2_range_lock().
 */
bool qcow2_change_hold(struct qcow2_change *c, struct qcow2_parked *p, u64 first,
		       u64 last)
{
	p->in_turn = true;
	return change_hold(c, p, first, last);
}

/**
 * qcow2_change_end() - let go of whatever a change holds
 * @c: the change; what it had allocated is published, or was given back
 *
 * Context: any.
 */
void qcow2_change_end(struct qcow2_change *c)
{
	if (c->locked)
		qcow2_range_unlock(&c->map->ranges, &c->range);
	if (c->l2)
		qcow2_block_put(c->l2);
	if (c->whole)
		qcow2_buf_put(&c->map->image->bufs, c->whole);
	qcow2_free_release(c->map->image, &c->frees);
}

/* Context: a worker that does not hold image.srcu. */
static void change_give_back(struct qcow2_change *c)
{
	qcow2_free_run(c->map->image, c->host, c->count, !c->keep_space);
	c->allocated = false;
}

static void change_undo(struct work_struct *work)
{
	struct qcow2_change *c = container_of(work, struct qcow2_change, undo);
	unsigned int scope = qcow2_scope_enter();

	change_give_back(c);
	c->undone(c);
	qcow2_scope_leave(scope);
}

/**
 * qcow2_map_abort() - give back what was reserved for a write that failed
 * @c: the change, with clusters allocated
 * @undone: called in a worker when that is over
 *
 * Context: any.
 */
void qcow2_map_abort(struct qcow2_change *c,
		     void (*undone)(struct qcow2_change *c))
{
	c->undone = undone;
	INIT_WORK(&c->undo, change_undo);
	queue_work(c->map->undo_wq, &c->undo);
}

/**
 * qcow2_map_publish() - make L2 entries refer to what was reserved
 * @c: the change
 *
 * Context: any; the data is in the store.
 */
void qcow2_map_publish(struct qcow2_change *c)
{
	struct qcow2_image *q = c->map->image;
	unsigned int bits = q->layer.geo.cluster_bits;
	bool extended = qcow2_extended_l2(&q->layer.geo);
	unsigned long flags;
	u64 host = c->host;
	u32 i;

	if (!c->l2)
		return;
	spin_lock_irqsave(&q->txn.lock, flags);
	qcow2_dirty_mapping(q);
	for (i = 0; i < c->count; i++, host += 1ULL << bits) {
		if (extended)
			qcow2_sub_publish(c, i, host);
		else
			qcow2_entry_set(c->l2, c->index + i,
					host | QCOW2_OFLAG_COPIED);
	}
	/* Pairs with smp_rmb() in qcow2_sound_run(). */
	smp_mb__before_atomic();
	for (i = 0; i < c->count; i++)
		set_bit(c->index + i, c->l2->sound);
	qcow2_dirty_block(q, c->l2);
	qcow2_free_put(q, &c->frees);
	spin_unlock_irqrestore(&q->txn.lock, flags);
}

/* Fills in what may be written in place, of no more than @max entries. */
static bool change_in_place(struct change_step *s, u32 max,
			    struct qcow2_extent *e)
{
	u64 pos = s->w->pos, wanted = s->w->end - pos, entry, host, len;
	u32 inside = pos & (qcow2_cluster(s->l) - 1);
	enum qcow2_cluster_type type;

	if (qcow2_extended_l2(&s->l->geo))
		return qcow2_sub_lookup(s->l, s->b, pos, wanted, max, true, e);
	type = qcow2_entry_type(s->l, s->b, s->index, &entry);
	if (!qcow2_entry_in_place(type, entry))
		return false;
	host = entry & QCOW2_OFFSET_MASK;
	len = qcow2_entry_run(s->l, s->b, s->index, entry, max, ~0ULL) <<
	      s->l->geo.cluster_bits;
	len = min(len, READ_ONCE(s->l->data_limit) - host) - inside;
	e->kind = QCOW2_DATA;
	e->store = s->l->data;
	e->host = host + inside;
	e->len = min(len, wanted);
	return true;
}

/* Tries without the range, which a write in place does not need. */
static bool change_try_in_place(struct change_step *s, struct qcow2_extent *e)
{
	u32 sound;

	if (s->c->locked || !s->w->unlocked)
		return false;
	sound = qcow2_sound_run(s->b, s->index, s->max);
	if (!sound)
		return false;
	e->pin = __srcu_read_lock(&s->q->srcu);
	if (change_in_place(s, sound, e))
		return true;
	/* Allocation may wait for a grace period. */
	qcow2_map_put(s->c->map, e->pin);
	e->pin = -1;
	return false;
}

/* Whether an entry's cluster is to be replaced by a new one. */
static bool change_replaces(enum qcow2_cluster_type type, u64 entry)
{
	switch (type) {
	case QCOW2_CLUSTER_UNALLOCATED:
	case QCOW2_CLUSTER_ZERO_PLAIN:
	case QCOW2_CLUSTER_COMPRESSED:
		return true;
	case QCOW2_CLUSTER_ZERO_ALLOC:
	case QCOW2_CLUSTER_NORMAL:
		return !(entry & QCOW2_OFLAG_COPIED);
	default:
		return false;
	}
}

/* Not more than there may be entries for. */
static u32 change_run(struct change_step *s)
{
	enum qcow2_cluster_type type;
	u64 entry, first;
	u32 n, old = 0;

	for (n = 0; n < s->max; n++) {
		type = qcow2_entry_type(s->l, s->b, s->index + n, &entry);
		if (!change_replaces(type, entry))
			break;
		old += qcow2_entry_holds(s->l, type, entry, &first);
		if (old > QCOW2_FREE_STEP)
			break;
	}
	return n;
}

/* What the entries refer to now, whose references are to be dropped. */
static u32 change_old(struct change_step *s)
{
	enum qcow2_cluster_type type;
	u64 entry, first;
	u32 i, old = 0;

	for (i = 0; i < s->c->count; i++) {
		type = qcow2_entry_type(s->l, s->b, s->index + i, &entry);
		old += qcow2_entry_holds(s->l, type, entry, &first);
	}
	return old;
}

/* Notes what the entries refer to now, to be freed when they are replaced. */
static int change_note_old(struct change_step *s)
{
	struct qcow2_change *c = s->c;
	enum qcow2_cluster_type type;
	u32 i, old = change_old(s);
	u64 entry;
	int r;

	if (!old)
		return 0;
	r = qcow2_free_reserve(s->q, old);
	if (r)
		return r;
	for (i = 0; i < c->count; i++) {
		type = qcow2_entry_type(s->l, s->b, s->index + i, &entry);
		old -= qcow2_entry_free(s->q, type, entry, &c->frees);
	}
	qcow2_free_unreserve(s->q, old);
	return 0;
}

/* A compressed cluster whose space may be handed out meanwhile is not replaced. */
static int change_check_old(struct change_step *s, u32 n)
{
	enum qcow2_cluster_type type;
	u64 entry;
	int r = 0;
	u32 i;

	for (i = 0; !r && i < n; i++) {
		type = qcow2_entry_type(s->l, s->b, s->index + i, &entry);
		if (type == QCOW2_CLUSTER_COMPRESSED)
			r = qcow2_sound_packed(s->q, entry);
	}
	return r;
}

/* Whether the data file reaches over what is to be written, and filled. */
static bool change_fits(const struct change_step *s, u32 clusters)
{
	u64 end = (s->c->range.first + clusters) << s->l->geo.cluster_bits;

	return min(end, s->l->geo.size) <= qcow2_store_most(s->l->data) &&
	       end <= QCOW2_OFFSET_MASK;
}

/* How many of some entries do not refer to a host cluster of their own yet. */
static u32 change_unplaced(struct change_step *s, u32 n)
{
	enum qcow2_cluster_type type;
	u32 i, unplaced = 0;
	u64 entry;

	for (i = 0; i < n; i++) {
		type = qcow2_entry_type(s->l, s->b, s->index + i, &entry);
		unplaced += !qcow2_entry_in_place(type, entry);
	}
	return unplaced;
}

/*
 * Has entries refer to their places in the data file: those alike in whether the
 * rest of their clusters is to be filled. In a raw file it never is.
 */
static int change_get_own(struct change_step *s)
{
	bool extended = qcow2_extended_l2(&s->l->geo);
	bool raw = qcow2_identity(s->l), filled;
	enum qcow2_cluster_type type;
	u64 entry;
	u32 n;

	type = qcow2_entry_type(s->l, s->b, s->index, &entry);
	s->stays = raw || (!extended && type == QCOW2_CLUSTER_NORMAL);
	for (n = 1; n < s->max; n++) {
		type = qcow2_entry_type(s->l, s->b, s->index + n, &entry);
		if (type >= QCOW2_CLUSTER_COMPRESSED)
			break;
		/* Each subcluster is looked at by itself. */
		if (extended)
			continue;
		if (qcow2_entry_in_place(type, entry))
			break;
		filled = type == QCOW2_CLUSTER_NORMAL;
		if (!raw && filled != s->stays)
			break;
	}
	while (n && !change_fits(s, n))
		n--;
	s->c->host = s->c->range.first << s->l->geo.cluster_bits;
	s->c->count = n;
	if (!n)
		return -ENOSPC;
	qcow2_count_n(s->l->core, ALLOC, change_unplaced(s, n));
	return 0;
}

/*
 * Whether a guest cluster has a host cluster of its own, of which it does not use
 * all that is to be written.
 */
static bool change_has_own(struct change_step *s, u64 *entry)
{
	enum qcow2_cluster_type type = qcow2_entry_type(s->l, s->b, s->index,
							entry);

	return (*entry & QCOW2_OFLAG_COPIED) &&
	       type == (qcow2_extended_l2(&s->l->geo) ? QCOW2_CLUSTER_NORMAL :
							QCOW2_CLUSTER_ZERO_ALLOC);
}

static u32 change_own_run(struct change_step *s, u64 entry)
{
	if (qcow2_extended_l2(&s->l->geo))
		return qcow2_sub_own_run(s->l, s->b, s->index, entry, s->max);
	return qcow2_entry_run(s->l, s->b, s->index, entry, s->max, ~0ULL);
}

/* Gets clusters: the guest clusters' own, if there are some, or new ones. */
static int change_get_clusters(struct change_step *s, bool *fresh)
{
	struct qcow2_change *c = s->c;
	bool tried = false;
	u64 entry;
	u32 n;
	int r;

	if (qcow2_external(s->l))
		return change_get_own(s);
	if (change_has_own(s, &entry)) {
		c->host = entry & QCOW2_OFFSET_MASK;
		c->count = change_own_run(s, entry);
		*fresh = false;
		return qcow2_sound_make_sure(s->q, s->b, s->index, c->count);
	}
	n = change_run(s);
	r = change_check_old(s, n);
	if (r)
		return r;
	do {
		r = qcow2_alloc_clusters(s->q, n, &c->host, &c->count, fresh);
	} while (qcow2_drain_and_retry(s->q, r, &tried));
	if (r)
		return r;
	c->allocated = true;
	return change_note_old(s);
}

/* Has what the write does not cover of its clusters filled, or filled in. */
static int change_fill(struct change_step *s, u64 first, u64 end, u64 last,
		       bool fresh)
{
	struct qcow2_change *c = s->c;
	u64 pos = s->w->pos;
	int r;

	if (s->stays || (pos == first && end == last))
		return 0;
	/* Zeros are there, and nothing else was. */
	if (fresh && list_empty(&c->frees) && !c->map->nr_below)
		return 0;
	if (qcow2_extended_l2(&s->l->geo))
		return qcow2_cow_fill_subs(c, s->w, end, last, fresh);
	/* What cannot be read may be what is written over: not of it, then. */
	if (s->w->whole && last - first <= QCOW2_BUF_SIZE &&
	    last - first == (u64)c->count << s->l->geo.cluster_bits &&
	    !qcow2_cow_gather(c, pos, end, fresh, s->w->how))
		return 0;
	r = qcow2_cow_fill(c, first, pos, fresh, s->w->how);
	return r ?: qcow2_cow_fill(c, end, last, fresh, s->w->how);
}

/* Notes which subclusters a write from @pos to @end fills. */
static void change_note_subs(struct qcow2_change *c, u64 pos, u64 end)
{
	const struct qcow2_geometry *g = &c->map->image->layer.geo;
	u32 bits = qcow2_subcluster_bits(g), mask = QCOW2_SUBCLUSTERS - 1;

	c->sub_first = (pos >> bits) & mask;
	c->sub_last = ((end - 1) >> bits) & mask;
}

/* Allocates, and fills what will not be written. */
static int change_allocate(struct change_step *s, struct qcow2_extent *e)
{
	u64 size = qcow2_cluster(s->l), pos = s->w->pos, first, last, end;
	struct qcow2_change *c = s->c;
	bool fresh = false;
	int r;

	r = qcow2_txn_throttle(s->q);
	if (!r)
		r = qcow2_l2_own(s->q, pos);
	if (!r)
		r = change_get_clusters(s, &fresh);
	if (r)
		return r;
	qcow2_block_prepare(s->b);
	refcount_inc(&s->b->refs);
	c->l2 = s->b;
	c->index = s->index;
	first = pos & ~(size - 1);
	last = first + c->count * size;
	end = min(s->w->end, last);
	qcow2_range_trim(&c->map->ranges, &c->range,
			 (last >> s->l->geo.cluster_bits) - 1);
	if (qcow2_extended_l2(&s->l->geo))
		change_note_subs(c, pos, end);
	/* A device may end where the disk does, inside of a cluster. */
	if (qcow2_external(s->l))
		last = min(last, round_up(s->l->geo.size,
					  (u64)s->l->data->align));
	r = change_fill(s, first, end, last, fresh);
	e->kind = QCOW2_DATA;
	e->store = s->l->data;
	e->host = c->host + (pos - first);
	e->len = end - pos;
	return r;
}

/*
 * Whether all that is wanted of the first cluster may be written in place. Who
 * holds a cluster gets what it wants of it in one piece.
 */
static bool change_is_in_place(struct change_step *s, struct qcow2_extent *e)
{
	u64 pos = s->w->pos, next = (pos | (qcow2_cluster(s->l) - 1)) + 1;

	return change_in_place(s, s->max, e) &&
	       pos + e->len >= min(s->w->end, next);
}

/* With the range held: what is to be done is settled now. */
static int change_locked(struct change_step *s, struct qcow2_extent *e)
{
	enum qcow2_cluster_type type;
	u64 entry;
	int r;

	if (change_is_in_place(s, e))
		return qcow2_sound_make_sure(s->q, s->b, s->index,
					     qcow2_entry_count(s->l, s->w->pos,
							       e->len));
	type = qcow2_entry_type(s->l, s->b, s->index, &entry);
	if (type == QCOW2_CLUSTER_INVALID)
		return qcow2_entry_refuse(s->l, s->w->pos);
	r = change_allocate(s, e);
	if (r && s->c->allocated)
		change_give_back(s->c);
	return r;
}

/**
 * qcow2_map_reserve() - find where a write may put what it can in one piece
 * @c: the change, which may hold the guest cluster of @w->pos already
 * @p: who wants it
 * @w: what is wanted
 * @e: filled in: data; to be let go of by qcow2_map_put()
 *
 * If the range is held, that is all that is wanted of the first cluster.
 *
 * When the data is there, qcow2_map_publish() is to be called, or
 * qcow2_map_abort() if it could not be put there and @c->allocated; and then
 * qcow2_change_end(), also if this does not return 0.
 *
 * Context: a worker that holds neither image.srcu nor a lock. Return: 0;
 * QCOW2_PARKED if another change of these clusters is under way, in which case
 * @p belongs to that; or a negative error.
 */
int qcow2_map_reserve(struct qcow2_change *c, struct qcow2_parked *p,
		      const struct qcow2_wish *w, struct qcow2_extent *e)
{
	struct qcow2_image *q = c->map->image;
	unsigned int bits = q->layer.geo.cluster_bits;
	struct change_step s = {
		.c = c, .q = q, .l = &q->layer, .w = w,
		.index = qcow2_entry_index(&q->layer, w->pos),
	};
	u64 first = w->pos >> bits;
	int r;

	e->pin = -1;
	s.max = min_t(u64, ((w->end - 1) >> bits) - first + 1,
		      qcow2_l2_per_block(s.l) - s.index);
	s.b = qcow2_l2_get(s.l, w->pos);
	if (IS_ERR(s.b))
		return PTR_ERR(s.b);
	/* Else who is in the way may leave what it can write to without them. */
	p->in_turn = !w->unlocked;
	if (change_try_in_place(&s, e))
		r = 0;
	else if (!c->locked && !change_hold(c, p, first, first + s.max - 1))
		r = QCOW2_PARKED;
	else
		r = change_locked(&s, e);
	qcow2_block_put(s.b);
	return r;
}
