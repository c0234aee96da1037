// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a target may be attached to a pair.
 *
 * Locks: pair.lock is held by who attaches.
 */
#include <linux/blkdev.h>

#include "check.h"
#include "disks.h"
#include "quiesce.h"
#include "stack.h"

/*
 * Those who send bios keep to the limits of the original, and some of them, as file
 * systems, to those of the moment when they began to use it. A buffer need only be
 * aligned to sectors for device-mapper, whatever it says: less than that is the
 * default of its tables, and not what a target needs.
 */
static enum blk_interposer_reason
blki_check_limits(struct block_device *target, struct block_device *original)
{
	unsigned int alignment = bdev_dma_alignment(original);

	if (bdev_logical_block_size(target) > bdev_logical_block_size(original))
		return BLK_INTERPOSER_BLOCK_SIZE;
	if (bdev_dma_alignment(target) > max(alignment, SECTOR_SIZE - 1U))
		return BLK_INTERPOSER_ALIGNMENT;
	if (bdev_stable_writes(target) && !bdev_stable_writes(original))
		return BLK_INTERPOSER_STABLE_WRITES;
	if (bdev_write_cache(original) && !bdev_write_cache(target))
		return BLK_INTERPOSER_NO_FLUSH;
	if (bdev_read_only(target) && !bdev_read_only(original))
		return BLK_INTERPOSER_READ_ONLY;
	if (compat_zones_differ(target, original))
		return BLK_INTERPOSER_ZONES;
	return BLK_INTERPOSER_OK;
}

static enum blk_interposer_reason
blki_check_state(struct blki_pair *pair, struct block_device *target)
{
	if (blki_original_dead(pair))
		return BLK_INTERPOSER_REMOVED;
	if (test_bit(GD_DEAD, &target->bd_disk->state))
		return BLK_INTERPOSER_REMOVED;
	if (blki_is_own_disk(target->bd_disk))
		return BLK_INTERPOSER_OWN_DISK;
	return BLK_INTERPOSER_OK;
}

static enum blk_interposer_reason
blki_check_fit(struct blki_pair *pair, struct block_device *target)
{
	struct block_device *original = pair->original.bdev;
	enum blk_interposer_reason reason;

	if (blki_takes_requests(original))
		return BLK_INTERPOSER_REQUESTS;
	if (bdev_nr_sectors(target) != bdev_nr_sectors(original))
		return BLK_INTERPOSER_SIZE;
	reason = blki_check_limits(target, original);
	if (reason)
		return reason;
	if (!blki_sees_inflight(original))
		return BLK_INTERPOSER_NO_IOSTATS;
	return BLK_INTERPOSER_OK;
}

static int blki_check_errno(enum blk_interposer_reason reason)
{
	switch (reason) {
	case BLK_INTERPOSER_OK:
		return 0;
	case BLK_INTERPOSER_REMOVED:
		return -ENODEV;
	case BLK_INTERPOSER_LOOP:
		return -ELOOP;
	case BLK_INTERPOSER_REQUESTS:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

/**
 * blki_check() - Refuse a target that cannot stand for the original.
 * @pair: its lock is held
 * @target: what is to be attached
 * @error: step and reason of a failure
 *
 * Return: 0, -ENODEV, -ELOOP, -EOPNOTSUPP, -ENOMEM or -EINVAL.
 */
int blki_check(struct blki_pair *pair, struct block_device *target,
	       struct blk_interposer_error *error)
{
	enum blk_interposer_reason reason = blki_check_state(pair, target);
	int err = 0;

	if (!reason)
		err = blki_check_below(pair, target, &reason);
	if (!err && !reason)
		reason = blki_check_fit(pair, target);
	if (!err)
		err = blki_check_errno(reason);
	return err ? blki_fail(error, BLK_INTERPOSER_STEP_CHECK, reason, err) :
		     0;
}
