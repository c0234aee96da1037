// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making and removing pairs, by who has made them or because their owner is gone.
 *
 * A pair that is on the list holds a reference to the module, so that it cannot be
 * unloaded; one that is off the list, but has its lower disk open somewhere, is
 * waited for.
 *
 * Locks: pair.lock.
 */
#include <linux/module.h>
#include <linux/workqueue.h>

#include "disks.h"
#include "gate.h"
#include "leave.h"
#include "lifecycle.h"
#include "transition.h"

/* So often the time between two tries to remove a pair doubles. */
#define BLKI_MAX_TRIES	6

static enum blk_interposer_reason blki_check_original(struct block_device *bdev)
{
	if (blki_is_own_disk(bdev->bd_disk))
		return BLK_INTERPOSER_OWN_DISK;
	if (bdev->bd_disk->flags & GENHD_FL_HIDDEN)
		return BLK_INTERPOSER_HIDDEN;
	if (test_bit(GD_DEAD, &bdev->bd_disk->state))
		return BLK_INTERPOSER_REMOVED;
	if (blk_get_integrity(bdev->bd_disk))
		return BLK_INTERPOSER_INTEGRITY;
	if (compat_bdev_encrypts(bdev))
		return BLK_INTERPOSER_ENCRYPTION;
	/* A file system there, now or later, may go past the block layer. */
	if (blk_queue_dax(bdev_get_queue(bdev)))
		return BLK_INTERPOSER_DAX;
	return BLK_INTERPOSER_OK;
}

static int blki_create_errno(enum blk_interposer_reason reason)
{
	switch (reason) {
	case BLK_INTERPOSER_OK:
		return 0;
	case BLK_INTERPOSER_REMOVED:
		return -ENODEV;
	case BLK_INTERPOSER_EXISTS:
		return -EBUSY;
	case BLK_INTERPOSER_INTEGRITY:
	case BLK_INTERPOSER_ENCRYPTION:
	case BLK_INTERPOSER_DAX:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

static void blki_remove(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	pair->removed = true;
	blki_pair_unlist(pair);
	blki_disks_remove(pair);
}

/* How long the gate may be closed for it, in jiffies: 2 to 16 seconds. */
static unsigned long blki_reap_closed(struct blki_pair *pair)
{
	return 2 * HZ << min(pair->reap_tries, 3U);
}

/* False if that is queued already, for another owner who is gone. */
static bool blki_reap_later(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	if (pair->reap_tries < BLKI_MAX_TRIES)
		pair->reap_tries++;
	return queue_delayed_work(blki_reap_wq, &pair->reap,
				  HZ << pair->reap_tries);
}

/*
 * Detaches and removes a pair whose owner is gone. A lower disk that is open
 * becomes a disk that is gone. What takes long is tried again later and later, with
 * I/O going on meanwhile. By then somebody may have made the pair theirs.
 */
static void blki_reap(struct work_struct *work)
{
	struct blki_pair *pair = container_of(to_delayed_work(work),
					      struct blki_pair, reap);
	bool mine, again;
	int err = 0;

	mutex_lock(&pair->lock);
	mine = !pair->removed && READ_ONCE(pair->orphaned);
	if (mine && pair->target)
		err = blki_detach_forced(pair, blki_reap_closed(pair));
	if (mine && !err && pair->leaving)
		err = -EBUSY;
	if (mine && !err)
		blki_remove(pair);
	again = err && blki_reap_later(pair);
	mutex_unlock(&pair->lock);
	if (mine && !err) {
		blki_put(pair);
		module_put(THIS_MODULE);
	}
	if (!again)
		blki_put(pair);
}

/**
 * blki_reap_soon() - Remove a pair whose owner is gone.
 * @pair: orphaned; a reference goes to the work
 */
void blki_reap_soon(struct blki_pair *pair)
{
	/* One that is waiting for its next try has a reference. */
	if (mod_delayed_work(blki_reap_wq, &pair->reap, 0))
		blki_put(pair);
}

static struct blki_pair *blki_alloc(void)
{
	struct blki_pair *pair = blki_pair_alloc();

	if (!pair)
		return NULL;
	blki_gate_init(pair);
	blki_disks_init(pair);
	blki_leave_init(pair);
	INIT_DELAYED_WORK(&pair->reap, blki_reap);
	return pair;
}

/**
 * blki_create() - Make a pair of disks.
 * @original: what it is for
 * @error: step and reason of a failure
 *
 * Return: the pair, with a reference besides that of the list, or an error.
 */
struct blki_pair *blki_create(struct block_device *original,
			      struct blk_interposer_error *error)
{
	struct blki_pair *pair = blki_alloc();
	enum blk_interposer_reason reason;
	int err;

	if (!pair)
		return ERR_PTR(blki_fail(error, BLK_INTERPOSER_STEP_DISKS,
					 BLK_INTERPOSER_OK, -ENOMEM));
	reason = blki_check_original(original);
	if (!reason)
		reason = blki_begin_making(pair, original);
	if (reason) {
		blki_put(pair);
		return ERR_PTR(blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
					 reason, blki_create_errno(reason)));
	}
	err = blki_pair_open(pair);
	if (!err)
		err = blki_disks_make(pair);
	if (!err) {
		__module_get(THIS_MODULE);
		kref_get(&pair->kref);
	}
	blki_end_making(pair, err);
	if (!err)
		return pair;
	blki_put(pair);
	return ERR_PTR(blki_fail(error, BLK_INTERPOSER_STEP_DISKS,
				 BLK_INTERPOSER_OK, err));
}

/**
 * blki_destroy() - Take the disks of a pair away.
 * @pair: its lock is held, and so is a reference
 * @error: step and reason of a failure
 *
 * Return: 0, or -EBUSY if a target is attached, what was redirected to it is not
 * complete, or the lower disk is open.
 */
int blki_destroy(struct blki_pair *pair, struct blk_interposer_error *error)
{
	lockdep_assert_held(&pair->lock);
	if (pair->target)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_ATTACHED, -EBUSY);
	if (pair->leaving)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_LEAVING, -EBUSY);
	if (disk_openers(pair->lower))
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_BUSY, -EBUSY);
	blki_remove(pair);
	blki_put(pair);
	module_put(THIS_MODULE);
	return 0;
}
