// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: the bitmaps extension and the bitmap directory. Pure
 * functions.
 */
#include "format.h"

struct bitmaps_extension {
	__be32 nb_bitmaps;
	__be32 reserved;
	__be64 bitmap_directory_size;
	__be64 bitmap_directory_offset;
} __packed;

struct bitmap_fixed {
	__be64 bitmap_table_offset;
	__be32 bitmap_table_size;
	__be32 flags;
	u8 type;
	u8 granularity_bits;
	__be16 name_size;
	__be32 extra_data_size;
} __packed;

/**
 * qcow2_bitmaps_parse() - read the bitmaps extension
 * @data: data of the extension
 * @len: bytes in @data
 * @b: filled in; nothing in it has been bounded
 *
 * Source: specification, "Bitmaps extension". Return: 0, or -EINVAL if the
 * extension is too short.
 */
int qcow2_bitmaps_parse(const void *data, size_t len, struct qcow2_bitmaps *b)
{
	struct bitmaps_extension raw;

	if (len < sizeof(raw))
		return -EINVAL;
	memcpy(&raw, data, sizeof(raw));
	b->nb_bitmaps = be32_to_cpu(raw.nb_bitmaps);
	b->directory_size = be64_to_cpu(raw.bitmap_directory_size);
	b->directory_offset = be64_to_cpu(raw.bitmap_directory_offset);
	return 0;
}

/**
 * qcow2_bitmaps_find() - look for the bitmaps of an image
 * @buf: the header area
 * @len: bytes in @buf
 * @g: the parsed header
 * @b: filled in; nothing in it has been bounded; empty if there are none
 *
 * The extension counts only with its autoclear bit: otherwise somebody who does
 * not know it has written to the image.
 * Return: 0, or -EINVAL for an extension that is too short.
 */
int qcow2_bitmaps_find(const void *buf, size_t len,
		       const struct qcow2_geometry *g, struct qcow2_bitmaps *b)
{
	struct qcow2_extension ext = { 0 };

	memset(b, 0, sizeof(*b));
	if (!(g->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	while (qcow2_extension_next(buf, len, g, &ext) > 0)
		if (ext.type == QCOW2_EXT_BITMAPS)
			return qcow2_bitmaps_parse((const u8 *)buf + ext.offset,
						   ext.length, b);
	return 0;
}

/**
 * qcow2_bitmap_parse() - read an entry of the bitmap directory
 * @buf: where it begins
 * @len: bytes of the directory from there on
 * @b: filled in; nothing in it but its length has been bounded
 *
 * Source: specification, "Bitmap directory". Return: bytes up to the next
 * entry, which may be more than there are behind the last one, or -EINVAL for
 * an entry that ends past the directory.
 */
s64 qcow2_bitmap_parse(const void *buf, size_t len, struct qcow2_bitmap *b)
{
	struct bitmap_fixed raw;
	u64 bytes;

	if (len < sizeof(raw))
		return -EINVAL;
	memcpy(&raw, buf, sizeof(raw));
	b->table_offset = be64_to_cpu(raw.bitmap_table_offset);
	b->table_size = be32_to_cpu(raw.bitmap_table_size);
	b->flags = be32_to_cpu(raw.flags);
	b->type = raw.type;
	b->granularity_bits = raw.granularity_bits;
	b->name_size = be16_to_cpu(raw.name_size);
	b->extra_size = be32_to_cpu(raw.extra_data_size);
	bytes = sizeof(raw) + (u64)b->extra_size + b->name_size;
	if (len < bytes)
		return -EINVAL;
	return (bytes + 7) & ~7ULL;
}

/**
 * qcow2_bitmap_bits() - how many bits cover the disk
 * @g: geometry
 * @b: the bitmap, with a granularity that was bounded
 */
u64 qcow2_bitmap_bits(const struct qcow2_geometry *g,
		      const struct qcow2_bitmap *b)
{
	return g->size ? ((g->size - 1) >> b->granularity_bits) + 1 : 0;
}

/**
 * qcow2_bitmap_fault() - why a bitmap cannot be kept up to date
 * @g: geometry
 * @b: its entry of the directory
 *
 * One that is in use need not fit the disk. Source: specification, "Bitmap
 * directory". Return: what is wrong with it, or NULL.
 */
const char *qcow2_bitmap_fault(const struct qcow2_geometry *g,
			       const struct qcow2_bitmap *b)
{
	if (b->flags & ~QCOW2_BITMAP_FLAGS)
		return "has unknown flags";
	if (b->type != QCOW2_BITMAP_DIRTY)
		return "is of an unknown type";
	if (b->extra_size && !(b->flags & QCOW2_BITMAP_EXTRA_OK))
		return "has extra data that must be understood";
	if (b->granularity_bits < QCOW2_MIN_GRANULARITY_BITS ||
	    b->granularity_bits > QCOW2_MAX_GRANULARITY_BITS)
		return "has a granularity out of range";
	if (!b->table_offset || !qcow2_aligned(g, b->table_offset) ||
	    b->table_offset > QCOW2_OFFSET_MASK)
		return "has its table at a place that is out of range";
	if ((u64)b->table_size << g->cluster_bits > QCOW2_MAX_BITMAP_BYTES)
		return "is too large";
	if (!(b->flags & QCOW2_BITMAP_IN_USE) &&
	    ((u64)b->table_size << (g->cluster_bits + 3)) <
	    qcow2_bitmap_bits(g, b))
		return "does not cover the disk";
	return NULL;
}

/**
 * qcow2_bitmaps_store() - write the data of the bitmaps extension
 * @data: QCOW2_BITMAPS_BYTES
 * @b: what to write
 */
void qcow2_bitmaps_store(void *data, const struct qcow2_bitmaps *b)
{
	struct bitmaps_extension raw = {
		.nb_bitmaps = cpu_to_be32(b->nb_bitmaps),
		.bitmap_directory_size = cpu_to_be64(b->directory_size),
		.bitmap_directory_offset = cpu_to_be64(b->directory_offset),
	};

	memcpy(data, &raw, sizeof(raw));
}

/**
 * qcow2_bitmap_store() - write an entry of the bitmap directory
 * @buf: QCOW2_BITMAP_FIXED bytes; its extra data and its name come behind
 * @b: what to write
 */
void qcow2_bitmap_store(void *buf, const struct qcow2_bitmap *b)
{
	struct bitmap_fixed raw = {
		.bitmap_table_offset = cpu_to_be64(b->table_offset),
		.bitmap_table_size = cpu_to_be32(b->table_size),
		.flags = cpu_to_be32(b->flags),
		.type = b->type,
		.granularity_bits = b->granularity_bits,
		.name_size = cpu_to_be16(b->name_size),
		.extra_data_size = cpu_to_be32(b->extra_size),
	};

	memcpy(buf, &raw, sizeof(raw));
}

/**
 * qcow2_bitmap_store_flags() - change the flags of an entry of the directory
 * @buf: where the entry begins
 * @flags: its new flags
 *
 * They do not cross a sector, since entries begin at multiples of 8 bytes.
 */
void qcow2_bitmap_store_flags(void *buf, u32 flags)
{
	__be32 raw = cpu_to_be32(flags);

	memcpy((u8 *)buf + offsetof(struct bitmap_fixed, flags), &raw,
	       sizeof(raw));
}
