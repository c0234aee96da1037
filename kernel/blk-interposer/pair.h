/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A pair as an object: an original and its two disks. Whom the members are for is
 * said with each group; the functions that change them are in that file.
 *
 * Locks: blki_pairs_lock, a leaf for who is in here; see blk-interposer.h.
 * Calls nobody of this module.
 */
#ifndef BLK_INTERPOSER_PAIR_H
#define BLK_INTERPOSER_PAIR_H

#include <linux/bio.h>
#include <linux/bitmap.h>
#include <linux/blkdev.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "../blk-copy/api.h"
#include "blk-interposer.h"

/* So many places that were written to by freezing are tried. */
#define BLKI_FROZEN_BLOCKS	4U

/* Zones share counters of what is to be kept in order. */
#define BLKI_ALL_ZONES	63
#define BLKI_SLOTS	(BLKI_ALL_ZONES + 1)

struct blki_trial;

/**
 * enum blki_trial_state - what has become of a trial
 * @BLKI_TRIAL_NONE: there is none, and nothing is left of one
 * @BLKI_TRIAL_RUNS: bios of it are under way
 * @BLKI_TRIAL_ENDED: these have ended in time; or it is being forgotten
 * @BLKI_TRIAL_ABANDONED: these have not ended in time
 * @BLKI_TRIAL_LATE: they have now, but the target may write yet what it has of them,
 *	for as long as it has the lower disk open
 *
 * RUNS and ENDED follow each other twice, for reads and writes. While it is not
 * NONE the lower disk counts writes, and refuses them from ABANDONED on.
 */
enum blki_trial_state {
	BLKI_TRIAL_NONE,
	BLKI_TRIAL_RUNS,
	BLKI_TRIAL_ENDED,
	BLKI_TRIAL_ABANDONED,
	BLKI_TRIAL_LATE,
};

/**
 * struct blki_pair - an original and its two disks
 */
struct blki_pair {
	/* The object: pair.c. */

	/** @kref: the list holds one, each disk one, each user of a lookup one */
	struct kref kref;
	/** @id: for the control device; never used again */
	u32 id;
	/** @node: the list of pairs, under blki_pairs_lock */
	struct list_head node;
	/**
	 * @lock: one transition at a time; protects @removed, @leaving and
	 * @target_dev
	 */
	struct mutex lock; /* a transition, creation, removal */
	/** @removed: the disks are gone or going */
	bool removed;
	/** @claimed: the original, from before it is opened */
	struct block_device *claimed;
	/** @original: open for as long as the pair lives */
	struct compat_bdev original;
	/**
	 * @bs: clones for the original. A bio of this set is never redirected, nor
	 * is what was split from one.
	 */
	struct bio_set bs;
	/** @contexts: struct blki_context */
	mempool_t contexts;
	/** @users: redirected bios, from the hook to their completion */
	struct percpu_ref users;
	/** @inflight: those that the gate has let through, to their completion */
	struct percpu_ref inflight;
	/**
	 * @wait: for @users, @inflight or @below to become zero, and for @parking
	 */
	wait_queue_head_t wait;

	/* Who owns it: control.c, and lifecycle.c for its end. */

	/**
	 * @owned: the list of the descriptor that owns it, which has a reference;
	 * empty if none does; under blki_owned_lock
	 */
	struct list_head owned;
	/**
	 * @orphaned: the owner is gone, and nobody has made it theirs since; the
	 * same, but it is only cleared with the lock of the pair
	 */
	bool orphaned;
	/** @reap: removes the pair when its owner is gone; has a reference */
	struct delayed_work reap;
	/**
	 * @reap_tries: how often it has found I/O that did not complete, for this
	 * owner; under @lock
	 */
	unsigned int reap_tries;

	/* The two disks: disks.c, and provider.c for copies. */

	/** @upper: hidden; what redirected bios are sent to */
	struct gendisk *upper;
	/** @lower: what targets open */
	struct gendisk *lower;
	/** @lower_name: its name, for when the disk is gone */
	char lower_name[DISK_NAME_LEN];
	/** @lower_devt: its number */
	dev_t lower_devt;
	/** @watch: mirrors what changes below */
	struct delayed_work watch;
	/** @copier: hands copies of @lower on */
	struct blk_copy_provider *copier;

	/* The hook: hook.c. */

	/**
	 * @hash: the redirected originals; while one is attached, and until what
	 * was parked is sent
	 */
	struct hlist_node hash;
	/** @settled: what was under way when the hook was set has reached the original */
	bool settled;

	/* The gate: gate.c. */

	/**
	 * @parking: whoever comes to the gate has to take @park_lock: it is closed,
	 * or something in @unsent may have to be followed
	 */
	bool parking;
	/** @park_lock: protects the five below, and changes of @parking */
	spinlock_t park_lock; /* closed, parked, released, unsent, parking */
	/** @closed: the gate is closed; else @inflight is live */
	bool closed;
	/** @parked: bios that wait for the gate, in their order */
	struct bio_list parked;
	/**
	 * @released: bios that have waited, with a reference to @inflight; for
	 * @forward
	 */
	struct bio_list released;
	/**
	 * @unsent: with zones, how many writes in @released or in the hands of
	 * @forward there are, by zone; the last is for those that are for all zones
	 */
	unsigned int unsent[BLKI_SLOTS];
	/** @unsent_slots: which of them are not zero */
	DECLARE_BITMAP(unsent_slots, BLKI_SLOTS);
	/** @forward: sends @released on; has a reference */
	struct work_struct forward;

	/* A trial: trial.c, and freeze.c for the freezer. */

	/** @trial: of the transition that is under way; under @lock */
	struct blki_trial *trial;
	/** @trial_state: of the last one; begun under @lock, ended by anybody */
	enum blki_trial_state trial_state;
	/**
	 * @below: with a trial, writes of the lower disk that the original has,
	 * and one; zero: they are refused
	 */
	atomic_t below;
	/** @freezer: who freezes file systems now, and before a target is tried */
	struct task_struct *freezer;
	/**
	 * @frozen_at: sectors of the original that @freezer has written to, by
	 * PAGE_SECTORS
	 */
	sector_t frozen_at[BLKI_FROZEN_BLOCKS];
	/** @nr_frozen_at: how many there were */
	unsigned int nr_frozen_at;

	/* What is attached: transition.c and leave.c. */

	/**
	 * @target: where bios go; NULL: to the original. Changes while the gate is
	 * closed and @inflight is zero.
	 */
	struct block_device *target;
	/** @target_dev: keeps @target open */
	struct compat_bdev target_dev;
	/** @detour: while hooked: nobody copies past the target */
	struct blk_copy_detour detour;
	/**
	 * @leaving: nothing is attached, but @leave still waits for what was
	 * redirected
	 */
	bool leaving;
	/** @leave: waits for @users; has a reference */
	struct work_struct leave;

	/* What the control device tells. */

	/** @redirected: how many bios */
	u64 __percpu *redirected;
	/** @nr_parked: how many of them had to wait */
	atomic64_t nr_parked;
	/** @nr_again: how many got EAGAIN instead */
	atomic64_t nr_again;
	/**
	 * @bypassed: writes to the whole disk in the range of an original that is a
	 * partition
	 */
	atomic64_t bypassed;
};

/**
 * struct blki_context - what is known of a redirected bio; of pair.contexts
 */
struct blki_context {
	/** @pair: who redirected it */
	struct blki_pair *pair;
	/** @end_io: its submitter's */
	bio_end_io_t *end_io;
	/** @private: its submitter's */
	void *private;
	/** @bdev: where its submitter sent it */
	struct block_device *bdev;
	/** @inflight: it holds pair.inflight */
	bool inflight;
};

/* Waits for what may take as long as a disk does not answer. */
extern struct workqueue_struct *blki_reap_wq;
/* Sends on what was parked; reclaim may wait for that. */
extern struct workqueue_struct *blki_io_wq;

struct blki_pair *blki_pair_alloc(void);
void blki_put(struct blki_pair *pair);
struct blki_pair *blki_get(u32 id, bool next);
struct blki_pair *blki_find(struct block_device *original);
enum blk_interposer_reason blki_begin_making(struct blki_pair *pair,
					     struct block_device *original);
int blki_pair_open(struct blki_pair *pair);
void blki_end_making(struct blki_pair *pair, int err);
void blki_pair_unlist(struct blki_pair *pair);
int blki_pairs_init(void);
void blki_pairs_exit(void);

static inline bool blki_original_dead(struct blki_pair *pair)
{
	return test_bit(GD_DEAD, &pair->original.bdev->bd_disk->state);
}

/* The same device, or a disk and a partition of it. */
static inline bool blki_overlaps(struct block_device *a, struct block_device *b)
{
	return a == b || (a->bd_disk == b->bd_disk &&
			  (!bdev_is_partition(a) || !bdev_is_partition(b)));
}

/* The original is a whole disk, so that its partitions belong to it. */
static inline bool blki_is_whole(struct blki_pair *pair)
{
	return !bdev_is_partition(pair->original.bdev);
}

#endif
