// SPDX-License-Identifier: GPL-2.0-only
/*
 * The extent at a guest offset: what the image says, or where that has a hole,
 * the first image below that says something.
 *
 * Takes no locks of its own; image.srcu is held while an extent is in use.
 */
#include "map.h"

static enum qcow2_kind lookup_kind(enum qcow2_cluster_type type)
{
	switch (type) {
	case QCOW2_CLUSTER_NORMAL:
		return QCOW2_DATA;
	case QCOW2_CLUSTER_UNALLOCATED:
		return QCOW2_HOLE;
	default:
		return QCOW2_ZERO;
	}
}

/*
 * Fills in what a block says of guest bytes; false for whatever a worker should
 * look at. Inside rcu_read_lock().
 */
static bool lookup_fast(const struct qcow2_layer *l, struct qcow2_block *b,
			u64 pos, u32 len, bool write, struct qcow2_extent *e)
{
	u32 inside = pos & (qcow2_cluster(l) - 1);
	u32 index = qcow2_entry_index(l, pos);
	u32 max = qcow2_entry_count(l, pos, len);
	enum qcow2_cluster_type type = QCOW2_CLUSTER_NORMAL;
	u64 entry, run;

	if (write) {
		max = qcow2_sound_run(b, index, max);
		if (!max)
			return false;
	}
	if (unlikely(qcow2_extended_l2(&l->geo)))
		return qcow2_sub_lookup(l, b, pos, len, max, write, e);
	entry = qcow2_entry(b, index);
	if (unlikely(b->bad) || !qcow2_l2_entry_normal(&l->geo, entry,
						       READ_ONCE(l->data_limit)))
		type = qcow2_entry_type(l, b, index, &entry);
	if (write ? !qcow2_entry_in_place(type, entry) :
		    type == QCOW2_CLUSTER_INVALID)
		return false;
	if (type == QCOW2_CLUSTER_COMPRESSED) {
		qcow2_entry_packed(l, entry, inside, len, e);
		return true;
	}
	run = (u64)qcow2_cluster(l) - inside;
	if (run < len && max > 1) {
		u64 mask = write ? ~0ULL : ~QCOW2_OFLAG_COPIED;

		run = (qcow2_entry_run(l, b, index, entry, max, mask) <<
		       l->geo.cluster_bits) - inside;
		/* Entries further on are as hostile as the first. */
		if (type == QCOW2_CLUSTER_NORMAL)
			run = min(run, READ_ONCE(l->data_limit) -
				  (entry & QCOW2_OFFSET_MASK) - inside);
	}
	e->kind = lookup_kind(type);
	e->store = l->data;
	e->host = (entry & QCOW2_OFFSET_MASK) + inside;
	e->len = min_t(u64, run, len);
	return true;
}

/* What a layer's cached blocks say; false as above. */
static bool lookup_layer(struct qcow2_layer *l, u64 pos, u32 len, bool write,
			 struct qcow2_extent *e)
{
	struct qcow2_block *b;
	bool found = false;

	rcu_read_lock();
	b = xa_load(&l->l2_blocks, pos >> qcow2_l2_block_bits(l));
	if (likely(b)) {
		if (!test_bit(QCOW2_BLOCK_REFERENCED, &b->flags))
			set_bit(QCOW2_BLOCK_REFERENCED, &b->flags);
		found = lookup_fast(l, b, pos, len, write, e);
	}
	rcu_read_unlock();
	return found;
}

/* Narrows a hole to what @w covers of it, if it is not beyond its end. */
static bool lookup_enter(const struct qcow2_below *w, u64 pos,
			 struct qcow2_extent *e)
{
	if (pos >= w->size)
		return false;
	e->len = min(e->len, w->size - pos);
	if (w->layer)
		return true;
	e->kind = QCOW2_DATA;
	e->store = w->store;
	e->host = pos;
	return false;
}

/* Whether a layer has no L2 table there, and so a hole, which is narrowed to it. */
static bool lookup_no_table(const struct qcow2_layer *l, u64 pos,
			    struct qcow2_extent *e)
{
	u64 end;

	if (!qcow2_l2_absent(l, pos, &end))
		return false;
	e->len = min(e->len, end - pos);
	return true;
}

/* What shows through a hole; false if a worker has to look. */
static bool lookup_below(const struct qcow2_map *m, u64 pos,
			 struct qcow2_extent *e)
{
	struct qcow2_layer *l;
	u32 i;

	for (i = 0; i < m->nr_below && e->kind == QCOW2_HOLE; i++) {
		if (!lookup_enter(&m->below[i], pos, e))
			break;
		l = m->below[i].layer;
		if (!lookup_no_table(l, pos, e) &&
		    !lookup_layer(l, pos, e->len, false, e))
			return false;
	}
	return true;
}

/* Where the guest sees a data file byte for byte, no table has to be asked. */
static void lookup_identity(const struct qcow2_layer *l, u64 pos, u64 len,
			    struct qcow2_extent *e)
{
	*e = (struct qcow2_extent) {
		.kind = QCOW2_DATA, .store = l->data, .host = pos, .len = len,
		.pin = -1,
	};
}

/**
 * qcow2_map_lookup() - find an extent if that takes no lock and no I/O
 * @m: the mapping
 * @pos: guest offset in bytes
 * @len: bytes to look at
 * @write: only what may be written in place
 * @e: filled in; to be let go of by qcow2_map_put()
 *
 * Context: any. Return: false if a worker has to look.
 */
bool qcow2_map_lookup(struct qcow2_map *m, u64 pos, u32 len, bool write,
		      struct qcow2_extent *e)
{
	struct qcow2_image *q = m->image;
	bool found;

	if (!write && qcow2_identity(&q->layer)) {
		lookup_identity(&q->layer, pos, len, e);
		qcow2_count(q->layer.core, HIT);
		return true;
	}
	e->pin = __srcu_read_lock(&q->srcu);
	found = lookup_layer(&q->layer, pos, len, write, e) &&
		(likely(!m->nr_below) || lookup_below(m, pos, e));
	if (found)
		qcow2_count(q->layer.core, HIT);
	else
		qcow2_map_put(m, e->pin);
	return found;
}

static int lookup_block(struct qcow2_layer *l, const struct qcow2_block *b,
			u64 pos, u64 len, struct qcow2_extent *e)
{
	u32 inside = pos & (qcow2_cluster(l) - 1);
	u32 index = qcow2_entry_index(l, pos);
	enum qcow2_cluster_type type;
	u64 entry, run;

	if (qcow2_extended_l2(&l->geo))
		return qcow2_sub_lookup(l, b, pos, len,
					qcow2_entry_count(l, pos, len), false,
					e) ? 0 : qcow2_entry_refuse(l, pos);
	type = qcow2_entry_type(l, b, index, &entry);
	if (type == QCOW2_CLUSTER_INVALID)
		return qcow2_entry_refuse(l, pos);
	if (type == QCOW2_CLUSTER_COMPRESSED) {
		qcow2_entry_packed(l, entry, inside, len, e);
		return 0;
	}
	run = qcow2_entry_run(l, b, index, entry,
			      qcow2_entry_count(l, pos, len),
			      ~QCOW2_OFLAG_COPIED) << l->geo.cluster_bits;
	if (type == QCOW2_CLUSTER_NORMAL)
		run = min(run, READ_ONCE(l->data_limit) -
			  (entry & QCOW2_OFFSET_MASK));
	e->kind = lookup_kind(type);
	e->store = l->data;
	e->host = (entry & QCOW2_OFFSET_MASK) + inside;
	e->len = min(run - inside, len);
	return 0;
}

/**
 * qcow2_map_below() - find what shows through a hole
 * @m: the mapping
 * @pos: guest offset in bytes
 * @e: a hole; changed to what is there, which may be less of it
 *
 * Context: a worker that does not wait for a change; may read metadata.
 * Return: 0 or a negative error; what is wrong with an image is reported.
 */
int qcow2_map_below(struct qcow2_map *m, u64 pos, struct qcow2_extent *e)
{
	struct qcow2_layer *l;
	struct qcow2_block *b;
	int r = 0;
	u32 i;

	for (i = 0; !r && i < m->nr_below && e->kind == QCOW2_HOLE; i++) {
		if (!lookup_enter(&m->below[i], pos, e))
			break;
		l = m->below[i].layer;
		if (lookup_no_table(l, pos, e))
			continue;
		b = qcow2_l2_get(l, pos);
		if (IS_ERR(b))
			return PTR_ERR(b);
		r = lookup_block(l, b, pos, e->len, e);
		qcow2_block_put(b);
	}
	return r;
}

/**
 * qcow2_map_get() - find an extent
 * @m: the mapping
 * @pos: guest offset in bytes
 * @len: bytes to look at
 * @e: filled in; to be let go of by qcow2_map_put()
 *
 * Context: a worker that does not hold image.srcu; may read metadata.
 * Return: 0 or a negative error; what is wrong with the image is reported.
 */
int qcow2_map_get(struct qcow2_map *m, u64 pos, u64 len,
		  struct qcow2_extent *e)
{
	struct qcow2_image *q = m->image;
	struct qcow2_block *b;
	int r;

	if (qcow2_identity(&q->layer)) {
		lookup_identity(&q->layer, pos, len, e);
		return 0;
	}
	b = qcow2_l2_get(&q->layer, pos);
	if (IS_ERR(b))
		return PTR_ERR(b);
	e->pin = __srcu_read_lock(&q->srcu);
	r = lookup_block(&q->layer, b, pos, len, e);
	qcow2_block_put(b);
	if (!r && e->kind == QCOW2_HOLE && m->nr_below) {
		/* What is below stays, and may have to be read: not in SRCU. */
		qcow2_map_put(m, e->pin);
		e->pin = -1;
		r = qcow2_map_below(m, pos, e);
	} else if (r) {
		qcow2_map_put(m, e->pin);
	}
	return r;
}
