// SPDX-License-Identifier: GPL-2.0-only
/*
 * A range: checks, page caches, cutting it into pieces.
 *
 * Copies go past the page cache, as direct I/O does. Before each piece, what
 * the source's cache holds dirty is written, and so is the destination's, whose
 * pages are dropped. Nobody reads or writes through the destination's cache
 * meanwhile: pages and their buffers reach beyond the bytes that a program
 * wants, and would put back what was there before the copy. A scan for
 * partitions asks nobody for that, so that pages are dropped once more
 * afterwards. Only the caches of the two block devices that are given are seen;
 * a disk and its partitions have one each. What a driver hands on goes past the
 * caches below, as all its I/O does: their locks are taken in the other order by
 * whoever reads a disk below into memory that is mapped from the one above.
 *
 * A piece is looked up, checked and sent anew each time, so that disks, limits
 * and sizes may change in between.
 *
 * Locks: see blk-copy.h.
 */
#include <linux/blk-cgroup.h>
#include <linux/buffer_head.h>
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "blk-copy.h"

/* How long somebody may look at a page that is to go: a scan for partitions. */
#define BLK_COPY_DROP_TRIES 20
#define BLK_COPY_DROP_MSEC  5

struct workqueue_struct *blk_copy_wq;

static bool blk_copy_in_device(struct block_device *bdev, u64 pos, u64 len)
{
	u64 end;

	return !check_add_overflow(pos, len, &end) && end <= bdev_nr_bytes(bdev);
}

static int blk_copy_check(const struct blk_copy_request *req)
{
	unsigned int src_mask = bdev_logical_block_size(req->src) - 1;
	unsigned int dst_mask = bdev_logical_block_size(req->dst) - 1;

	if (blk_copy_depth(req) >= BLK_COPY_MAX_DEPTH)
		return -EOPNOTSUPP;
	if (req->flags & ~BLK_COPY_FLAGS ||
	    req->flags == BLK_COPY_NO_OFFLOAD)
		return -EINVAL;
	if (!req->len || (req->src_pos | req->len) & src_mask ||
	    (req->dst_pos | req->len) & dst_mask)
		return -EINVAL;
	if (!blk_copy_in_device(req->src, req->src_pos, req->len) ||
	    !blk_copy_in_device(req->dst, req->dst_pos, req->len))
		return -EINVAL;
	return bdev_read_only(req->dst) ? -EROFS : 0;
}

/* Disks and partitions may have shrunk, or gone, since the request began. */
static int blk_copy_check_again(const struct blk_copy_request *req)
{
	if (!blk_copy_in_device(req->src, req->src_pos, req->len) ||
	    !blk_copy_in_device(req->dst, req->dst_pos, req->len))
		return -EIO;
	return bdev_read_only(req->dst) ? -EROFS : 0;
}

static u64 blk_copy_on_disk(struct block_device *bdev, u64 pos)
{
	return ((u64)bdev->bd_start_sect << SECTOR_SHIFT) + pos;
}

/* Cuts what is left down to one piece for a driver; false if it takes none. */
static bool blk_copy_fits(const struct blk_copy_provider *p,
			  struct blk_copy_op *op)
{
	u64 mask = p->limits.granularity - 1;
	u64 max = READ_ONCE(p->max_bytes);

	if (!max || (op->src | op->dst) & mask)
		return false;
	op->len = min(op->len, max) & ~mask;
	return op->len;
}

/*
 * The driver of a source that the destination's driver can copy from, with a
 * reference; NULL; or BLK_COPY_AGAIN.
 */
static struct blk_copy_provider *
blk_copy_get_source(struct blk_copy_provider *dst_p, struct gendisk *src)
{
	struct blk_copy_provider *p;

	if (src == dst_p->disk) {
		blk_copy_hold(dst_p);
		return dst_p;
	}
	p = blk_copy_get_or_wait(src);
	if (IS_ERR_OR_NULL(p))
		return p;
	if (p->ops == dst_p->ops && p->ops->reaches &&
	    p->ops->reaches(src, dst_p->disk))
		return p;
	blk_copy_put(p);
	return NULL;
}

/* Whether what goes to the disks goes to their drivers. */
static bool blk_copy_leads_to_drivers(const struct blk_copy_request *req,
				      const struct blk_copy_op *op)
{
	return req->below || (!blk_copy_is_detoured(op->src_disk) &&
			      !blk_copy_is_detoured(op->dst_disk));
}

/*
 * Both disks have to stay while the driver copies between them. What they are
 * like now they remain: a driver pauses before it changes its disk's size.
 */
static int blk_copy_offload_pinned(const struct blk_copy_request *req,
				   const struct blk_copy_provider *src_p,
				   const struct blk_copy_provider *dst_p,
				   struct blk_copy_op *op)
{
	int err;

	if (!blk_copy_leads_to_drivers(req, op) || !blk_copy_fits(src_p, op) ||
	    !blk_copy_fits(dst_p, op))
		return -EOPNOTSUPP;
	err = blk_copy_check_again(req) ?: dst_p->ops->copy(op);
	if (WARN_ON_ONCE(op->done > op->len))
		return -EIO;
	if (err == -EINTR && blk_copy_stopped(op))
		err = BLK_COPY_AGAIN;
	/* What is left is asked for again, and waits or is emulated then. */
	if ((err == BLK_COPY_AGAIN || err == -EOPNOTSUPP) && op->done)
		return 0;
	/* A driver that does nothing and reports no error would never end. */
	return !err && !op->done ? -EIO : err;
}

/* Pieces that blk_copy_detour_settled() is to see. */
static void blk_copy_note_piece(const struct blk_copy_request *req,
				struct blk_copy_provider *src_p,
				struct blk_copy_provider *dst_p, int by)
{
	if (req->below)
		return;
	atomic_add(by, &src_p->pieces);
	atomic_add(by, &dst_p->pieces);
}

/* Up to @len bytes of what is left, by a driver. */
static int blk_copy_offload(const struct blk_copy_request *req,
			    struct blk_copy_provider *dst_p, u64 len, u64 *done)
{
	struct blk_copy_provider *src_p =
		blk_copy_get_source(dst_p, req->src->bd_disk);
	struct bio payer; /* whose I/O it would be here */
	struct blk_copy_op op = {
		.src_disk = req->src->bd_disk,
		.dst_disk = req->dst->bd_disk,
		.src = blk_copy_on_disk(req->src, req->src_pos + req->done),
		.dst = blk_copy_on_disk(req->dst, req->dst_pos + req->done),
		.len = len,
		.depth = blk_copy_depth(req),
		.parent = req->parent,
		.private = dst_p->limits.private,
		.src_provider = src_p,
		.dst_provider = dst_p,
	};
	int err;

	if (IS_ERR_OR_NULL(src_p))
		return src_p ? PTR_ERR(src_p) : -EOPNOTSUPP;
	bio_init(&payer, req->dst, NULL, 0, REQ_OP_WRITE);
	op.group = bio_blkcg_css(&payer);
	blk_copy_note_piece(req, src_p, dst_p, 1);
	err = blk_copy_offload_pinned(req, src_p, dst_p, &op);
	blk_copy_note_piece(req, src_p, dst_p, -1);
	bio_uninit(&payer);
	*done = op.done;
	blk_copy_put(src_p);
	return err;
}

static void blk_copy_count(struct blk_copy_provider *p, atomic64_t *which,
			   u64 done, int err)
{
	atomic64_add(done, which);
	if (err && err != -EINTR && err != BLK_COPY_AGAIN)
		atomic64_inc(&p->failed);
}

static int blk_copy_try_offload(struct blk_copy_request *req, u64 len,
				u64 *done)
{
	struct blk_copy_provider *p;
	int err;

	p = blk_copy_get_or_wait(req->dst->bd_disk);
	if (IS_ERR_OR_NULL(p))
		return p ? PTR_ERR(p) : -EOPNOTSUPP;
	err = blk_copy_offload(req, p, len, done);
	if (err != -EOPNOTSUPP)
		blk_copy_count(p, &p->offloaded, *done, err);
	blk_copy_put(p);
	return err;
}

/*
 * Holds no provider meanwhile: one that is to be paused must not wait for what
 * some other device does.
 */
static void blk_copy_count_emulated(const struct blk_copy_request *req,
				    u64 done, int err)
{
	struct blk_copy_provider *p = blk_copy_get(req->dst->bd_disk);

	if (!p)
		return;
	blk_copy_count(p, &p->emulated, done, err);
	blk_copy_put(p);
}

static int blk_copy_write_back(struct block_device *bdev, u64 pos, u64 len)
{
	struct address_space *mapping = compat_bdev_mapping(bdev);

	if (!mapping->nrpages)
		return 0;
	return filemap_write_and_wait_range(mapping, pos, pos + len - 1);
}

static int blk_copy_drop_pages(struct block_device *bdev, u64 pos, u64 len)
{
	struct address_space *mapping = compat_bdev_mapping(bdev);
	pgoff_t first = pos >> PAGE_SHIFT, last = (pos + len - 1) >> PAGE_SHIFT;
	int err;

	if (!mapping->nrpages)
		return 0;
	err = invalidate_inode_pages2_range(mapping, first, last);
	if (err != -EBUSY)
		return err;
	/* What a file system had mounted here may linger among those. */
	invalidate_bh_lrus();
	return invalidate_inode_pages2_range(mapping, first, last);
}

/* In the order of the block layer's own discards. */
static int blk_copy_lock_cache(const struct blk_copy_request *req)
{
	struct address_space *mapping = compat_bdev_mapping(req->dst);
	int err;

	err = down_write_killable(&mapping->host->i_rwsem);
	if (err)
		return err;
	err = down_write_killable(&mapping->invalidate_lock);
	if (err)
		up_write(&mapping->host->i_rwsem);
	return err;
}

static void blk_copy_unlock_cache(const struct blk_copy_request *req)
{
	struct address_space *mapping = compat_bdev_mapping(req->dst);

	up_write(&mapping->invalidate_lock);
	up_write(&mapping->host->i_rwsem);
}

/* From here on nobody goes through the cache of the destination. */
static int blk_copy_begin_piece(const struct blk_copy_request *req, u64 len)
{
	u64 pos = req->dst_pos + req->done;
	int err;

	if (req->parent)
		return 0;
	/* Most of it with nothing locked: it may have to wait for a resume. */
	err = blk_copy_write_back(req->dst, pos, len);
	if (!err)
		err = blk_copy_lock_cache(req);
	if (err)
		return err;
	err = blk_copy_check_again(req);
	if (!err)
		err = blk_copy_write_back(req->dst, pos, len);
	if (!err)
		err = blk_copy_drop_pages(req->dst, pos, len);
	if (err)
		blk_copy_unlock_cache(req);
	return err;
}

/*
 * What has come back meanwhile is what was there before; as long as somebody
 * looks at it, nothing is done that could be relied on.
 */
static int blk_copy_end_piece(struct blk_copy_request *req, u64 len, u64 done,
			      int err)
{
	unsigned int tries = BLK_COPY_DROP_TRIES;
	u64 pos = req->dst_pos + req->done;
	int busy;

	if (!req->parent) {
		busy = blk_copy_drop_pages(req->dst, pos, len);
		while (busy == -EBUSY && tries--) {
			msleep(BLK_COPY_DROP_MSEC);
			busy = blk_copy_drop_pages(req->dst, pos, len);
		}
		blk_copy_unlock_cache(req);
		if (busy)
			return err ?: busy;
	}
	req->done += done;
	return err;
}

static int blk_copy_by_driver(struct blk_copy_request *req, u64 len)
{
	u64 begun = req->done, done = 0;
	int err;

	if (req->flags & BLK_COPY_NO_OFFLOAD)
		return -EOPNOTSUPP;
	err = blk_copy_begin_piece(req, len);
	if (err)
		return err;
	err = blk_copy_try_offload(req, len, &done);
	err = blk_copy_end_piece(req, len, done, err);
	req->offloaded += req->done - begun;
	return err;
}

/* The source may take its time: it is read with nothing locked. */
static int blk_copy_by_hand(struct blk_copy_request *req,
			    struct blk_copy_buffer *buf)
{
	u64 begun = req->done, len;
	int err = blk_copy_read(req, buf, &len);

	if (!err)
		err = blk_copy_begin_piece(req, len);
	if (!err) {
		err = blk_copy_write(req, buf, len);
		err = blk_copy_end_piece(req, len, err ? 0 : len, err);
	}
	blk_copy_count_emulated(req, req->done - begun, err);
	return err;
}

static int blk_copy_piece(struct blk_copy_request *req, u64 len,
			  struct blk_copy_buffer *buf)
{
	int err = 0;

	if (!req->parent)
		err = blk_copy_write_back(req->src, req->src_pos + req->done,
					  len);
	if (!err)
		err = blk_copy_by_driver(req, len);
	/* A disk that is gone has no driver either. */
	if (err == -EOPNOTSUPP)
		err = blk_copy_check_again(req) ?: err;
	if (err == -EOPNOTSUPP && req->flags & BLK_COPY_EMULATE)
		err = blk_copy_by_hand(req, buf);
	return err;
}

/* As much of the rest as whoever is likely to copy it takes at once. */
static u64 blk_copy_piece_size(const struct blk_copy_request *req)
{
	struct blk_copy_provider *p = NULL;
	u64 len = BLK_COPY_BUFFER;

	if (!(req->flags & BLK_COPY_NO_OFFLOAD))
		p = blk_copy_get(req->dst->bd_disk);
	if (p) {
		len = clamp_t(u64, READ_ONCE(p->max_bytes), len,
			      BLK_COPY_PIECE);
		blk_copy_put(p);
	}
	return min(len, req->len - req->done);
}

static int blk_copy_locked(struct blk_copy_request *req)
{
	struct blk_copy_buffer buf = {};
	unsigned int epoch;
	int err = 0;

	while (!err && req->done < req->len) {
		epoch = blk_copy_epoch();
		if (blk_copy_interrupted(req->parent))
			err = -EINTR;
		else
			err = blk_copy_piece(req, blk_copy_piece_size(req),
					     &buf);
		/* Only where nothing is held: not within a piece of another. */
		if (err == BLK_COPY_AGAIN && !req->parent)
			err = blk_copy_wait(epoch);
		cond_resched();
	}
	blk_copy_free_buffer(&buf);
	return err;
}

/**
 * blk_copy() - copy a range and wait for it
 * @req: the range; @req->done is true whatever is returned
 *
 * Ranges that overlap are refused (-EINVAL); copies of the same bytes by
 * several callers go one after the other, but those with a parent wait for
 * nobody. What is on the destination after the first @req->done bytes is
 * unchanged, or what the copy would have put there.
 *
 * Context: may sleep; a signal interrupts it. A caller on the way of I/O calls
 * it with memalloc_noio_save().
 * Return: 0 or a negative error; -EINTR after a signal; -EOPNOTSUPP if no
 * driver copies this and @req->flags do not ask for emulation; BLK_COPY_AGAIN,
 * with a parent, if a driver is paused.
 */
int blk_copy(struct blk_copy_request *req)
{
	struct blk_copy_span span = {
		.src_disk = req->src->bd_disk,
		.dst_disk = req->dst->bd_disk,
		.src = blk_copy_on_disk(req->src, req->src_pos),
		.dst = blk_copy_on_disk(req->dst, req->dst_pos),
		.len = req->len,
	};
	int err;

	req->done = 0;
	req->offloaded = 0;
	err = blk_copy_check(req);
	if (err)
		return err;
	if (blk_copy_overlaps(&span))
		return -EINVAL;
	if (req->parent)
		return blk_copy_locked(req);
	err = blk_copy_lock_span(&span);
	if (err)
		return err;
	err = blk_copy_locked(req);
	blk_copy_unlock_span(&span);
	return err;
}
EXPORT_SYMBOL_GPL(blk_copy);

static int blk_copy_possible_pinned(const struct blk_copy_request *req,
				    struct blk_copy_provider *dst_p,
				    unsigned int depth)
{
	struct blk_copy_provider *src_p =
		blk_copy_get_source(dst_p, req->src->bd_disk);
	bool may;

	if (IS_ERR_OR_NULL(src_p))
		return PTR_ERR_OR_ZERO(src_p);
	may = READ_ONCE(src_p->max_bytes) && READ_ONCE(dst_p->max_bytes);
	blk_copy_put(src_p);
	if (!may || !dst_p->ops->possible)
		return may;
	return dst_p->ops->possible(dst_p->limits.private, depth + 1);
}

/**
 * blk_copy_possible() - whether there is a driver that copies
 * @req: what would be asked of it; the ranges do not matter
 * @depth: blk_copy_op.depth of the piece that would be handed on, plus one; or
 *	what blk_copy_ops.possible was given
 *
 * Return: 1, 0, or BLK_COPY_AGAIN while it is paused, or one below.
 */
int blk_copy_possible(const struct blk_copy_request *req, unsigned int depth)
{
	struct gendisk *src = req->src->bd_disk, *dst = req->dst->bd_disk;
	struct blk_copy_provider *dst_p;
	int possible;

	if (depth >= BLK_COPY_MAX_DEPTH)
		return 0;
	if (!req->below &&
	    (blk_copy_is_detoured(dst) || blk_copy_is_detoured(src)))
		return 0;
	dst_p = blk_copy_get_or_wait(dst);
	if (IS_ERR_OR_NULL(dst_p))
		return PTR_ERR_OR_ZERO(dst_p);
	possible = blk_copy_possible_pinned(req, dst_p, depth);
	blk_copy_put(dst_p);
	return possible;
}
EXPORT_SYMBOL_GPL(blk_copy_possible);

static void blk_copy_submit_work(struct work_struct *work)
{
	struct blk_copy_request *req =
		container_of(work, struct blk_copy_request, work);
	/* The caller's scope, or no harm. */
	unsigned int noio = memalloc_noio_save();

	req->error = blk_copy(req);
	memalloc_noio_restore(noio);
	req->end(req);
}

/**
 * blk_copy_submit() - copy a range, and be told when it is over
 * @req: the range, with @req->end, which is called in a worker and may free it
 *
 * As blk_copy(), except that no signal interrupts it, unless it has a parent
 * that is interrupted. Memory is got as in a NOIO scope. Context: any.
 */
void blk_copy_submit(struct blk_copy_request *req)
{
	INIT_WORK(&req->work, blk_copy_submit_work);
	queue_work(blk_copy_wq, &req->work);
}
EXPORT_SYMBOL_GPL(blk_copy_submit);
