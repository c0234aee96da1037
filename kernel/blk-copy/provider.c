// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which driver copies for which disk.
 *
 * Locks: blk_copy_providers_lock, a leaf, for changes of the list; it is read
 * under RCU.
 */
#include <linux/export.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "blk-copy.h"

static DEFINE_SPINLOCK(blk_copy_providers_lock);
static LIST_HEAD(blk_copy_providers);

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
	refcount_set(&p->users, 1);
	init_completion(&p->released);
	spin_lock(&blk_copy_providers_lock);
	list_add_tail_rcu(&p->node, &blk_copy_providers);
	spin_unlock(&blk_copy_providers_lock);
	return p;
}
EXPORT_SYMBOL_GPL(blk_copy_register);

/**
 * blk_copy_unregister() - no more copies by the driver of a disk
 * @p: from blk_copy_register()
 *
 * Waits for the pieces under way. When it returns, no function of the driver
 * runs or will be called. Where a disk may go away while it is in use, its
 * queue has to be dead before (del_gendisk()), so that they end.
 * Context: may sleep; holds nothing that a piece waits for.
 */
void blk_copy_unregister(struct blk_copy_provider *p)
{
	spin_lock(&blk_copy_providers_lock);
	list_del_rcu(&p->node);
	spin_unlock(&blk_copy_providers_lock);
	blk_copy_put(p);
	wait_for_completion(&p->released);
	kfree_rcu(p, rcu);
}
EXPORT_SYMBOL_GPL(blk_copy_unregister);

/**
 * blk_copy_get() - the driver that copies for a disk
 * @disk: any disk
 *
 * Return: it, with a reference for blk_copy_put(), or NULL.
 */
struct blk_copy_provider *blk_copy_get(struct gendisk *disk)
{
	struct blk_copy_provider *p, *found = NULL;

	rcu_read_lock();
	list_for_each_entry_rcu(p, &blk_copy_providers, node) {
		if (p->disk == disk && refcount_inc_not_zero(&p->users)) {
			found = p;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

/**
 * blk_copy_put() - give back what blk_copy_get() gave
 * @p: the provider
 */
void blk_copy_put(struct blk_copy_provider *p)
{
	if (refcount_dec_and_test(&p->users))
		complete(&p->released);
}
