// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: the header. Pure functions.
 *
 * Everything here treats its input as hostile: no field is used before it has
 * been bounded. qcow2_header_inspect() says what is there and lists what is
 * wrong; qcow2_header_parse() and qcow2_header_supported() are what the driver
 * makes of that, the tools have a judgement of their own.
 */
#include "format.h"

#ifdef __KERNEL__
#include <linux/stdarg.h>
#else
#include <stdarg.h>
#endif

/* The encryption method comes before what is wrong with tables. */
#define HEADER_FIRST_OF_TABLES	QCOW2_FAULT_SIZE

static __printf(3, 4) int header_refuse(struct qcow2_reason *why, int err,
					const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return err;
}

static void header_read_fields(const struct qcow2_header *h, size_t len,
			       struct qcow2_geometry *g)
{
	g->cluster_bits = be32_to_cpu(h->cluster_bits);
	g->size = be64_to_cpu(h->size);
	g->crypt_method = be32_to_cpu(h->crypt_method);
	g->l1_size = be32_to_cpu(h->l1_size);
	g->l1_offset = be64_to_cpu(h->l1_table_offset);
	g->reftable_offset = be64_to_cpu(h->refcount_table_offset);
	g->reftable_clusters = be32_to_cpu(h->refcount_table_clusters);
	g->nb_snapshots = be32_to_cpu(h->nb_snapshots);
	g->snapshots_offset = be64_to_cpu(h->snapshots_offset);
	g->backing_offset = be64_to_cpu(h->backing_file_offset);
	g->backing_size = be32_to_cpu(h->backing_file_size);
	g->refcount_order = 4;
	g->header_length = QCOW2_V2_HEADER_LENGTH;
	if (g->version < 3)
		return;
	g->incompat = be64_to_cpu(h->incompatible_features);
	g->compat = be64_to_cpu(h->compatible_features);
	g->autoclear = be64_to_cpu(h->autoclear_features);
	g->refcount_order = be32_to_cpu(h->refcount_order);
	g->header_length = be32_to_cpu(h->header_length);
	if (g->header_length > offsetof(struct qcow2_header, compression_type) &&
	    len > offsetof(struct qcow2_header, compression_type))
		g->compression_type = h->compression_type;
}

static u32 header_check_basics(const struct qcow2_geometry *g, size_t len)
{
	u32 faults = 0;

	if (g->version == 3 && (g->header_length < QCOW2_V3_HEADER_LENGTH ||
				g->header_length > qcow2_cluster_size(g)))
		faults |= QCOW2_FAULT_HEADER_LENGTH;
	if (g->header_length % 8)
		faults |= QCOW2_FAULT_HEADER_LENGTH_ODD;
	if (g->refcount_order > 6)
		faults |= QCOW2_FAULT_REFCOUNT_ORDER;
	if (g->header_length > len)
		faults |= QCOW2_FAULT_HEADER_CUT;
	if (g->compression_type && !(g->incompat & QCOW2_INCOMPAT_COMPRESSION))
		faults |= QCOW2_FAULT_COMPRESSION;
	if (qcow2_extended_l2(g) &&
	    g->cluster_bits < QCOW2_MIN_EXTL2_CLUSTER_BITS)
		faults |= QCOW2_FAULT_EXTL2_CLUSTERS;
	return faults;
}

static bool header_bad_place(const struct qcow2_geometry *g, u64 offset,
			     u64 bytes)
{
	return !qcow2_aligned(g, offset) || offset < qcow2_cluster_size(g) ||
	       offset > QCOW2_OFFSET_MASK - bytes;
}

static u32 header_check_l1(const struct qcow2_geometry *g)
{
	u64 needed = 0;
	u32 faults = 0;

	if (!g->size || g->size % 512)
		faults |= QCOW2_FAULT_SIZE;
	if (g->size > QCOW2_MAX_SIZE)
		faults |= QCOW2_FAULT_SIZE_LARGE;
	if (g->size)
		needed = ((g->size - 1) >> (g->cluster_bits + g->l2_bits)) + 1;
	if ((u64)g->l1_size * 8 > QCOW2_MAX_L1_BYTES)
		faults |= QCOW2_FAULT_L1_LARGE;
	if (g->l1_size < needed)
		faults |= QCOW2_FAULT_L1_SMALL;
	if (g->l1_size &&
	    header_bad_place(g, g->l1_offset, (u64)g->l1_size * 8))
		faults |= QCOW2_FAULT_L1_OFFSET;
	return faults;
}

static u32 header_check_tables(const struct qcow2_geometry *g)
{
	u64 l1_bytes = (u64)g->l1_size * 8;
	u64 rt_bytes = (u64)g->reftable_clusters << g->cluster_bits;
	u32 faults = header_check_l1(g);

	if (!g->reftable_clusters || rt_bytes > QCOW2_MAX_REFTABLE_BYTES)
		faults |= QCOW2_FAULT_REFTABLE_SIZE;
	if (header_bad_place(g, g->reftable_offset, rt_bytes))
		faults |= QCOW2_FAULT_REFTABLE_OFFSET;
	if (g->l1_offset < g->reftable_offset + rt_bytes &&
	    g->reftable_offset < g->l1_offset + l1_bytes)
		faults |= QCOW2_FAULT_TABLES_OVERLAP;
	if (g->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
		faults |= QCOW2_FAULT_SNAPSHOTS_MANY;
	if (g->nb_snapshots && header_bad_place(g, g->snapshots_offset, 0))
		faults |= QCOW2_FAULT_SNAPSHOTS_OFFSET;
	return faults;
}

/**
 * qcow2_header_inspect() - read a header, and list what is wrong with it
 * @buf: the beginning of the image
 * @len: bytes in @buf
 * @g: filled in; a field that a fault is about has not been bounded
 *
 * Says whether the image is a well-formed QCOW2 image, not whether anybody can
 * handle it. Source: specification, "Header".
 *
 * Return: faults, as bits. With one of QCOW2_FAULTS_NO_HEADER, nothing else has
 * been looked at.
 */
u32 qcow2_header_inspect(const void *buf, size_t len, struct qcow2_geometry *g)
{
	const struct qcow2_header *h = buf;

	memset(g, 0, sizeof(*g));
	if (len < 4 || be32_to_cpu(h->magic) != QCOW2_MAGIC)
		return QCOW2_FAULT_MAGIC;
	if (len < QCOW2_V2_HEADER_LENGTH)
		return QCOW2_FAULT_SHORT;
	g->version = be32_to_cpu(h->version);
	if (g->version != 2 && g->version != 3)
		return QCOW2_FAULT_VERSION;
	if (g->version == 3 && len < QCOW2_V3_HEADER_LENGTH)
		return QCOW2_FAULT_SHORT;
	header_read_fields(h, len, g);
	if (g->cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
	    g->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return QCOW2_FAULT_CLUSTER_BITS;
	g->l2_bits = g->cluster_bits - (qcow2_extended_l2(g) ? 4 : 3);
	return header_check_basics(g, len) | header_check_tables(g);
}

/**
 * qcow2_header_store() - write what a maintenance program may change
 * @buf: the beginning of the image as it was read, at least the fixed header
 * @g: what to write
 *
 * In version 2 what follows the fixed fields belongs to extensions and stays.
 */
void qcow2_header_store(void *buf, const struct qcow2_geometry *g)
{
	struct qcow2_header *h = buf;

	h->size = cpu_to_be64(g->size);
	h->l1_size = cpu_to_be32(g->l1_size);
	h->l1_table_offset = cpu_to_be64(g->l1_offset);
	h->refcount_table_offset = cpu_to_be64(g->reftable_offset);
	h->refcount_table_clusters = cpu_to_be32(g->reftable_clusters);
	h->nb_snapshots = cpu_to_be32(g->nb_snapshots);
	h->snapshots_offset = cpu_to_be64(g->snapshots_offset);
	if (g->version < 3)
		return;
	h->incompatible_features = cpu_to_be64(g->incompat);
	h->autoclear_features = cpu_to_be64(g->autoclear);
}

/**
 * qcow2_header_make() - write the header of an image that is made anew
 * @buf: zeroed, sizeof(struct qcow2_header) bytes
 * @g: what to write: of version 3, without encryption
 */
void qcow2_header_make(void *buf, const struct qcow2_geometry *g)
{
	struct qcow2_header *h = buf;

	h->magic = cpu_to_be32(QCOW2_MAGIC);
	h->version = cpu_to_be32(g->version);
	h->backing_file_offset = cpu_to_be64(g->backing_offset);
	h->backing_file_size = cpu_to_be32(g->backing_size);
	h->cluster_bits = cpu_to_be32(g->cluster_bits);
	h->compatible_features = cpu_to_be64(g->compat);
	h->refcount_order = cpu_to_be32(g->refcount_order);
	h->header_length = cpu_to_be32(g->header_length);
	h->compression_type = g->compression_type;
	qcow2_header_store(buf, g);
}

/**
 * qcow2_header_store_backing() - write where the backing file name is
 * @buf: the beginning of the image as it was read
 * @offset: byte offset of the name
 */
void qcow2_header_store_backing(void *buf, u64 offset)
{
	struct qcow2_header *h = buf;

	h->backing_file_offset = cpu_to_be64(offset);
}

static int header_refuse_basics(u32 fault, size_t len,
				const struct qcow2_geometry *g,
				struct qcow2_reason *why)
{
	switch (fault) {
	case QCOW2_FAULT_MAGIC:
		return header_refuse(why, -EINVAL, "not a QCOW2 image");
	case QCOW2_FAULT_VERSION:
		return header_refuse(why, -EINVAL, "unknown QCOW2 version %u",
				     g->version);
	case QCOW2_FAULT_CLUSTER_BITS:
		return header_refuse(why, -EINVAL, "cluster_bits %u out of range",
				     g->cluster_bits);
	case QCOW2_FAULT_HEADER_LENGTH:
	case QCOW2_FAULT_HEADER_LENGTH_ODD:
		return header_refuse(why, -EINVAL, "header_length %u out of range",
				     g->header_length);
	case QCOW2_FAULT_REFCOUNT_ORDER:
		return header_refuse(why, -EINVAL, "refcount_order %u out of range",
				     g->refcount_order);
	case QCOW2_FAULT_COMPRESSION:
		return header_refuse(why, -EINVAL,
				     "compression type %u without its feature bit",
				     g->compression_type);
	case QCOW2_FAULT_EXTL2_CLUSTERS:
		return header_refuse(why, -EINVAL,
				     "extended L2 entries need clusters of 16384 bytes or more, not %u",
				     qcow2_cluster_size(g));
	default: /* QCOW2_FAULT_SHORT, QCOW2_FAULT_HEADER_CUT */
		return header_refuse(why, -EINVAL, "truncated header (%zu bytes)", len);
	}
}

static int header_refuse_tables(u32 fault, const struct qcow2_geometry *g,
				struct qcow2_reason *why)
{
	switch (fault) {
	case QCOW2_FAULT_L1_LARGE:
		return header_refuse(why, -EFBIG, "L1 table of %u entries is too large",
				     g->l1_size);
	case QCOW2_FAULT_L1_SMALL:
		return header_refuse(why, -EINVAL,
				     "L1 table of %u entries is too small for the virtual size",
				     g->l1_size);
	case QCOW2_FAULT_L1_OFFSET:
		return header_refuse(why, -EINVAL, "bad L1 table offset 0x%llx",
				     (unsigned long long)g->l1_offset);
	case QCOW2_FAULT_REFTABLE_SIZE:
		return header_refuse(why, -EINVAL,
				     "refcount table of %u clusters out of range",
				     g->reftable_clusters);
	case QCOW2_FAULT_REFTABLE_OFFSET:
		return header_refuse(why, -EINVAL, "bad refcount table offset 0x%llx",
				     (unsigned long long)g->reftable_offset);
	case QCOW2_FAULT_TABLES_OVERLAP:
		return header_refuse(why, -EINVAL,
				     "L1 table and refcount table overlap");
	case QCOW2_FAULT_SNAPSHOTS_MANY:
		return header_refuse(why, -EFBIG, "%u snapshots are too many",
				     g->nb_snapshots);
	case QCOW2_FAULT_SNAPSHOTS_OFFSET:
		return header_refuse(why, -EINVAL, "bad snapshot table offset 0x%llx",
				     (unsigned long long)g->snapshots_offset);
	default: /* QCOW2_FAULT_SIZE, QCOW2_FAULT_SIZE_LARGE */
		return header_refuse(why, -EINVAL,
				     "virtual size %llu is not a positive multiple of 512",
				     (unsigned long long)g->size);
	}
}

/* The first fault of some. */
static u32 header_first(u32 faults)
{
	return faults & -faults;
}

static int header_refuse_extensions(const void *buf, size_t len,
				    const struct qcow2_geometry *g,
				    struct qcow2_reason *why)
{
	struct qcow2_extension bad;
	u32 faults = qcow2_extensions_check(buf, len, g, &bad);

	if (faults & QCOW2_FAULT_BACKING_PLACE)
		return header_refuse(why, -EINVAL,
				     "backing file name at 0x%llx is outside the header cluster",
				     (unsigned long long)g->backing_offset);
	if (faults & QCOW2_FAULT_BACKING_LENGTH)
		return header_refuse(why, -EINVAL,
				     "backing file name of %u bytes is too long",
				     g->backing_size);
	if (faults & QCOW2_FAULT_EXTENSION)
		return header_refuse(why, -EINVAL,
				     "header extension 0x%08x of %u bytes is too long",
				     bad.type, bad.length);
	return 0;
}

/**
 * qcow2_header_parse() - read a header, and refuse one with a fault
 * @buf: the beginning of the image
 * @len: bytes in @buf; a whole header area unless the image is shorter
 * @g: filled in; every field is bounded on success
 * @why: filled in on error
 *
 * Return: 0, or -EINVAL, -EFBIG or -EOPNOTSUPP with @why set.
 */
int qcow2_header_parse(const void *buf, size_t len, struct qcow2_geometry *g,
		       struct qcow2_reason *why)
{
	u32 faults = qcow2_header_inspect(buf, len, g);
	u32 basics = faults & (HEADER_FIRST_OF_TABLES - 1);

	if (basics)
		return header_refuse_basics(header_first(basics), len, g, why);
	if (g->crypt_method)
		return header_refuse(why, -EOPNOTSUPP,
				     "encryption (crypt_method %u) is not supported",
				     g->crypt_method);
	if (faults)
		return header_refuse_tables(header_first(faults), g, why);
	return header_refuse_extensions(buf, len, g, why);
}

/**
 * qcow2_header_supported() - whether this driver can handle a valid image
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the parsed header
 * @read_only: the image will never be written to
 * @why: filled in on error
 *
 * Return: 0, -EOPNOTSUPP for a feature that is not supported, -EUCLEAN for an
 * image that has to be repaired first, with @why set.
 */
int qcow2_header_supported(const void *buf, size_t len,
			   const struct qcow2_geometry *g, bool read_only,
			   struct qcow2_reason *why)
{
	u64 unknown = g->incompat & ~(QCOW2_INCOMPAT_DIRTY |
				      QCOW2_INCOMPAT_CORRUPT |
				      QCOW2_INCOMPAT_COMPRESSION |
				      QCOW2_INCOMPAT_DATA_FILE |
				      QCOW2_INCOMPAT_EXTL2);
	char name[QCOW2_FEATURE_NAME + 1];
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		if (!(unknown & BIT_ULL(bit)))
			continue;
		qcow2_feature_name(buf, len, g, 0, bit, name, sizeof(name));
		return header_refuse(why, -EOPNOTSUPP,
				     "incompatible feature %u (%s) is not supported",
				     bit, name);
	}
	if (g->compression_type > QCOW2_COMPRESSION_ZSTD)
		return header_refuse(why, -EOPNOTSUPP,
				     "compression type %u is not supported",
				     g->compression_type);
	/* QEMU does not open such an image, either. */
	if ((g->incompat & QCOW2_INCOMPAT_COMPRESSION) && !g->compression_type)
		return header_refuse(why, -EINVAL,
				     "the feature bit of a compression type is set, but the type is 0 (zlib)");
	if (g->cluster_bits < QCOW2_MIN_SUPPORTED_CLUSTER_BITS)
		return header_refuse(why, -EOPNOTSUPP,
				     "cluster size %u is not supported, 4096 is the least",
				     qcow2_cluster_size(g));
	if (read_only)
		return 0;
	if (g->incompat & QCOW2_INCOMPAT_CORRUPT)
		return header_refuse(why, -EUCLEAN,
				     "image is marked corrupt; attach it read_only or repair it with qemu-img check -r all");
	if (g->incompat & QCOW2_INCOMPAT_DIRTY)
		return header_refuse(why, -EUCLEAN,
				     "image was not closed cleanly; run qemu-img check -r all first");
	return 0;
}
