// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who is charged for what a worker does: I/O and memory for pages count for the
 * control group of whoever caused it, as they do with the loop driver. What
 * belongs to the root group stays with the worker's own.
 *
 * Takes no locks.
 */
#include <linux/blk-cgroup.h>
#include <linux/cgroup.h>
#include <linux/export.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>

#include "blk-copy.h"

#ifdef CONFIG_BLK_CGROUP
static bool blk_copy_is_root(struct cgroup_subsys_state *group)
{
	return !group || group == blkcg_root_css;
}

#ifdef CONFIG_MEMCG
static void blk_copy_charge_memory(struct blk_copy_charge *c)
{
	c->memory = cgroup_get_e_css(c->group->cgroup, &memory_cgrp_subsys);
	c->before = set_active_memcg(mem_cgroup_from_css(c->memory));
}

static void blk_copy_uncharge_memory(struct blk_copy_charge *c)
{
	set_active_memcg(c->before);
	css_put(c->memory);
}
#else
static void blk_copy_charge_memory(struct blk_copy_charge *c) { }
static void blk_copy_uncharge_memory(struct blk_copy_charge *c) { }
#endif

/**
 * blk_copy_charge() - from here on a worker does what others are charged for
 * @c: for blk_copy_uncharge()
 * @group: of the block I/O controller; it stays while this runs; NULL: the root's
 *
 * Context: a kernel thread that has not been charged to others yet.
 */
void blk_copy_charge(struct blk_copy_charge *c,
		     struct cgroup_subsys_state *group)
{
	c->group = blk_copy_is_root(group) ? NULL : group;
	if (!c->group)
		return;
	kthread_associate_blkcg(group);
	blk_copy_charge_memory(c);
}
EXPORT_SYMBOL_GPL(blk_copy_charge);

/**
 * blk_copy_uncharge() - the worker is its own again
 * @c: from blk_copy_charge()
 */
void blk_copy_uncharge(struct blk_copy_charge *c)
{
	if (!c->group)
		return;
	blk_copy_uncharge_memory(c);
	kthread_associate_blkcg(NULL);
}
EXPORT_SYMBOL_GPL(blk_copy_uncharge);

/**
 * blk_copy_is_own() - whether a bio is charged to whom the current task is
 * @bio: the bio, or NULL
 *
 * Return: true if what is done for it needs no blk_copy_charge() here.
 */
bool blk_copy_is_own(struct bio *bio)
{
	struct cgroup_subsys_state *group = bio ? bio_blkcg_css(bio) : NULL;
	bool own;

	rcu_read_lock();
	own = !group || group == task_css(current, io_cgrp_id);
	rcu_read_unlock();
	return own;
}
EXPORT_SYMBOL_GPL(blk_copy_is_own);
#else
void blk_copy_charge(struct blk_copy_charge *c,
		     struct cgroup_subsys_state *group)
{
}
EXPORT_SYMBOL_GPL(blk_copy_charge);

void blk_copy_uncharge(struct blk_copy_charge *c)
{
}
EXPORT_SYMBOL_GPL(blk_copy_uncharge);

bool blk_copy_is_own(struct bio *bio)
{
	return true;
}
EXPORT_SYMBOL_GPL(blk_copy_is_own);
#endif
