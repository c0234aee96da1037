// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two disks of a pair, and what they do with bios.
 *
 * The upper disk takes what is redirected to the gate. The lower one sends
 * clones to the original.
 *
 * Locks: none.
 */
#include <linux/module.h>

#include "clone.h"
#include "context.h"
#include "disks.h"
#include "forward.h"
#include "gate.h"
#include "provider.h"
#include "trial.h"

static void blki_upper_submit(struct bio *bio)
{
	struct blki_pair *pair = bio->bi_bdev->bd_disk->private_data;
	struct blki_context *ctx = blki_context_of(pair, bio);

	if (!blki_gate_enter(pair) && !blki_gate_admit(pair, bio))
		return;
	ctx->inflight = true;
	blki_forward(pair, bio);
}

/* While a target is tried. Its device has the bio yet, so that the pair is there. */
static void blki_counted_end_io(struct bio *clone)
{
	struct bio *bio = clone->bi_private;
	struct blki_pair *pair = bio->bi_bdev->bd_disk->private_data;

	blki_trial_uncount(pair);
	blki_clone_end_io(clone);
}

/* A write is counted, or refused: see trial.c. */
static void blki_lower_on_trial(struct blki_pair *pair, struct bio *bio)
{
	if (!blki_trial_count(pair)) {
		bio_io_error(bio);
		return;
	}
	if (!blki_clone_send(pair, bio, blki_counted_end_io))
		blki_trial_uncount(pair);
}

static void blki_lower_submit(struct bio *bio)
{
	struct blki_pair *pair = bio->bi_bdev->bd_disk->private_data;

	if (unlikely(blki_on_trial(pair)) && blki_writes(bio))
		blki_lower_on_trial(pair, bio);
	else
		blki_clone_send(pair, bio, blki_clone_end_io);
}

#ifdef CONFIG_BLK_DEV_ZONED
static int blki_report_zones(struct gendisk *disk, sector_t sector,
			     unsigned int nr_zones, report_zones_cb cb,
			     void *data)
{
	struct blki_pair *pair = disk->private_data;

	return blkdev_report_zones(pair->original.bdev, sector, nr_zones, cb,
				   data);
}
#else
#define blki_report_zones NULL
#endif

static void blki_free_disk(struct gendisk *disk)
{
	blki_put(disk->private_data);
}

/* The disk that redirected bios are sent to. */
static const struct block_device_operations blki_upper_fops = {
	.owner = THIS_MODULE,
	.submit_bio = blki_upper_submit,
	.report_zones = blki_report_zones,
	.free_disk = blki_free_disk,
};

COMPAT_DEFINE_DISK_RELEASE(blki_lower_release)
{
	struct blki_pair *pair = disk->private_data;

	/* Counted out before it is looked at; see blki_trial_forget(). */
	smp_mb();
	if (!disk_openers(disk))
		blki_trial_closed(pair);
}

/* The disk that targets open. */
static const struct block_device_operations blki_lower_fops = {
	.owner = THIS_MODULE,
	.release = blki_lower_release,
	.submit_bio = blki_lower_submit,
	.report_zones = blki_report_zones,
	.free_disk = blki_free_disk,
};

/**
 * blki_is_own_disk() - Whether a disk is one of a pair.
 * @disk: any disk
 *
 * Return: true if it is.
 */
bool blki_is_own_disk(struct gendisk *disk)
{
	return disk->fops == &blki_upper_fops || disk->fops == &blki_lower_fops;
}

/* What can change below without anybody being told. */
static void blki_watch(struct work_struct *work)
{
	struct blki_pair *pair = container_of(to_delayed_work(work),
					      struct blki_pair, watch);
	struct block_device *original = pair->original.bdev;
	struct block_device *lower = pair->lower->part0;
	sector_t sectors = bdev_nr_sectors(original);
	bool read_only = bdev_read_only(original);

	if (bdev_nr_sectors(lower) != sectors) {
		set_capacity(pair->upper, sectors);
		set_capacity_and_notify(pair->lower, sectors);
	}
	if (bdev_write_cache(lower) != bdev_write_cache(original) ||
	    bdev_fua(lower) != (bdev_fua(original) &&
				bdev_write_cache(original))) {
		compat_mirror_cache(pair->upper, original);
		compat_mirror_cache(pair->lower, original);
	}
	set_disk_ro(pair->upper, read_only);
	set_disk_ro(pair->lower, read_only);
	queue_delayed_work(system_power_efficient_wq, &pair->watch, HZ);
}

static struct gendisk *blki_alloc_disk(struct blki_pair *pair,
				       const struct block_device_operations *ops)
{
	struct block_device *original = pair->original.bdev;
	struct gendisk *disk = compat_alloc_mirror(original);

	if (IS_ERR(disk))
		return disk;
	disk->fops = ops;
	disk->private_data = pair;
	disk->flags |= GENHD_FL_NO_PART;
#ifdef CONFIG_BLK_DEV_ZONED
	disk->nr_zones = bdev_nr_zones(original);
#endif
	set_capacity(disk, bdev_nr_sectors(original));
	set_disk_ro(disk, bdev_read_only(original));
	return disk;
}

/* The block layer gives the disk's reference to the pair back, but only then. */
static int blki_add_disk(struct blki_pair *pair, struct gendisk *disk)
{
	int err;

	kref_get(&pair->kref);
	err = add_disk(disk);
	if (err)
		blki_put(pair);
	return err;
}

/**
 * blki_disks_make() - Make the disks of a pair, and have them watch the original.
 * @pair: with its original open; it has none
 *
 * Return: 0 or an error; then nothing is left behind.
 */
int blki_disks_make(struct blki_pair *pair)
{
	int err;

	pair->upper = blki_alloc_disk(pair, &blki_upper_fops);
	if (IS_ERR(pair->upper))
		return PTR_ERR(pair->upper);
	snprintf(pair->upper->disk_name, DISK_NAME_LEN, "interpose%u-upper",
		 pair->id);
	pair->upper->flags |= GENHD_FL_HIDDEN;
	pair->lower = blki_alloc_disk(pair, &blki_lower_fops);
	if (IS_ERR(pair->lower)) {
		err = PTR_ERR(pair->lower);
		goto no_lower;
	}
	snprintf(pair->lower->disk_name, DISK_NAME_LEN, "interpose%u", pair->id);
	err = blki_provider_register(pair);
	if (err)
		goto no_copies;
	err = blki_add_disk(pair, pair->upper);
	if (err)
		goto no_add_upper;
	err = blki_add_disk(pair, pair->lower);
	if (err)
		goto no_add_lower;
	strscpy(pair->lower_name, pair->lower->disk_name,
		sizeof(pair->lower_name));
	pair->lower_devt = disk_devt(pair->lower);
	queue_delayed_work(system_power_efficient_wq, &pair->watch, HZ);
	return 0;

no_add_lower:
	del_gendisk(pair->upper);
no_add_upper:
	blki_provider_unregister(pair);
no_copies:
	put_disk(pair->lower);
no_lower:
	put_disk(pair->upper);
	return err;
}

/**
 * blki_disks_remove() - Take the disks away, in use or not.
 * @pair: has them; the lock is held
 */
void blki_disks_remove(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	cancel_delayed_work_sync(&pair->watch);
	del_gendisk(pair->lower);
	del_gendisk(pair->upper);
	blki_provider_unregister(pair);
	put_disk(pair->lower);
	put_disk(pair->upper);
}

/**
 * blki_disks_init() - Get ready to make disks.
 * @pair: zeroed
 */
void blki_disks_init(struct blki_pair *pair)
{
	INIT_DELAYED_WORK(&pair->watch, blki_watch);
}
