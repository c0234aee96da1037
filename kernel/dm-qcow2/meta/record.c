// SPDX-License-Identifier: GPL-2.0-only
/*
 * Recording in bitmaps what changes of the disk.
 *
 * A bit is set before what it stands for changes, in the context of who submits
 * that; bits that are set already are only looked at, so that processors share
 * them. Nothing is unset here. Who reads the bits has waited for all I/O.
 *
 * Takes no locks.
 */
#include "meta.h"

#define WORD_BITS 64

static void record_word(struct qcow2_recorder *rec, u64 word, u64 mask)
{
	__le64 bits = cpu_to_le64(mask);
	/* The least that a cluster holds is a block, of whole words. */
	u64 entry = word * sizeof(*rec->bits) >> rec->cluster_bits;

	if ((READ_ONCE(rec->bits[word]) & bits) == bits)
		return;
	atomic64_or((__force s64)bits, (atomic64_t *)&rec->bits[word]);
	if (!test_bit(entry, rec->changed))
		set_bit(entry, rec->changed);
}

static void record_bits(struct qcow2_recorder *rec, u64 first, u64 last)
{
	u64 word = first / WORD_BITS, end = last / WORD_BITS;
	u64 mask = ~0ULL << (first % WORD_BITS);

	for (; word < end; word++, mask = ~0ULL)
		record_word(rec, word, mask);
	record_word(rec, end, mask & ~0ULL >> (WORD_BITS - 1 - last % WORD_BITS));
}

/**
 * qcow2_record_change() - note in all bitmaps that bytes are about to change
 * @q: the image, between a start and a stop
 * @pos: guest offset of the first
 * @len: how many, at least 1
 *
 * Context: any.
 */
void qcow2_record_change(struct qcow2_image *q, u64 pos, u64 len)
{
	struct qcow2_recorder *rec = q->recorders.list;
	u64 last = pos + len - 1;
	u32 i;

	for (i = 0; i < q->recorders.nr; i++, rec++)
		record_bits(rec, pos >> rec->granularity_bits,
			    last >> rec->granularity_bits);
}
