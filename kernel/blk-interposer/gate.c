// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate between an upper disk and what it leads to: bios are let through and
 * counted, or parked while it is closed.
 *
 * Nothing here sleeps for the gate: a parked bio is put on a list and its
 * submitter goes on.
 *
 * Locks: pair.park_lock, a leaf; pair.lock is held by who opens and closes.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>

#include "forward.h"
#include "gate.h"

/* Which of pair.unsent counts a bio, or -1: only in a zone the order matters. */
static int blki_slot(struct blki_pair *pair, struct bio *bio)
{
	struct block_device *original = pair->original.bdev;
	sector_t sector = bio->bi_iter.bi_sector;

	if (!bdev_is_zoned(original) || !blki_writes(bio))
		return -1;
	if (bio_op(bio) == REQ_OP_ZONE_RESET_ALL)
		return BLKI_ALL_ZONES;
	sector += get_start_sect(original);
	return (sector >> ilog2(bdev_zone_sectors(original))) % BLKI_ALL_ZONES;
}

/* Whether something that it must not overtake has waited and is not sent yet. */
static bool blki_has_to_follow(struct blki_pair *pair, int slot)
{
	lockdep_assert_held(&pair->park_lock);
	if (slot < 0)
		return false;
	if (slot == BLKI_ALL_ZONES)
		return !bitmap_empty(pair->unsent_slots, BLKI_SLOTS);
	return pair->unsent[slot] || pair->unsent[BLKI_ALL_ZONES];
}

static void blki_count_unsent(struct blki_pair *pair, int slot, int change)
{
	lockdep_assert_held(&pair->park_lock);
	if (slot < 0)
		return;
	pair->unsent[slot] += change;
	if (pair->unsent[slot])
		__set_bit(slot, pair->unsent_slots);
	else
		__clear_bit(slot, pair->unsent_slots);
}

/* With a reference, so that the next drain waits for it. The gate is open. */
static void blki_release_bio(struct blki_pair *pair, struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;

	lockdep_assert_held(&pair->park_lock);
	percpu_ref_get(&pair->inflight);
	ctx->inflight = true;
	blki_count_unsent(pair, blki_slot(pair, bio), 1);
	bio_list_add(&pair->released, bio);
}

static void blki_hold(struct blki_pair *pair, struct bio *bio)
{
	lockdep_assert_held(&pair->park_lock);
	if (pair->closed)
		bio_list_add(&pair->parked, bio);
	else
		blki_release_bio(pair, bio);
}

/**
 * blki_gate_admit() - Let a bio through the gate, or have it wait there.
 * @pair: blki_gate_enter() has failed
 * @bio: has come to the upper disk, with its context
 *
 * Return: true with a reference to pair.inflight; false if it waits, or has been
 * told to try again.
 */
bool blki_gate_admit(struct blki_pair *pair, struct bio *bio)
{
	bool nowait = bio->bi_opf & REQ_NOWAIT, through;

	spin_lock(&pair->park_lock);
	through = !pair->closed &&
		  !blki_has_to_follow(pair, blki_slot(pair, bio));
	if (through)
		percpu_ref_get(&pair->inflight);
	else if (!nowait)
		blki_hold(pair, bio);
	spin_unlock(&pair->park_lock);
	if (through)
		return true;
	atomic64_inc(nowait ? &pair->nr_again : &pair->nr_parked);
	if (nowait)
		bio_wouldblock_error(bio);
	return false;
}

/**
 * blki_gate_prepare() - Get ready to close the gate.
 * @pair: with its gate open; the lock is held
 *
 * It takes a grace period to count in one place. This way none passes while
 * file systems are frozen or the gate is closed.
 */
void blki_gate_prepare(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	percpu_ref_switch_to_atomic_sync(&pair->inflight);
}

/**
 * blki_gate_done() - Count on each CPU again.
 * @pair: with its gate open; the lock is held
 */
void blki_gate_done(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	percpu_ref_switch_to_percpu(&pair->inflight);
}

/**
 * blki_gate_close() - Hold back what comes to the upper disk.
 * @pair: with its gate prepared; the lock is held
 *
 * What is past the gate goes on, and so does what was released at it and is not
 * sent yet; wait until pair.inflight is zero.
 */
void blki_gate_close(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	spin_lock(&pair->park_lock);
	pair->closed = true;
	WRITE_ONCE(pair->parking, true);
	spin_unlock(&pair->park_lock);
	percpu_ref_kill(&pair->inflight);
}

/* What comes now has to look for what it follows as long as there is any. */
static void blki_unpark(struct blki_pair *pair)
{
	struct bio *bio;

	lockdep_assert_held(&pair->park_lock);
	pair->closed = false;
	while ((bio = bio_list_pop(&pair->parked)))
		blki_release_bio(pair, bio);
	WRITE_ONCE(pair->parking,
		   !bitmap_empty(pair->unsent_slots, BLKI_SLOTS));
}

/* The next one; what SLOT counts has been sent. */
static struct bio *blki_next_released(struct blki_pair *pair, int *slot)
{
	struct bio *bio;

	spin_lock(&pair->park_lock);
	blki_count_unsent(pair, *slot, -1);
	bio = bio_list_pop(&pair->released);
	if (bio)
		*slot = blki_slot(pair, bio);
	else if (!pair->closed)
		WRITE_ONCE(pair->parking, false);
	spin_unlock(&pair->park_lock);
	if (!bio)
		wake_up_all(&pair->wait);
	return bio;
}

/*
 * Sends on what was parked. Not in the transition itself: what is sent may have to
 * wait, for requests of a disk that hangs or for the debts of somebody's cgroup, and
 * file systems are frozen there.
 */
static void blki_gate_work(struct work_struct *work)
{
	struct blki_pair *pair = container_of(work, struct blki_pair, forward);
	struct blk_plug plug;
	struct bio *bio;
	int slot = -1;

	blk_start_plug(&plug);
	while ((bio = blki_next_released(pair, &slot)))
		blki_forward(pair, bio);
	blk_finish_plug(&plug);
	blki_put(pair);
}

/**
 * blki_gate_open() - Let parked bios through, and all others.
 * @pair: with its gate closed; the lock is held
 *
 * Writes to a zone that has some among what was parked queue up behind, so that
 * they stay in order, until these have been sent. All others go on at once.
 */
void blki_gate_open(struct blki_pair *pair)
{
	bool any;

	lockdep_assert_held(&pair->lock);
	/* Not reinit: after a failure there may be bios in flight still. */
	percpu_ref_resurrect(&pair->inflight);
	spin_lock(&pair->park_lock);
	blki_unpark(pair);
	any = !bio_list_empty(&pair->released);
	spin_unlock(&pair->park_lock);
	if (!any)
		return;
	kref_get(&pair->kref);
	if (!queue_work(blki_io_wq, &pair->forward))
		blki_put(pair);
}

/**
 * blki_gate_init() - Make the gate of a pair, open.
 * @pair: zeroed
 */
void blki_gate_init(struct blki_pair *pair)
{
	spin_lock_init(&pair->park_lock);
	bio_list_init(&pair->parked);
	bio_list_init(&pair->released);
	INIT_WORK(&pair->forward, blki_gate_work);
}
