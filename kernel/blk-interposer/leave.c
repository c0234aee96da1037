// SPDX-License-Identifier: GPL-2.0-only
/*
 * After a detach: no longer redirecting, and waiting for what was.
 *
 * Locks: pair.lock.
 */
#include <linux/rcupdate.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "hook.h"
#include "leave.h"
#include "trial.h"

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

/* Waits for what was redirected, as long as that takes. */
static void blki_leave_work(struct work_struct *work)
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

/**
 * blki_leave() - No longer redirect.
 * @pair: without a target, but hooked; the lock is held
 * @timeout: in jiffies, for each of two waits
 *
 * Once what was parked has been sent on, which matters with zones. Waits for what was
 * redirected: until the original has completed it. If that takes too long a worker
 * goes on waiting. The target has nothing of it, as the gate was closed and drained,
 * or it was never reached, but perhaps an abandoned trial.
 */
void blki_leave(struct blki_pair *pair, unsigned long timeout)
{
	lockdep_assert_held(&pair->lock);
	if (!blki_on_trial(pair))
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
 * blki_leave_init() - Get ready to leave.
 * @pair: zeroed
 */
void blki_leave_init(struct blki_pair *pair)
{
	INIT_WORK(&pair->leave, blki_leave_work);
}
