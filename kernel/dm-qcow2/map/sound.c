// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether clusters that are mapped may be written in place.
 *
 * A cluster that counts as free may be handed out for something else, a table
 * even, which the guest would then write over. So its refcount is looked at
 * before the first write in place; those of its neighbours, as far as they are
 * in the same block, come along. Entries that change later are sound, because
 * their clusters are from the allocator.
 *
 * Takes no locks but alloc.lock, in qcow2_refcount_see().
 */
#include "map.h"

/* What sound_see() looks at. */
struct sound_look {
	struct qcow2_image *image;
	struct qcow2_block *l2;
};

/* Vouches for all entries that the refcounts in @b tell of. */
static void sound_see(const struct qcow2_block *b, void *arg)
{
	struct sound_look *look = arg;
	struct qcow2_image *q = look->image;
	u64 per_block = qcow2_per_block(q), entry, cluster;
	u32 i;

	for (i = 0; i < qcow2_l2_per_block(&q->layer); i++) {
		entry = qcow2_entry(look->l2, qcow2_entry_word(&q->layer, i));
		cluster = (entry & QCOW2_OFFSET_MASK) >>
			  q->layer.geo.cluster_bits;
		if ((entry & QCOW2_OFLAG_COPIED) &&
		    cluster / per_block == b->index &&
		    qcow2_refcount(q, b, cluster % per_block))
			set_bit(i, look->l2->sound);
	}
}

static int sound_look_at(struct qcow2_image *q, struct qcow2_block *l2, u32 i)
{
	struct sound_look look = { .image = q, .l2 = l2 };
	u64 host = qcow2_entry(l2, qcow2_entry_word(&q->layer, i)) &
		   QCOW2_OFFSET_MASK;
	int r;

	r = qcow2_refcount_see(q, host >> q->layer.geo.cluster_bits, sound_see,
			       &look);
	if (r || test_bit(i, l2->sound))
		return r;
	qcow2_fail(q->layer.core, "guest data in a cluster without a reference at",
		   host);
	return -EIO;
}

/**
 * qcow2_sound_make_sure() - make sure that clusters may be written in place
 * @q: the image
 * @b: a block of L2 entries
 * @index: the first entry, of a cluster that is written in place
 * @count: how many such entries
 *
 * Context: a worker that holds the guest clusters, but not image.srcu.
 * Return: 0 or a negative error; without a reference the image turns read-only.
 */
int qcow2_sound_make_sure(struct qcow2_image *q, struct qcow2_block *b,
			  u32 index, u32 count)
{
	u32 i;
	int r = 0;

	if (qcow2_sound_run(b, index, count) == count)
		return 0;
	for (i = index; !r && i < index + count; i++)
		if (!test_bit(i, b->sound))
			r = sound_look_at(q, b, i);
	return r;
}

/**
 * qcow2_sound_packed() - make sure that a compressed cluster may be dropped
 * @q: the image
 * @entry: its entry
 *
 * A host cluster without a reference may be handed out before that, and would
 * lose the reference that it has got then. So might a table that was put there.
 * Context: a worker that holds the guest cluster, but not image.srcu.
 * Return: 0 or a negative error; without a reference the image turns read-only.
 */
int qcow2_sound_packed(struct qcow2_image *q, u64 entry)
{
	struct qcow2_layer *l = &q->layer;
	struct qcow2_gap gap = { 0, 0 };
	u64 value, count, cluster, host;
	u32 n;
	int r;

	cluster = qcow2_compressed_run(&l->geo, entry, &n);
	for (; n; n--, cluster++) {
		host = cluster << l->geo.cluster_bits;
		r = qcow2_refcount_run(q, cluster, 1, &value, &count);
		if (r && r != -ENOENT)
			return r;
		if (!r && value && !qcow2_places_overlap(&l->places, host, &gap))
			continue;
		/* To go on allocating could hand that very cluster out. */
		qcow2_fail(l->core, "compressed data in a cluster without a reference at",
			   host);
		return -EIO;
	}
	return 0;
}
