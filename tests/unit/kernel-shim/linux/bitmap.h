/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_BITMAP_H
#define SHIM_BITMAP_H

#include <linux/bitops.h>
#include <linux/slab.h>

static inline size_t bitmap_bytes(unsigned int nbits)
{
	return DIV_ROUND_UP(nbits, BITS_PER_LONG) * sizeof(long);
}

static inline unsigned long *bitmap_zalloc(unsigned int nbits, gfp_t gfp)
{
	return kzalloc(bitmap_bytes(nbits), gfp);
}

static inline void bitmap_free(const unsigned long *map)
{
	kfree(map);
}

static inline void bitmap_zero(unsigned long *map, unsigned int nbits)
{
	memset(map, 0, bitmap_bytes(nbits));
}

static inline void bitmap_fill(unsigned long *map, unsigned int nbits)
{
	unsigned int i;

	for (i = 0; i < nbits; i++)
		__set_bit(i, map);
}

static inline void bitmap_copy(unsigned long *to, const unsigned long *from,
			       unsigned int nbits)
{
	memcpy(to, from, bitmap_bytes(nbits));
}

static inline void bitmap_or(unsigned long *to, const unsigned long *a,
			     const unsigned long *b, unsigned int nbits)
{
	unsigned int i;

	for (i = 0; i < DIV_ROUND_UP(nbits, BITS_PER_LONG); i++)
		to[i] = a[i] | b[i];
}

static inline bool bitmap_empty(const unsigned long *map, unsigned int nbits)
{
	return find_next_bit(map, nbits, 0) == nbits;
}

#endif
