/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_UNALIGNED_H
#define SHIM_UNALIGNED_H

#include <linux/shim.h>

static inline u64 get_unaligned_be(const void *p, unsigned int bytes)
{
	const u8 *b = p;
	u64 v = 0;

	while (bytes--)
		v = v << 8 | *b++;
	return v;
}

#define get_unaligned_be16(p) ((u16)get_unaligned_be(p, 2))
#define get_unaligned_be32(p) ((u32)get_unaligned_be(p, 4))
#define get_unaligned_be64(p) get_unaligned_be(p, 8)

#endif
