// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where an image that is closed can be cut: after its last cluster in use, but
 * nothing that somebody else has put there.
 *
 * Locks: alloc.lock.
 */
#include "meta.h"

/* Blocks looked at for where the image ends, when it is closed. */
#define TAIL_BLOCKS 64

/*
 * That a refcount is 0 is no proof that nothing refers to the cluster: the image
 * may have come to us with wrong ones. What was freed here had its reference.
 */
static bool tail_may_be_cut(const struct qcow2_image *q, u64 cluster)
{
	s64 at = qcow2_space_tail_index(q, cluster);

	return cluster >= q->alloc.tail_end ||
	       (at >= 0 && test_bit(at, q->alloc.tail_freed));
}

/**
 * qcow2_tail_end() - where a file can be cut
 * @q: the image, about to be closed
 *
 * Looks at a bounded number of blocks; what is free before those stays.
 * Return: the end of the clusters in use, in bytes.
 */
u64 qcow2_tail_end(struct qcow2_image *q)
{
	u64 end, i, first;
	struct qcow2_block *b;
	u32 looks = TAIL_BLOCKS;

	end = q->alloc.end;
	/* What is known to be wrong must not be the reason to cut anything. */
	while (READ_ONCE(q->layer.core->mode) == QCOW2_MODE_RW && end && looks--) {
		i = (end - 1) % qcow2_per_block(q) + 1;
		first = end - i;
		b = qcow2_refcount_block(q, first / qcow2_per_block(q));
		if (IS_ERR(b))
			break;
		mutex_lock(&q->alloc.lock);
		while (i && tail_may_be_cut(q, first + i - 1) && !qcow2_refcount(q, b, i - 1))
			i--;
		mutex_unlock(&q->alloc.lock);
		qcow2_block_put(b);
		end = first + i;
		if (i)
			break;
	}
	return max(end << q->layer.geo.cluster_bits, q->alloc.keep_size);
}
