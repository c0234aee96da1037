// SPDX-License-Identifier: GPL-2.0-only
/*
 * L2 entries in cached blocks: what they say, and how far they say the same.
 *
 * Takes no locks; entries change under txn.lock, and are read without it.
 */
#include "map.h"

#include <linux/bitmap.h>

/**
 * qcow2_entry_set() - change a word of a cached block, under txn.lock
 * @b: the block
 * @word: which one; of an extended entry see qcow2_sub_set()
 * @entry: new value in native order
 */
void qcow2_entry_set(struct qcow2_block *b, u32 word, u64 entry)
{
	WRITE_ONCE(((__be64 *)b->data)[word], cpu_to_be64(entry));
}

/**
 * qcow2_entry_classify() - classify the value of an entry
 * @l: the layer
 * @entry: its value in native order; of an extended one, the first word
 *
 * Return: its type; QCOW2_CLUSTER_INVALID also for compressed clusters that lie
 * where none can.
 */
enum qcow2_cluster_type qcow2_entry_classify(const struct qcow2_layer *l,
					     u64 entry)
{
	u64 limit = READ_ONCE(l->data_limit);
	enum qcow2_cluster_type type = qcow2_l2_entry_type(&l->geo, entry,
							   limit);

	/* Where it lies is shared, so that it is never written in place. */
	if (type == QCOW2_CLUSTER_COMPRESSED &&
	    ((entry & QCOW2_OFLAG_COPIED) ||
	     !qcow2_compressed_valid(&l->geo, entry, limit)))
		return QCOW2_CLUSTER_INVALID;
	return type;
}

/**
 * qcow2_entry_type() - read and classify an entry of a cached block
 * @l: the layer
 * @b: the block
 * @index: entry in the block
 * @entry: set to the entry in native order; of an extended one, the first word
 *
 * Return: its type; QCOW2_CLUSTER_INVALID also for what was found bad at load,
 * and for compressed clusters that lie where none can.
 */
enum qcow2_cluster_type qcow2_entry_type(const struct qcow2_layer *l,
					 const struct qcow2_block *b, u32 index,
					 u64 *entry)
{
	*entry = qcow2_entry(b, qcow2_entry_word(l, index));
	if (unlikely(b->bad) && test_bit(index, b->bad))
		return QCOW2_CLUSTER_INVALID;
	return qcow2_entry_classify(l, *entry);
}

/**
 * qcow2_entry_packed() - the extent of a compressed cluster
 * @l: the layer
 * @entry: its entry
 * @inside: byte offset in the cluster
 * @len: bytes from there on, of which those up to its end are the extent: each
 *	is unpacked by itself
 * @e: filled in
 */
void qcow2_entry_packed(const struct qcow2_layer *l, u64 entry, u32 inside,
			u64 len, struct qcow2_extent *e)
{
	u64 end;

	e->kind = QCOW2_COMPRESSED;
	e->host = inside;
	e->len = min_t(u64, qcow2_cluster(l) - inside, len);
	e->packed.unpacker = l->unpacker;
	e->packed.host = qcow2_compressed_place(&l->geo, entry, &end);
	e->packed.len = end - e->packed.host;
}

/**
 * qcow2_entry_holds() - the host clusters that an entry has a reference to
 * @l: the layer
 * @type: its type, not invalid
 * @entry: the entry
 * @first: set to the index of the first of them, if there are any
 *
 * Return: how many, at most QCOW2_COMPRESSED_MOST.
 */
u32 qcow2_entry_holds(const struct qcow2_layer *l,
		      enum qcow2_cluster_type type, u64 entry, u64 *first)
{
	u32 count;

	if (type == QCOW2_CLUSTER_COMPRESSED) {
		*first = qcow2_compressed_run(&l->geo, entry, &count);
		return count;
	}
	*first = (entry & QCOW2_OFFSET_MASK) >> l->geo.cluster_bits;
	return *first ? 1 : 0;
}

/* Whether it has a host cluster; in a data file there is one at 0, too. */
static bool entry_is_placed(const struct qcow2_layer *l, u64 entry)
{
	return (entry & QCOW2_OFFSET_MASK) ||
	       (unlikely(qcow2_external(l)) && (entry & QCOW2_OFLAG_COPIED));
}

/**
 * qcow2_entry_run() - how far an entry's host clusters go on
 * @l: the layer, without extended entries
 * @b: the block
 * @index: the first entry
 * @first: its value; for one without a host cluster, what the others must equal
 * @max: at most so many entries, all in the block
 * @mask: the flags that must be alike
 *
 * Return: the number of entries from @index on that map consecutive host
 * clusters (or none, alike) with the same flags.
 */
u64 qcow2_entry_run(const struct qcow2_layer *l, const struct qcow2_block *b,
		    u32 index, u64 first, u32 max, u64 mask)
{
	u64 step = entry_is_placed(l, first) ? qcow2_cluster(l) : 0;
	u64 want = first & mask;
	u32 n;

	for (n = 1; n < max; n++) {
		want += step;
		if ((qcow2_entry(b, index + n) & mask) != want)
			break;
		if (unlikely(b->bad) && test_bit(index + n, b->bad))
			break;
	}
	return n;
}

/**
 * qcow2_entry_free() - note that an entry's references are to be dropped
 * @q: the image
 * @type: its type, not invalid
 * @entry: the entry
 * @list: gets the clusters
 *
 * Context: a worker with a reservation for as many as qcow2_entry_holds().
 * Return: how many are used up of it.
 */
u32 qcow2_entry_free(struct qcow2_image *q, enum qcow2_cluster_type type,
		     u64 entry, struct list_head *list)
{
	const struct qcow2_layer *l = &q->layer;
	u64 first;
	u32 n = qcow2_entry_holds(l, type, entry, &first), used = 0;

	if (type != QCOW2_CLUSTER_COMPRESSED)
		return n ? qcow2_free_add(q, list,
					  first << l->geo.cluster_bits, 1,
					  true) : 0;
	for (; n; n--, first++)
		used += qcow2_free_add_share(q, list,
					     first << l->geo.cluster_bits);
	return used;
}

/**
 * qcow2_entry_refuse() - tell of an entry that cannot be followed
 * @l: the layer
 * @pos: guest offset in bytes
 *
 * Return: -EIO.
 */
int qcow2_entry_refuse(struct qcow2_layer *l, u64 pos)
{
	qcow2_report(l->core, pos >> l->geo.cluster_bits << 1,
		     "invalid L2 entry for guest offset", pos);
	return -EIO;
}

/* Whether a table lies in one of the clusters that an entry refers to. */
static bool entry_on_table(struct qcow2_layer *l, enum qcow2_cluster_type type,
			   u64 entry, struct qcow2_gap *gap)
{
	u64 first;
	u32 n = qcow2_entry_holds(l, type, entry, &first);

	for (; n; n--, first++)
		if (qcow2_places_overlap(&l->places,
					 first << l->geo.cluster_bits, gap))
			return true;
	return false;
}

static int entry_mark_bad(struct qcow2_block *b, u32 index)
{
	if (!b->bad)
		b->bad = bitmap_zalloc(QCOW2_L2_PER_BLOCK, GFP_NOIO);
	if (!b->bad)
		return -ENOMEM;
	__set_bit(index, b->bad);
	return 0;
}

/*
 * Whether nothing may follow an entry. In a data file a cluster has one place,
 * the one at which the guest sees it.
 */
static bool entry_is_bad(struct qcow2_layer *l, const struct qcow2_block *b,
			 u32 i, enum qcow2_cluster_type type, u64 entry,
			 struct qcow2_gap *gap)
{
	u64 pos;

	if (type == QCOW2_CLUSTER_INVALID)
		return true;
	if (!qcow2_external(l))
		return entry_on_table(l, type, entry, gap);
	if (type != QCOW2_CLUSTER_NORMAL && type != QCOW2_CLUSTER_ZERO_ALLOC)
		return false;
	pos = (b->index << qcow2_l2_block_bits(l)) +
	      ((u64)i << l->geo.cluster_bits);
	return (entry & QCOW2_OFFSET_MASK) != pos;
}

/* Sets @entry to an entry, or the first word of it; false for one that is all 0. */
static bool entry_read(const struct qcow2_layer *l, const struct qcow2_block *b,
		       u32 index, u64 *entry, u64 *bitmap)
{
	*bitmap = 0;
	if (qcow2_extended_l2(&l->geo))
		*bitmap = qcow2_sub_read(b, index, entry);
	else
		*entry = qcow2_entry(b, index);
	return *entry || *bitmap;
}

/**
 * qcow2_entry_judge() - mark the entries of a block that nothing may follow
 * @l: the layer
 * @b: the block, just read
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_entry_judge(struct qcow2_layer *l, struct qcow2_block *b)
{
	struct qcow2_gap gap = { 0, 0 };
	enum qcow2_cluster_type type;
	u64 entry, bitmap;
	int r = 0;
	u32 i;

	/* What is in a data file has no refcount that would have to be seen. */
	if (qcow2_external(l))
		bitmap_fill(b->sound, QCOW2_L2_PER_BLOCK);
	for (i = 0; !r && i < qcow2_l2_per_block(l); i++) {
		if (!entry_read(l, b, i, &entry, &bitmap))
			continue;
		type = qcow2_entry_classify(l, entry);
		if (type == QCOW2_CLUSTER_COMPRESSED)
			r = qcow2_unpacker_expect(l->unpacker);
		if (!qcow2_subclusters_valid(&l->geo, entry, bitmap))
			type = QCOW2_CLUSTER_INVALID;
		if (!r && entry_is_bad(l, b, i, type, entry, &gap))
			r = entry_mark_bad(b, i);
	}
	return r;
}
