// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is told of an image: to the log, once for each place; by an event; by
 * counters. Takes no locks.
 */
#include "core.h"

/* More places than these are not remembered, and not logged. */
#define REPORTED_MAX 256

/* Bios end in any context; dm_table_event() may sleep. */
static void report_event(struct work_struct *work)
{
	struct qcow2_core *c = container_of(work, struct qcow2_core,
					    event_work);

	if (c->ti)
		dm_table_event(c->ti->table);
}

/**
 * qcow2_core_init() - set up the floor
 * @c: zeroed
 * @ti: the target, or NULL if several have it below
 *
 * Return: 0 or -ENOMEM; qcow2_core_exit() is to be called either way.
 */
int qcow2_core_init(struct qcow2_core *c, struct dm_target *ti)
{
	c->ti = ti;
	c->device = ti ? dm_table_device_name(ti->table) : "backing image";
	xa_init(&c->reported);
	INIT_WORK(&c->event_work, report_event);
	c->stats = alloc_percpu(struct qcow2_stats);
	return c->stats ? 0 : -ENOMEM;
}

/**
 * qcow2_core_exit() - undo qcow2_core_init()
 * @c: the core; nobody will raise an event any more
 */
void qcow2_core_exit(struct qcow2_core *c)
{
	cancel_work_sync(&c->event_work);
	free_percpu(c->stats);
	kfree(c->path);
}

/**
 * qcow2_report() - log what is wrong with an image, once for each place
 * @c: the core
 * @key: names the place
 * @what: what is wrong
 * @where: offset in bytes
 */
void qcow2_report(struct qcow2_core *c, u64 key, const char *what, u64 where)
{
	if (xa_load(&c->reported, key))
		return;
	if (atomic_inc_return(&c->nr_reported) > REPORTED_MAX)
		return;
	if (xa_is_err(xa_store(&c->reported, key, xa_mk_value(1), GFP_NOIO)))
		return;
	qcow2_err(c, "%s 0x%llx", what, where);
}

/**
 * qcow2_report_again() - forget what has been logged
 * @c: the core; nobody reports anything
 */
void qcow2_report_again(struct qcow2_core *c)
{
	unsigned long index;
	void *entry;

	xa_for_each(&c->reported, index, entry)
		xa_erase(&c->reported, index);
	atomic_set(&c->nr_reported, 0);
}

/**
 * qcow2_fail() - refuse all writing from now on
 * @c: the core
 * @what: what is wrong with the image
 * @where: host offset in bytes
 */
void qcow2_fail(struct qcow2_core *c, const char *what, u64 where)
{
	if (xchg(&c->mode, QCOW2_MODE_FAIL) == QCOW2_MODE_FAIL)
		return;
	qcow2_err(c, "image is corrupt: %s 0x%llx; refusing writes from now on",
		  what, where);
	schedule_work(&c->event_work);
}

/**
 * qcow2_count_error() - count an error that somebody gets to see
 * @c: the core
 * @err: negative error; the first -ENOSPC raises an event
 *
 * Context: any.
 */
void qcow2_count_error(struct qcow2_core *c, int err)
{
	atomic64_inc(&c->errors);
	if (err != -ENOSPC)
		return;
	atomic64_inc(&c->enospc_errors);
	if (!xchg(&c->enospc, true)) {
		qcow2_limit_err(c, "no space left");
		schedule_work(&c->event_work);
	}
}

/**
 * qcow2_stat_sum() - what a counter has come to
 * @c: the core
 * @which: the counter
 *
 * Return: its value on all processors together.
 */
u64 qcow2_stat_sum(const struct qcow2_core *c, enum qcow2_stat which)
{
	u64 total = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		total += per_cpu_ptr(c->stats, cpu)->n[which];
	return total;
}
