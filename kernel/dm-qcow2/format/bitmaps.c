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
