// SPDX-License-Identifier: GPL-2.0-only
/*
 * A trial of a target before it gets anything of others.
 *
 * A target may need something for its first write that is on the original: the
 * store of a snapshot, in a file there for instance. That file system is frozen,
 * so that the write which is to thaw it would wait for itself, for ever, and
 * nothing could be undone: a bio that a target has cannot be taken back.
 *
 * So the first write is one of our own, of what the target has just read there.
 * The gate is closed then: whatever the target writes to the original by another
 * way than the lower disk is parked, or waits for a file system. If the trial is
 * not over in time, the gate is opened without the target, and the file systems
 * are thawed.
 *
 * What is left of the trial then comes to the lower disk later, when others have
 * written there again, and must not go on to the original: the lower disk refuses
 * writes until the trial has ended, and those that had gone on before are waited
 * for with the gate closed. pair.below counts them; it is zero while they are
 * refused. A target that writes back may have taken a write of ours for done and
 * write it much later: after such a trial writes are refused until nobody has the
 * lower disk open any more, and so that target is gone.
 *
 * Locks: none; pair.lock is held by who tries.
 */
#include <linux/slab.h>

#include "trial.h"

/* The first block, and those of pair.frozen_at. */
#define BLKI_MAX_BLOCKS		(1 + BLKI_FROZEN_BLOCKS)
/* The gate is closed all that time, and file systems are frozen. */
#define BLKI_TRIAL_TIMEOUT	(10 * HZ)

/**
 * struct blki_block - a place that is tried
 * @bio: reads, then writes
 * @vec: its page
 * @page: what was read
 * @sector: where
 * @ok: it could be read
 */
struct blki_block {
	struct bio bio;
	struct bio_vec vec;
	struct page *page;
	sector_t sector;
	bool ok;
};

/**
 * struct blki_trial - reads and writes of our own through a target
 * @pair: whose target it is; while it runs, it has a reference to its users
 * @timeout: in jiffies
 * @target: what is tried
 * @opf: what all bios do now
 * @submit: sends them: a target may have even that wait
 * @left: bios that have not ended, and one for @submit
 * @done: all have
 * @nr: how many blocks; with none a flush is all
 * @blocks: BLKI_MAX_BLOCKS of them
 */
struct blki_trial {
	struct blki_pair *pair;
	unsigned long timeout;
	struct block_device *target;
	blk_opf_t opf;
	struct work_struct submit;
	atomic_t left;
	struct completion done;
	unsigned int nr;
	struct blki_block *blocks;
};

/**
 * blki_trial_note() - Note a place that is written by who freezes.
 * @pair: without a target; the lock is held by the caller, who is pair.freezer
 * @bio: on its way to the original
 *
 * To thaw a file system means to write there again. The last places are kept.
 */
void blki_trial_note(struct blki_pair *pair, struct bio *bio)
{
	sector_t sector = round_down(bio->bi_iter.bi_sector, PAGE_SECTORS);
	unsigned int i;

	if (bio_op(bio) != REQ_OP_WRITE || !bio_sectors(bio))
		return;
	for (i = 0; i < min(pair->nr_frozen_at, BLKI_FROZEN_BLOCKS); i++)
		if (pair->frozen_at[i] == sector)
			return;
	pair->frozen_at[pair->nr_frozen_at++ % BLKI_FROZEN_BLOCKS] = sector;
}

/**
 * blki_trial_count() - Count a write that goes to the original.
 * @pair: with a trial that has not ended
 *
 * Return: true if it may, until blki_trial_uncount(); false if writes are refused.
 */
bool blki_trial_count(struct blki_pair *pair)
{
	return atomic_inc_not_zero(&pair->below);
}

/**
 * blki_trial_uncount() - Note that the original has a write no longer.
 * @pair: what blki_trial_count() was called for
 */
void blki_trial_uncount(struct blki_pair *pair)
{
	if (atomic_dec_and_test(&pair->below))
		wake_up_all(&pair->wait);
}

/**
 * blki_trial_closed() - Note that nobody has the lower disk open.
 * @pair: of that disk
 *
 * Whoever opens it from now on has nothing of a trial: it takes writes again.
 */
void blki_trial_closed(struct blki_pair *pair)
{
	if (cmpxchg(&pair->trial_state, BLKI_TRIAL_LATE, BLKI_TRIAL_ENDED) !=
	    BLKI_TRIAL_LATE)
		return;
	atomic_set(&pair->below, 1);
	/* Whoever tries the next target finds what is counted from. */
	smp_store_release(&pair->trial_state, BLKI_TRIAL_NONE);
}

/*
 * What was abandoned has ended. If the target has only read, that is all; see above
 * for what it has written.
 */
static void blki_trial_forget(struct blki_trial *trial)
{
	struct blki_pair *pair = trial->pair;
	bool wrote = trial->nr && op_is_write(trial->opf);

	blki_trial_free(trial);
	/* The last one to close it looks at this after it has been counted out. */
	smp_store_mb(pair->trial_state, BLKI_TRIAL_LATE);
	if (!wrote || !disk_openers(pair->lower))
		blki_trial_closed(pair);
	percpu_ref_put(&pair->users);
}

static void blki_trial_put(struct blki_trial *trial)
{
	if (!atomic_dec_and_test(&trial->left))
		return;
	if (cmpxchg(&trial->pair->trial_state, BLKI_TRIAL_RUNS,
		    BLKI_TRIAL_ENDED) == BLKI_TRIAL_ABANDONED)
		blki_trial_forget(trial);
	else
		complete(&trial->done);
}

static void blki_trial_end_io(struct bio *bio)
{
	struct blki_block *block = container_of(bio, struct blki_block, bio);

	block->ok = !bio->bi_status;
	bio_uninit(bio);
	blki_trial_put(bio->bi_private);
}

static void blki_trial_send(struct blki_trial *trial, struct blki_block *block)
{
	struct bio *bio = &block->bio;

	bio_init(bio, trial->target, &block->vec, 1, trial->opf);
	bio->bi_iter.bi_sector = block->sector;
	if (trial->nr)
		__bio_add_page(bio, block->page, PAGE_SIZE, 0);
	bio->bi_private = trial;
	bio->bi_end_io = blki_trial_end_io;
	atomic_inc(&trial->left);
	submit_bio_noacct(bio);
}

/* What cannot be read is not written: that a target fails is its own affair. */
static void blki_trial_submit(struct work_struct *work)
{
	struct blki_trial *trial = container_of(work, struct blki_trial, submit);
	unsigned int i;

	if (!trial->nr)
		blki_trial_send(trial, &trial->blocks[0]);
	for (i = 0; i < trial->nr; i++)
		if (!op_is_write(trial->opf) || trial->blocks[i].ok)
			blki_trial_send(trial, &trial->blocks[i]);
	blki_trial_put(trial);
}

/*
 * Whatever of it comes to the lower disk from now on is refused. What has gone on
 * already is at the original: that completes it, or nothing of that disk goes on.
 */
static void blki_trial_abandon(struct blki_trial *trial)
{
	struct blki_pair *pair = trial->pair;

	atomic_dec(&pair->below);
	wait_event(pair->wait, !atomic_read(&pair->below));
	if (cmpxchg(&pair->trial_state, BLKI_TRIAL_RUNS,
		    BLKI_TRIAL_ABANDONED) == BLKI_TRIAL_RUNS)
		return;
	/* It has ended after all, if too late. */
	wait_for_completion(&trial->done);
	blki_trial_forget(trial);
}

/* After an error the trial is not the caller's any more. */
static int blki_trial_turn(struct blki_trial *trial, blk_opf_t opf,
			   unsigned long end)
{
	long left;

	trial->opf = opf;
	WRITE_ONCE(trial->pair->trial_state, BLKI_TRIAL_RUNS);
	atomic_set(&trial->left, 1);
	reinit_completion(&trial->done);
	queue_work(blki_io_wq, &trial->submit);
	left = max_t(long, end - jiffies, 1);
	left = wait_for_completion_killable_timeout(&trial->done, left);
	if (left > 0)
		return 0;
	blki_trial_abandon(trial);
	return left ? -EINTR : -ETIMEDOUT;
}

/* Zones are written in order, and a disk that is read-only is not: nowhere there. */
static void blki_trial_choose(struct blki_trial *trial)
{
	struct blki_pair *pair = trial->pair;
	struct block_device *original = pair->original.bdev;
	unsigned int i;

	trial->nr = 0;
	if (bdev_is_zoned(original) || bdev_read_only(original) ||
	    bdev_nr_sectors(original) < PAGE_SECTORS)
		return;
	trial->blocks[trial->nr++].sector = 0;
	for (i = 0; i < min(pair->nr_frozen_at, BLKI_FROZEN_BLOCKS); i++) {
		sector_t sector = pair->frozen_at[i];

		if (sector && sector <= bdev_nr_sectors(original) - PAGE_SECTORS)
			trial->blocks[trial->nr++].sector = sector;
	}
}

/**
 * blki_trial_run() - Read and write through a target, before others do.
 * @trial: what has been allocated for it
 * @target: the target
 *
 * With the gate closed and nothing in flight. Errors of the target are none.
 *
 * Return: 0; or -ETIMEDOUT or -EINTR, and then the trial is not to be freed by the
 * caller, as the target has it yet.
 */
int blki_trial_run(struct blki_trial *trial, struct block_device *target)
{
	struct blki_pair *pair = trial->pair;
	unsigned long end = jiffies + min_t(unsigned long, trial->timeout,
					    BLKI_TRIAL_TIMEOUT);
	int err = 0;

	lockdep_assert_held(&pair->lock);
	trial->target = target;
	blki_trial_choose(trial);
	percpu_ref_get(&pair->users);
	if (trial->nr)
		err = blki_trial_turn(trial, REQ_OP_READ | REQ_SYNC, end);
	if (!err)
		err = blki_trial_turn(trial, REQ_OP_WRITE | REQ_SYNC |
					     REQ_PREFLUSH |
					     (trial->nr ? REQ_FUA : 0), end);
	if (err)
		return err;
	WRITE_ONCE(pair->trial_state, BLKI_TRIAL_NONE);
	percpu_ref_put(&pair->users);
	return 0;
}

/**
 * blki_trial_free() - Give its memory back.
 * @trial: has not begun or is over; or NULL
 */
void blki_trial_free(struct blki_trial *trial)
{
	unsigned int i;

	if (!trial)
		return;
	for (i = 0; trial->blocks && i < BLKI_MAX_BLOCKS; i++)
		if (trial->blocks[i].page)
			__free_page(trial->blocks[i].page);
	kfree(trial->blocks);
	kfree(trial);
}

/**
 * blki_trial_alloc() - Take the memory for a trial.
 * @pair: its lock is held
 * @timeout: for all of it, in jiffies; it may get less
 *
 * Before file systems are frozen.
 *
 * Return: for blki_trial_free(), or NULL.
 */
struct blki_trial *blki_trial_alloc(struct blki_pair *pair,
				    unsigned long timeout)
{
	struct blki_trial *trial = kzalloc(sizeof(*trial), GFP_KERNEL);
	unsigned int i;

	lockdep_assert_held(&pair->lock);
	if (!trial)
		return NULL;
	trial->blocks = kcalloc(BLKI_MAX_BLOCKS, sizeof(*trial->blocks),
				GFP_KERNEL);
	if (!trial->blocks)
		goto no_memory;
	trial->pair = pair;
	trial->timeout = timeout;
	INIT_WORK(&trial->submit, blki_trial_submit);
	init_completion(&trial->done);
	pair->nr_frozen_at = 0;
	for (i = 0; i < BLKI_MAX_BLOCKS; i++) {
		trial->blocks[i].page = alloc_page(GFP_KERNEL);
		if (!trial->blocks[i].page)
			goto no_memory;
	}
	return trial;
no_memory:
	blki_trial_free(trial);
	return NULL;
}
