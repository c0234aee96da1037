// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach.
 *
 *	attach			detach
 *	hook, settle
 *	quiesce the original
 *	freeze			freeze		bios flow, also those of freezing
 *	close the gate		close the gate	bios are parked
 *	drain			drain		those let through complete
 *	try the target				nothing but a write of our own
 *	target := device	target := none
 *	open the gate		open the gate	bios flow, also those of thawing
 *	thaw			thaw
 *				unhook
 *
 * Whatever fails, the gate is opened and the file systems are thawed again. While
 * it does not drain, it is opened for a while and closed again.
 *
 * pair.lock is held throughout. From freezing to thawing no memory is taken
 * that would need I/O.
 */
#include <linux/fs.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "blk-interposer.h"

/**
 * struct blki_frozen - what is to be frozen, and has been
 * @devs: open block devices
 * @nr: how many
 * @nr_frozen: the first of them are frozen
 * @files: a file in each file system that has no block device
 * @nr_files_frozen: the first of these are frozen
 * @supers: a file system is frozen, not just devices
 */
struct blki_frozen {
	struct compat_bdev *devs;
	unsigned int nr;
	unsigned int nr_frozen;
	struct file **files;
	unsigned int nr_files_frozen;
	bool supers;
};

static struct super_block *blki_super_of(struct file *file)
{
	return file_inode(file)->i_sb;
}

static void blki_thaw(struct blki_frozen *frozen)
{
	int err;

	while (frozen->nr_files_frozen) {
		struct super_block *sb;

		sb = blki_super_of(frozen->files[--frozen->nr_files_frozen]);
		err = compat_super_thaw(sb);
		if (err)
			pr_warn("%s: the file system does not thaw: error %d\n",
				sb->s_id, err);
	}
	while (frozen->nr) {
		struct compat_bdev *dev = &frozen->devs[--frozen->nr];

		err = 0;
		if (frozen->nr < frozen->nr_frozen)
			err = compat_bdev_thaw(dev->bdev);
		/* Somebody else has thawed it, and the device still counts. */
		if (err)
			pr_warn("%pg: the file system does not thaw: error %d; thaw it by itself, remove with --no-freeze\n",
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
		if (compat_super_frozen(frozen->devs[frozen->nr_frozen].bdev))
			frozen->supers = true;
		frozen->nr_frozen++;
	}
	return 0;
}

static int blki_freeze_files(struct blki_frozen *frozen, unsigned int nr)
{
	int err;

	while (frozen->nr_files_frozen < nr) {
		struct super_block *sb;

		sb = blki_super_of(frozen->files[frozen->nr_files_frozen]);
		/* On a disk it is enough that nobody writes, as for a device. */
		if (!sb->s_op->freeze_fs && !sb->s_bdev)
			return -EOPNOTSUPP;
		if (READ_ONCE(sb->s_writers.frozen) != SB_UNFROZEN)
			return -EBUSY;
		err = compat_super_freeze(sb);
		if (err)
			return err;
		frozen->supers = true;
		frozen->nr_files_frozen++;
	}
	return 0;
}

static int blki_freeze(struct blki_pair *pair,
		       const struct blki_request *request,
		       struct blki_frozen *frozen,
		       struct blk_interposer_error *error)
{
	int err = blki_open_devices(pair, frozen);

	frozen->files = request->files;
	if (!err)
		err = blki_freeze_devices(frozen);
	if (!err)
		err = blki_freeze_files(frozen, request->nr_files);
	if (!err)
		return 0;
	blki_thaw(frozen);
	return blki_fail(error, BLK_INTERPOSER_STEP_FREEZE,
			 err == -EBUSY ? BLK_INTERPOSER_FROZEN :
					 BLK_INTERPOSER_OK, err);
}

/* While somebody freezes, it is noted where they write. */
static int blki_freeze_noting(struct blki_pair *pair,
			      const struct blki_request *request,
			      struct blki_frozen *frozen,
			      struct blk_interposer_error *error)
{
	int err;

	WRITE_ONCE(pair->freezer, current);
	err = blki_freeze(pair, request, frozen, error);
	WRITE_ONCE(pair->freezer, NULL);
	return err;
}

static int blki_drain(struct blki_pair *pair, unsigned long end)
{
	long left = max_t(long, end - jiffies, 1);

	left = wait_event_killable_timeout(pair->wait,
					   percpu_ref_is_zero(&pair->inflight),
					   left);
	if (left < 0)
		return -EINTR;
	return left ? 0 : -ETIMEDOUT;
}

/* What has been abandoned belongs to the target. */
static int blki_try(struct blki_pair *pair, struct block_device *target,
		    struct blk_interposer_error *error)
{
	int err = blki_trial_run(pair->trial, target);

	if (!err)
		return 0;
	pair->trial = NULL;
	return blki_fail(error, BLK_INTERPOSER_STEP_TRIAL,
			 err == -ETIMEDOUT ? BLK_INTERPOSER_STUCK :
					     BLK_INTERPOSER_OK, err);
}

/* The gate is closed in here: the time that I/O waits for us. */
static int blki_switch(struct blki_pair *pair, struct block_device *target,
		       unsigned long closed, u64 *parked_ns,
		       struct blk_interposer_error *error)
{
	unsigned long end;
	u64 start;
	int err;

	blki_gate_close(pair);
	start = ktime_get_ns();
	end = jiffies + closed;
	err = blki_drain(pair, end);
	if (err)
		blki_fail(error, BLK_INTERPOSER_STEP_DRAIN, BLK_INTERPOSER_OK,
			  err);
	if (!err && target) {
		err = blki_wait_counted(pair, end);
		if (err)
			blki_fail(error, BLK_INTERPOSER_STEP_QUEUE,
				  BLK_INTERPOSER_OK, err);
	}
	if (!err && target)
		err = blki_try(pair, target, error);
	if (!err)
		WRITE_ONCE(pair->target, target);
	blki_gate_open(pair);
	*parked_ns = ktime_get_ns() - start;
	return err;
}

/* What is in flight may complete if others go on; what is tried has had its time. */
static bool blki_may_be_repeated(const struct blk_interposer_error *error, int err)
{
	return err == -ETIMEDOUT && error->step != BLK_INTERPOSER_STEP_TRIAL;
}

/* The gate is closed for a short time, and if that is not enough for longer ones. */
static int blki_switch_soon(struct blki_pair *pair, struct block_device *target,
			    unsigned long timeout, u64 *parked_ns,
			    struct blk_interposer_error *error)
{
	struct blki_turns turns = blki_turns_begin(timeout);
	u64 ns;
	int err;

	do {
		err = blki_switch(pair, target, blki_turn(&turns), &ns, error);
		*parked_ns += ns;
	} while (blki_may_be_repeated(error, err) &&
		 !(err = blki_turn_over(&turns)));
	if (!err)
		blki_fail(error, BLK_INTERPOSER_STEP_NONE, BLK_INTERPOSER_OK, 0);
	return err;
}

/*
 * To detach nothing has to be frozen, it only leaves a better state behind. So a
 * file system that has failed and cannot be frozen is no reason to keep a target
 * that makes it fail.
 */
static bool blki_goes_on(struct block_device *target, int err)
{
	return !target && err != -EBUSY && err != -EINTR;
}

static int blki_transit_tried(struct blki_pair *pair,
			      struct block_device *target,
			      const struct blki_request *request,
			      struct blki_times *times,
			      struct blk_interposer_error *error)
{
	bool freeze = !(request->flags & BLK_INTERPOSER_NO_FREEZE);
	unsigned int noio = memalloc_noio_save();
	struct blki_frozen frozen = {};
	bool supers = false;
	int err = 0;
	u64 start;

	blki_gate_prepare(pair);
	start = ktime_get_ns();
	if (freeze)
		err = blki_freeze_noting(pair, request, &frozen, error);
	if (err && blki_goes_on(target, err)) {
		pr_warn("%pg: not frozen (error %d), detached all the same\n",
			pair->original.bdev, err);
		err = blki_fail(error, BLK_INTERPOSER_STEP_NONE,
				BLK_INTERPOSER_OK, 0);
	}
	if (!err) {
		err = blki_switch_soon(pair, target, request->timeout,
				       &times->parked_ns, error);
		supers = frozen.supers;
		blki_thaw(&frozen);
	}
	times->frozen_ns = supers ? ktime_get_ns() - start : 0;
	blki_gate_done(pair);
	memalloc_noio_restore(noio);
	return err;
}

static int blki_transit(struct blki_pair *pair, struct block_device *target,
			const struct blki_request *request,
			struct blki_times *times,
			struct blk_interposer_error *error)
{
	int err;

	pair->trial = target ? blki_trial_alloc(pair, request->timeout) : NULL;
	if (target && !pair->trial)
		return blki_fail(error, BLK_INTERPOSER_STEP_TRIAL,
				 BLK_INTERPOSER_OK, -ENOMEM);
	err = blki_transit_tried(pair, target, request, times, error);
	blki_trial_free(pair->trial);
	pair->trial = NULL;
	return err;
}

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
blki_check_original(struct blki_pair *pair, struct block_device *target)
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

static int blki_reason_to_errno(enum blk_interposer_reason reason)
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

static int blki_check(struct blki_pair *pair, struct block_device *target,
		      struct blk_interposer_error *error)
{
	enum blk_interposer_reason reason = blki_check_state(pair, target);
	int err = 0;

	if (!reason)
		err = blki_check_below(pair, target, &reason);
	if (!err && !reason)
		reason = blki_check_original(pair, target);
	if (!err)
		err = blki_reason_to_errno(reason);
	return err ? blki_fail(error, BLK_INTERPOSER_STEP_CHECK, reason, err) :
		     0;
}

static int blki_open_target(struct blki_pair *pair, struct block_device *target)
{
	int err = compat_bdev_open(&pair->target_dev, target->bd_dev);

	if (err)
		return err;
	if (pair->target_dev.bdev == target)
		return 0;
	/* Its number has been given to another one. */
	compat_bdev_close(&pair->target_dev);
	return -ENODEV;
}

/* That the hook is registered is one thing; that it is called another. */
static int blki_check_hook(struct blki_pair *pair,
			   struct blk_interposer_error *error)
{
	int err = blki_prove(pair);

	if (!err)
		return 0;
	if (err == -EOPNOTSUPP)
		pr_err("%pg: the hook at submit_bio_noacct() does not see what is sent there\n",
		       pair->original.bdev);
	return blki_fail(error, BLK_INTERPOSER_STEP_HOOK,
			 err == -EOPNOTSUPP ? BLK_INTERPOSER_UNSEEN :
						   BLK_INTERPOSER_OK, err);
}

/* Wait for what the hook has not seen. */
static int blki_await_earlier(struct blki_pair *pair, unsigned long timeout,
			      struct blk_interposer_error *error)
{
	int err = blki_settle(pair, timeout);

	if (err)
		return blki_fail(error, BLK_INTERPOSER_STEP_SETTLE,
				 BLK_INTERPOSER_OK, err);
	err = blki_quiesce_original(pair, timeout);
	if (err)
		blki_fail(error, BLK_INTERPOSER_STEP_QUEUE, BLK_INTERPOSER_OK,
			  err);
	return err;
}

/* An abandoned trial has the target in use yet, and is one of the users. */
static void blki_close_target(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	if (pair->target_dev.bdev)
		compat_bdev_close(&pair->target_dev);
}

static bool blki_left(struct blki_pair *pair)
{
	return percpu_ref_is_zero(&pair->users);
}

/* What comes from now on is not redirected, and may overtake what is not sent yet. */
static bool blki_all_sent(struct blki_pair *pair)
{
	return !READ_ONCE(pair->parking);
}

static void blki_stop_redirecting(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	if (hlist_unhashed(&pair->hash))
		return;
	blki_hook_remove(pair);
	blk_copy_detour_end(&pair->detour);
}

/**
 * blki_leave_work() - Wait for what was redirected.
 * @work: that of a pair which is leaving
 */
void blki_leave_work(struct work_struct *work)
{
	struct blki_pair *pair = container_of(work, struct blki_pair, leave);

	wait_event(pair->wait, blki_all_sent(pair));
	mutex_lock(&pair->lock);
	blki_stop_redirecting(pair);
	mutex_unlock(&pair->lock);
	wait_event(pair->wait, blki_left(pair));
	synchronize_rcu();
	mutex_lock(&pair->lock);
	blki_close_target(pair);
	pair->leaving = false;
	mutex_unlock(&pair->lock);
	blki_put(pair);
}

/*
 * No longer redirects, once what was parked has been sent on, which matters with
 * zones, and waits for what was redirected: until the original has completed it.
 * If that takes too long a worker goes on waiting. The target has nothing of it, as
 * the gate was closed and drained, or it was never reached, but perhaps an abandoned
 * trial.
 */
static void blki_unhook(struct blki_pair *pair, unsigned long timeout)
{
	lockdep_assert_held(&pair->lock);
	if (!READ_ONCE(pair->on_trial))
		blki_close_target(pair);
	if (wait_event_killable_timeout(pair->wait, blki_all_sent(pair),
					timeout) > 0)
		blki_stop_redirecting(pair);
	if (hlist_unhashed(&pair->hash) &&
	    wait_event_killable_timeout(pair->wait, blki_left(pair),
					timeout) > 0) {
		blki_close_target(pair);
		synchronize_rcu();
		return;
	}
	pair->leaving = true;
	kref_get(&pair->kref);
	queue_work(blki_reap_wq, &pair->leave);
}

/**
 * blki_attach() - Put a target between an original and those who use it.
 * @pair: its lock is held
 * @target: a block device on top of the lower disk
 * @request: how
 * @times: how long it was felt
 * @error: step and reason of a failure
 *
 * Return: 0, or an error; then everything is as it was.
 */
int blki_attach(struct blki_pair *pair, struct block_device *target,
		const struct blki_request *request, struct blki_times *times,
		struct blk_interposer_error *error)
{
	int err;

	lockdep_assert_held(&pair->lock);
	if (pair->target)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_ATTACHED, -EBUSY);
	if (pair->leaving)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_LEAVING, -EBUSY);
	if (READ_ONCE(pair->refuses))
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_BUSY, -EBUSY);
	err = blki_check(pair, target, error);
	if (err)
		return err;
	err = blki_open_target(pair, target);
	if (err)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_OK, err);
	err = blki_hook_add(pair);
	if (err) {
		compat_bdev_close(&pair->target_dev);
		return blki_fail(error, BLK_INTERPOSER_STEP_HOOK,
				 BLK_INTERPOSER_OK, err);
	}
	blk_copy_detour(&pair->detour, pair->original.bdev->bd_disk);
	err = blki_check_hook(pair, error);
	if (!err)
		err = blki_await_earlier(pair, request->timeout, error);
	if (!err)
		err = blki_transit(pair, target, request, times, error);
	if (err) {
		blki_unhook(pair, request->timeout);
		return err;
	}
	pr_info("%pg: attached %pg\n", pair->original.bdev, target);
	return 0;
}

static void blki_detached(struct blki_pair *pair, unsigned long timeout)
{
	pr_info("%pg: detached %pg\n", pair->original.bdev,
		pair->target_dev.bdev);
	blki_unhook(pair, timeout);
}

/**
 * blki_detach() - Take the target out again.
 * @pair: its lock is held
 * @request: how
 * @times: how long it was felt
 * @error: step and reason of a failure
 *
 * Return: 0, or an error; then the target is still attached.
 */
int blki_detach(struct blki_pair *pair, const struct blki_request *request,
		struct blki_times *times, struct blk_interposer_error *error)
{
	struct blki_request how = *request;
	int err;

	lockdep_assert_held(&pair->lock);
	if (!pair->target)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_NOT_ATTACHED, -EINVAL);
	/* Of a device that is gone no file system can be made consistent. */
	if (blki_original_dead(pair))
		how.flags |= BLK_INTERPOSER_NO_FREEZE;
	err = blki_transit(pair, NULL, &how, times, error);
	if (!err)
		blki_detached(pair, request->timeout);
	return err;
}

/**
 * blki_detach_forced() - Detach for an owner that is no more.
 * @pair: its lock is held
 * @closed: how long the gate may be closed, in jiffies
 *
 * Nothing is frozen. While the target does not complete what it has, it has to be
 * tried again.
 *
 * Return: 0 or -ETIMEDOUT; then the target is still attached.
 */
int blki_detach_forced(struct blki_pair *pair, unsigned long closed)
{
	unsigned int noio = memalloc_noio_save();
	struct blk_interposer_error error;
	u64 parked_ns;
	int err;

	lockdep_assert_held(&pair->lock);
	blki_gate_prepare(pair);
	err = blki_switch(pair, NULL, closed, &parked_ns, &error);
	blki_gate_done(pair);
	memalloc_noio_restore(noio);
	if (!err)
		blki_detached(pair, closed);
	return err;
}
