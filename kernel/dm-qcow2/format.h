/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The QCOW2 on-disk format: pure functions over buffers, without I/O, locks or
 * allocation. Names are those of the specification (QEMU docs/interop/qcow2).
 * All numbers on disk are big-endian.
 */
#ifndef QCOW2_FORMAT_H
#define QCOW2_FORMAT_H

#include "format-env.h"

#define QCOW2_MAGIC		0x514649fbU	/* "QFI\xfb" */

#define QCOW2_MIN_CLUSTER_BITS	9
#define QCOW2_MAX_CLUSTER_BITS	21
/* Below this a metadata block would be smaller than a page of the cache. */
#define QCOW2_MIN_SUPPORTED_CLUSTER_BITS 12

/* QEMU's bounds, so that an image opens here exactly when it does there. */
#define QCOW2_MAX_L1_BYTES	(32U << 20)
#define QCOW2_MAX_REFTABLE_BYTES (8U << 20)
#define QCOW2_MAX_SNAPSHOTS	65536
#define QCOW2_MAX_SNAPSHOT_TABLE (1024U * QCOW2_MAX_SNAPSHOTS)

/* The header and its extensions are looked for in this much of the image. */
#define QCOW2_HEADER_AREA	65536
#define QCOW2_V2_HEADER_LENGTH	72
#define QCOW2_V3_HEADER_LENGTH	104

#define QCOW2_INCOMPAT_DIRTY		BIT_ULL(0)
#define QCOW2_INCOMPAT_CORRUPT		BIT_ULL(1)
#define QCOW2_INCOMPAT_DATA_FILE	BIT_ULL(2)
#define QCOW2_INCOMPAT_COMPRESSION	BIT_ULL(3)
#define QCOW2_INCOMPAT_EXTL2		BIT_ULL(4)
#define QCOW2_COMPAT_LAZY_REFCOUNTS	BIT_ULL(0)

#define QCOW2_EXT_END			0x00000000U
#define QCOW2_EXT_FEATURE_TABLE		0x6803f857U
#define QCOW2_EXT_CRYPTO		0x0537be77U

#define QCOW2_OFLAG_COPIED	BIT_ULL(63)
#define QCOW2_OFLAG_COMPRESSED	BIT_ULL(62)
#define QCOW2_OFLAG_ZERO	BIT_ULL(0)

#define QCOW2_OFFSET_MASK	0x00fffffffffffe00ULL
#define QCOW2_L1E_RESERVED	0x7f000000000001ffULL
#define QCOW2_L2E_RESERVED	0x3f000000000001feULL
#define QCOW2_REFTABLE_RESERVED	0x00000000000001ffULL

/* Metadata is cached, read and written in blocks of this many bytes. */
#define QCOW2_BLOCK_BITS	12
#define QCOW2_BLOCK_SIZE	(1U << QCOW2_BLOCK_BITS)
#define QCOW2_L2_PER_BLOCK	(QCOW2_BLOCK_SIZE / 8)

/*
 * struct qcow2_header - the header as it lies on disk
 *
 * Fields from @incompatible_features on exist in version 3 only.
 */
struct qcow2_header {
	__be32 magic;
	__be32 version;
	__be64 backing_file_offset;
	__be32 backing_file_size;
	__be32 cluster_bits;
	__be64 size;
	__be32 crypt_method;
	__be32 l1_size;
	__be64 l1_table_offset;
	__be64 refcount_table_offset;
	__be32 refcount_table_clusters;
	__be32 nb_snapshots;
	__be64 snapshots_offset;
	__be64 incompatible_features;
	__be64 compatible_features;
	__be64 autoclear_features;
	__be32 refcount_order;
	__be32 header_length;
	__u8 compression_type;
	__u8 padding[7];
} __packed;

/**
 * struct qcow2_geometry - what a header says, checked and in native order
 * @version: 2 or 3
 * @cluster_bits: log2 of the cluster size in bytes
 * @refcount_order: log2 of a refcount's width in bits
 * @l2_bits: log2 of the number of entries of an L2 table
 * @size: virtual size in bytes
 * @l1_size: entries of the active L1 table
 * @l1_offset: host offset of the active L1 table
 * @reftable_offset: host offset of the refcount table
 * @reftable_clusters: length of the refcount table in clusters
 * @nb_snapshots: number of internal snapshots
 * @snapshots_offset: host offset of the snapshot table
 * @incompat: incompatible feature bits
 * @compat: compatible feature bits
 * @autoclear: autoclear feature bits
 * @header_length: bytes of the fixed header
 */
struct qcow2_geometry {
	u32 version;
	u32 cluster_bits;
	u32 refcount_order;
	u32 l2_bits;
	u64 size;
	u32 l1_size;
	u64 l1_offset;
	u64 reftable_offset;
	u32 reftable_clusters;
	u32 nb_snapshots;
	u64 snapshots_offset;
	u64 incompat;
	u64 compat;
	u64 autoclear;
	u32 header_length;
};

/**
 * struct qcow2_reason - why something was refused, for the log
 * @text: a sentence without a full stop
 */
struct qcow2_reason {
	char text[160];
};

/* What an L2 entry says of its cluster. */
enum qcow2_cluster_type {
	QCOW2_CLUSTER_UNALLOCATED,
	QCOW2_CLUSTER_ZERO_PLAIN,
	QCOW2_CLUSTER_ZERO_ALLOC,
	QCOW2_CLUSTER_NORMAL,
	QCOW2_CLUSTER_COMPRESSED,
	QCOW2_CLUSTER_INVALID,
};

int qcow2_header_parse(const void *buf, size_t len, struct qcow2_geometry *g,
		       struct qcow2_reason *why);
int qcow2_header_supported(const void *buf, size_t len,
			   const struct qcow2_geometry *g, bool read_only,
			   struct qcow2_reason *why);
int qcow2_feature_name(const void *buf, size_t len,
		       const struct qcow2_geometry *g, unsigned int type,
		       unsigned int bit, char *name, size_t name_size);

enum qcow2_cluster_type qcow2_l2_entry_type(const struct qcow2_geometry *g,
					    u64 entry, u64 limit);
bool qcow2_l1_entry_valid(const struct qcow2_geometry *g, u64 entry, u64 limit);
bool qcow2_reftable_entry_valid(const struct qcow2_geometry *g, u64 entry,
				u64 limit);

u64 qcow2_refcount_get(const void *block, unsigned int index,
		       unsigned int order);
void qcow2_refcount_set(void *block, unsigned int index, unsigned int order,
			u64 value);

static inline u32 qcow2_cluster_size(const struct qcow2_geometry *g)
{
	return 1U << g->cluster_bits;
}

/* Whether an L2 entry is that of a normal cluster inside the image. */
static inline bool qcow2_l2_entry_normal(const struct qcow2_geometry *g,
					 u64 entry, u64 limit)
{
	u64 offset = entry & ~QCOW2_OFLAG_COPIED;

	return offset && offset < limit &&
	       !(offset & (~QCOW2_OFFSET_MASK | (qcow2_cluster_size(g) - 1)));
}

/* Refcount entries in one cached block of a refcount block. */
static inline u32 qcow2_refcounts_per_block(const struct qcow2_geometry *g)
{
	return (QCOW2_BLOCK_SIZE * 8) >> g->refcount_order;
}

/* log2 of the refcount entries in a whole refcount block (one cluster). */
static inline u32 qcow2_refblock_bits(const struct qcow2_geometry *g)
{
	return g->cluster_bits + 3 - g->refcount_order;
}

#endif
