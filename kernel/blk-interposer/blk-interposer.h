/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * blk-interposer: the parts and how they fit.
 *
 *   main.c        loading and unloading
 *   control.c     the control device; pairs that a descriptor owns
 *   pair.c        a pair of disks: making, finding, removing; the exported API
 *   stack.c       what is above and below a device
 *   transition.c  attach and detach: freeze, gate, drain, switch, thaw
 *   proof.c       a read of our own that the hook has to see
 *   trial.c       a first write through a target, before others write
 *   settle.c      waiting for what was submitted before the hook
 *   hook.c        the ftrace callback that redirects bios
 *   io.c          what the two disks do with bios; the gate
 *   copy.c        copies, for blk-copy
 *
 * Lock order, outermost first:
 *
 *   pair.lock          one transition at a time; creation and removal
 *   blki_pairs_lock    the lists of pairs and their ids; nothing is waited for inside
 *   blki_hook_lock     registration with ftrace, changes of the hash
 *   pair.park_lock     parked bios; a leaf, held for a few instructions
 *
 * The file system's and the block layer's locks (bd_fsfreeze_mutex, s_umount,
 * mq_freeze_lock) are taken inside pair.lock and never the other way round:
 * nothing that a bio does waits for pair.lock.
 *
 * The hash is read under rcu_read_lock() alone.
 */
#ifndef BLK_INTERPOSER_H
#define BLK_INTERPOSER_H

#include <linux/bio.h>
#include <linux/bitmap.h>
#include <linux/blkdev.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "../blk-copy/api.h"
#include "../compat/interposer.h"
#include "api.h"

#undef pr_fmt
#define pr_fmt(fmt) "blk-interposer: " fmt

/* So many places that were written to by freezing are tried. */
#define BLKI_FROZEN_BLOCKS	4U

/* Zones share counters of what is to be kept in order. */
#define BLKI_ALL_ZONES	63
#define BLKI_SLOTS	(BLKI_ALL_ZONES + 1)

struct blki_trial;

/**
 * struct blki_pair - an original and its two disks
 * @kref: the list holds one, each disk one, each user of a lookup one
 * @id: for the control device; never used again
 * @node: the list of pairs, under blki_pairs_lock
 * @hash: the redirected originals; while one is attached, and until what was parked
 *	is sent
 * @owned: the list of the descriptor that owns it, which has a reference; empty if
 *	none does; under blki_owned_lock
 * @orphaned: the owner is gone, and nobody has made it theirs since; the same, but
 *	it is only cleared with the lock of the pair
 * @lock: one transition at a time; protects @removed, @leaving and @target_dev
 * @removed: the disks are gone or going
 * @leaving: nothing is attached, but @leave still waits for what was redirected
 * @claimed: the original, from before it is opened
 * @original: open for as long as the pair lives
 * @upper: hidden; what redirected bios are sent to
 * @lower: what targets open
 * @lower_name: its name, for when the disk is gone
 * @lower_devt: its number
 * @bs: clones for the original. A bio of this set is never redirected, nor is
 *	what was split from one.
 * @contexts: struct blki_context
 * @users: redirected bios, from the hook to their completion
 * @inflight: those that the gate has let through, to their completion
 * @parking: whoever comes to the gate has to take @park_lock: it is closed, or
 *	something in @unsent may have to be followed
 * @settled: what was under way when the hook was set has reached the original
 * @trial: of the transition that is under way; under @lock
 * @on_trial: @below counts, while a target is tried and until that has ended, and
 *	while @refuses
 * @refuses: a trial has ended too late, and @lower is to be closed by all before it
 *	takes writes again
 * @below: writes of the lower disk that the original has, and one; zero: they are
 *	refused
 * @freezer: who freezes file systems now, and before a target is tried
 * @frozen_at: sectors of the original that @freezer has written to, by PAGE_SECTORS
 * @nr_frozen_at: how many there were
 * @target: where bios go; NULL: to the original. Changes while the gate is
 *	closed and @inflight is zero.
 * @target_dev: keeps @target open
 * @park_lock: protects the five below, and changes of @parking
 * @closed: the gate is closed; else @inflight is live
 * @parked: bios that wait for the gate, in their order
 * @released: bios that have waited, with a reference to @inflight; for @forward
 * @unsent: with zones, how many writes in @released or in the hands of @forward
 *	there are, by zone; the last is for those that are for all zones
 * @unsent_slots: which of them are not zero
 * @wait: for @users, @inflight or @below to become zero, and for @parking
 * @copier: hands copies of @lower on
 * @detour: while hooked: nobody copies past the target
 * @watch: mirrors what changes below
 * @leave: waits for @users; has a reference
 * @forward: sends @released on; has a reference
 * @reap: removes the pair when its owner is gone; has a reference
 * @reap_tries: how often it has found I/O that did not complete, for this owner;
 *	under @lock
 * @redirected: how many bios
 * @nr_parked: how many of them had to wait
 * @nr_again: how many got EAGAIN instead
 * @bypassed: writes to the whole disk in the range of an original that is a
 *	partition
 */
struct blki_pair {
	struct kref kref;
	u32 id;
	struct list_head node;
	struct hlist_node hash;
	struct list_head owned;
	bool orphaned;
	struct mutex lock; /* a transition, creation, removal */
	bool removed;
	bool leaving;
	struct block_device *claimed;
	struct compat_bdev original;
	struct gendisk *upper;
	struct gendisk *lower;
	char lower_name[DISK_NAME_LEN];
	dev_t lower_devt;
	struct bio_set bs;
	mempool_t contexts;
	struct percpu_ref users;
	struct percpu_ref inflight;
	bool parking;
	bool settled;
	struct blki_trial *trial;
	bool on_trial;
	bool refuses;
	atomic_t below;
	struct task_struct *freezer;
	sector_t frozen_at[BLKI_FROZEN_BLOCKS];
	unsigned int nr_frozen_at;
	struct block_device *target;
	struct compat_bdev target_dev;
	spinlock_t park_lock; /* closed, parked, released, unsent, parking */
	bool closed;
	struct bio_list parked;
	struct bio_list released;
	unsigned int unsent[BLKI_SLOTS];
	DECLARE_BITMAP(unsent_slots, BLKI_SLOTS);
	wait_queue_head_t wait;
	struct blk_copy_provider *copier;
	struct blk_copy_detour detour;
	struct delayed_work watch;
	struct work_struct leave;
	struct work_struct forward;
	struct delayed_work reap;
	unsigned int reap_tries;
	u64 __percpu *redirected;
	atomic64_t nr_parked;
	atomic64_t nr_again;
	atomic64_t bypassed;
};

/**
 * struct blki_context - what is known of a redirected bio
 * @pair: who redirected it
 * @end_io: its submitter's
 * @private: its submitter's
 * @bdev: where its submitter sent it
 * @inflight: it holds pair.inflight
 */
struct blki_context {
	struct blki_pair *pair;
	bio_end_io_t *end_io;
	void *private;
	struct block_device *bdev;
	bool inflight;
};

/**
 * struct blki_request - how a transition is to be done
 * @flags: BLK_INTERPOSER_NO_FREEZE or 0
 * @timeout: for each wait, in jiffies
 * @files: a file in each file system that is to be frozen besides those that
 *	are found by their block device
 * @nr_files: how many
 */
struct blki_request {
	unsigned int flags;
	unsigned long timeout;
	struct file **files;
	unsigned int nr_files;
};

/**
 * struct blki_times - how long a transition was felt
 * @parked_ns: the gate was closed
 * @frozen_ns: file systems were frozen
 */
struct blki_times {
	u64 parked_ns;
	u64 frozen_ns;
};

/**
 * struct blki_turns - hold I/O back and let it go on, in turn, for longer and longer
 * @end: in jiffies; not beyond
 * @period: how long it is held back next
 *
 * What has been let through may take long: it may be throttled by a cgroup, for
 * instance, and the others should not pay for that.
 */
struct blki_turns {
	unsigned long end;
	unsigned long period;
};

static inline struct blki_turns blki_turns_begin(unsigned long timeout)
{
	return (struct blki_turns) {
		.end = jiffies + timeout,
		.period = 2 * HZ,
	};
}

/* How long to hold it back this time. */
static inline unsigned long blki_turn(const struct blki_turns *turns)
{
	long left = turns->end - jiffies;

	return clamp_t(long, left, 1, turns->period);
}

/* Lets it go on for a while. Returns -ETIMEDOUT, -EINTR, or 0: try again. */
static inline int blki_turn_over(struct blki_turns *turns)
{
	if (time_after_eq(jiffies, turns->end))
		return -ETIMEDOUT;
	schedule_timeout_killable(min_t(unsigned long, turns->period / 2,
					turns->end - jiffies));
	turns->period *= 2;
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/* Notes what failed, and why; returns ERR. */
static inline int blki_fail(struct blk_interposer_error *error,
			    enum blk_interposer_step step,
			    enum blk_interposer_reason reason, int err)
{
	error->step = step;
	error->reason = reason;
	return err;
}

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

/* hook.c */
int blki_hook_init(void);
void blki_hook_exit(void);
int blki_hook_add(struct blki_pair *pair);
void blki_hook_remove(struct blki_pair *pair);

/* proof.c */
void blki_proof_arrived(struct blki_context *ctx);
void blki_proof_exit(void);
int blki_prove(struct blki_pair *pair);

/* trial.c */
struct blki_trial *blki_trial_alloc(struct blki_pair *pair,
				    unsigned long timeout);
void blki_trial_free(struct blki_trial *trial);
void blki_trial_note(struct blki_pair *pair, struct bio *bio);
int blki_trial_run(struct blki_trial *trial, struct block_device *target);
void blki_trial_closed(struct blki_pair *pair);

/* settle.c */
int blki_settle(struct blki_pair *pair, unsigned long timeout);
int blki_quiesce_original(struct blki_pair *pair, unsigned long timeout);
int blki_wait_counted(struct blki_pair *pair, unsigned long end);
bool blki_sees_inflight(struct block_device *bdev);

/* copy.c */
int blki_copy_register(struct blki_pair *pair);

/* io.c */
extern bio_end_io_t *blki_chain_end_io;
extern const struct block_device_operations blki_upper_fops;
extern const struct block_device_operations blki_lower_fops;
int blki_io_init(void);
void blki_io_exit(void);
int blki_io_init_pair(struct blki_pair *pair);
void blki_io_exit_pair(struct blki_pair *pair);
void blki_context_attach(struct blki_pair *pair, struct bio *bio,
			 struct block_device *bdev, struct blki_context *ctx);
void blki_gate_prepare(struct blki_pair *pair);
void blki_gate_done(struct blki_pair *pair);
void blki_gate_close(struct blki_pair *pair);
void blki_gate_open(struct blki_pair *pair);
void blki_forward_work(struct work_struct *work);

/* stack.c */
bool blki_takes_requests(struct block_device *original);
int blki_check_below(struct blki_pair *pair, struct block_device *target,
		     enum blk_interposer_reason *reason);

/* transition.c */
int blki_attach(struct blki_pair *pair, struct block_device *target,
		const struct blki_request *request, struct blki_times *times,
		struct blk_interposer_error *error);
int blki_detach(struct blki_pair *pair, const struct blki_request *request,
		struct blki_times *times, struct blk_interposer_error *error);
int blki_detach_forced(struct blki_pair *pair, unsigned long closed);
void blki_leave_work(struct work_struct *work);

/* pair.c */
struct blki_pair *blki_create(struct block_device *original,
			      struct blk_interposer_error *error);
int blki_destroy(struct blki_pair *pair, struct blk_interposer_error *error);
struct blki_pair *blki_get(u32 id, bool next);
void blki_put(struct blki_pair *pair);
bool blki_is_own_disk(struct gendisk *disk);
void blki_reap_soon(struct blki_pair *pair);
extern struct workqueue_struct *blki_reap_wq;
extern struct workqueue_struct *blki_io_wq;
int blki_pairs_init(void);
void blki_pairs_exit(void);

/* control.c */
int blki_control_init(void);
void blki_control_exit(void);

#endif
