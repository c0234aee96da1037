// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the two disks do with bios.
 *
 * The upper disk lets a bio through to the target, or parks it while the gate
 * is closed. The lower one, and the upper while there is no target, sends a
 * clone to the original.
 *
 * Nothing here sleeps for the gate: a parked bio is put on a list and its
 * submitter goes on. pair.park_lock is the only lock, see blk-interposer.h; the
 * lists of bios to be completed are of a CPU each, with interrupts disabled.
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "blk-interposer.h"

#define BLKI_MIN_CONTEXTS	64
#define BLKI_MIN_CLONES		64

static struct kmem_cache *blki_context_cache;

/* That of bio_chain(), which is static in the kernel; set once. */
bio_end_io_t *blki_chain_end_io __ro_after_init;

/**
 * struct blki_ending - redirected bios that a CPU is to complete
 * @bios: complete below, and chained to others above
 * @busy: somebody on this CPU is completing them
 *
 * With preemption disabled; interrupts too, for the list.
 */
struct blki_ending {
	struct bio_list bios;
	bool busy;
};

static DEFINE_PER_CPU(struct blki_ending, blki_ending);

/*
 * The submitter sees the device that it has sent the bio to, for its messages for
 * instance. All that the bio has seen stay until it has heard.
 */
static void blki_complete(struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;
	struct blki_pair *pair = ctx->pair;
	bool inflight = ctx->inflight;

	bio->bi_end_io = ctx->end_io;
	bio->bi_private = ctx->private;
	bio->bi_bdev = ctx->bdev;
	mempool_free(ctx, &pair->contexts);
	if (bio->bi_end_io)
		bio->bi_end_io(bio);
	if (inflight)
		percpu_ref_put(&pair->inflight);
	percpu_ref_put(&pair->users);
}

/*
 * bio_endio() goes up a chain in a loop, but it does not know that what is
 * redirected is in one. A thousand bios that have waited for the first would end
 * inside of each other: so those that find one ending on this CPU leave it to that.
 */
static void blki_complete_chained(struct bio *bio)
{
	struct blki_ending *ending;
	unsigned long flags;

	preempt_disable();
	ending = this_cpu_ptr(&blki_ending);
	local_irq_save(flags);
	bio_list_add(&ending->bios, bio);
	if (!ending->busy) {
		ending->busy = true;
		while ((bio = bio_list_pop(&ending->bios))) {
			local_irq_restore(flags);
			blki_complete(bio);
			local_irq_save(flags);
		}
		ending->busy = false;
	}
	local_irq_restore(flags);
	preempt_enable();
}

static void blki_end_io(struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;

	if (ctx->end_io == blki_chain_end_io)
		blki_complete_chained(bio);
	else
		blki_complete(bio);
}

/**
 * blki_context_attach() - Hear of the end of a bio.
 * @pair: a reference to its users goes to the bio
 * @bio: to be redirected
 * @bdev: where its submitter sent it
 * @ctx: from the pair's contexts
 *
 * A bio that the block layer ends before the upper disk sees it, because it is
 * beyond the end for instance, gives its reference back as well.
 */
void blki_context_attach(struct blki_pair *pair, struct bio *bio,
			 struct block_device *bdev, struct blki_context *ctx)
{
	ctx->pair = pair;
	ctx->end_io = bio->bi_end_io;
	ctx->private = bio->bi_private;
	ctx->bdev = bdev;
	ctx->inflight = false;
	bio->bi_end_io = blki_end_io;
	/* Whoever finds the context there knows that it is none of a chain. */
	smp_wmb(); /* blki_chain_parent() */
	bio->bi_private = ctx;
}

/* The hook could not allocate one; here it may sleep. */
static struct blki_context *blki_context_of(struct blki_pair *pair,
					    struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;

	if (likely(bio->bi_end_io == blki_end_io && ctx->pair == pair))
		return ctx;
	ctx = mempool_alloc(&pair->contexts, GFP_NOIO);
	blki_context_attach(pair, bio, pair->original.bdev, ctx);
	return ctx;
}

static void blki_clone_end_io(struct bio *clone)
{
	struct bio *bio = clone->bi_private;

	bio->bi_status = clone->bi_status;
	if (bio_op(bio) == REQ_OP_ZONE_APPEND)
		bio->bi_iter.bi_sector = clone->bi_iter.bi_sector;
	bio_put(clone);
	bio_endio(bio);
}

/* While a target is tried. Its device has the bio yet, so that the pair is there. */
static void blki_counted_end_io(struct bio *clone)
{
	struct bio *bio = clone->bi_private;
	struct blki_pair *pair = bio->bi_bdev->bd_disk->private_data;

	if (atomic_dec_and_test(&pair->below))
		wake_up_all(&pair->wait);
	blki_clone_end_io(clone);
}

/* False if there is no memory and the bio must not wait: it has ended then. */
static bool blki_to_original(struct blki_pair *pair, struct bio *bio,
			     bio_end_io_t *end_io)
{
	gfp_t gfp = bio->bi_opf & REQ_NOWAIT ? GFP_NOWAIT : GFP_NOIO;
	struct bio *clone;

	clone = bio_alloc_clone(pair->original.bdev, bio, gfp, &pair->bs);
	if (!clone) {
		bio_wouldblock_error(bio);
		return false;
	}
	/* Whoever polls does so at the bio of its own, which has no queue. */
	clone->bi_opf &= ~REQ_POLLED;
	clone->bi_private = bio;
	clone->bi_end_io = end_io;
	submit_bio_noacct(clone);
	return true;
}

/* Before an attach is done, and after a detach: nothing that has to be fast. */
static void blki_forward_untargeted(struct blki_pair *pair, struct bio *bio)
{
	blki_proof_arrived(bio->bi_private);
	if (current == READ_ONCE(pair->freezer))
		blki_trial_note(pair, bio);
	blki_to_original(pair, bio, blki_clone_end_io);
}

/* Past the gate: pair.target cannot change. */
static void blki_forward(struct blki_pair *pair, struct bio *bio)
{
	struct block_device *target = READ_ONCE(pair->target);

	if (!target) {
		blki_forward_untargeted(pair, bio);
		return;
	}
	/* What the original could do at once, the target may have to wait for. */
	if (bio->bi_opf & REQ_NOWAIT && !bdev_nowait(target)) {
		atomic64_inc(&pair->nr_again);
		bio_wouldblock_error(bio);
		return;
	}
	bio_set_dev(bio, target);
	submit_bio_noacct(bio);
}

static bool blki_writes(struct bio *bio)
{
	return bio_sectors(bio) ? op_is_write(bio_op(bio)) :
				  op_is_zone_mgmt(bio_op(bio));
}

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

/* False if it waits, or has been told to try again. Else with a reference. */
static bool blki_let_through(struct blki_pair *pair, struct bio *bio)
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

static void blki_upper_submit(struct bio *bio)
{
	struct blki_pair *pair = bio->bi_bdev->bd_disk->private_data;
	struct blki_context *ctx = blki_context_of(pair, bio);

	if ((READ_ONCE(pair->parking) ||
	     !percpu_ref_tryget_live(&pair->inflight)) &&
	    !blki_let_through(pair, bio))
		return;
	ctx->inflight = true;
	blki_forward(pair, bio);
}

/* A write is counted, or refused: see trial.c. */
static void blki_lower_on_trial(struct blki_pair *pair, struct bio *bio)
{
	if (!atomic_inc_not_zero(&pair->below)) {
		bio_io_error(bio);
		return;
	}
	if (!blki_to_original(pair, bio, blki_counted_end_io) &&
	    atomic_dec_and_test(&pair->below))
		wake_up_all(&pair->wait);
}

static void blki_lower_submit(struct bio *bio)
{
	struct blki_pair *pair = bio->bi_bdev->bd_disk->private_data;

	if (unlikely(READ_ONCE(pair->on_trial)) && blki_writes(bio))
		blki_lower_on_trial(pair, bio);
	else
		blki_to_original(pair, bio, blki_clone_end_io);
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

/**
 * blki_forward_work() - Send on what was parked.
 * @work: that of a pair; a reference comes with it
 *
 * Not in the transition itself: what is sent may have to wait, for requests of
 * a disk that hangs or for the debts of somebody's cgroup, and file systems are
 * frozen there.
 */
void blki_forward_work(struct work_struct *work)
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
const struct block_device_operations blki_upper_fops = {
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
const struct block_device_operations blki_lower_fops = {
	.owner = THIS_MODULE,
	.release = blki_lower_release,
	.submit_bio = blki_lower_submit,
	.report_zones = blki_report_zones,
	.free_disk = blki_free_disk,
};

static void blki_users_zero(struct percpu_ref *ref)
{
	wake_up_all(&container_of(ref, struct blki_pair, users)->wait);
}

static void blki_inflight_zero(struct percpu_ref *ref)
{
	wake_up_all(&container_of(ref, struct blki_pair, inflight)->wait);
}

/**
 * blki_io_init_pair() - Make the pools and references of a pair.
 * @pair: zeroed
 *
 * Return: 0 or -ENOMEM; then nothing is left behind.
 */
int blki_io_init_pair(struct blki_pair *pair)
{
	spin_lock_init(&pair->park_lock);
	bio_list_init(&pair->parked);
	bio_list_init(&pair->released);
	init_waitqueue_head(&pair->wait);
	atomic_set(&pair->below, 1);
	if (bioset_init(&pair->bs, BLKI_MIN_CLONES, 0, 0))
		return -ENOMEM;
	if (mempool_init_slab_pool(&pair->contexts, BLKI_MIN_CONTEXTS,
				   blki_context_cache))
		goto no_contexts;
	if (percpu_ref_init(&pair->users, blki_users_zero,
			    PERCPU_REF_INIT_DEAD, GFP_KERNEL))
		goto no_users;
	if (percpu_ref_init(&pair->inflight, blki_inflight_zero,
			    PERCPU_REF_ALLOW_REINIT, GFP_KERNEL))
		goto no_inflight;
	return 0;

no_inflight:
	percpu_ref_exit(&pair->users);
no_users:
	mempool_exit(&pair->contexts);
no_contexts:
	bioset_exit(&pair->bs);
	return -ENOMEM;
}

/**
 * blki_io_exit_pair() - Undo blki_io_init_pair().
 * @pair: nobody sends anything to its disks
 */
void blki_io_exit_pair(struct blki_pair *pair)
{
	percpu_ref_exit(&pair->inflight);
	percpu_ref_exit(&pair->users);
	mempool_exit(&pair->contexts);
	bioset_exit(&pair->bs);
}

/* Two bios that are never submitted show it. */
static bio_end_io_t * __init blki_learn_chain_end_io(void)
{
	struct bio child, parent;

	bio_init(&parent, NULL, NULL, 0, REQ_OP_READ);
	bio_init(&child, NULL, NULL, 0, REQ_OP_READ);
	bio_chain(&child, &parent);
	return child.bi_end_io;
}

/**
 * blki_io_init() - Make what all pairs share.
 *
 * Return: 0 or -ENOMEM.
 */
int __init blki_io_init(void)
{
	blki_chain_end_io = blki_learn_chain_end_io();
	blki_context_cache = KMEM_CACHE(blki_context, 0);
	return blki_context_cache ? 0 : -ENOMEM;
}

/**
 * blki_io_exit() - Undo blki_io_init().
 */
void blki_io_exit(void)
{
	kmem_cache_destroy(blki_context_cache);
}
