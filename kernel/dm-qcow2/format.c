// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: the header, table entries and refcounts.
 *
 * Compiled into the module and into userspace tests. Everything here treats
 * its input as hostile: no field is used before it has been bounded.
 */
#include "format.h"

#ifdef __KERNEL__
#include <linux/stdarg.h>
#else
#include <stdarg.h>
#endif

struct feature_name {
	u8 type;
	u8 bit;
	char name[46];
};

static const char * const incompat_names[] = {
	"dirty bit", "corrupt bit", "external data file", "compression type",
	"extended L2 entries",
};

static __printf(3, 4) int refuse(struct qcow2_reason *why, int err,
				 const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return err;
}

static bool aligned(const struct qcow2_geometry *g, u64 offset)
{
	return !(offset & (qcow2_cluster_size(g) - 1));
}

static void header_load(const struct qcow2_header *h, struct qcow2_geometry *g)
{
	g->version = be32_to_cpu(h->version);
	g->cluster_bits = be32_to_cpu(h->cluster_bits);
	g->size = be64_to_cpu(h->size);
	g->l1_size = be32_to_cpu(h->l1_size);
	g->l1_offset = be64_to_cpu(h->l1_table_offset);
	g->reftable_offset = be64_to_cpu(h->refcount_table_offset);
	g->reftable_clusters = be32_to_cpu(h->refcount_table_clusters);
	g->nb_snapshots = be32_to_cpu(h->nb_snapshots);
	g->snapshots_offset = be64_to_cpu(h->snapshots_offset);
	g->refcount_order = 4;
	g->header_length = QCOW2_V2_HEADER_LENGTH;
	g->incompat = 0;
	g->compat = 0;
	g->autoclear = 0;
	if (g->version < 3)
		return;
	g->incompat = be64_to_cpu(h->incompatible_features);
	g->compat = be64_to_cpu(h->compatible_features);
	g->autoclear = be64_to_cpu(h->autoclear_features);
	g->refcount_order = be32_to_cpu(h->refcount_order);
	g->header_length = be32_to_cpu(h->header_length);
}

static int check_basics(const struct qcow2_header *h, size_t len,
			const struct qcow2_geometry *g,
			struct qcow2_reason *why)
{
	if (g->version != 2 && g->version != 3)
		return refuse(why, -EINVAL, "unknown QCOW2 version %u",
			      g->version);
	if (g->version == 3 && len < QCOW2_V3_HEADER_LENGTH)
		return refuse(why, -EINVAL, "truncated header (%zu bytes)", len);
	if (g->cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
	    g->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return refuse(why, -EINVAL, "cluster_bits %u out of range",
			      g->cluster_bits);
	if (g->version == 3 && (g->header_length < QCOW2_V3_HEADER_LENGTH ||
				g->header_length > qcow2_cluster_size(g) ||
				g->header_length % 8))
		return refuse(why, -EINVAL, "header_length %u out of range",
			      g->header_length);
	if (g->refcount_order > 6)
		return refuse(why, -EINVAL, "refcount_order %u out of range",
			      g->refcount_order);
	if (g->header_length > len)
		return refuse(why, -EINVAL, "truncated header (%zu bytes)", len);
	if (g->version == 3 && g->header_length >
	    offsetof(struct qcow2_header, compression_type) &&
	    h->compression_type && !(g->incompat & QCOW2_INCOMPAT_COMPRESSION))
		return refuse(why, -EINVAL,
			      "compression type %u without its feature bit",
			      h->compression_type);
	if (be32_to_cpu(h->crypt_method))
		return refuse(why, -EOPNOTSUPP,
			      "encryption (crypt_method %u) is not supported",
			      be32_to_cpu(h->crypt_method));
	return 0;
}

static int check_tables(const struct qcow2_geometry *g,
			struct qcow2_reason *why)
{
	u64 cluster = qcow2_cluster_size(g);
	u64 l1_bytes = (u64)g->l1_size * 8;
	u64 rt_bytes = (u64)g->reftable_clusters << g->cluster_bits;
	u64 l1_needed;

	if (!g->size || g->size % 512 || g->size > (1ULL << 62))
		return refuse(why, -EINVAL,
			      "virtual size %llu is not a positive multiple of 512",
			      (unsigned long long)g->size);
	if (l1_bytes > QCOW2_MAX_L1_BYTES)
		return refuse(why, -EFBIG, "L1 table of %u entries is too large",
			      g->l1_size);
	l1_needed = ((g->size - 1) >> (g->cluster_bits + g->l2_bits)) + 1;
	if (g->l1_size < l1_needed)
		return refuse(why, -EINVAL,
			      "L1 table of %u entries is too small for the virtual size",
			      g->l1_size);
	if (!aligned(g, g->l1_offset) || g->l1_offset < cluster ||
	    g->l1_offset > QCOW2_OFFSET_MASK - l1_bytes)
		return refuse(why, -EINVAL, "bad L1 table offset 0x%llx",
			      (unsigned long long)g->l1_offset);
	if (!g->reftable_clusters || rt_bytes > QCOW2_MAX_REFTABLE_BYTES)
		return refuse(why, -EINVAL,
			      "refcount table of %u clusters out of range",
			      g->reftable_clusters);
	if (!aligned(g, g->reftable_offset) || g->reftable_offset < cluster ||
	    g->reftable_offset > QCOW2_OFFSET_MASK - rt_bytes)
		return refuse(why, -EINVAL, "bad refcount table offset 0x%llx",
			      (unsigned long long)g->reftable_offset);
	if (g->l1_offset < g->reftable_offset + rt_bytes &&
	    g->reftable_offset < g->l1_offset + l1_bytes)
		return refuse(why, -EINVAL,
			      "L1 table and refcount table overlap");
	if (g->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
		return refuse(why, -EFBIG, "%u snapshots are too many",
			      g->nb_snapshots);
	if (g->nb_snapshots && (!aligned(g, g->snapshots_offset) ||
				g->snapshots_offset < cluster ||
				g->snapshots_offset > QCOW2_OFFSET_MASK))
		return refuse(why, -EINVAL, "bad snapshot table offset 0x%llx",
			      (unsigned long long)g->snapshots_offset);
	return 0;
}

/* Where the extensions end: the backing file name, or the cluster. */
static u64 extensions_end(const struct qcow2_header *h,
			  const struct qcow2_geometry *g)
{
	u64 backing = be64_to_cpu(h->backing_file_offset);

	return backing ? backing : qcow2_cluster_size(g);
}

/*
 * Steps to the extension at *@pos. Returns 1 with its type, length and data
 * position, 0 at the end, or a negative error for one that does not fit.
 */
static int next_extension(const u8 *buf, u64 end, u64 *pos, u32 *type,
			  u32 *length, u64 *data)
{
	__be32 head[2];

	if (*pos + sizeof(head) > end)
		return 0;
	memcpy(head, buf + *pos, sizeof(head));
	*type = be32_to_cpu(head[0]);
	*length = be32_to_cpu(head[1]);
	if (*type == QCOW2_EXT_END)
		return 0;
	*data = *pos + sizeof(head);
	if (*length > end - *data)
		return -EINVAL;
	*pos = *data + (((u64)*length + 7) & ~7ULL);
	return 1;
}

static int check_extensions(const void *buf, size_t len,
			    const struct qcow2_geometry *g,
			    struct qcow2_reason *why)
{
	u64 end = extensions_end(buf, g), pos = g->header_length, data;
	u32 type = 0, length = 0;
	int r;

	if (end > qcow2_cluster_size(g) || end < g->header_length)
		return refuse(why, -EINVAL,
			      "backing file name at 0x%llx is outside the header cluster",
			      (unsigned long long)end);
	if (end > len)
		end = len;
	do {
		r = next_extension(buf, end, &pos, &type, &length, &data);
	} while (r > 0);
	if (r < 0)
		return refuse(why, r,
			      "header extension 0x%08x of %u bytes is too long",
			      type, length);
	return 0;
}

/**
 * qcow2_header_parse() - read and bound every field of a header
 * @buf: the beginning of the image
 * @len: bytes in @buf; a whole header area unless the image is shorter
 * @g: filled in
 * @why: filled in on error
 *
 * Says whether the image is a well-formed QCOW2 image, not whether this driver
 * can handle it. Source: specification, "Header" and "Header extensions".
 *
 * Return: 0, or -EINVAL, -EFBIG or -EOPNOTSUPP with @why set.
 */
int qcow2_header_parse(const void *buf, size_t len, struct qcow2_geometry *g,
		       struct qcow2_reason *why)
{
	const struct qcow2_header *h = buf;
	int r;

	if (len < 4 || be32_to_cpu(h->magic) != QCOW2_MAGIC)
		return refuse(why, -EINVAL, "not a QCOW2 image");
	if (len < QCOW2_V2_HEADER_LENGTH)
		return refuse(why, -EINVAL, "truncated header (%zu bytes)", len);
	memset(g, 0, sizeof(*g));
	g->version = be32_to_cpu(h->version);
	if (g->version < 3 || len >= QCOW2_V3_HEADER_LENGTH)
		header_load(h, g);
	r = check_basics(h, len, g, why);
	if (r)
		return r;
	g->l2_bits = g->cluster_bits - 3;
	if (g->incompat & QCOW2_INCOMPAT_EXTL2)
		g->l2_bits--;
	r = check_tables(g, why);
	if (r)
		return r;
	return check_extensions(buf, len, g, why);
}

/**
 * qcow2_feature_name() - the name of a feature bit
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the parsed header
 * @type: 0 incompatible, 1 compatible, 2 autoclear
 * @bit: bit number
 * @name: filled in with a terminated, printable string
 * @name_size: bytes at @name
 *
 * Takes the image's own feature name table first, then the names that the
 * specification gives. Return: 0, or -ENOENT if neither knows it (@name is
 * then "unknown").
 */
int qcow2_feature_name(const void *buf, size_t len,
		       const struct qcow2_geometry *g, unsigned int type,
		       unsigned int bit, char *name, size_t name_size)
{
	u64 end = extensions_end(buf, g), pos = g->header_length, data;
	struct feature_name f;
	u32 ext, length, i, j;

	if (end > len)
		end = len;
	while (next_extension(buf, end, &pos, &ext, &length, &data) > 0) {
		if (ext != QCOW2_EXT_FEATURE_TABLE)
			continue;
		for (i = 0; i + sizeof(f) <= length; i += sizeof(f)) {
			memcpy(&f, (const u8 *)buf + data + i, sizeof(f));
			if (f.type != type || f.bit != bit || !f.name[0])
				continue;
			for (j = 0; j < sizeof(f.name); j++)
				if (f.name[j] && (f.name[j] < ' ' ||
						  f.name[j] > '~'))
					f.name[j] = '?';
			snprintf(name, name_size, "%.46s", f.name);
			return 0;
		}
	}
	if (!type && bit < sizeof(incompat_names) / sizeof(*incompat_names)) {
		snprintf(name, name_size, "%s", incompat_names[bit]);
		return 0;
	}
	snprintf(name, name_size, "unknown");
	return -ENOENT;
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
	const struct qcow2_header *h = buf;
	u64 unknown = g->incompat & ~(QCOW2_INCOMPAT_DIRTY |
				      QCOW2_INCOMPAT_CORRUPT);
	char name[48];
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		if (!(unknown & BIT_ULL(bit)))
			continue;
		qcow2_feature_name(buf, len, g, 0, bit, name, sizeof(name));
		return refuse(why, -EOPNOTSUPP,
			      "incompatible feature %u (%s) is not supported",
			      bit, name);
	}
	if (g->cluster_bits < QCOW2_MIN_SUPPORTED_CLUSTER_BITS)
		return refuse(why, -EOPNOTSUPP,
			      "cluster size %u is not supported, 4096 is the least",
			      qcow2_cluster_size(g));
	if (h->backing_file_offset)
		return refuse(why, -EOPNOTSUPP,
			      "the image has a backing file, which is not supported");
	if (read_only)
		return 0;
	if (g->incompat & QCOW2_INCOMPAT_CORRUPT)
		return refuse(why, -EUCLEAN,
			      "image is marked corrupt; attach it read_only or repair it with qemu-img check -r all");
	if (g->incompat & QCOW2_INCOMPAT_DIRTY)
		return refuse(why, -EUCLEAN,
			      "image was not closed cleanly; run qemu-img check -r all first");
	return 0;
}

/**
 * qcow2_l2_entry_type() - classify an L2 entry
 * @g: geometry
 * @entry: the entry in native order
 * @limit: bytes of the image that a cluster may lie in, a cluster multiple
 *
 * Source: specification, "L2 table entry". Anything whose use could reach
 * outside the image or into the header is QCOW2_CLUSTER_INVALID.
 */
enum qcow2_cluster_type qcow2_l2_entry_type(const struct qcow2_geometry *g,
					    u64 entry, u64 limit)
{
	u64 offset = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_OFLAG_COMPRESSED)
		return QCOW2_CLUSTER_COMPRESSED;
	if (entry & QCOW2_L2E_RESERVED)
		return QCOW2_CLUSTER_INVALID;
	if (!offset) {
		if (entry & QCOW2_OFLAG_COPIED)
			return QCOW2_CLUSTER_INVALID;
		if (!(entry & QCOW2_OFLAG_ZERO))
			return QCOW2_CLUSTER_UNALLOCATED;
		return g->version < 3 ? QCOW2_CLUSTER_INVALID :
					QCOW2_CLUSTER_ZERO_PLAIN;
	}
	if (!aligned(g, offset) || offset >= limit)
		return QCOW2_CLUSTER_INVALID;
	if (!(entry & QCOW2_OFLAG_ZERO))
		return QCOW2_CLUSTER_NORMAL;
	return g->version < 3 ? QCOW2_CLUSTER_INVALID :
				QCOW2_CLUSTER_ZERO_ALLOC;
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
	return aligned(g, offset) && offset < limit;
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
	return !entry || (aligned(g, entry) && entry < limit);
}

/**
 * qcow2_refcount_get() - read one refcount
 * @block: a refcount block, or a cached part of one
 * @index: entry in @block
 * @order: log2 of the width in bits, 0 to 6
 *
 * Widths under a byte are packed from the least significant bit on.
 * Source: specification, "Refcount block entry".
 */
u64 qcow2_refcount_get(const void *block, unsigned int index,
		       unsigned int order)
{
	unsigned int width = 1U << order;

	switch (order) {
	case 3:
		return ((const u8 *)block)[index];
	case 4:
		return be16_to_cpu(((const __be16 *)block)[index]);
	case 5:
		return be32_to_cpu(((const __be32 *)block)[index]);
	case 6:
		return be64_to_cpu(((const __be64 *)block)[index]);
	default:
		return (((const u8 *)block)[index >> (3 - order)] >>
			((index * width) & 7)) & ((1U << width) - 1);
	}
}

/**
 * qcow2_refcount_set() - write one refcount
 * @block: a refcount block, or a cached part of one
 * @index: entry in @block
 * @order: log2 of the width in bits, 0 to 6
 * @value: the new refcount; must fit the width
 */
void qcow2_refcount_set(void *block, unsigned int index, unsigned int order,
			u64 value)
{
	unsigned int width = 1U << order;
	unsigned int shift;
	u8 *byte;

	switch (order) {
	case 3:
		((u8 *)block)[index] = value;
		break;
	case 4:
		((__be16 *)block)[index] = cpu_to_be16(value);
		break;
	case 5:
		((__be32 *)block)[index] = cpu_to_be32(value);
		break;
	case 6:
		((__be64 *)block)[index] = cpu_to_be64(value);
		break;
	default:
		byte = (u8 *)block + (index >> (3 - order));
		shift = (index * width) & 7;
		*byte = (*byte & ~(((1U << width) - 1) << shift)) |
			(value << shift);
	}
}
