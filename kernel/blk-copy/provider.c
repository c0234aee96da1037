// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which driver copies for which disk.
 *
 * A disk of device-mapper changes hands: the table that is suspended and the one
 * that replaces it each have a provider. The new one is idle until it takes
 * over, and the old one paused, so that copies wait for one or the other.
 *
 * What goes to a disk may be sent elsewhere, by blk-interposer for instance; its
 * driver does not see that, so that nothing is left to it meanwhile.
 *
 * Locks: blk_copy_providers_lock, a leaf.
 */
#include <linux/export.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/wait_bit.h>

#include "blk-copy.h"

static DEFINE_SPINLOCK(blk_copy_providers_lock);
static LIST_HEAD(blk_copy_providers);
static LIST_HEAD(blk_copy_detours);
static DECLARE_WAIT_QUEUE_HEAD(blk_copy_providers_wait);
/* Counts changes of state, under blk_copy_providers_lock. */
static unsigned int blk_copy_changes;

static struct blk_copy_provider *
blk_copy_new_provider(struct gendisk *disk, const struct blk_copy_ops *ops,
		      const struct blk_copy_limits *lim,
		      enum blk_copy_state state)
{
	struct blk_copy_provider *p;

	if (!is_power_of_2(lim->granularity) ||
	    lim->granularity % SECTOR_SIZE || !is_power_of_2(lim->optimal) ||
	    lim->optimal < lim->granularity ||
	    !IS_ALIGNED(lim->max_bytes, lim->granularity))
		return ERR_PTR(-EINVAL);
	p = kzalloc(sizeof(*p), GFP_KERNEL);
	if (!p)
		return ERR_PTR(-ENOMEM);
	p->disk = disk;
	p->ops = ops;
	p->limits = *lim;
	p->max_bytes = lim->max_bytes;
	p->state = state;
	spin_lock(&blk_copy_providers_lock);
	list_add_tail(&p->node, &blk_copy_providers);
	spin_unlock(&blk_copy_providers_lock);
	return p;
}

/**
 * blk_copy_register() - announce that a driver copies for a disk
 * @disk: the disk; alive until blk_copy_unregister()
 * @ops: functions; alive as long
 * @lim: limits
 *
 * Before device_add_disk() for a disk that has blk_copy_attr_group.
 * Context: may sleep. Return: what is to be given to blk_copy_unregister(), or
 * an error pointer.
 */
struct blk_copy_provider *blk_copy_register(struct gendisk *disk,
					    const struct blk_copy_ops *ops,
					    const struct blk_copy_limits *lim)
{
	return blk_copy_new_provider(disk, ops, lim, BLK_COPY_ACTIVE);
}
EXPORT_SYMBOL_GPL(blk_copy_register);

/**
 * blk_copy_register_idle() - announce that a driver may take over a disk
 * @disk: the disk; alive until blk_copy_unregister()
 * @ops: functions; alive as long
 * @lim: limits
 *
 * Nothing comes of it before blk_copy_activate().
 * Context: may sleep. Return: as blk_copy_register().
 */
struct blk_copy_provider *
blk_copy_register_idle(struct gendisk *disk, const struct blk_copy_ops *ops,
		       const struct blk_copy_limits *lim)
{
	return blk_copy_new_provider(disk, ops, lim, BLK_COPY_IDLE);
}
EXPORT_SYMBOL_GPL(blk_copy_register_idle);

static void blk_copy_change_state(struct blk_copy_provider *p,
				  enum blk_copy_state state)
{
	lockdep_assert_held(&blk_copy_providers_lock);
	WRITE_ONCE(p->state, state);
	WRITE_ONCE(blk_copy_changes, blk_copy_changes + 1);
}

static void blk_copy_set_state(struct blk_copy_provider *p,
			       enum blk_copy_state state)
{
	spin_lock(&blk_copy_providers_lock);
	blk_copy_change_state(p, state);
	spin_unlock(&blk_copy_providers_lock);
	wake_up_all(&blk_copy_providers_wait);
}

static void blk_copy_wait_for_users(struct blk_copy_provider *p)
{
	wait_var_event(&p->users, !atomic_read(&p->users));
}

/**
 * blk_copy_activate() - copies for the disk are this driver's from now on
 * @p: from blk_copy_register_idle()
 *
 * Those that wait go on.
 */
void blk_copy_activate(struct blk_copy_provider *p)
{
	blk_copy_set_state(p, BLK_COPY_ACTIVE);
}
EXPORT_SYMBOL_GPL(blk_copy_activate);

/**
 * blk_copy_pause() - let copies for the disk wait
 * @p: from blk_copy_register_idle()
 *
 * Tells the pieces under way to end (blk_copy_cancelled()), and waits for that;
 * none runs from then on until blk_copy_activate(), of this provider or of
 * another of the same disk. What they have left waits for it.
 * Context: may sleep; I/O on the disk works.
 */
void blk_copy_pause(struct blk_copy_provider *p)
{
	blk_copy_set_state(p, BLK_COPY_PAUSED);
	blk_copy_wait_for_users(p);
}
EXPORT_SYMBOL_GPL(blk_copy_pause);

/**
 * blk_copy_unregister() - no more copies by the driver of a disk
 * @p: from blk_copy_register()
 *
 * Waits as blk_copy_pause() does. When it returns, no function of the driver
 * runs or will be called. Where a disk may go away while it is in use, its
 * queue has to be dead before (del_gendisk()), so that they end.
 * Context: may sleep; holds nothing that a piece waits for.
 */
void blk_copy_unregister(struct blk_copy_provider *p)
{
	spin_lock(&blk_copy_providers_lock);
	list_del(&p->node);
	blk_copy_change_state(p, BLK_COPY_IDLE);
	spin_unlock(&blk_copy_providers_lock);
	wake_up_all(&blk_copy_providers_wait);
	blk_copy_wait_for_users(p);
	kfree(p);
}
EXPORT_SYMBOL_GPL(blk_copy_unregister);

/* The active one; if there is none, *paused tells whether to wait for one. */
static struct blk_copy_provider *blk_copy_find(struct gendisk *disk,
					       bool *paused)
{
	struct blk_copy_provider *p, *found = NULL;

	*paused = false;
	spin_lock(&blk_copy_providers_lock);
	list_for_each_entry(p, &blk_copy_providers, node) {
		if (p->disk != disk)
			continue;
		*paused |= p->state == BLK_COPY_PAUSED;
		if (p->state != BLK_COPY_ACTIVE)
			continue;
		atomic_inc(&p->users);
		found = p;
		break;
	}
	spin_unlock(&blk_copy_providers_lock);
	return found;
}

/**
 * blk_copy_get() - the driver that copies for a disk
 * @disk: any disk
 *
 * Return: it, with a reference for blk_copy_put(), or NULL.
 */
struct blk_copy_provider *blk_copy_get(struct gendisk *disk)
{
	bool paused;

	return blk_copy_find(disk, &paused);
}

/**
 * blk_copy_get_or_wait() - the same, if it is not paused
 * @disk: any disk
 *
 * Return: as blk_copy_get(); BLK_COPY_AGAIN if copies have to wait.
 */
struct blk_copy_provider *blk_copy_get_or_wait(struct gendisk *disk)
{
	struct blk_copy_provider *p;
	bool paused;

	p = blk_copy_find(disk, &paused);
	return !p && paused ? ERR_PTR(BLK_COPY_AGAIN) : p;
}

static struct blk_copy_detour *blk_copy_find_detour(struct gendisk *disk)
{
	struct blk_copy_detour *detour;

	lockdep_assert_held(&blk_copy_providers_lock);
	list_for_each_entry(detour, &blk_copy_detours, node)
		if (detour->disk == disk)
			return detour;
	return NULL;
}

/**
 * blk_copy_is_detoured() - whether I/O to a disk goes elsewhere
 * @disk: any disk; its driver is pinned by blk_copy_get() if that is to matter
 *
 * Return: true if it does, so that its driver is not to be asked.
 */
bool blk_copy_is_detoured(struct gendisk *disk)
{
	bool is;

	spin_lock(&blk_copy_providers_lock);
	is = blk_copy_find_detour(disk);
	spin_unlock(&blk_copy_providers_lock);
	return is;
}

/**
 * blk_copy_detour() - I/O to a disk is about to be sent elsewhere
 * @detour: the caller's, until blk_copy_detour_end()
 * @disk: the disk
 *
 * No piece is given to its driver from now on; copies become reads and writes.
 * Those under way: see blk_copy_detour_settled(). Context: any that may take a
 * spinlock.
 */
void blk_copy_detour(struct blk_copy_detour *detour, struct gendisk *disk)
{
	detour->disk = disk;
	spin_lock(&blk_copy_providers_lock);
	list_add(&detour->node, &blk_copy_detours);
	spin_unlock(&blk_copy_providers_lock);
}
EXPORT_SYMBOL_GPL(blk_copy_detour);

/**
 * blk_copy_detour_settled() - whether pieces from before a detour are over
 * @detour: from blk_copy_detour()
 *
 * Return: true if they are; it may be false for no reason for a moment. Pieces
 * that a target passes on past the detour do not count.
 */
bool blk_copy_detour_settled(const struct blk_copy_detour *detour)
{
	struct blk_copy_provider *p;
	bool settled = true;

	spin_lock(&blk_copy_providers_lock);
	list_for_each_entry(p, &blk_copy_providers, node)
		if (p->disk == detour->disk && atomic_read(&p->pieces))
			settled = false;
	spin_unlock(&blk_copy_providers_lock);
	return settled;
}
EXPORT_SYMBOL_GPL(blk_copy_detour_settled);

/**
 * blk_copy_detour_end() - I/O to a disk goes to its driver again
 * @detour: from blk_copy_detour()
 */
void blk_copy_detour_end(struct blk_copy_detour *detour)
{
	spin_lock(&blk_copy_providers_lock);
	list_del(&detour->node);
	spin_unlock(&blk_copy_providers_lock);
}
EXPORT_SYMBOL_GPL(blk_copy_detour_end);

/**
 * blk_copy_hold() - one more reference
 * @p: the provider, with a reference of the caller's
 */
void blk_copy_hold(struct blk_copy_provider *p)
{
	atomic_inc(&p->users);
}

/**
 * blk_copy_stopped() - whether a driver of a piece wants it to end
 * @op: the piece, under way
 *
 * Return: true if it is to be paused or unregistered.
 */
bool blk_copy_stopped(const struct blk_copy_op *op)
{
	return READ_ONCE(op->src_provider->state) != BLK_COPY_ACTIVE ||
	       READ_ONCE(op->dst_provider->state) != BLK_COPY_ACTIVE;
}

/**
 * blk_copy_cancelled() - whether a piece is to end before it is done
 * @op: the piece, under way, or NULL
 *
 * Because of a signal, which reaches only whoever waits for the topmost piece,
 * or because a driver is to be paused. -EINTR is the answer to both.
 *
 * Return: true if it is, or one of those that it is handed on from.
 */
bool blk_copy_cancelled(const struct blk_copy_op *op)
{
	for (; op; op = op->parent)
		if (READ_ONCE(op->cancelled) || blk_copy_stopped(op))
			return true;
	return false;
}
EXPORT_SYMBOL_GPL(blk_copy_cancelled);

/**
 * blk_copy_epoch() - which of the times between two changes of drivers it is
 *
 * Return: for blk_copy_wait().
 */
unsigned int blk_copy_epoch(void)
{
	return READ_ONCE(blk_copy_changes);
}

/**
 * blk_copy_wait() - wait until a driver is paused, activated or unregistered
 * @epoch: from blk_copy_epoch(), before a driver was found paused
 *
 * With nothing held: that may take as long as it likes.
 * Return: 0, or -EINTR after a signal.
 */
int blk_copy_wait(unsigned int epoch)
{
	long left;

	do {
		left = wait_event_killable_timeout(blk_copy_providers_wait,
						   blk_copy_epoch() != epoch,
						   BLK_COPY_POLL);
	} while (!left && !task_sigpending(current));
	return left > 0 ? 0 : -EINTR;
}

/**
 * blk_copy_put() - give back what blk_copy_get() gave
 * @p: the provider
 */
void blk_copy_put(struct blk_copy_provider *p)
{
	/* Whoever waits may free it at once: its address is all that is used. */
	if (atomic_dec_and_test(&p->users))
		wake_up_var(&p->users);
}
