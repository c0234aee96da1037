// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests to a block device, by bio. Takes no locks.
 */
#include "store.h"

/**
 * qcow2_bdev_claim() - have device-mapper hold a block device for a table
 * @ti: the table's target
 * @file: the block device, open
 * @read_only: it will not be written
 * @dev: set to device-mapper's reference
 *
 * Return: 0 or a negative error.
 */
int qcow2_bdev_claim(struct dm_target *ti, const struct file *file,
		     bool read_only, struct dm_dev **dev)
{
	dev_t devt = file_inode(file)->i_rdev;
	compat_blk_mode_t mode = dm_table_get_mode(ti->table);
	char name[24];

	if (read_only)
		mode &= ~COMPAT_BLK_OPEN_WRITE;
	snprintf(name, sizeof(name), "%u:%u", MAJOR(devt), MINOR(devt));
	return dm_get_device(ti, name, mode, dev);
}

/**
 * qcow2_bdev_open() - open a block device for I/O
 * @st: the store, with @lock_file open
 *
 * Without a target, whoever uses the store claims the device.
 * Return: 0 or a negative error; qcow2_store_close() is to be called either way.
 */
int qcow2_bdev_open(struct qcow2_store *st)
{
	struct dm_target *ti = st->core->ti;
	int r = 0;

	st->bdev = I_BDEV(st->lock_file->f_mapping->host);
	if (ti)
		r = qcow2_bdev_claim(ti, st->lock_file, st->read_only,
				     &st->dev);
	if (r)
		return r;
	st->align = bdev_logical_block_size(st->bdev);
	st->mem_align = clamp_t(u32, bdev_dma_alignment(st->bdev) + 1,
				SECTOR_SIZE, PAGE_SIZE);
	st->direct = true;
	/* Clusters are written in any order, and again. */
	if (bdev_is_zoned(st->bdev)) {
		DMERR("%pg: an image cannot be on a zoned device", st->bdev);
		return -EOPNOTSUPP;
	}
	if (st->align > PAGE_SIZE || (!st->read_only &&
				      bdev_read_only(st->bdev)))
		return st->align > PAGE_SIZE ? -EINVAL : -EROFS;
	return bioset_init(&st->bs, 64, 0, 0);
}

static void bdev_end_bio(struct bio *bio)
{
	struct qcow2_store_io *sio = bio->bi_private;
	int err = blk_status_to_errno(bio->bi_status);

	bio_put(bio);
	sio->done(sio, err);
}

/**
 * qcow2_bdev_issue() - start a request to a block device
 * @sio: the request
 *
 * Context: a worker; may block.
 */
void qcow2_bdev_issue(struct qcow2_store_io *sio)
{
	struct qcow2_store *st = sio->store;
	blk_opf_t op = sio->write ? REQ_OP_WRITE : REQ_OP_READ;
	struct bio *bio = bio_alloc_bioset(st->bdev, 0, op | sio->how.flags,
					   GFP_NOIO, &st->bs);

	if (sio->how.group)
		bio_associate_blkg_from_css(bio, sio->how.group);
	bio->bi_ioprio = sio->how.ioprio;
	/* The pages stay the owner's, as in a clone. */
	bio->bi_io_vec = (struct bio_vec *)sio->bv;
	bio->bi_iter = sio->bv_iter;
	bio->bi_iter.bi_sector = sio->pos >> SECTOR_SHIFT;
	bio_set_flag(bio, BIO_CLONED);
	bio->bi_private = sio;
	bio->bi_end_io = bdev_end_bio;
	submit_bio_noacct(bio);
}
