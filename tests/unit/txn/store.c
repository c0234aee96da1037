// SPDX-License-Identifier: GPL-2.0-only
/*
 * The floor store of dm-qcow2 on a simulated disk: what meta and map use of it.
 */
#include "../../../kernel/dm-qcow2/store/store.h"

#include "disk.h"

#include <linux/mempool.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

/* Some requests take so long that a cluster may be freed and used again meanwhile. */
#define SLOW_STEPS 1000

/* One buffer of each use is always there, as in store/buffer.c. */
static mempool_t buf_pools[QCOW2_BUF_USES];

/* A request on its way. */
struct request_under_way {
	struct qcow2_store_io *sio;
	struct disk *disk;
	u64 id;
	u64 len;
	u8 *copy;
};

static struct disk *store_disk(const struct qcow2_store *st)
{
	return (struct disk *)st->file;
}

/* Between a flat buffer and the memory of a request. */
static void store_gather(const struct qcow2_store_io *sio, u8 *flat, bool to_flat)
{
	u64 left = sio->bv_iter.bi_size, skip = sio->bv_iter.bi_bvec_done;
	const struct bio_vec *bv = sio->bv;
	u64 part;
	u8 *mem;

	for (; skip >= bv->bv_len; bv++)
		skip -= bv->bv_len;
	for (; left; bv++) {
		part = min(left, bv->bv_len - skip);
		mem = (u8 *)page_address(bv->bv_page) + bv->bv_offset + skip;
		if (to_flat)
			memcpy(flat, mem, part);
		else
			memcpy(mem, flat, part);
		flat += part;
		left -= part;
		skip = 0;
	}
}

static void store_unchanged(const struct request_under_way *r, u8 *scratch)
{
	store_gather(r->sio, scratch, true);
	if (memcmp(scratch, r->copy, r->len))
		sim_fail("memory changes while it is written to 0x%llx",
			 r->sio->pos);
}

static void store_complete(void *arg)
{
	struct request_under_way *r = arg;
	struct qcow2_store_io *sio = r->sio;
	int err = disk_fate(r->disk, sio->write ? DISK_WRITE : DISK_READ);

	if (sio->write) {
		store_unchanged(r, r->copy + r->len);
		disk_write_end(r->disk, r->id, err);
	} else if (!err) {
		disk_read(r->disk, sio->pos, r->copy, r->len);
		store_gather(sio, r->copy, false);
	}
	vfree(r->copy);
	kfree(r);
	sio->done(sio, err);
}

void qcow2_store_submit(struct qcow2_store_io *sio)
{
	struct request_under_way *r = kmalloc(sizeof(*r), GFP_NOIO);

	*r = (struct request_under_way) {
		.sio = sio, .disk = store_disk(sio->store),
		.len = sio->bv_iter.bi_size,
	};
	r->copy = vmalloc(2 * r->len);
	if (sio->write) {
		store_gather(sio, r->copy, true);
		r->id = disk_write_begin(r->disk, sio->pos, r->copy, r->len);
	}
	switch (sim_random(8)) {
	case 0:
		store_complete(r);
		break;
	case 1:
		sim_event(store_complete, r, sim_random(SLOW_STEPS));
		break;
	default:
		sim_event(store_complete, r, 0);
	}
}

void qcow2_store_use_vec(struct qcow2_store_io *sio, const struct bio_vec *bv,
			 u64 len)
{
	sio->bv = bv;
	sio->bv_iter = (struct bvec_iter) { .bi_size = len };
}

struct io_wait {
	struct qcow2_store_io sio;
	struct completion done;
	int err;
};

static void store_sync_done(struct qcow2_store_io *sio, int err)
{
	struct io_wait *w = container_of(sio, struct io_wait, sio);

	w->err = err;
	complete(&w->done);
}

int qcow2_store_rw(struct qcow2_store *st, bool write, u64 pos,
		   const struct bio_vec *bv, u64 skip, u64 len,
		   struct qcow2_how how)
{
	struct io_wait w = {
		.sio = { .store = st, .done = store_sync_done, .bv = bv,
			 .bv_iter = { .bi_size = len, .bi_bvec_done = skip },
			 .pos = pos, .write = write, .how = how },
	};

	init_completion(&w.done);
	qcow2_store_submit(&w.sio);
	wait_for_completion_io(&w.done);
	return w.err;
}

int qcow2_store_rw_buf(struct qcow2_store *st, bool write, u64 pos, void *buf,
		       u64 len)
{
	struct bio_vec bv;
	u64 part;
	int r = 0;

	if ((pos | len) & (st->align - 1) || (unsigned long)buf & (PAGE_SIZE - 1))
		sim_fail("metadata I/O of %llu bytes to 0x%llx is misaligned", len, pos);
	for (; !r && len; pos += part, buf += part, len -= part) {
		part = min(len, QCOW2_BUF_SIZE);
		bvec_set_page(&bv, virt_to_page(buf), part, 0);
		r = qcow2_store_rw(st, write, pos, &bv, 0, part,
				   QCOW2_FOR_METADATA);
	}
	return r;
}

struct flush_under_way {
	struct disk *disk;
	u64 id;
	int err;
	struct completion done;
};

static void store_flushed(void *arg)
{
	struct flush_under_way *f = arg;

	f->err = disk_fate(f->disk, DISK_FLUSH);
	disk_flush_end(f->disk, f->id, f->err);
	complete(&f->done);
}

int qcow2_store_flush(struct qcow2_store *st)
{
	struct flush_under_way f = { .disk = store_disk(st) };

	init_completion(&f.done);
	f.id = disk_flush_begin(f.disk);
	sim_event(store_flushed, &f, 0);
	wait_for_completion_io(&f.done);
	return f.err;
}

void qcow2_store_touch(struct qcow2_store *st)
{
	might_sleep();
	(void)st;
}

u64 qcow2_store_size(const struct qcow2_store *st)
{
	return disk_size(store_disk(st));
}

u64 qcow2_store_most(const struct qcow2_store *st)
{
	return disk_most(store_disk(st));
}

int qcow2_store_extend(struct qcow2_store *st, u64 from, u64 to)
{
	struct disk *d = store_disk(st);
	int r;

	might_sleep();
	sim_preempt();
	if (st->bdev || from >= to)
		sim_fail("extended from 0x%llx to 0x%llx", from, to);
	if (to > disk_most(d))
		return -ENOSPC;
	r = disk_fate(d, DISK_EXTEND);
	if (!r && to > disk_size(d))
		disk_resize(d, to);
	return r;
}

int qcow2_store_trim(struct qcow2_store *st, u64 size)
{
	struct disk *d = store_disk(st);
	int r;

	might_sleep();
	if (st->bdev || disk_size(d) <= size)
		return 0;
	r = disk_fate(d, DISK_TRIM);
	if (!r)
		disk_resize(d, size);
	return r;
}

void qcow2_store_discard(struct qcow2_store *st, u64 pos, u64 len,
			 struct bio **chain)
{
	(void)chain;
	might_sleep();
	sim_preempt();
	disk_discard(store_disk(st), pos, len);
}

void qcow2_store_discarded(struct bio *chain)
{
	(void)chain;
	might_sleep();
}

int qcow2_store_copy_by_hand(const struct qcow2_span *s,
			     struct qcow2_bufs *bufs, struct qcow2_how how)
{
	struct qcow2_buf *buf = qcow2_buf_get(bufs, QCOW2_BUF_SIZE,
					      QCOW2_BUF_COPY);
	u64 done, part;
	int r = 0;

	for (done = 0; !r && done < s->len; done += part) {
		part = min(s->len - done, QCOW2_BUF_SIZE);
		r = qcow2_store_rw(s->src, false, s->from + done, buf->bv, 0,
				   part, how);
		if (!r)
			r = qcow2_store_rw(s->dst, true, s->to + done, buf->bv,
					   0, part, how);
	}
	qcow2_buf_put(bufs, buf);
	return r;
}

int qcow2_store_copy_for_write(const struct qcow2_span *s,
			       struct qcow2_bufs *bufs, struct qcow2_how how)
{
	return qcow2_store_copy_by_hand(s, bufs, how);
}

int qcow2_store_fill_zero(struct qcow2_store *st, struct qcow2_bufs *bufs,
			  u64 to, u64 len, struct qcow2_how how)
{
	u64 part;
	int r = 0;

	for (; !r && len; to += part, len -= part) {
		part = min(len, QCOW2_ZERO_BYTES);
		r = qcow2_store_rw(st, true, to, bufs->zero_bv, 0, part, how);
	}
	return r;
}

int qcow2_bufs_init(struct qcow2_bufs *bufs)
{
	u32 i;

	for (i = 0; i < QCOW2_BUF_USES; i++)
		mempool_init_kmalloc_pool(&buf_pools[i], 1,
					  sizeof(struct qcow2_buf));
	for (i = 0; i < QCOW2_ZERO_PAGES; i++)
		bvec_set_page(&bufs->zero_bv[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	return 0;
}

void qcow2_bufs_exit(struct qcow2_bufs *bufs)
{
	u32 i;

	(void)bufs;
	for (i = 0; i < QCOW2_BUF_USES; i++)
		mempool_exit(&buf_pools[i]);
}

struct qcow2_buf *qcow2_buf_get(struct qcow2_bufs *bufs, u64 len,
				enum qcow2_buf_use use)
{
	struct qcow2_buf *buf = mempool_alloc(&buf_pools[use], GFP_NOIO);
	u32 pages = DIV_ROUND_UP(len, PAGE_SIZE), i;
	u8 *mem = vmalloc(pages * PAGE_SIZE);

	(void)bufs;
	if (len > QCOW2_BUF_SIZE)
		sim_fail("a buffer of %llu bytes is wanted", len);
	*buf = (struct qcow2_buf) { .use = use };
	for (i = 0; i < pages; i++)
		bvec_set_page(&buf->bv[i], virt_to_page(mem + i * PAGE_SIZE),
			      PAGE_SIZE, 0);
	return buf;
}

void qcow2_buf_put(struct qcow2_bufs *bufs, struct qcow2_buf *buf)
{
	(void)bufs;
	vfree(page_address(buf->bv[0].bv_page));
	mempool_free(buf, &buf_pools[buf->use]);
}

void qcow2_buf_zero(struct qcow2_buf *buf, u64 skip, u64 len)
{
	memset((u8 *)page_address(buf->bv[0].bv_page) + skip, 0, len);
}

void qcow2_buf_copy(struct qcow2_buf *dst, u64 to, const struct qcow2_buf *src,
		    u64 from, u64 len)
{
	memcpy((u8 *)page_address(dst->bv[0].bv_page) + to,
	       (u8 *)page_address(src->bv[0].bv_page) + from, len);
}

/* For what is in a data file, which there is none of here. */
int qcow2_store_zero(struct qcow2_store *st, struct qcow2_bufs *bufs,
		     const struct qcow2_zero *z)
{
	sim_fail("0x%llx bytes of a data file are zeroed", z->len);
	return -EIO;
}
