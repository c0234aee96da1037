// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests to a store, wherever its bytes are. Takes no locks.
 */
#include "store.h"

#include <linux/completion.h>
#include <linux/mm.h>

/**
 * qcow2_store_submit() - start a request to the store
 * @sio: with @store, @done, @bv, @bv_iter, @pos and @write set
 *
 * What lies beyond the end of a file reads as zeros. Context: a worker; may
 * block for memory and file system locks. @done is called in any context,
 * possibly before this returns.
 */
void qcow2_store_submit(struct qcow2_store_io *sio)
{
	if (sio->store->bdev)
		qcow2_bdev_issue(sio);
	else
		qcow2_file_issue(sio);
}

/**
 * qcow2_store_use_bio() - let a request use the memory of a part of a bio
 * @sio: the request
 * @bio: the bio, which outlives it
 * @skip: bytes of @bio to leave out at its beginning
 * @len: bytes to take
 */
void qcow2_store_use_bio(struct qcow2_store_io *sio, struct bio *bio, u64 skip,
			 u64 len)
{
	sio->bv = bio->bi_io_vec;
	sio->bv_iter = bio->bi_iter;
	bvec_iter_advance(sio->bv, &sio->bv_iter, skip);
	sio->bv_iter.bi_size = len;
}

/**
 * qcow2_store_use_vec() - let a request use the memory of a bvec table
 * @sio: the request
 * @bv: the table, which outlives it
 * @len: bytes to use, from its beginning
 */
void qcow2_store_use_vec(struct qcow2_store_io *sio, const struct bio_vec *bv,
			 u64 len)
{
	sio->bv = bv;
	sio->bv_iter = (struct bvec_iter) { .bi_size = len };
}

struct io_sync {
	struct qcow2_store_io sio;
	struct completion done;
	int err;
};

static void io_sync_done(struct qcow2_store_io *sio, int err)
{
	struct io_sync *s = container_of(sio, struct io_sync, sio);

	s->err = err;
	complete(&s->done);
}

/**
 * qcow2_store_rw() - read or write and wait for it
 * @st: the store
 * @write: direction
 * @pos: byte offset, aligned to @st->align
 * @bv: the memory
 * @skip: bytes of @bv to leave out at its beginning
 * @len: bytes, aligned to @st->align
 * @how: on whose behalf
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_rw(struct qcow2_store *st, bool write, u64 pos,
		   const struct bio_vec *bv, u64 skip, u64 len,
		   struct qcow2_how how)
{
	struct io_sync s = {
		.sio = { .store = st, .done = io_sync_done, .pos = pos,
			 .write = write, .how = how },
	};

	init_completion(&s.done);
	qcow2_store_use_vec(&s.sio, bv, skip + len);
	bvec_iter_advance(bv, &s.sio.bv_iter, skip);
	qcow2_store_submit(&s.sio);
	wait_for_completion_io(&s.done);
	return s.err;
}

/* By way of its pages, which are of the page or vmalloc allocator. */
static int io_rw_buf(struct qcow2_store *st, bool write, u64 pos, void *buf,
		     u64 len, struct qcow2_how how)
{
	struct bio_vec bv[QCOW2_BUF_PAGES];
	int r = 0;

	while (len && !r) {
		u64 part = min_t(u64, len, QCOW2_BUF_SIZE), done;

		for (done = 0; done < part; done += PAGE_SIZE) {
			void *p = buf + done;

			bvec_set_page(&bv[done / PAGE_SIZE],
				      is_vmalloc_addr(p) ? vmalloc_to_page(p) :
							   virt_to_page(p),
				      min_t(u64, PAGE_SIZE, part - done), 0);
		}
		r = qcow2_store_rw(st, write, pos, bv, 0, part, how);
		buf += part;
		pos += part;
		len -= part;
	}
	return r;
}

/**
 * qcow2_store_rw_buf() - read or write metadata and wait for it
 * @st: the store
 * @write: direction
 * @pos: byte offset, aligned to the block size
 * @buf: page-aligned kernel memory, from the page or vmalloc allocator
 * @len: bytes, a multiple of @st->align
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_rw_buf(struct qcow2_store *st, bool write, u64 pos, void *buf,
		       u64 len)
{
	return io_rw_buf(st, write, pos, buf, len, QCOW2_FOR_METADATA);
}

/**
 * qcow2_store_read_data() - read guest data into kernel memory
 * @st: the store
 * @pos: byte offset, aligned to @st->align
 * @buf: page-aligned kernel memory, as from kvmalloc() of whole pages
 * @len: bytes, a multiple of @st->align
 * @how: on whose behalf
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_read_data(struct qcow2_store *st, u64 pos, void *buf, u64 len,
			  struct qcow2_how how)
{
	return io_rw_buf(st, false, pos, buf, len, how);
}

/**
 * qcow2_store_misaligned() - whether the store cannot do I/O as it is
 * @st: the store
 * @bio: has the memory, or NULL to ask for the offsets only
 * @pos: byte offset, or one that differs from it by whole clusters
 * @len: bytes
 *
 * Return: true if it must go through a buffer.
 */
bool qcow2_store_misaligned(const struct qcow2_store *st,
			    const struct bio *bio, u64 pos, u64 len)
{
	u32 mask = st->align - 1, mem = mask | (st->mem_align - 1);
	struct bvec_iter iter;
	struct bio_vec bv;

	if (!st->direct)
		return false;
	if ((pos | len) & mask)
		return true;
	if (!bio)
		return false;
	for_each_bvec(bv, bio->bi_io_vec, iter, bio->bi_iter)
		if ((bv.bv_len & mask) | (bv.bv_offset & mem))
			return true;
	return false;
}
