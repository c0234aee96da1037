/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_BITOPS_H
#define SHIM_BITOPS_H

#include <linux/shim.h>

#define DECLARE_BITMAP(name, bits) \
	unsigned long name[DIV_ROUND_UP(bits, BITS_PER_LONG)]

#define BIT_WORD_OF(nr, map) ((map)[(nr) / BITS_PER_LONG])
#define BIT_MASK_OF(nr) (1UL << ((nr) % BITS_PER_LONG))

static inline bool test_bit(unsigned long nr, const unsigned long *map)
{
	return BIT_WORD_OF(nr, map) & BIT_MASK_OF(nr);
}

static inline void set_bit(unsigned long nr, unsigned long *map)
{
	BIT_WORD_OF(nr, map) |= BIT_MASK_OF(nr);
}

static inline void clear_bit(unsigned long nr, unsigned long *map)
{
	BIT_WORD_OF(nr, map) &= ~BIT_MASK_OF(nr);
}

#define __set_bit set_bit

static inline bool test_and_set_bit(unsigned long nr, unsigned long *map)
{
	bool old = test_bit(nr, map);

	set_bit(nr, map);
	return old;
}

static inline bool test_and_clear_bit(unsigned long nr, unsigned long *map)
{
	bool old = test_bit(nr, map);

	clear_bit(nr, map);
	return old;
}

static inline unsigned long find_next_bit(const unsigned long *map,
					  unsigned long size, unsigned long from)
{
	while (from < size && !test_bit(from, map))
		from++;
	return from;
}

static inline unsigned long find_next_zero_bit(const unsigned long *map,
					       unsigned long size,
					       unsigned long from)
{
	while (from < size && test_bit(from, map))
		from++;
	return from;
}

/* The lowest bit that is set; one is. */
static inline unsigned long __ffs(unsigned long word)
{
	return __builtin_ctzl(word);
}

#define for_each_set_bit(bit, map, size)				\
	for ((bit) = find_next_bit(map, size, 0); (bit) < (size);	\
	     (bit) = find_next_bit(map, size, (bit) + 1))
#define for_each_set_bitrange(b, e, map, size)				\
	for ((b) = find_next_bit(map, size, 0),				\
	     (e) = find_next_zero_bit(map, size, b); (b) < (size);	\
	     (b) = find_next_bit(map, size, e),				\
	     (e) = find_next_zero_bit(map, size, b))

#endif
