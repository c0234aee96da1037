// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters that become zeros.
 *
 * Whole clusters change their L2 entry: to a zero cluster in version 3, to an
 * unallocated one in version 2, which reads as zeros where nothing is below; who
 * calls sees to that. Their host clusters are freed, or kept. With extended
 * entries a part of a cluster can be zeros, too; its host cluster stays.
 *
 * Locks: the guest clusters (range.c); txn.lock for the entries.
 */
#include "map.h"

/* A run of entries on its way through qcow2_map_unmap(). */
struct unmap_step {
	struct qcow2_change *c;
	struct qcow2_image *q;
	struct qcow2_layer *l;
	struct qcow2_block *b;
	u64 pos;
	u32 index;
	u32 max;
	enum qcow2_zeroing how;
	/* Of one extended entry, the subclusters; 0: entries as a whole. */
	u64 part;
};

/* What an entry becomes, and whether its host cluster is set free. */
static u64 unmap_entry(const struct unmap_step *s,
		       enum qcow2_cluster_type type, u64 entry, bool *frees)
{
	u64 zero = QCOW2_OFLAG_ZERO;

	*frees = false;
	if (s->part || type == QCOW2_CLUSTER_ZERO_PLAIN)
		return entry;
	/* Of an extended entry, the other word says it. */
	if (s->l->geo.version < 3 || qcow2_extended_l2(&s->l->geo))
		zero = 0;
	if (type == QCOW2_CLUSTER_UNALLOCATED)
		return s->c->map->nr_below ? zero : entry;
	if (s->how == QCOW2_ZERO_KEEP && (entry & QCOW2_OFLAG_COPIED))
		return entry | zero;
	*frees = !qcow2_external(s->l);
	return zero;
}

/* The other word of an extended entry, whose first one becomes @entry. */
static void unmap_set_sub(const struct unmap_step *s, u32 index, u64 entry)
{
	u64 part = s->part ?: QCOW2_SUB_DATA, bitmap, old;

	bitmap = qcow2_sub_read(s->b, index, &old);
	bitmap = (bitmap | qcow2_sub_zeros(part)) & ~part;
	qcow2_sub_set(s->q, s->b, index, entry, bitmap);
}

/* Whether an entry without a host cluster lets something show through. */
static bool unmap_shows(const struct unmap_step *s, u32 index)
{
	u64 entry;

	if (!s->c->map->nr_below)
		return false;
	return !qcow2_extended_l2(&s->l->geo) ||
	       qcow2_sub_read(s->b, index, &entry) != QCOW2_SUB_ZERO;
}

/* Whether the run reads as zeros, and no entry refers to a host cluster. */
static bool unmap_is_done(const struct unmap_step *s)
{
	u64 entry;
	u32 i;

	for (i = 0; i < s->max; i++) {
		switch (qcow2_entry_type(s->l, s->b, s->index + i, &entry)) {
		case QCOW2_CLUSTER_UNALLOCATED:
			if (unmap_shows(s, s->index + i))
				return false;
			break;
		case QCOW2_CLUSTER_ZERO_PLAIN:
			break;
		default:
			return false;
		}
	}
	return true;
}

/* Ends the run before the first entry that cannot be followed. */
static int unmap_check(struct unmap_step *s)
{
	enum qcow2_cluster_type type;
	u64 entry;
	int r = 0;
	u32 i;

	for (i = 0; i < s->max; i++) {
		type = qcow2_entry_type(s->l, s->b, s->index + i, &entry);
		if (type == QCOW2_CLUSTER_COMPRESSED && s->part)
			return -EOPNOTSUPP;
		if (type == QCOW2_CLUSTER_COMPRESSED)
			r = qcow2_sound_packed(s->q, entry);
		if (type == QCOW2_CLUSTER_INVALID || r)
			break;
	}
	s->max = i;
	if (i)
		return 0;
	return r ?: qcow2_entry_refuse(s->l, s->pos);
}

/* How many references an entry gives up. */
static u32 unmap_holds(const struct unmap_step *s, u32 i,
		       enum qcow2_cluster_type *type, u64 *entry)
{
	bool frees;
	u64 first;

	*type = qcow2_entry_type(s->l, s->b, s->index + i, entry);
	unmap_entry(s, *type, *entry, &frees);
	return frees ? qcow2_entry_holds(s->l, *type, *entry, &first) : 0;
}

/* How many entries are needed for what the run gives up, if not too many. */
static u32 unmap_needs(const struct unmap_step *s)
{
	enum qcow2_cluster_type type;
	u32 i, n = 0;
	u64 entry;

	for (i = 0; i < s->max && n < QCOW2_FREE_STEP; i++)
		n += unmap_holds(s, i, &type, &entry);
	return min_t(u32, n, QCOW2_FREE_STEP);
}

/* Notes what the run refers to now: all of it unless that is in many pieces. */
static int unmap_note_old(struct unmap_step *s)
{
	enum qcow2_cluster_type type;
	u32 left = unmap_needs(s), i;
	u64 entry;
	int r;

	if (!left)
		return 0;
	r = qcow2_free_reserve(s->q, left);
	if (r)
		return r;
	for (i = 0; i < s->max; i++) {
		u32 holds = unmap_holds(s, i, &type, &entry);

		if (holds > left)
			break;
		if (holds)
			left -= qcow2_entry_free(s->q, type, entry,
						 &s->c->frees);
	}
	s->max = i;
	qcow2_free_unreserve(s->q, left);
	return 0;
}

static void unmap_publish(struct unmap_step *s)
{
	enum qcow2_cluster_type type;
	bool frees;
	u64 entry;
	u32 i;

	spin_lock_irq(&s->q->txn.lock);
	qcow2_dirty_mapping(s->q);
	for (i = s->index; i < s->index + s->max; i++) {
		type = qcow2_entry_type(s->l, s->b, i, &entry);
		entry = unmap_entry(s, type, entry, &frees);
		if (qcow2_extended_l2(&s->l->geo))
			unmap_set_sub(s, i, entry);
		else
			qcow2_entry_set(s->b, i, entry);
	}
	qcow2_dirty_block(s->q, s->b);
	qcow2_free_put(s->q, &s->c->frees);
	spin_unlock_irq(&s->q->txn.lock);
}

/*
 * Gives space of a data file back. At once: the clusters are held, and read as
 * zeros whether the entries say so on disk or not. A write in place may come
 * later that began before; what is filled later is filled anew.
 */
static void unmap_punch(struct unmap_step *s)
{
	struct qcow2_store *st = s->l->data;
	u64 end = s->pos + ((u64)s->max << s->l->geo.cluster_bits);
	/* The entries say what is read, so that this need not come true. */
	struct qcow2_zero z = { .pos = s->pos, .how = QCOW2_DISCARD };

	if (!qcow2_external(s->l) || s->how == QCOW2_ZERO_KEEP || s->part)
		return;
	end = min(end, s->l->geo.size);
	if (st->bdev)
		end = min(end, qcow2_store_size(st));
	end = round_down(end, (u64)st->align);
	if (end <= s->pos)
		return;
	z.len = end - s->pos;
	qcow2_store_zero(st, &s->q->bufs, &z);
}

/* With the range held: does a first part of the run, which it becomes. */
static int unmap_held(struct unmap_step *s)
{
	int r;

	r = qcow2_txn_throttle(s->q);
	if (!r && !qcow2_external(s->l))
		r = qcow2_header_set_dirty(s->q);
	if (!r)
		r = qcow2_l2_own(s->q, s->pos);
	if (!r)
		r = unmap_check(s);
	if (!r)
		r = unmap_note_old(s);
	if (r)
		return r;
	qcow2_block_prepare(s->b);
	unmap_publish(s);
	unmap_punch(s);
	return 0;
}

/* With the block in hand. */
static int unmap_block(struct unmap_step *s, struct qcow2_parked *p)
{
	u64 first = s->pos >> s->l->geo.cluster_bits;

	if (unmap_is_done(s))
		return 0;
	if (!qcow2_change_hold(s->c, p, first, first + s->max - 1))
		return QCOW2_PARKED;
	return unmap_held(s);
}

/* Unmaps what there is of @s->pos, @s->max, @s->how and @s->part in one block. */
static int unmap_run(struct unmap_step *s, struct qcow2_map *m,
		     struct qcow2_parked *p)
{
	struct qcow2_change c = {};
	int r;

	s->c = &c;
	s->q = m->image;
	s->l = &s->q->layer;
	s->index = qcow2_entry_index(s->l, s->pos);
	s->max = min(s->max, qcow2_l2_per_block(s->l) - s->index);
	s->b = qcow2_l2_get(s->l, s->pos);
	if (IS_ERR(s->b))
		return PTR_ERR(s->b);
	qcow2_change_init(&c, m);
	r = unmap_block(s, p);
	qcow2_change_end(&c);
	qcow2_block_put(s->b);
	return r;
}

/**
 * qcow2_map_unmap() - make guest clusters read as zeros
 * @m: the mapping
 * @p: who wants it
 * @pos: guest offset in bytes of the first cluster
 * @clusters: how many, at least 1
 * @how: what becomes of their clusters
 * @done: set to how many were done, which are some of them
 *
 * Context: a worker that holds neither image.srcu nor a lock. Return: 0;
 * QCOW2_PARKED if another change of these clusters is under way, in which case
 * @p belongs to that; or a negative error.
 */
int qcow2_map_unmap(struct qcow2_map *m, struct qcow2_parked *p, u64 pos,
		    u64 clusters, enum qcow2_zeroing how, u64 *done)
{
	struct unmap_step s = {
		.pos = pos, .how = how,
		.max = min_t(u64, clusters, QCOW2_L2_PER_BLOCK),
	};
	int r = unmap_run(&s, m, p);

	*done = s.max;
	return r;
}

/**
 * qcow2_map_unmap_part() - make a part of a guest cluster read as zeros
 * @m: the mapping, with qcow2_map_unit() less than a cluster
 * @p: who wants it
 * @pos: guest offset in bytes, a multiple of the unit
 * @units: how many of them, all in the cluster
 *
 * Context: a worker that holds neither image.srcu nor a lock. Return: 0;
 * QCOW2_PARKED as above; -EOPNOTSUPP if zeros are to be written as data, since
 * the cluster is compressed; or another negative error.
 */
int qcow2_map_unmap_part(struct qcow2_map *m, struct qcow2_parked *p, u64 pos,
			 u32 units)
{
	u32 bits = qcow2_subcluster_bits(&m->image->layer.geo);
	u32 sub = (pos >> bits) & (QCOW2_SUBCLUSTERS - 1);
	struct unmap_step s = {
		.pos = pos, .how = QCOW2_ZERO_KEEP, .max = 1,
		.part = qcow2_sub_range(sub, sub + units - 1),
	};

	return unmap_run(&s, m, p);
}
