// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bytes of a disk: pages by their number, and holes where there are none,
 * which read as zeros.
 *
 * Locks: the xa_lock, to find a page and take a reference before a discard
 * frees it. Requests that touch the same bytes at the same time are not kept
 * apart; each byte is what one of them leaves.
 */
#include <linux/highmem.h>

#include "null-copy.h"

static struct page *null_copy_find_page(struct null_copy *nc, u64 pos)
{
	struct page *page;

	xa_lock(&nc->pages);
	page = xa_load(&nc->pages, pos >> PAGE_SHIFT);
	if (page)
		get_page(page);
	xa_unlock(&nc->pages);
	return page;
}

static struct page *null_copy_find_or_add_page(struct null_copy *nc, u64 pos)
{
	struct page *page = null_copy_find_page(nc, pos), *old;

	if (page)
		return page;
	page = alloc_page(GFP_NOIO | __GFP_HIGHMEM | __GFP_ZERO);
	if (!page)
		return NULL;
	xa_lock(&nc->pages);
	old = __xa_cmpxchg(&nc->pages, pos >> PAGE_SHIFT, NULL, page, GFP_NOIO);
	if (!old) {
		get_page(page);
		atomic_long_inc(&nc->nr_pages);
	} else if (!xa_is_err(old)) {
		get_page(old);
	}
	xa_unlock(&nc->pages);
	if (!old)
		return page;
	put_page(page);
	return xa_is_err(old) ? NULL : old;
}

static void null_copy_forget_page(struct null_copy *nc, unsigned long index)
{
	struct page *page = xa_erase(&nc->pages, index);

	if (!page)
		return;
	atomic_long_dec(&nc->nr_pages);
	put_page(page);
}

/* To the end of the page, at most. */
static u32 null_copy_within_page(u64 pos, u64 len)
{
	return min_t(u64, len, PAGE_SIZE - offset_in_page(pos));
}

/**
 * null_copy_write() - write the bytes of a segment
 * @nc: the disk
 * @pos: byte offset
 * @bv: the segment
 *
 * Return: 0, or -ENOSPC without memory, with a part written.
 */
int null_copy_write(struct null_copy *nc, u64 pos, struct bio_vec *bv)
{
	u32 done = 0;

	while (done < bv->bv_len) {
		u32 part = null_copy_within_page(pos + done, bv->bv_len - done);
		struct page *page = null_copy_find_or_add_page(nc, pos + done);

		if (!page)
			return -ENOSPC;
		memcpy_page(page, offset_in_page(pos + done), bv->bv_page,
			    bv->bv_offset + done, part);
		put_page(page);
		done += part;
	}
	return 0;
}

/**
 * null_copy_read() - fill a segment with what the disk holds
 * @nc: the disk
 * @pos: byte offset
 * @bv: the segment
 */
void null_copy_read(struct null_copy *nc, u64 pos, struct bio_vec *bv)
{
	u32 done = 0;

	while (done < bv->bv_len) {
		u32 part = null_copy_within_page(pos + done, bv->bv_len - done);
		struct page *page = null_copy_find_page(nc, pos + done);

		if (page) {
			memcpy_page(bv->bv_page, bv->bv_offset + done, page,
				    offset_in_page(pos + done), part);
			put_page(page);
		} else {
			memzero_page(bv->bv_page, bv->bv_offset + done, part);
		}
		done += part;
	}
	flush_dcache_page(bv->bv_page);
}

/* What there is of whole pages; as long as that takes, and not as the range. */
static void null_copy_forget_range(struct null_copy *nc, u64 pos, u64 end)
{
	unsigned long i;
	void *page;

	if (pos == end)
		return;
	xa_for_each_range(&nc->pages, i, page, pos >> PAGE_SHIFT,
			  (end - 1) >> PAGE_SHIFT) {
		null_copy_forget_page(nc, i);
		cond_resched();
	}
}

static void null_copy_zero_part(struct null_copy *nc, u64 pos, u32 len)
{
	struct page *page = len ? null_copy_find_page(nc, pos) : NULL;

	if (!page)
		return;
	memzero_page(page, offset_in_page(pos), len);
	put_page(page);
}

/**
 * null_copy_zero() - make bytes zeros, and whole pages holes
 * @nc: the disk
 * @pos: byte offset
 * @len: bytes
 */
void null_copy_zero(struct null_copy *nc, u64 pos, u64 len)
{
	u64 end = pos + len, first = round_up(pos, PAGE_SIZE),
	    last = round_down(end, PAGE_SIZE);

	if (first > last) {
		null_copy_zero_part(nc, pos, len);
		return;
	}
	null_copy_zero_part(nc, pos, first - pos);
	null_copy_zero_part(nc, last, end - last);
	null_copy_forget_range(nc, first, last);
}

/**
 * null_copy_move() - copy bytes of one page to bytes of another
 * @nc: the disk
 * @src: byte offset
 * @dst: byte offset
 * @len: bytes, none of them beyond the end of either page
 *
 * Holes are copied as such. Return: 0, or -ENOSPC without memory.
 */
int null_copy_move(struct null_copy *nc, u64 src, u64 dst, u64 len)
{
	struct page *from = null_copy_find_page(nc, src), *to;

	if (!from) {
		null_copy_zero(nc, dst, len);
		return 0;
	}
	to = null_copy_find_or_add_page(nc, dst);
	if (to) {
		memcpy_page(to, offset_in_page(dst), from, offset_in_page(src),
			    len);
		put_page(to);
	}
	put_page(from);
	return to ? 0 : -ENOSPC;
}

/**
 * null_copy_free_store() - give all memory back
 * @nc: the disk, which nobody uses any more
 */
void null_copy_free_store(struct null_copy *nc)
{
	struct page *page;
	unsigned long i;

	xa_for_each(&nc->pages, i, page) {
		put_page(page);
		cond_resched();
	}
	xa_destroy(&nc->pages);
}
