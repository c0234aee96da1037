// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extended L2 entries: two words each. The first is as in other images, but that
 * nothing in it says zeros; the second has two bits for each of 32 subclusters,
 * which are in the host cluster, zeros, or neither: a hole.
 *
 * Both words change together, under txn.lock and in a write section of
 * block.pairs, and are read in a read section of that, without a lock. A reader
 * gets two words that belong together, or it tries again: an old host cluster is
 * never seen with the bits of a new one, which it may not hold. How long a host
 * cluster may be used is as for other entries: image.srcu is taken before the
 * entry is read, and no cluster that it has named is handed out to others before
 * that is let go. Entries of a run are read one by one; each is what it was when
 * the lookup began, or newer.
 */
#include "map.h"

#include <linux/preempt.h>

/* Whether a subcluster is of a kind that QCOW2_SUB_DATA or _ZERO stands for. */
static bool sub_is(u64 bitmap, u32 sub, u64 kind)
{
	return bitmap & kind & (BIT_ULL(sub) | BIT_ULL(sub + QCOW2_SUBCLUSTERS));
}

static enum qcow2_kind sub_kind(u64 bitmap, u32 sub)
{
	if (sub_is(bitmap, sub, QCOW2_SUB_DATA))
		return QCOW2_DATA;
	return sub_is(bitmap, sub, QCOW2_SUB_ZERO) ? QCOW2_ZERO : QCOW2_HOLE;
}

/* How many subclusters from @sub on are of the same kind. */
static u32 sub_alike(u64 bitmap, u32 sub)
{
	u64 differs = bitmap;

	if (sub_is(bitmap, sub, QCOW2_SUB_DATA))
		differs ^= QCOW2_SUB_DATA;
	if (sub_is(bitmap, sub, QCOW2_SUB_ZERO))
		differs ^= QCOW2_SUB_ZERO;
	differs |= differs >> QCOW2_SUBCLUSTERS;
	differs = (differs & QCOW2_SUB_DATA) >> sub;
	return differs ? __ffs(differs) : QCOW2_SUBCLUSTERS - sub;
}

/**
 * qcow2_sub_read() - read both words of an extended entry
 * @b: a referenced block, or inside rcu_read_lock()
 * @index: entry in the block
 * @entry: set to its first word, in native order
 *
 * Context: any. Return: its second word.
 */
u64 qcow2_sub_read(const struct qcow2_block *b, u32 index, u64 *entry)
{
	unsigned int seq;
	u64 bitmap;

	do {
		seq = read_seqcount_begin(&b->pairs);
		*entry = qcow2_entry(b, 2 * index);
		bitmap = qcow2_entry(b, 2 * index + 1);
	} while (read_seqcount_retry(&b->pairs, seq));
	return bitmap;
}

/**
 * qcow2_sub_set() - change an extended entry of a cached block
 * @q: the image
 * @b: the block
 * @index: entry in the block
 * @entry: its first word, in native order
 * @bitmap: its second word
 *
 * Context: txn.lock held.
 */
void qcow2_sub_set(struct qcow2_image *q, struct qcow2_block *b, u32 index,
		   u64 entry, u64 bitmap)
{
	lockdep_assert_held(&q->txn.lock);
	/* On PREEMPT_RT the lock does not keep readers from running instead. */
	preempt_disable_nested();
	write_seqcount_begin(&b->pairs);
	qcow2_entry_set(b, 2 * index, entry);
	qcow2_entry_set(b, 2 * index + 1, bitmap);
	write_seqcount_end(&b->pairs);
	preempt_enable_nested();
}

/* Reads and classifies an entry; see qcow2_entry_type(). */
static enum qcow2_cluster_type sub_type(const struct qcow2_layer *l,
					const struct qcow2_block *b, u32 index,
					u64 *entry, u64 *bitmap)
{
	*bitmap = qcow2_sub_read(b, index, entry);
	if (unlikely(b->bad) && test_bit(index, b->bad))
		return QCOW2_CLUSTER_INVALID;
	return qcow2_entry_classify(l, *entry);
}

/*
 * How many bytes of the entries from @index on, at most @max and about @want,
 * go on with what an entry with the first word @entry ends with.
 */
static u64 sub_goes_on(const struct qcow2_layer *l, const struct qcow2_block *b,
		       u32 index, u32 max, u64 want, enum qcow2_kind kind,
		       u64 entry, u64 mask)
{
	enum qcow2_cluster_type type;
	u64 next, bitmap, run = 0;
	u32 n = QCOW2_SUBCLUSTERS;

	for (; max && n == QCOW2_SUBCLUSTERS && run < want; max--, index++) {
		entry += qcow2_cluster(l);
		type = sub_type(l, b, index, &next, &bitmap);
		if (type == QCOW2_CLUSTER_INVALID ||
		    type == QCOW2_CLUSTER_COMPRESSED ||
		    sub_kind(bitmap, 0) != kind ||
		    (kind == QCOW2_DATA && (next ^ entry) & mask))
			break;
		n = sub_alike(bitmap, 0);
		run += (u64)n << qcow2_subcluster_bits(&l->geo);
	}
	return run;
}

/* What is written is whole blocks, which may have more than one subcluster. */
static u64 sub_whole_blocks(const struct qcow2_layer *l, u64 pos, u64 run)
{
	u64 end = round_down(pos + run, (u64)l->data->align);

	return end > pos ? end - pos : 0;
}

/**
 * qcow2_sub_lookup() - what a block of extended entries says of guest bytes
 * @l: the layer
 * @b: a referenced block, or inside rcu_read_lock()
 * @pos: guest offset in bytes
 * @len: bytes to look at
 * @max: entries to look at, all in the block; at least 1
 * @write: only what may be written in place, as far as the entries tell
 * @e: filled in, but for its pin
 *
 * Context: any.
 * Return: false if there is an invalid entry, or nothing of what is wanted.
 */
bool qcow2_sub_lookup(const struct qcow2_layer *l, const struct qcow2_block *b,
		      u64 pos, u64 len, u32 max, bool write,
		      struct qcow2_extent *e)
{
	u32 bits = qcow2_subcluster_bits(&l->geo), sub, n;
	u32 inside = pos & (qcow2_cluster(l) - 1);
	u32 index = qcow2_entry_index(l, pos);
	u64 mask = write ? ~0ULL : ~QCOW2_OFLAG_COPIED;
	enum qcow2_cluster_type type;
	u64 entry, bitmap, run;

	type = sub_type(l, b, index, &entry, &bitmap);
	if (type == QCOW2_CLUSTER_INVALID ||
	    (write && !qcow2_entry_in_place(type, entry)))
		return false;
	if (type == QCOW2_CLUSTER_COMPRESSED) {
		qcow2_entry_packed(l, entry, inside, len, e);
		return true;
	}
	sub = inside >> bits;
	e->kind = sub_kind(bitmap, sub);
	if (write && e->kind != QCOW2_DATA)
		return false;
	n = sub_alike(bitmap, sub);
	run = ((u64)(sub + n) << bits) - inside;
	if (sub + n == QCOW2_SUBCLUSTERS && run < len)
		run += sub_goes_on(l, b, index + 1, max - 1, len - run, e->kind,
				   entry, mask);
	if (write && run < len)
		run = sub_whole_blocks(l, pos, run);
	e->store = l->data;
	e->host = (entry & QCOW2_OFFSET_MASK) + inside;
	e->len = min(run, len);
	return run;
}

/**
 * qcow2_sub_own_run() - how far entries' host clusters are their own, and go on
 * @l: the layer
 * @b: the block
 * @index: the first entry, whose host cluster is its own
 * @first: its first word
 * @max: at most so many entries, all in the block
 *
 * Return: the number of entries.
 */
u32 qcow2_sub_own_run(const struct qcow2_layer *l, const struct qcow2_block *b,
		      u32 index, u64 first, u32 max)
{
	enum qcow2_cluster_type type;
	u64 entry, bitmap;
	u32 n;

	for (n = 1; n < max; n++) {
		type = sub_type(l, b, index + n, &entry, &bitmap);
		if (!qcow2_entry_in_place(type, entry) ||
		    entry != first + (u64)n * qcow2_cluster(l))
			break;
	}
	return n;
}

/**
 * qcow2_sub_touched() - the subclusters that a change is to fill
 * @c: the change, of extended entries
 * @i: which of its clusters
 *
 * Return: bits of QCOW2_SUB_DATA.
 */
u64 qcow2_sub_touched(const struct qcow2_change *c, u32 i)
{
	return qcow2_sub_range(i ? 0 : c->sub_first, i + 1 < c->count ?
			       QCOW2_SUBCLUSTERS - 1 : c->sub_last);
}

/**
 * qcow2_sub_publish() - make an extended entry refer to what was reserved
 * @c: the change, with its data in the store
 * @i: which of its clusters
 * @host: its host offset
 *
 * Context: txn.lock held.
 */
void qcow2_sub_publish(struct qcow2_change *c, u32 i, u64 host)
{
	u64 touched = qcow2_sub_touched(c, i), entry, bitmap;

	bitmap = qcow2_sub_read(c->l2, c->index + i, &entry);
	/* All of a compressed one was unpacked. */
	if (entry & QCOW2_OFLAG_COMPRESSED)
		bitmap = QCOW2_SUB_DATA;
	bitmap = (bitmap | touched) & ~qcow2_sub_zeros(touched);
	qcow2_sub_set(c->map->image, c->l2, c->index + i,
		      host | QCOW2_OFLAG_COPIED, bitmap);
}
