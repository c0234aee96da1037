// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: entries of L1 and L2 tables, of the refcount table and
 * of bitmap tables. Pure functions.
 */
#include "format.h"

/**
 * qcow2_l2_entry_type() - classify an L2 entry
 * @g: geometry
 * @entry: the entry in native order; of an extended one, the first word
 * @limit: bytes of the file with the data that a cluster may lie in, a cluster
 *	multiple
 *
 * Source: specification, "L2 table entry". Anything whose use could reach
 * outside the image or into the header is QCOW2_CLUSTER_INVALID; where a
 * compressed cluster lies is for qcow2_compressed_valid() to say.
 */
enum qcow2_cluster_type qcow2_l2_entry_type(const struct qcow2_geometry *g,
					    u64 entry, u64 limit)
{
	u64 offset = entry & QCOW2_OFFSET_MASK;
	bool copied = entry & QCOW2_OFLAG_COPIED;
	bool zero = entry & QCOW2_OFLAG_ZERO;

	if (entry & QCOW2_OFLAG_COMPRESSED)
		return QCOW2_CLUSTER_COMPRESSED;
	if (entry & QCOW2_L2E_RESERVED)
		return QCOW2_CLUSTER_INVALID;
	/* Of an extended entry, the second word says what is zero. */
	if (zero && (g->version < 3 || qcow2_extended_l2(g)))
		return QCOW2_CLUSTER_INVALID;
	/* In a data file 0 is a place like any other, told by COPIED. */
	if (!offset && !(copied && qcow2_data_file(g))) {
		if (copied)
			return QCOW2_CLUSTER_INVALID;
		return zero ? QCOW2_CLUSTER_ZERO_PLAIN :
			      QCOW2_CLUSTER_UNALLOCATED;
	}
	if (!qcow2_aligned(g, offset) || offset >= limit)
		return QCOW2_CLUSTER_INVALID;
	return zero ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_NORMAL;
}

/**
 * qcow2_compressed_place() - where a compressed cluster lies
 * @g: geometry
 * @entry: its L2 entry in native order
 * @end: set to the end of the last sector that it has a share of
 *
 * Source: specification, "Compressed Clusters Descriptor". Return: the host
 * offset of its first byte, which need not be aligned to anything.
 */
u64 qcow2_compressed_place(const struct qcow2_geometry *g, u64 entry, u64 *end)
{
	u32 bits = 62 - (g->cluster_bits - 8);
	u64 descriptor = entry & ~(QCOW2_OFLAG_COPIED | QCOW2_OFLAG_COMPRESSED);
	u64 offset = descriptor & (BIT_ULL(bits) - 1);
	u64 more = descriptor >> bits;

	*end = (offset & ~(QCOW2_SECTOR_SIZE - 1ULL)) +
	       (more + 1) * QCOW2_SECTOR_SIZE;
	return offset;
}

/**
 * qcow2_compressed_valid() - whether a compressed cluster lies in the image
 * @g: geometry
 * @entry: its L2 entry in native order
 * @limit: bytes of the image
 *
 * Never in the header's cluster, and never with a data file, which has none.
 */
bool qcow2_compressed_valid(const struct qcow2_geometry *g, u64 entry,
			    u64 limit)
{
	u64 end, offset = qcow2_compressed_place(g, entry, &end);

	return !qcow2_data_file(g) && offset >= qcow2_cluster_size(g) &&
	       offset < limit && end <= limit;
}

/**
 * qcow2_compressed_run() - the host clusters that a compressed cluster touches
 * @g: geometry
 * @entry: its L2 entry in native order
 * @count: set to their number, at most QCOW2_COMPRESSED_MOST
 *
 * It has one reference to each of them. Return: the index of the first.
 */
u64 qcow2_compressed_run(const struct qcow2_geometry *g, u64 entry, u32 *count)
{
	u64 end, first = qcow2_compressed_place(g, entry, &end) >> g->cluster_bits;

	*count = ((end - 1) >> g->cluster_bits) - first + 1;
	return first;
}

/**
 * qcow2_subclusters_valid() - whether an extended L2 entry makes sense
 * @g: geometry
 * @entry: its first word in native order
 * @bitmap: its second word: 32 bits of what is allocated, 32 of what is zero
 *
 * Source: specification, "Extended L2 Entries". No subcluster is both, none is
 * allocated without a host cluster, and a compressed cluster has none.
 */
bool qcow2_subclusters_valid(const struct qcow2_geometry *g, u64 entry,
			     u64 bitmap)
{
	if (entry & QCOW2_OFLAG_COMPRESSED)
		return !bitmap;
	/* In a data file 0 is a place like any other, told by COPIED. */
	if (!(entry & QCOW2_OFFSET_MASK) &&
	    !(qcow2_data_file(g) && (entry & QCOW2_OFLAG_COPIED)))
		return !(bitmap & QCOW2_SUB_DATA);
	return !(bitmap & QCOW2_SUB_DATA & (bitmap >> QCOW2_SUBCLUSTERS));
}

/**
 * qcow2_l1_entry_valid() - whether an L1 entry may be followed
 * @g: geometry
 * @entry: the entry in native order
 * @limit: bytes of the image, a cluster multiple
 *
 * Zero (no L2 table) is valid. Source: specification, "L1 table entry".
 */
bool qcow2_l1_entry_valid(const struct qcow2_geometry *g, u64 entry, u64 limit)
{
	u64 offset = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_L1E_RESERVED)
		return false;
	if (!offset)
		return !entry;
	return qcow2_aligned(g, offset) && offset < limit;
}

/**
 * qcow2_reftable_entry_valid() - whether a refcount table entry may be followed
 * @g: geometry
 * @entry: the entry in native order
 * @limit: bytes of the image, a cluster multiple
 *
 * Zero (no refcount block) is valid. Source: specification, "Refcount table
 * entry".
 */
bool qcow2_reftable_entry_valid(const struct qcow2_geometry *g, u64 entry,
				u64 limit)
{
	if (entry & QCOW2_REFTABLE_RESERVED)
		return false;
	return !entry || (qcow2_aligned(g, entry) && entry < limit);
}

/**
 * qcow2_bitmap_entry_valid() - whether a bitmap table entry may be followed
 * @entry: the entry in native order
 *
 * Zero is valid, and so is the flag of a cluster that is all ones. Where the
 * cluster lies is for the caller to look at. Source: specification, "Bitmap
 * table".
 */
bool qcow2_bitmap_entry_valid(u64 entry)
{
	return !(entry & QCOW2_BITMAP_ENTRY_RESERVED);
}
