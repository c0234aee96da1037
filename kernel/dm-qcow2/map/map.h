/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map: from guest offsets to extents, and how that changes. The only place that
 * decodes L2 entries. Calls meta, xform, store, format and core; io only through
 * what those who are parked, and changes, have given to be called.
 *
 *   entry.c    what an L2 entry says
 *   subcluster.c  the same of extended ones
 *   sound.c    whether its cluster may be written in place, or dropped
 *   lookup.c   the extent at a guest offset, through images below
 *   fetch.c    what is in it, in memory
 *   range.c    locks on guest clusters whose mapping changes
 *   cow.c      what a write does not cover of new clusters
 *   change.c   new clusters: reserve, then publish or abort
 *   unmap.c    clusters that become zeros
 *
 * Lock order, outermost first:
 *
 *   range          (not a lock: who wants it is parked, see range.c)
 *   those of meta, down to txn.lock, in which entries change
 *   ranges.lock    (irq) range tree; a leaf
 *
 * image.srcu is held from before an extent is looked up until it is not used
 * any more, so that its clusters are not handed out to others meanwhile.
 */
#ifndef QCOW2_MAP_H
#define QCOW2_MAP_H

#include <linux/rbtree.h>

#include "../meta/meta.h"

/* What functions that may have to wait for others return then. */
#define QCOW2_PARKED 1

/**
 * enum qcow2_kind - what there is at a guest offset
 * @QCOW2_HOLE: nothing was ever written, also to the images below
 * @QCOW2_ZERO: zeros
 * @QCOW2_DATA: what is in the store
 * @QCOW2_COMPRESSED: the same, in another form; a part of one cluster
 */
enum qcow2_kind { QCOW2_HOLE, QCOW2_ZERO, QCOW2_DATA, QCOW2_COMPRESSED };

/**
 * struct qcow2_extent - guest bytes that are alike
 * @kind: what they are
 * @store: where they are, if they are data
 * @host: byte offset of the first there; if they are compressed, in the cluster
 * @len: how many
 * @pin: keeps their clusters from being handed out to others
 * @packed: the cluster, if they are compressed
 */
struct qcow2_extent {
	enum qcow2_kind kind;
	struct qcow2_store *store;
	u64 host;
	u64 len;
	int pin;
	struct qcow2_packed packed;
};

/**
 * struct qcow2_range - guest clusters whose mapping is being changed
 * @node: ranges.root
 * @first: first cluster
 * @last: last cluster
 * @subtree_last: for the interval tree
 * @waiters: struct qcow2_parked of those who want a part of it
 */
struct qcow2_range {
	struct rb_node node;
	u64 first;
	u64 last;
	u64 subtree_last;
	struct list_head waiters;
};

/**
 * struct qcow2_parked - somebody who wants guest clusters that others hold
 * @node: the range's waiters
 * @go_on: called once, in any context, when it is worth while to try again
 * @range: what it wants
 * @in_turn: it goes on when it has its turn, with @range held for it until it
 *	comes for it or qcow2_range_give_up() is called; otherwise as soon as
 *	somebody lets go of a part of that
 * @reserved: @range is held for it; belongs to it once go_on() was called
 */
struct qcow2_parked {
	struct list_head node;
	void (*go_on)(struct qcow2_parked *p);
	struct qcow2_range range;
	bool in_turn;
	bool reserved;
};

/**
 * struct qcow2_ranges - all of them
 * @lock: the tree, and the waiters
 * @root: the tree
 */
struct qcow2_ranges {
	spinlock_t lock;	/* ranges and their waiters */
	struct rb_root_cached root;
};

/**
 * struct qcow2_below - an image below, which shows through holes
 * @layer: how it is mapped; NULL: it is raw
 * @store: its bytes, if it is raw
 * @size: how many bytes it has; beyond them everything reads as zeros, whatever
 *	is further below
 *
 * Nobody changes it while it is used.
 */
struct qcow2_below {
	struct qcow2_layer *layer;
	struct qcow2_store *store;
	u64 size;
};

/**
 * struct qcow2_map - the mapping of an image
 * @image: the image
 * @below: the images below it, nearest first; fixed while bios may come
 * @nr_below: their number
 * @align: offsets and lengths of I/O to any of the stores are multiples of it, in
 *	bytes, or it goes through a buffer; no more than a cluster
 * @ranges: guest clusters whose mapping is being changed
 * @undo_wq: gives back what changes had reserved; it waits for who allocates,
 *	who waits for commits
 */
struct qcow2_map {
	struct qcow2_image *image;
	const struct qcow2_below *below;
	u32 nr_below;
	u32 align;
	struct qcow2_ranges ranges;
	struct workqueue_struct *undo_wq;
};

/**
 * struct qcow2_change - a write's way to its clusters
 * @map: the mapping
 * @range: the guest clusters that it holds, if @locked
 * @locked: whether it holds @range
 * @l2: the block with the entries to be changed; NULL: none is
 * @index: first entry in @l2
 * @count: number of entries
 * @host: host offset of the first cluster
 * @sub_first: first subcluster, in the first cluster, that is to be filled; of
 *	extended entries
 * @sub_last: the last one, in the last cluster
 * @allocated: the clusters were taken from the allocator for this
 * @keep_space: if they are given back, no space below is
 * @whole: what is to be written once the caller has put in what it writes; NULL:
 *	what it does not write is there already
 * @whole_at: host offset in bytes of what is in @whole
 * @whole_len: bytes of it
 * @frees: what the change of the mapping sets free
 * @undo: gives the clusters back
 * @undone: called after that
 */
struct qcow2_change {
	struct qcow2_map *map;
	struct qcow2_range range;
	bool locked;
	struct qcow2_block *l2;
	u32 index;
	u32 count;
	u64 host;
	u8 sub_first;
	u8 sub_last;
	bool allocated;
	bool keep_space;
	struct qcow2_buf *whole;
	u64 whole_at;
	u32 whole_len;
	struct list_head frees;
	struct work_struct undo;
	void (*undone)(struct qcow2_change *c);
};

/**
 * struct qcow2_wish - what a write wants
 * @pos: guest offset in bytes
 * @end: where it ends
 * @unlocked: it may be done in place without holding the guest clusters
 * @whole: new clusters may be written as a whole, from qcow2_change.whole
 * @how: on whose behalf
 */
struct qcow2_wish {
	u64 pos;
	u64 end;
	bool unlocked;
	bool whole;
	struct qcow2_how how;
};

/* entry.c */
enum qcow2_cluster_type qcow2_entry_classify(const struct qcow2_layer *l,
					     u64 entry);
enum qcow2_cluster_type qcow2_entry_type(const struct qcow2_layer *l,
					 const struct qcow2_block *b, u32 index,
					 u64 *entry);
u64 qcow2_entry_run(const struct qcow2_layer *l, const struct qcow2_block *b,
		    u32 index, u64 first, u32 max, u64 mask);
void qcow2_entry_set(struct qcow2_block *b, u32 index, u64 entry);
u32 qcow2_entry_free(struct qcow2_image *q, enum qcow2_cluster_type type,
		     u64 entry, struct list_head *list);
void qcow2_entry_packed(const struct qcow2_layer *l, u64 entry, u32 inside,
			u64 len, struct qcow2_extent *e);
u32 qcow2_entry_holds(const struct qcow2_layer *l,
		      enum qcow2_cluster_type type, u64 entry, u64 *first);
int qcow2_entry_refuse(struct qcow2_layer *l, u64 pos);
int qcow2_entry_judge(struct qcow2_layer *l, struct qcow2_block *b);

/* subcluster.c */
u64 qcow2_sub_read(const struct qcow2_block *b, u32 index, u64 *entry);
void qcow2_sub_set(struct qcow2_image *q, struct qcow2_block *b, u32 index,
		   u64 entry, u64 bitmap);
bool qcow2_sub_lookup(const struct qcow2_layer *l, const struct qcow2_block *b,
		      u64 pos, u64 len, u32 max, bool write,
		      struct qcow2_extent *e);
u32 qcow2_sub_own_run(const struct qcow2_layer *l, const struct qcow2_block *b,
		      u32 index, u64 first, u32 max);
u64 qcow2_sub_touched(const struct qcow2_change *c, u32 i);
void qcow2_sub_publish(struct qcow2_change *c, u32 i, u64 host);

/* sound.c */
int qcow2_sound_make_sure(struct qcow2_image *q, struct qcow2_block *b,
			  u32 index, u32 count);

int qcow2_sound_packed(struct qcow2_image *q, u64 entry);

/* lookup.c */
bool qcow2_map_lookup(struct qcow2_map *m, u64 pos, u32 len, bool write,
		      struct qcow2_extent *e);
int qcow2_map_get(struct qcow2_map *m, u64 pos, u64 len,
		  struct qcow2_extent *e);
int qcow2_map_below(struct qcow2_map *m, u64 pos, struct qcow2_extent *e);

/* fetch.c */
int qcow2_extent_fetch(struct qcow2_map *m, const struct qcow2_extent *e,
		       struct qcow2_buf *buf, u64 skip, struct qcow2_how how);

/* range.c */
bool qcow2_range_lock(struct qcow2_ranges *rs, struct qcow2_range *r,
		      struct qcow2_parked *p, u64 first, u64 last);
void qcow2_range_trim(struct qcow2_ranges *rs, struct qcow2_range *r,
		      u64 last);
void qcow2_range_unlock(struct qcow2_ranges *rs, struct qcow2_range *r);
void qcow2_range_give_up(struct qcow2_ranges *rs, struct qcow2_parked *p);

/* cow.c */
int qcow2_cow_fill(struct qcow2_change *c, u64 pos, u64 end, bool fresh,
		   struct qcow2_how how);
int qcow2_cow_gather(struct qcow2_change *c, u64 pos, u64 end, bool fresh,
		     struct qcow2_how how);
int qcow2_cow_fill_subs(struct qcow2_change *c, const struct qcow2_wish *w,
			u64 end, u64 last, bool fresh);

/* change.c */
int qcow2_map_init(struct qcow2_map *m, struct qcow2_image *q);
void qcow2_map_exit(struct qcow2_map *m);
void qcow2_change_init(struct qcow2_change *c, struct qcow2_map *m);
bool qcow2_change_hold(struct qcow2_change *c, struct qcow2_parked *p, u64 first,
		       u64 last);
void qcow2_change_end(struct qcow2_change *c);
int qcow2_map_reserve(struct qcow2_change *c, struct qcow2_parked *p,
		      const struct qcow2_wish *w, struct qcow2_extent *e);
void qcow2_map_publish(struct qcow2_change *c);
void qcow2_map_abort(struct qcow2_change *c,
		     void (*undone)(struct qcow2_change *c));

/* unmap.c */
int qcow2_map_unmap(struct qcow2_map *m, struct qcow2_parked *p, u64 pos,
		    u64 clusters, enum qcow2_zeroing how, u64 *done);
int qcow2_map_unmap_part(struct qcow2_map *m, struct qcow2_parked *p, u64 pos,
			 u32 units);

/* Lets go of an extent. Context: any. */
static inline void qcow2_map_put(struct qcow2_map *m, int pin)
{
	if (pin >= 0)
		__srcu_read_unlock(&m->image->srcu, pin);
}

/* Whether an extent has bytes of its own, in whatever form. */
static inline bool qcow2_extent_has_data(const struct qcow2_extent *e)
{
	return e->kind >= QCOW2_DATA;
}

/* Bytes that can be zeros by themselves, of version 3: a cluster, or less. */
static inline u64 qcow2_map_unit(const struct qcow2_map *m)
{
	const struct qcow2_geometry *g = &m->image->layer.geo;

	return 1ULL << (qcow2_extended_l2(g) ? qcow2_subcluster_bits(g) :
					       g->cluster_bits);
}

/* Whether something below shows through a hole at a guest offset. */
static inline bool qcow2_map_shows(const struct qcow2_map *m, u64 pos)
{
	return m->nr_below && pos < m->below->size;
}

/*
 * Whether nothing is mapped from @pos up to @end, which it sets then, and
 * nothing shows through.
 */
static inline bool qcow2_map_absent(struct qcow2_map *m, u64 pos, u64 *end)
{
	return !qcow2_map_shows(m, pos) &&
	       qcow2_l2_absent(&m->image->layer, pos, end);
}

/* Reads a word of a referenced block, or inside rcu_read_lock(). */
static inline u64 qcow2_entry(const struct qcow2_block *b, u32 word)
{
	return be64_to_cpu(READ_ONCE(((const __be64 *)b->data)[word]));
}

/* Where in its block the entry of a guest offset is. */
static inline u32 qcow2_entry_index(const struct qcow2_layer *l, u64 pos)
{
	return (pos >> l->geo.cluster_bits) & (qcow2_l2_per_block(l) - 1);
}

/* Which word of its block an entry is, or of an extended one the first. */
static inline u32 qcow2_entry_word(const struct qcow2_layer *l, u32 index)
{
	return qcow2_extended_l2(&l->geo) ? 2 * index : index;
}

/* Entries that @len bytes from @pos on touch, in the block of the first. */
static inline u32 qcow2_entry_count(const struct qcow2_layer *l, u64 pos,
				    u64 len)
{
	u64 inside = pos & (qcow2_cluster(l) - 1);

	return min_t(u64, (inside + len + qcow2_cluster(l) - 1) >>
		     l->geo.cluster_bits,
		     qcow2_l2_per_block(l) - qcow2_entry_index(l, pos));
}

/* Whether a cluster may be written in place, as far as its entry tells. */
static inline bool qcow2_entry_in_place(enum qcow2_cluster_type type, u64 entry)
{
	return type == QCOW2_CLUSTER_NORMAL && (entry & QCOW2_OFLAG_COPIED);
}

/*
 * How many entries from @index on, at most @max, are sound. What is read of them
 * afterwards is what was found sound, or newer.
 */
static inline u32 qcow2_sound_run(const struct qcow2_block *b, u32 index,
				  u32 max)
{
	u32 n;

	if (max == 1)
		n = test_bit(index, b->sound);
	else
		n = find_next_zero_bit(b->sound, index + max, index) - index;
	/* Pairs with smp_mb__before_atomic() in qcow2_map_publish(). */
	smp_rmb();
	return n;
}

#endif
