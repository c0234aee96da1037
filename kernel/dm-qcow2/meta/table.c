// SPDX-License-Identifier: GPL-2.0-only
/*
 * Top-level tables (active L1 table, refcount table): all in memory, written
 * back by block. Entries change under the lock that the table is given.
 */
#include "meta.h"

#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

/**
 * qcow2_table_alloc() - get memory for a table
 * @t: filled in; given back by qcow2_table_exit() also after an error
 * @lock: under which it changes; NULL: it will not
 * @host: its place in the image
 * @nr: number of entries
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_table_alloc(struct qcow2_table *t, spinlock_t *lock, u64 host,
		      u32 nr)
{
	size_t size;

	t->lock = lock;
	t->host = host;
	t->nr = nr;
	t->blocks = DIV_ROUND_UP(nr, QCOW2_L2_PER_BLOCK);
	size = (size_t)t->blocks << QCOW2_BLOCK_BITS;
	t->entries = vzalloc(size);
	if (!t->entries)
		return -ENOMEM;
	if (!lock)
		return 0;
	t->shadow = vzalloc(size);
	t->dirty = bitmap_zalloc(t->blocks, GFP_NOIO);
	t->writing = bitmap_zalloc(t->blocks, GFP_NOIO);
	return t->shadow && t->dirty && t->writing ? 0 : -ENOMEM;
}

/**
 * qcow2_table_load() - read a table
 * @t: zeroed; given back by qcow2_table_exit() also after an error
 * @lock: under which it changes; NULL: it will not
 * @st: where it is
 * @host: its place, a cluster multiple
 * @nr: number of entries
 *
 * Return: 0 or a negative error.
 */
int qcow2_table_load(struct qcow2_table *t, spinlock_t *lock,
		     struct qcow2_store *st, u64 host, u32 nr)
{
	int r = qcow2_table_alloc(t, lock, host, nr);

	if (r)
		return r;
	return qcow2_store_rw_buf(st, false, host, t->entries,
				  (u64)t->blocks << QCOW2_BLOCK_BITS);
}

/**
 * qcow2_table_exit() - free a table's memory
 * @t: the table, zeroed afterwards
 */
void qcow2_table_exit(struct qcow2_table *t)
{
	vfree(t->entries);
	vfree(t->shadow);
	bitmap_free(t->dirty);
	bitmap_free(t->writing);
	memset(t, 0, sizeof(*t));
}

/**
 * qcow2_table_set() - change an entry
 * @t: the table
 * @index: which entry
 * @entry: the new value in native order
 */
void qcow2_table_set(struct qcow2_table *t, u32 index, u64 entry)
{
	lockdep_assert_held(t->lock);
	WRITE_ONCE(t->entries[index], cpu_to_be64(entry));
	__set_bit(index / QCOW2_L2_PER_BLOCK, t->dirty);
}

/**
 * qcow2_table_freeze() - take what a commit will write
 * @t: the table
 *
 * Return: whether there is anything to write.
 */
bool qcow2_table_freeze(struct qcow2_table *t)
{
	unsigned int block;

	lockdep_assert_held(t->lock);
	bitmap_copy(t->writing, t->dirty, t->blocks);
	bitmap_zero(t->dirty, t->blocks);
	for_each_set_bit(block, t->writing, t->blocks)
		memcpy(t->shadow + block * QCOW2_L2_PER_BLOCK,
		       t->entries + block * QCOW2_L2_PER_BLOCK,
		       QCOW2_BLOCK_SIZE);
	return !bitmap_empty(t->writing, t->blocks);
}

/**
 * qcow2_table_write() - write what qcow2_table_freeze() took
 * @t: the table
 * @st: where it is
 *
 * Return: 0 or a negative error.
 */
int qcow2_table_write(struct qcow2_table *t, struct qcow2_store *st)
{
	unsigned int from, to;
	int r = 0;

	for_each_set_bitrange(from, to, t->writing, t->blocks) {
		r = qcow2_store_rw_buf(st, true, t->host +
				       ((u64)from << QCOW2_BLOCK_BITS),
				       t->shadow + from * QCOW2_L2_PER_BLOCK,
				       (u64)(to - from) << QCOW2_BLOCK_BITS);
		if (r)
			break;
	}
	return r;
}

/**
 * qcow2_table_redirty() - a commit failed: what it took is to be written again
 * @t: the table
 */
void qcow2_table_redirty(struct qcow2_table *t)
{
	lockdep_assert_held(t->lock);
	bitmap_or(t->dirty, t->dirty, t->writing, t->blocks);
}
