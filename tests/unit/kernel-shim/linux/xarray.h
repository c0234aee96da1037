/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_XARRAY_H
#define SHIM_XARRAY_H

/* Entries by index, sorted; nothing of marks, locks or multi-index entries. */
#include <linux/shim.h>

struct xarray {
	struct xa_slot {
		unsigned long index;
		void *entry;
	} *slots;
	size_t nr;
	size_t room;
};

void *xa_load(const struct xarray *xa, unsigned long index);
void *xa_store(struct xarray *xa, unsigned long index, void *entry, gfp_t gfp);
void *xa_find_from(const struct xarray *xa, unsigned long *index,
		   unsigned long max);
void xa_destroy(struct xarray *xa);

static inline void xa_init(struct xarray *xa)
{
	*xa = (struct xarray) {};
}

static inline void *xa_erase(struct xarray *xa, unsigned long index)
{
	return xa_store(xa, index, NULL, 0);
}

static inline void *xa_cmpxchg(struct xarray *xa, unsigned long index,
			       void *old, void *entry, gfp_t gfp)
{
	void *now = xa_load(xa, index);

	return now == old ? xa_store(xa, index, entry, gfp) : now;
}

static inline void *xa_mk_value(unsigned long v)
{
	return (void *)(v << 1 | 1);
}

static inline unsigned long xa_to_value(const void *entry)
{
	return (unsigned long)entry >> 1;
}

static inline bool xa_is_err(const void *entry)
{
	return IS_ERR(entry);
}

static inline int xa_err(const void *entry)
{
	return PTR_ERR_OR_ZERO(entry);
}

#define xa_for_each_range(xa, index, entry, start, last)		\
	for ((index) = (start);						\
	     ((entry) = xa_find_from(xa, &(index), last)) != NULL;	\
	     (index)++)
#define xa_for_each_start(xa, index, entry, start) \
	xa_for_each_range(xa, index, entry, start, ULONG_MAX)
#define xa_for_each(xa, index, entry) xa_for_each_start(xa, index, entry, 0)

#endif
