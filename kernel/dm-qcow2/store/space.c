// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making what is in a store durable, and its space: longer, shorter, given back.
 * Takes no locks; file-io does.
 */
#include "store.h"

/* As block devices say that there is no space. */
static int space_error(int r)
{
	return r == -EFBIG || r == -EDQUOT ? -ENOSPC : r;
}

/**
 * qcow2_store_flush() - make everything written so far durable
 * @st: the store
 *
 * Context: may sleep. Return: 0 or a negative error.
 */
int qcow2_store_flush(struct qcow2_store *st)
{
	int r;

	if (st->bdev)
		return blkdev_issue_flush(st->bdev);
	r = file_io_flush(&st->io);
	/* What the next commit is about to refer to may be lost. */
	if (r && file_io_has_lost(&st->io))
		qcow2_fail(st->core, "the page cache lost writes, of", 0);
	return r;
}

/**
 * qcow2_store_has_lost() - whether it has lost what it had accepted
 * @st: the store
 *
 * Return: true from the flush that has failed for it until the turn ends.
 */
bool qcow2_store_has_lost(struct qcow2_store *st)
{
	return !st->bdev && file_io_has_lost(&st->io);
}

/**
 * qcow2_store_touch() - give a file the time stamps its writes left out
 * @st: the store
 */
void qcow2_store_touch(struct qcow2_store *st)
{
	if (!st->bdev)
		file_io_touch(&st->io);
}

/**
 * qcow2_store_extend() - make room at the end of a file
 * @st: a file store
 * @from: where space is needed from on; not before the present end
 * @to: the wanted end
 *
 * The new part reads as zeros. Reserves space where the file system can, so
 * that a later write does not run out of it. Return: 0 or a negative error.
 */
int qcow2_store_extend(struct qcow2_store *st, u64 from, u64 to)
{
	return space_error(file_io_extend(&st->io, from, to));
}

/**
 * qcow2_store_trim() - cut a file at its end
 * @st: the store; nothing is done to a block device
 * @size: wanted size in bytes, not more than the present one
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_trim(struct qcow2_store *st, u64 size)
{
	return st->bdev ? 0 : file_io_trim(&st->io, size);
}

/**
 * qcow2_store_discard() - give space below back
 * @st: the store
 * @pos: byte offset
 * @len: bytes
 * @chain: what is under way; NULL at first
 *
 * A hint: what cannot be given back stays, and nothing relies on its content.
 * Over when qcow2_store_discarded() has returned.
 */
void qcow2_store_discard(struct qcow2_store *st, u64 pos, u64 len,
			 struct bio **chain)
{
	long r;

	if (!st->punch)
		return;
	if (st->bdev)
		r = bdev_max_discard_sectors(st->bdev) ?
			__blkdev_issue_discard(st->bdev, pos >> SECTOR_SHIFT,
					       len >> SECTOR_SHIFT, GFP_NOIO,
					       chain) :
			-EOPNOTSUPP;
	else
		r = file_io_punch(&st->io, pos, len);
	if (r == -EOPNOTSUPP)
		st->punch = false;
}

static int space_zero_bdev(struct block_device *bdev,
			   const struct qcow2_zero *z)
{
	sector_t from = z->pos >> SECTOR_SHIFT, nr = z->len >> SECTOR_SHIFT;
	unsigned int flags = z->how == QCOW2_ZERO_KEEP ? BLKDEV_ZERO_NOUNMAP : 0;
	struct blk_copy_charge charge;
	int r;

	blk_copy_charge(&charge, z->whose.group);
	if (z->how == QCOW2_DISCARD)
		r = blkdev_issue_discard(bdev, from, nr, GFP_NOIO);
	else
		r = blkdev_issue_zeroout(bdev, from, nr, GFP_NOIO, flags);
	blk_copy_uncharge(&charge);
	return r;
}

static int space_zero_file(struct qcow2_store *st, struct qcow2_bufs *bufs,
			   const struct qcow2_zero *z)
{
	int r;

	r = z->how == QCOW2_ZERO_KEEP ?
		file_io_zero(&st->io, z->pos, z->len) :
		file_io_punch(&st->io, z->pos, z->len);
	if (r == -EOPNOTSUPP && z->how != QCOW2_DISCARD)
		r = qcow2_store_fill_zero(st, bufs, z->pos, z->len, z->whose);
	return space_error(r);
}

/**
 * qcow2_store_zero() - have bytes read as zeros
 * @st: the store
 * @bufs: memory
 * @z: the bytes
 *
 * Context: a worker. Return: 0 or a negative error; -EOPNOTSUPP only for a
 * discard.
 */
int qcow2_store_zero(struct qcow2_store *st, struct qcow2_bufs *bufs,
		     const struct qcow2_zero *z)
{
	return st->bdev ? space_zero_bdev(st->bdev, z) :
			  space_zero_file(st, bufs, z);
}

/**
 * qcow2_store_discarded() - wait for discards to be over
 * @chain: what qcow2_store_discard() has begun, or NULL
 */
void qcow2_store_discarded(struct bio *chain)
{
	if (!chain)
		return;
	submit_bio_wait(chain);
	bio_put(chain);
}
