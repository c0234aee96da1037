// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes from place to place: by sharing what they are stored in, by what is
 * below the store, or by hand. Takes no locks; those that a copy takes below
 * are of the file, or of the disk.
 */
#include "store.h"

#include <linux/sizes.h>

/*
 * From here on copy-on-write asks the file system below to share extents. It
 * takes locks for that which other I/O on the file waits for, and a write to
 * what is shared costs more later: not worth it for less.
 */
#define SHARE_BYTES SZ_512K

static int copy_on_device(const struct qcow2_span *s,
			  const struct blk_copy_op *parent)
{
	struct blk_copy_request req = {
		.src = s->src->bdev,
		.dst = s->dst->bdev,
		.src_pos = s->from,
		.dst_pos = s->to,
		.len = s->len,
		.parent = parent,
		.flags = BLK_COPY_EMULATE,
	};

	return blk_copy(&req);
}

/**
 * qcow2_store_share() - have bytes share what others are stored in
 * @s: the bytes
 *
 * Takes no memory for data. Context: a worker.
 * Return: bytes from the beginning on that it was done for; what is left has to
 * be copied, and shows the error if it was one.
 */
u64 qcow2_store_share(const struct qcow2_span *s)
{
	u64 done = 0, len;
	loff_t r = 1;
	u32 block;

	if (s->src != s->dst || s->dst->bdev ||
	    !file_io_may_share(&s->dst->io))
		return 0;
	block = file_io_block(&s->dst->io);
	if (!IS_ALIGNED(s->from | s->to, block))
		return 0;
	len = round_down(s->len, block);
	while (done < len && r > 0) {
		r = file_io_share(&s->src->io, s->from + done, &s->dst->io,
				  s->to + done, len - done);
		if (r > 0)
			done += r;
	}
	return done;
}

/**
 * qcow2_store_copy() - copy bytes by what is below the stores
 * @s: the bytes; offsets and length are aligned to both stores
 * @parent: for blk_copy_request.parent, or NULL
 *
 * A file system that copies by itself (NFS) may need memory for it: not for what
 * memory is freed by. Context: a worker.
 * Return: 0; -EOPNOTSUPP if it cannot; or another negative error.
 */
int qcow2_store_copy(const struct qcow2_span *s,
		     const struct blk_copy_op *parent)
{
	u64 done = 0;
	ssize_t r;

	if (s->src->bdev && s->dst->bdev)
		return copy_on_device(s, parent);
	if (s->src->bdev || s->dst->bdev)
		return -EOPNOTSUPP;
	while (done < s->len) {
		r = file_io_copy(&s->src->io, s->from + done, &s->dst->io,
				 s->to + done, s->len - done);
		if (r == -EXDEV || r == -EINVAL)
			return -EOPNOTSUPP;
		if (r <= 0)
			return r ?: -EOPNOTSUPP;
		done += r;
	}
	return 0;
}

/**
 * qcow2_store_copy_by_hand() - read bytes and write them elsewhere
 * @s: the bytes; offsets and length are aligned to both stores
 * @bufs: memory
 * @how: on whose behalf
 *
 * Context: a worker that has no buffer for QCOW2_BUF_COPY.
 * Return: 0 or a negative error.
 */
int qcow2_store_copy_by_hand(const struct qcow2_span *s,
			     struct qcow2_bufs *bufs, struct qcow2_how how)
{
	struct qcow2_buf *buf = qcow2_buf_get(bufs, QCOW2_BUF_SIZE,
					      QCOW2_BUF_COPY);
	u64 done, part;
	int r = 0;

	for (done = 0; !r && done < s->len; done += part) {
		part = min_t(u64, s->len - done, QCOW2_BUF_SIZE);
		r = qcow2_store_rw(s->src, false, s->from + done, buf->bv, 0,
				   part, how);
		if (!r)
			r = qcow2_store_rw(s->dst, true, s->to + done, buf->bv,
					   0, part, how);
	}
	qcow2_buf_put(bufs, buf);
	return r;
}

/**
 * qcow2_store_copy_for_write() - copy data for copy-on-write
 * @s: the bytes; offsets and length are aligned to both stores
 * @bufs: memory
 * @how: on whose behalf
 *
 * Not for metadata: a write to an extent that is shared needs new space, and a
 * commit must not fail for want of it. Context: as
 * qcow2_store_copy_by_hand(). Return: 0 or a negative error.
 */
int qcow2_store_copy_for_write(const struct qcow2_span *s,
			       struct qcow2_bufs *bufs, struct qcow2_how how)
{
	struct qcow2_span rest = *s;
	u64 shared = 0;

	if (s->len >= SHARE_BYTES)
		shared = qcow2_store_share(s);
	if (shared == s->len)
		return 0;
	rest.from += shared;
	rest.to += shared;
	rest.len -= shared;
	return qcow2_store_copy_by_hand(&rest, bufs, how);
}

/**
 * qcow2_store_fill_zero() - write zeros
 * @st: the store
 * @bufs: memory
 * @to: byte offset, aligned to the store
 * @len: bytes, aligned to the store
 * @how: on whose behalf
 *
 * Context: a worker. Return: 0 or a negative error.
 */
int qcow2_store_fill_zero(struct qcow2_store *st, struct qcow2_bufs *bufs,
			  u64 to, u64 len, struct qcow2_how how)
{
	u64 part;
	int r = 0;

	for (; !r && len; len -= part, to += part) {
		part = min_t(u64, len, QCOW2_ZERO_BYTES);
		r = qcow2_store_rw(st, true, to, bufs->zero_bv, 0, part, how);
	}
	return r;
}
