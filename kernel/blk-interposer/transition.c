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
#include <linux/sched/mm.h>

#include "check.h"
#include "freeze.h"
#include "gate.h"
#include "hook.h"
#include "leave.h"
#include "proof.h"
#include "quiesce.h"
#include "settle.h"
#include "transition.h"
#include "trial.h"
#include "turns.h"

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
		err = blki_freeze(pair, request->files, request->nr_files,
				  &frozen, error);
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
	if (blki_on_trial(pair))
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
		blki_leave(pair, request->timeout);
		return err;
	}
	pr_info("%pg: attached %pg\n", pair->original.bdev, target);
	return 0;
}

static void blki_detached(struct blki_pair *pair, unsigned long timeout)
{
	pr_info("%pg: detached %pg\n", pair->original.bdev,
		pair->target_dev.bdev);
	blki_leave(pair, timeout);
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
