// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: refcounts, of any width. Pure functions.
 */
#include "format.h"

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
