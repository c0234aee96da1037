// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ftrace callback at submit_bio_noacct().
 *
 * It does not divert the function: it only exchanges the bio's device before
 * the function looks at it. It never sleeps, so that it has been left by all
 * when unregister_ftrace_function() returns. ftrace has no part in the decision
 * either: without FTRACE_OPS_FL_RECURSION it skips no call, and with
 * FTRACE_OPS_FL_PERMANENT kernel.ftrace_enabled cannot be set to 0 meanwhile.
 *
 * Locks: blki_hook_lock for registration and changes of the hash; the callback
 * takes none.
 */
#include <linux/ftrace.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "clone.h"
#include "context.h"
#include "gate.h"
#include "hook.h"

static DEFINE_HASHTABLE(blki_hash, 6);
static DEFINE_MUTEX(blki_hook_lock);
static unsigned int blki_hooked;
static bool blki_stuck;

static struct hlist_head *blki_bucket(struct gendisk *disk)
{
	return &blki_hash[hash_ptr(disk, HASH_BITS(blki_hash))];
}

/* A write to the disk into the partition that is interposed goes past it. */
static void blki_note_bypass(struct blki_pair *pair, struct bio *bio)
{
	struct block_device *part = pair->original.bdev;
	sector_t first = bio->bi_iter.bi_sector;

	if (op_is_write(bio_op(bio)) && bio_sectors(bio) &&
	    bio->bi_bdev == bdev_whole(part) &&
	    first < part->bd_start_sect + bdev_nr_sectors(part) &&
	    bio_end_sector(bio) > part->bd_start_sect)
		atomic64_inc(&pair->bypassed);
}

/*
 * Whether this may be the rest of a bio that has begun at the original before
 * the hook was set, and which is accounted for there. Only asked while such
 * can come: the flags are not proof, but to leave a bio alone is right then.
 */
static bool blki_maybe_begun(struct bio *bio)
{
	return bio_flagged(bio, BIO_CHAIN) &&
	       bio_flagged(bio, BIO_TRACE_COMPLETION);
}

/*
 * A bio for a partition of an original that is a whole disk is turned into one
 * for the disk. What is beyond the partition is left for it to refuse.
 */
static bool blki_remap_partition(struct block_device *part, struct bio *bio)
{
	sector_t sectors = bdev_nr_sectors(part);

	if (!bio_sectors(bio))
		return true;
	/* The end of the bio might wrap around. */
	if (bio_sectors(bio) > sectors ||
	    bio->bi_iter.bi_sector > sectors - bio_sectors(bio))
		return false;
	bio->bi_iter.bi_sector += part->bd_start_sect;
	return true;
}

/*
 * Without a context nobody hears of the end, so that it must not come before
 * the driver of the upper disk. Whether that of a device would get the bio.
 */
static bool blki_reaches(struct block_device *bdev, struct bio *bio)
{
	if (bio->bi_opf & REQ_NOWAIT && !bdev_nowait(bdev))
		return false;
	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		if (compat_bio_atomic(bio))
			return false;
		return bio_sectors(bio) || bdev_write_cache(bdev);
	case REQ_OP_DISCARD:
		return bdev_max_discard_sectors(bdev);
	case REQ_OP_SECURE_ERASE:
		return bdev_max_secure_erase_sectors(bdev);
	case REQ_OP_WRITE_ZEROES:
		return bdev_write_zeroes_sectors(bdev);
	case REQ_OP_ZONE_RESET_ALL:
		return compat_bdev_resets_all(bdev);
	default:
		return bdev_is_zoned(bdev) && op_is_zone_mgmt(bio_op(bio));
	}
}

/*
 * Left for the original to refuse. It may be capable of an atomic write or one
 * that appends to a zone, or of more than when the pair was made, and what it
 * does would have gone past the target: turned into one that it refuses.
 */
static void blki_let_original_refuse(struct blki_pair *pair, struct bio *bio)
{
	if (bio_sectors(bio) &&
	    (compat_bio_atomic(bio) || bio_op(bio) == REQ_OP_ZONE_APPEND ||
	     blki_reaches(pair->original.bdev, bio)))
		bio->bi_iter.bi_sector = bdev_nr_sectors(bio->bi_bdev);
	percpu_ref_put(&pair->users);
}

/*
 * Where the upper disk would send the bio without further ado, with a reference to
 * pair.inflight; NULL if it is for the upper disk to decide. That saves a third of
 * what a redirected bio costs.
 *
 * A target that is interposed in turn has to be seen by the hook, and so is for the
 * upper disk. So is what a driver submits from inside of its own submission: it is
 * only put on a list, and must not be waited for while that driver may wait for
 * something that is parked.
 */
static struct block_device *blki_pass_gate(struct blki_pair *pair,
					   struct bio *bio)
{
	struct block_device *target;

	if (current->bio_list || !blki_gate_enter(pair))
		return NULL;
	target = READ_ONCE(pair->target);
	if (likely(target && hlist_empty(blki_bucket(target->bd_disk)) &&
		   (!(bio->bi_opf & REQ_NOWAIT) || bdev_nowait(target))))
		return target;
	percpu_ref_put(&pair->inflight);
	return NULL;
}

static void blki_redirect(struct blki_pair *pair, struct bio *bio)
{
	struct block_device *upper = pair->upper->part0;
	struct block_device *bdev = bio->bi_bdev, *target = NULL;
	struct blki_context *ctx;

	if (!percpu_ref_tryget_live(&pair->users))
		return;
	ctx = mempool_alloc(&pair->contexts, GFP_NOWAIT | __GFP_NOWARN);
	if (unlikely(!ctx) && !blki_reaches(upper, bio)) {
		blki_let_original_refuse(pair, bio);
		return;
	}
	if (bdev != pair->original.bdev && !blki_remap_partition(bdev, bio)) {
		if (ctx)
			mempool_free(ctx, &pair->contexts);
		percpu_ref_put(&pair->users);
		return;
	}
	this_cpu_inc(*pair->redirected);
	/* Polling is for the queue that the bio is leaving. */
	bio->bi_opf &= ~REQ_POLLED;
	if (likely(ctx)) {
		blki_context_attach(pair, bio, bdev, ctx);
		target = blki_pass_gate(pair, bio);
		ctx->inflight = target;
	}
	bio_set_dev(bio, target ?: upper);
	/* Not to be refused for its size but where there is a context. */
	if (unlikely(!ctx))
		bio_set_flag(bio, BIO_REMAPPED);
}

static void notrace blki_hook(unsigned long ip, unsigned long parent_ip,
			      struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct bio *bio = (struct bio *)compat_ftrace_arg0(fregs);
	struct gendisk *disk = bio->bi_bdev->bd_disk;
	struct blki_pair *pair;

	rcu_read_lock();
	hlist_for_each_entry_rcu(pair, blki_bucket(disk), hash) {
		if (pair->original.bdev->bd_disk != disk)
			continue;
		if (bio->bi_bdev != pair->original.bdev &&
		    !blki_is_whole(pair)) {
			blki_note_bypass(pair, bio);
			continue;
		}
		/* Ours; or past the partition already, and no more to be had. */
		if (bio_flagged(bio, BIO_REMAPPED) || blki_is_clone(pair, bio))
			break;
		if (!READ_ONCE(pair->settled) && blki_maybe_begun(bio))
			break;
		blki_redirect(pair, bio);
		break;
	}
	rcu_read_unlock();
}

static struct ftrace_ops blki_ops = {
	.func = blki_hook,
	.flags = FTRACE_OPS_FL_PERMANENT,
};

static int blki_register(void)
{
	int err;

	lockdep_assert_held(&blki_hook_lock);
	if (blki_stuck)
		return 0;
	err = register_ftrace_function(&blki_ops);
	if (err)
		pr_err("ftrace refuses the hook: error %d%s\n", err,
		       err == -EBUSY ? ", is kernel.ftrace_enabled 0?" : "");
	return err;
}

/*
 * ftrace would go on calling what is no more: then this module has to stay, with
 * the hook, which is not registered again. Nothing is redirected by it.
 */
static void blki_unregister(void)
{
	int err;

	lockdep_assert_held(&blki_hook_lock);
	err = unregister_ftrace_function(&blki_ops);
	if (!err)
		return;
	__module_get(THIS_MODULE);
	blki_stuck = true;
	pr_err("ftrace does not let go of the hook: error %d; this module cannot be unloaded any more\n",
	       err);
}

/**
 * blki_hook_init() - Choose the function; nothing is hooked yet.
 *
 * Return: 0 or the error of ftrace.
 */
int blki_hook_init(void)
{
	int err = ftrace_set_filter_ip(&blki_ops,
				       (unsigned long)submit_bio_noacct, 0, 1);

	if (err)
		pr_err("submit_bio_noacct() cannot be traced: error %d\n", err);
	return err;
}

/**
 * blki_hook_exit() - Undo blki_hook_init().
 *
 * Not before: in some kernels what ftrace_free_filter() has freed is no longer
 * to be used, not even for a new filter.
 */
void blki_hook_exit(void)
{
	ftrace_free_filter(&blki_ops);
}

/**
 * blki_hook_add() - Begin to redirect the bios of a pair's original.
 * @pair: not attached; the gate is open and there is no target, so that they
 *	come back to the original
 *
 * Return: 0 or the error of ftrace.
 */
int blki_hook_add(struct blki_pair *pair)
{
	int err = 0;

	lockdep_assert_held(&pair->lock);
	WRITE_ONCE(pair->settled, false);
	mutex_lock(&blki_hook_lock);
	if (!blki_hooked)
		err = blki_register();
	if (!err) {
		blki_hooked++;
		percpu_ref_reinit(&pair->users);
		hlist_add_head_rcu(&pair->hash,
				   blki_bucket(pair->original.bdev->bd_disk));
	}
	mutex_unlock(&blki_hook_lock);
	return err;
}

/**
 * blki_hook_remove() - No longer redirect.
 * @pair: the gate is open and there is no target
 *
 * What was redirected is still to be waited for: until pair.users is zero, and
 * then for a grace period, as the last one may be on its way to the wait queue.
 */
void blki_hook_remove(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	mutex_lock(&blki_hook_lock);
	hlist_del_init_rcu(&pair->hash);
	if (!--blki_hooked && !blki_stuck)
		blki_unregister();
	mutex_unlock(&blki_hook_lock);
	/* A callback that has found the pair still takes a reference or fails. */
	percpu_ref_kill(&pair->users);
}
