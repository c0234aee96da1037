/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The QCOW2 on-disk format: pure functions over buffers, without I/O, locks or
 * allocation. Names are those of the specification (QEMU docs/interop/qcow2).
 * All numbers on disk are big-endian.
 */
#ifndef QCOW2_FORMAT_H
#define QCOW2_FORMAT_H

#include "env.h"

#define QCOW2_MAGIC		0x514649fbU	/* "QFI\xfb" */

#define QCOW2_MIN_CLUSTER_BITS	9
#define QCOW2_MAX_CLUSTER_BITS	21
/* Below this a metadata block would be smaller than a page of the cache. */
#define QCOW2_MIN_SUPPORTED_CLUSTER_BITS 12
/* With extended L2 entries a cluster has so many subclusters. */
#define QCOW2_SUBCLUSTER_BITS	5
#define QCOW2_SUBCLUSTERS	(1U << QCOW2_SUBCLUSTER_BITS)
/* Below this a subcluster would be smaller than a sector. */
#define QCOW2_MIN_EXTL2_CLUSTER_BITS 14
#define QCOW2_SECTOR_SIZE	512U

/* QEMU's bounds, so that an image opens here exactly when it does there. */
#define QCOW2_MAX_SIZE		(1ULL << 62)
#define QCOW2_MAX_L1_BYTES	(32U << 20)
#define QCOW2_MAX_REFTABLE_BYTES (8U << 20)
#define QCOW2_MAX_SNAPSHOTS	65536
#define QCOW2_MAX_SNAPSHOT_TABLE (1024U * QCOW2_MAX_SNAPSHOTS)
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024U
#define QCOW2_MAX_BITMAPS	65535
#define QCOW2_MAX_BITMAP_DIRECTORY (1024U * QCOW2_MAX_BITMAPS)
#define QCOW2_MAX_BITMAP_BYTES	(512U << 20)
#define QCOW2_MAX_BACKING_NAME	1023U

/* The header and its extensions are looked for in this much of the image. */
#define QCOW2_HEADER_AREA	65536
#define QCOW2_V2_HEADER_LENGTH	72
#define QCOW2_V3_HEADER_LENGTH	104

#define QCOW2_INCOMPAT_DIRTY		BIT_ULL(0)
#define QCOW2_INCOMPAT_CORRUPT		BIT_ULL(1)
#define QCOW2_INCOMPAT_DATA_FILE	BIT_ULL(2)
#define QCOW2_INCOMPAT_COMPRESSION	BIT_ULL(3)
#define QCOW2_INCOMPAT_EXTL2		BIT_ULL(4)
#define QCOW2_INCOMPAT_KNOWN		0x1fULL
#define QCOW2_COMPAT_LAZY_REFCOUNTS	BIT_ULL(0)
#define QCOW2_AUTOCLEAR_BITMAPS		BIT_ULL(0)
#define QCOW2_AUTOCLEAR_RAW_EXTERNAL	BIT_ULL(1)
#define QCOW2_AUTOCLEAR_KNOWN		0x3ULL

#define QCOW2_EXT_END			0x00000000U
#define QCOW2_EXT_BACKING_FORMAT	0xe2792acaU
#define QCOW2_EXT_FEATURE_TABLE		0x6803f857U
#define QCOW2_EXT_BITMAPS		0x23852875U
#define QCOW2_EXT_CRYPTO		0x0537be77U
#define QCOW2_EXT_DATA_FILE		0x44415441U

/* crypt_method */
#define QCOW2_CRYPT_NONE	0
#define QCOW2_CRYPT_AES		1
#define QCOW2_CRYPT_LUKS	2

/* compression_type */
#define QCOW2_COMPRESSION_ZLIB	0
#define QCOW2_COMPRESSION_ZSTD	1

/* Twice a cluster, which is the most sectors, may begin within one. */
#define QCOW2_COMPRESSED_MOST	3U

/* Bytes of a name in the feature name table. */
#define QCOW2_FEATURE_NAME	46

#define QCOW2_OFLAG_COPIED	BIT_ULL(63)
#define QCOW2_OFLAG_COMPRESSED	BIT_ULL(62)
#define QCOW2_OFLAG_ZERO	BIT_ULL(0)

#define QCOW2_OFFSET_MASK	0x00fffffffffffe00ULL
#define QCOW2_L1E_RESERVED	0x7f000000000001ffULL
#define QCOW2_L2E_RESERVED	0x3f000000000001feULL
/* The second word of an extended L2 entry: two bits for each subcluster. */
#define QCOW2_SUB_DATA		0x00000000ffffffffULL /* in the host cluster */
#define QCOW2_SUB_ZERO		0xffffffff00000000ULL /* reads as zeros */
#define QCOW2_REFTABLE_RESERVED	0x00000000000001ffULL
#define QCOW2_BITMAP_ENTRY_RESERVED 0xff000000000001feULL

/* Bytes of a snapshot table entry's fixed part, and of its known extra data. */
#define QCOW2_SNAPSHOT_FIXED	40
#define QCOW2_SNAPSHOT_EXTRA	24

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

/* What is wrong with a header, the most basic first. */
enum qcow2_fault {
	QCOW2_FAULT_MAGIC		= 1U << 0,
	QCOW2_FAULT_VERSION		= 1U << 1,
	QCOW2_FAULT_SHORT		= 1U << 2, /* of the fixed header */
	QCOW2_FAULT_CLUSTER_BITS	= 1U << 3,
	QCOW2_FAULT_HEADER_LENGTH	= 1U << 4,
	QCOW2_FAULT_HEADER_LENGTH_ODD	= 1U << 5, /* no multiple of 8 */
	QCOW2_FAULT_REFCOUNT_ORDER	= 1U << 6,
	QCOW2_FAULT_HEADER_CUT		= 1U << 7, /* header_length is more */
	QCOW2_FAULT_COMPRESSION		= 1U << 8, /* without its feature bit */
	QCOW2_FAULT_EXTL2_CLUSTERS	= 1U << 9, /* too small for it */
	QCOW2_FAULT_SIZE		= 1U << 10, /* 0, or no sectors */
	QCOW2_FAULT_SIZE_LARGE		= 1U << 11,
	QCOW2_FAULT_L1_LARGE		= 1U << 12,
	QCOW2_FAULT_L1_SMALL		= 1U << 13, /* for the virtual size */
	QCOW2_FAULT_L1_OFFSET		= 1U << 14,
	QCOW2_FAULT_REFTABLE_SIZE	= 1U << 15,
	QCOW2_FAULT_REFTABLE_OFFSET	= 1U << 16,
	QCOW2_FAULT_TABLES_OVERLAP	= 1U << 17,
	QCOW2_FAULT_SNAPSHOTS_MANY	= 1U << 18,
	QCOW2_FAULT_SNAPSHOTS_OFFSET	= 1U << 19,
	QCOW2_FAULT_BACKING_PLACE	= 1U << 20, /* not in the cluster */
	QCOW2_FAULT_BACKING_LENGTH	= 1U << 21,
	QCOW2_FAULT_EXTENSION		= 1U << 22, /* does not fit */
};

/* With these nothing else can be said. */
#define QCOW2_FAULTS_NO_HEADER	(QCOW2_FAULT_MAGIC | QCOW2_FAULT_VERSION | \
				 QCOW2_FAULT_SHORT | QCOW2_FAULT_CLUSTER_BITS)

/**
 * struct qcow2_geometry - what a header says, in native order
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
 * @crypt_method: QCOW2_CRYPT_*, or something unknown
 * @compression_type: QCOW2_COMPRESSION_*, or something unknown
 * @backing_offset: host offset of the backing file name, 0 for none
 * @backing_size: bytes of that name
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
	u32 crypt_method;
	u32 compression_type;
	u64 backing_offset;
	u32 backing_size;
};

/**
 * struct qcow2_reason - why something was refused, for the log
 * @text: a sentence without a full stop
 */
struct qcow2_reason {
	char text[160];
};

/**
 * struct qcow2_extension - a header extension
 * @type: QCOW2_EXT_*, or something unknown
 * @length: bytes of data
 * @offset: where its data is in the header area
 * @next: where the next one is; 0 before the first
 */
struct qcow2_extension {
	u32 type;
	u32 length;
	u64 offset;
	u64 next;
};

/**
 * struct qcow2_backing - what a header says of the backing file
 * @name: its name, terminated; hostile text, cut if it is not in the header area
 * @format: its format, the same; empty: not said
 */
struct qcow2_backing {
	char name[QCOW2_MAX_BACKING_NAME + 1];
	char format[16];
};

/**
 * struct qcow2_snapshot - the fixed part of a snapshot table entry
 * @l1_offset: host offset of its L1 table
 * @l1_size: entries of that table
 * @id_size: bytes of its id
 * @name_size: bytes of its name
 * @date_sec: when it was made
 * @date_nsec: the same, below a second
 * @vm_clock_nsec: time that the guest had run
 * @vm_state_size: bytes of VM state; the extra data may say it better
 * @extra_size: bytes of extra data
 */
struct qcow2_snapshot {
	u64 l1_offset;
	u32 l1_size;
	u16 id_size;
	u16 name_size;
	u32 date_sec;
	u32 date_nsec;
	u64 vm_clock_nsec;
	u32 vm_state_size;
	u32 extra_size;
};

/**
 * struct qcow2_snapshot_extra - what is known of a snapshot's extra data
 * @vm_state_size: bytes of VM state
 * @disk_size: virtual size in bytes
 * @icount: instructions executed, all ones if not counted
 */
struct qcow2_snapshot_extra {
	u64 vm_state_size;
	u64 disk_size;
	u64 icount;
};

/**
 * struct qcow2_bitmaps - the bitmaps extension
 * @nb_bitmaps: entries of the bitmap directory
 * @directory_size: bytes of it
 * @directory_offset: its host offset
 */
struct qcow2_bitmaps {
	u32 nb_bitmaps;
	u64 directory_size;
	u64 directory_offset;
};

#define QCOW2_BITMAPS_BYTES	24	/* data of the bitmaps extension */
#define QCOW2_BITMAP_FIXED	24	/* a directory entry, up to its extra data */
#define QCOW2_EXTENSION_HEAD	8	/* an extension, up to its data */

/* Flags of an entry of the bitmap directory. */
#define QCOW2_BITMAP_IN_USE	1U
#define QCOW2_BITMAP_AUTO	2U
#define QCOW2_BITMAP_EXTRA_OK	4U
#define QCOW2_BITMAP_FLAGS	7U

/* Type of a bitmap that tells what has changed. */
#define QCOW2_BITMAP_DIRTY	1U

/* What a table entry without a cluster says of its bits. */
#define QCOW2_BITMAP_ALL_ONES	1ULL

/* What QEMU takes, as log2 of bytes. */
#define QCOW2_MIN_GRANULARITY_BITS	9
#define QCOW2_MAX_GRANULARITY_BITS	31

/**
 * struct qcow2_bitmap - an entry of the bitmap directory
 * @table_offset: host offset of the bitmap table
 * @table_size: entries of that table
 * @flags: QCOW2_BITMAP_IN_USE: not saved as it should have been; _AUTO: it
 *	records what changes; _EXTRA_OK: its extra data may be ignored
 * @type: QCOW2_BITMAP_DIRTY
 * @granularity_bits: log2 of the bytes that a bit stands for
 * @name_size: bytes of its name
 * @extra_size: bytes of extra data
 */
struct qcow2_bitmap {
	u64 table_offset;
	u32 table_size;
	u32 flags;
	u8 type;
	u8 granularity_bits;
	u16 name_size;
	u32 extra_size;
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

u32 qcow2_header_inspect(const void *buf, size_t len, struct qcow2_geometry *g);
void qcow2_header_store(void *buf, const struct qcow2_geometry *g);
void qcow2_header_make(void *buf, const struct qcow2_geometry *g);
void qcow2_header_store_backing(void *buf, u64 offset);
int qcow2_header_parse(const void *buf, size_t len, struct qcow2_geometry *g,
		       struct qcow2_reason *why);
int qcow2_header_supported(const void *buf, size_t len,
			   const struct qcow2_geometry *g, bool read_only,
			   struct qcow2_reason *why);

int qcow2_extension_next(const void *buf, size_t len,
			 const struct qcow2_geometry *g,
			 struct qcow2_extension *ext);
void qcow2_extension_store(void *buf, u32 type, u32 length);
u32 qcow2_extensions_check(const void *buf, size_t len,
			   const struct qcow2_geometry *g,
			   struct qcow2_extension *bad);
bool qcow2_feature_name_in(const void *table, size_t len, unsigned int type,
			   unsigned int bit, char name[QCOW2_FEATURE_NAME + 1]);
const char *qcow2_feature_name_known(unsigned int type, unsigned int bit);
int qcow2_feature_name(const void *buf, size_t len,
		       const struct qcow2_geometry *g, unsigned int type,
		       unsigned int bit, char *name, size_t name_size);
void qcow2_backing_parse(const void *buf, size_t len,
			 const struct qcow2_geometry *g,
			 struct qcow2_backing *b);
void qcow2_data_file_name(const void *buf, size_t len,
			  const struct qcow2_geometry *g, char *name,
			  size_t name_size);
int qcow2_crypto_parse(const void *data, size_t len, u64 *offset, u64 *length);

void qcow2_snapshot_parse(const void *buf, struct qcow2_snapshot *s);
void qcow2_snapshot_store(void *buf, const struct qcow2_snapshot *s);
u64 qcow2_snapshot_bytes(const struct qcow2_snapshot *s);
int qcow2_snapshot_extra_parse(const void *buf, size_t len,
			       struct qcow2_snapshot_extra *extra);
void qcow2_snapshot_extra_store(void *buf,
				const struct qcow2_snapshot_extra *extra);

int qcow2_bitmaps_parse(const void *data, size_t len, struct qcow2_bitmaps *b);
int qcow2_bitmaps_find(const void *buf, size_t len,
		       const struct qcow2_geometry *g, struct qcow2_bitmaps *b);
s64 qcow2_bitmap_parse(const void *buf, size_t len, struct qcow2_bitmap *b);
const char *qcow2_bitmap_fault(const struct qcow2_geometry *g,
			       const struct qcow2_bitmap *b);
u64 qcow2_bitmap_bits(const struct qcow2_geometry *g,
		      const struct qcow2_bitmap *b);
void qcow2_bitmaps_store(void *data, const struct qcow2_bitmaps *b);
void qcow2_bitmap_store(void *buf, const struct qcow2_bitmap *b);
void qcow2_bitmap_store_flags(void *buf, u32 flags);
bool qcow2_bitmap_entry_valid(u64 entry);

enum qcow2_cluster_type qcow2_l2_entry_type(const struct qcow2_geometry *g,
					    u64 entry, u64 limit);
u64 qcow2_compressed_place(const struct qcow2_geometry *g, u64 entry, u64 *end);
u64 qcow2_compressed_run(const struct qcow2_geometry *g, u64 entry, u32 *count);
bool qcow2_compressed_valid(const struct qcow2_geometry *g, u64 entry,
			    u64 limit);
bool qcow2_subclusters_valid(const struct qcow2_geometry *g, u64 entry,
			     u64 bitmap);
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

static inline bool qcow2_aligned(const struct qcow2_geometry *g, u64 offset)
{
	return !(offset & (qcow2_cluster_size(g) - 1));
}

static inline bool qcow2_has_backing(const struct qcow2_geometry *g)
{
	return g->backing_offset && g->backing_size;
}

static inline bool qcow2_data_file(const struct qcow2_geometry *g)
{
	return g->incompat & QCOW2_INCOMPAT_DATA_FILE;
}

/* Whether the guest sees the data file byte for byte. */
static inline bool qcow2_data_file_raw(const struct qcow2_geometry *g)
{
	return qcow2_data_file(g) && g->autoclear & QCOW2_AUTOCLEAR_RAW_EXTERNAL;
}

static inline bool qcow2_extended_l2(const struct qcow2_geometry *g)
{
	return g->incompat & QCOW2_INCOMPAT_EXTL2;
}

/* log2 of the bytes that a bit of an extended L2 entry stands for. */
static inline u32 qcow2_subcluster_bits(const struct qcow2_geometry *g)
{
	return g->cluster_bits - QCOW2_SUBCLUSTER_BITS;
}

/* The subclusters from @first on up to @last, as bits of QCOW2_SUB_DATA. */
static inline u64 qcow2_sub_range(u32 first, u32 last)
{
	return (BIT_ULL(last - first + 1) - 1) << first;
}

/* The same subclusters, as bits of QCOW2_SUB_ZERO. */
static inline u64 qcow2_sub_zeros(u64 range)
{
	return range << QCOW2_SUBCLUSTERS;
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
