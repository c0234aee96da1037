// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach.
 *
 *	attach			detach
 *	hook, settle
 *	freeze			freeze		bios flow, also those of freezing
 *	close the gate		close the gate	bios are parked
 *	drain			drain		those let through complete
 *	quiesce the original
 *	target := device	target := none
 *	open the gate		open the gate	bios flow, also those of thawing
 *	thaw			thaw
 *				unhook
 *
 * Whatever fails, the gate is opened and the file systems are thawed again.
 *
 * pair.lock is held throughout. From freezing to thawing no memory is taken
 * that would need I/O.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "blk-interposer.h"

/**
 * struct blki_frozen - what is to be frozen, and has been
 * @devs: open block devices
 * @nr: how many
 * @nr_frozen: the first of them are frozen
 */
struct blki_frozen {
	struct compat_bdev *devs;
	unsigned int nr;
	unsigned int nr_frozen;
};

static void blki_thaw(struct blki_frozen *frozen)
{
	int err;

	while (frozen->nr) {
		struct compat_bdev *dev = &frozen->devs[--frozen->nr];

		err = 0;
		if (frozen->nr < frozen->nr_frozen)
			err = compat_bdev_thaw(dev->bdev);
		if (err)
			pr_warn("%pg: the file system does not thaw: error %d\n",
				dev->bdev, err);
		compat_bdev_close(dev);
	}
	kvfree(frozen->devs);
	*frozen = (struct blki_frozen) {};
}

/* The original, and if it is a whole disk, its partitions. */
static unsigned int blki_list_devices(struct blki_pair *pair, dev_t *devs,
				      unsigned int size)
{
	struct block_device *bdev = pair->original.bdev, *part;
	unsigned long index;
	unsigned int nr = 0;

	devs[nr++] = bdev->bd_dev;
	if (!blki_is_whole(pair))
		return nr;
	rcu_read_lock();
	xa_for_each_start(&bdev->bd_disk->part_tbl, index, part, 1) {
		if (nr == size)
			break;
		devs[nr++] = part->bd_dev;
	}
	rcu_read_unlock();
	return nr;
}

static int blki_open_devices(struct blki_pair *pair, struct blki_frozen *frozen)
{
	dev_t *devs = kvmalloc_array(DISK_MAX_PARTS, sizeof(*devs), GFP_KERNEL);
	unsigned int i, nr;
	int err = 0;

	frozen->devs = kvmalloc_array(DISK_MAX_PARTS, sizeof(*frozen->devs),
				      GFP_KERNEL);
	if (!devs || !frozen->devs) {
		kvfree(devs);
		return -ENOMEM;
	}
	nr = blki_list_devices(pair, devs, DISK_MAX_PARTS);
	for (i = 0; i < nr && !err; i++) {
		err = compat_bdev_open(&frozen->devs[frozen->nr], devs[i]);
		/* A partition that has gone meanwhile has no file system. */
		if (err && i)
			err = 0;
		else if (!err)
			frozen->nr++;
	}
	kvfree(devs);
	return err;
}

/*
 * Whether any is frozen is asked before one is: a file system may be on several.
 */
static int blki_freeze_devices(struct blki_frozen *frozen)
{
	unsigned int i;
	int err;

	for (i = 0; i < frozen->nr; i++)
		if (compat_bdev_frozen(frozen->devs[i].bdev))
			return -EBUSY;
	while (frozen->nr_frozen < frozen->nr) {
		err = compat_bdev_freeze(frozen->devs[frozen->nr_frozen].bdev);
		if (err)
			return err;
		frozen->nr_frozen++;
	}
	return 0;
}

static int blki_freeze(struct blki_pair *pair, struct blki_frozen *frozen,
		       struct blk_interposer_error *error)
{
	int err = blki_open_devices(pair, frozen);

	if (!err)
		err = blki_freeze_devices(frozen);
	if (!err)
		return 0;
	blki_thaw(frozen);
	return blki_fail(error, BLK_INTERPOSER_STEP_FREEZE,
			 err == -EBUSY ? BLK_INTERPOSER_FROZEN :
					 BLK_INTERPOSER_OK, err);
}

static int blki_drain(struct blki_pair *pair, unsigned long timeout)
{
	long left;

	left = wait_event_killable_timeout(pair->wait,
					   percpu_ref_is_zero(&pair->inflight),
					   timeout);
	if (left < 0)
		return -EINTR;
	return left ? 0 : -ETIMEDOUT;
}

/* The gate is closed in here: the time that I/O waits for us. */
static int blki_switch(struct blki_pair *pair, struct block_device *target,
		       unsigned long timeout, u64 *parked_ns,
		       struct blk_interposer_error *error)
{
	u64 start;
	int err;

	blki_gate_close(pair);
	start = ktime_get_ns();
	err = blki_drain(pair, timeout);
	if (err)
		blki_fail(error, BLK_INTERPOSER_STEP_DRAIN, BLK_INTERPOSER_OK,
			  err);
	if (!err && target) {
		err = blki_quiesce_original(pair, timeout);
		if (err)
			blki_fail(error, BLK_INTERPOSER_STEP_QUEUE,
				  BLK_INTERPOSER_OK, err);
	}
	if (!err)
		WRITE_ONCE(pair->target, target);
	blki_gate_open(pair);
	*parked_ns = ktime_get_ns() - start;
	return err;
}

static int blki_transit(struct blki_pair *pair, struct block_device *target,
			unsigned int flags, unsigned long timeout,
			struct blki_times *times,
			struct blk_interposer_error *error)
{
	unsigned int noio = memalloc_noio_save();
	struct blki_frozen frozen = {};
	int err = 0;
	u64 start;

	blki_gate_prepare(pair);
	start = ktime_get_ns();
	if (!(flags & BLK_INTERPOSER_NO_FREEZE))
		err = blki_freeze(pair, &frozen, error);
	if (!err) {
		err = blki_switch(pair, target, timeout, &times->parked_ns,
				  error);
		blki_thaw(&frozen);
	}
	times->frozen_ns = flags & BLK_INTERPOSER_NO_FREEZE ?
			   0 : ktime_get_ns() - start;
	blki_gate_done(pair);
	memalloc_noio_restore(noio);
	return err;
}

/*
 * A target that is on the original itself would get its own bios back. When the
 * original was free, whoever claims it and the lower disk alike is such a one.
 */
static bool blki_loops(struct blki_pair *pair, struct block_device *target)
{
	void *holder = READ_ONCE(pair->original.bdev->bd_holder);

	return target->bd_disk == pair->original.bdev->bd_disk ||
	       (holder && holder != pair->holder &&
		holder == READ_ONCE(pair->lower->part0->bd_holder));
}

static enum blk_interposer_reason
blki_check_target(struct blki_pair *pair, struct block_device *target)
{
	struct block_device *original = pair->original.bdev;

	if (blki_original_dead(pair))
		return BLK_INTERPOSER_REMOVED;
	if (test_bit(GD_DEAD, &target->bd_disk->state))
		return BLK_INTERPOSER_REMOVED;
	if (blki_is_own_disk(target->bd_disk))
		return BLK_INTERPOSER_OWN_DISK;
	if (blki_loops(pair, target))
		return BLK_INTERPOSER_LOOP;
	if (!READ_ONCE(pair->lower->part0->bd_holder))
		return BLK_INTERPOSER_UNUSED_LOWER;
	if (bdev_nr_sectors(target) != bdev_nr_sectors(original))
		return BLK_INTERPOSER_SIZE;
	if (bdev_logical_block_size(target) > bdev_logical_block_size(original))
		return BLK_INTERPOSER_BLOCK_SIZE;
	if (bdev_write_cache(original) && !bdev_write_cache(target))
		return BLK_INTERPOSER_NO_FLUSH;
	if (bdev_read_only(target) && !bdev_read_only(original))
		return BLK_INTERPOSER_READ_ONLY;
	if (compat_zones_differ(target, original))
		return BLK_INTERPOSER_ZONES;
	if (!blki_counts_inflight(original))
		return BLK_INTERPOSER_NO_IOSTATS;
	return BLK_INTERPOSER_OK;
}

static int blki_reason_to_errno(enum blk_interposer_reason reason)
{
	switch (reason) {
	case BLK_INTERPOSER_OK:
		return 0;
	case BLK_INTERPOSER_REMOVED:
		return -ENODEV;
	case BLK_INTERPOSER_LOOP:
		return -ELOOP;
	default:
		return -EINVAL;
	}
}

/**
 * blki_attach() - Put a target between an original and those who use it.
 * @pair: its lock is held
 * @target: a block device on top of the lower disk
 * @flags: BLK_INTERPOSER_NO_FREEZE
 * @timeout: for each wait, in jiffies
 * @times: how long it was felt
 * @error: step and reason of a failure
 *
 * Return: 0, or an error; then everything is as it was.
 */
int blki_attach(struct blki_pair *pair, struct block_device *target,
		unsigned int flags, unsigned long timeout,
		struct blki_times *times, struct blk_interposer_error *error)
{
	enum blk_interposer_reason reason;
	int err;

	lockdep_assert_held(&pair->lock);
	if (pair->target)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_ATTACHED, -EBUSY);
	reason = blki_check_target(pair, target);
	if (reason)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK, reason,
				 blki_reason_to_errno(reason));
	err = compat_bdev_open(&pair->target_dev, target->bd_dev);
	if (!err && pair->target_dev.bdev != target) {
		compat_bdev_close(&pair->target_dev);
		err = -ENODEV;
	}
	if (err)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_OK, err);
	err = blki_hook_add(pair);
	if (err) {
		compat_bdev_close(&pair->target_dev);
		return blki_fail(error, BLK_INTERPOSER_STEP_HOOK,
				 BLK_INTERPOSER_OK, err);
	}
	err = blki_settle(pair, timeout);
	if (err)
		blki_fail(error, BLK_INTERPOSER_STEP_SETTLE, BLK_INTERPOSER_OK,
			  err);
	else
		err = blki_transit(pair, target, flags, timeout, times, error);
	if (err) {
		blki_hook_remove(pair);
		compat_bdev_close(&pair->target_dev);
		return err;
	}
	pr_info("%pg: attached %pg\n", pair->original.bdev, target);
	return 0;
}

static void blki_detached(struct blki_pair *pair)
{
	pr_info("%pg: detached %pg\n", pair->original.bdev,
		pair->target_dev.bdev);
	blki_hook_remove(pair);
	compat_bdev_close(&pair->target_dev);
}

/**
 * blki_detach() - Take the target out again.
 * @pair: its lock is held
 * @flags: BLK_INTERPOSER_NO_FREEZE
 * @timeout: for each wait, in jiffies
 * @times: how long it was felt
 * @error: step and reason of a failure
 *
 * Return: 0, or an error; then the target is still attached.
 */
int blki_detach(struct blki_pair *pair, unsigned int flags,
		unsigned long timeout, struct blki_times *times,
		struct blk_interposer_error *error)
{
	int err;

	lockdep_assert_held(&pair->lock);
	if (!pair->target)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_NOT_ATTACHED, -EINVAL);
	/* Of a device that is gone no file system can be made consistent. */
	if (blki_original_dead(pair))
		flags |= BLK_INTERPOSER_NO_FREEZE;
	err = blki_transit(pair, NULL, flags, timeout, times, error);
	if (!err)
		blki_detached(pair);
	return err;
}

/**
 * blki_detach_forced() - Detach for an owner that is no more.
 * @pair: its lock is held
 *
 * Nothing is frozen, and it takes as long as the target takes to complete what
 * it has.
 */
void blki_detach_forced(struct blki_pair *pair)
{
	unsigned int noio = memalloc_noio_save();

	lockdep_assert_held(&pair->lock);
	blki_gate_prepare(pair);
	blki_gate_close(pair);
	wait_event(pair->wait, percpu_ref_is_zero(&pair->inflight));
	WRITE_ONCE(pair->target, NULL);
	blki_gate_open(pair);
	blki_gate_done(pair);
	memalloc_noio_restore(noio);
	blki_detached(pair);
}
