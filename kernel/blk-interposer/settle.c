// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for what the hook has not seen.
 *
 * A bio that went by before the hook was set is in nobody's count until it has
 * entered the queue of the original. It is in the hands of a task, which
 * executes submit_bio_noacct(), or has put it on its current->bio_list. The
 * former does not sleep, so that a grace period of tasks ends it; the latter
 * lasts until the list is gone.
 *
 * Afterwards it is for quiesce.c.
 *
 * Locks: none, except RCU's to walk the tasks.
 */
#include <linux/delay.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "settle.h"

#define BLKI_SPARE_TASKS	64

/**
 * struct blki_submitters - tasks seen inside of a submission
 * @tasks: with a reference each
 * @nr: how many
 * @size: how many fit
 */
struct blki_submitters {
	struct task_struct **tasks;
	unsigned int nr;
	unsigned int size;
};

static bool blki_submits(struct task_struct *task)
{
	return task != current && READ_ONCE(task->bio_list);
}

static unsigned int blki_count_submitters(void)
{
	struct task_struct *process, *task;
	unsigned int nr = 0;

	rcu_read_lock();
	for_each_process_thread(process, task)
		nr += blki_submits(task);
	rcu_read_unlock();
	return nr;
}

static void blki_forget_submitters(struct blki_submitters *s)
{
	while (s->nr)
		put_task_struct(s->tasks[--s->nr]);
}

/* False if there are more than fit. */
static bool blki_collect_submitters(struct blki_submitters *s)
{
	struct task_struct *process, *task;
	bool fit = true;

	rcu_read_lock();
	for_each_process_thread(process, task) {
		if (!blki_submits(task))
			continue;
		fit = s->nr < s->size;
		if (!fit)
			goto out;
		s->tasks[s->nr++] = get_task_struct(task);
	}
out:
	rcu_read_unlock();
	if (!fit)
		blki_forget_submitters(s);
	return fit;
}

/* Forgets those that have been seen outside. */
static void blki_check_submitters(struct blki_submitters *s)
{
	unsigned int i = 0;

	while (i < s->nr) {
		if (READ_ONCE(s->tasks[i]->bio_list)) {
			i++;
			continue;
		}
		put_task_struct(s->tasks[i]);
		s->tasks[i] = s->tasks[--s->nr];
	}
}

static int blki_wait_submitters(unsigned long end)
{
	struct blki_submitters s = {};
	int err = 0;

	do {
		kfree(s.tasks);
		s.size = blki_count_submitters() + BLKI_SPARE_TASKS;
		s.tasks = kmalloc_array(s.size, sizeof(*s.tasks), GFP_KERNEL);
		if (!s.tasks)
			return -ENOMEM;
	} while (!blki_collect_submitters(&s));

	for (;;) {
		blki_check_submitters(&s);
		if (!s.nr)
			break;
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			break;
		}
		if (time_after(jiffies, end)) {
			err = -ETIMEDOUT;
			break;
		}
		usleep_range(50, 200);
	}
	blki_forget_submitters(&s);
	kfree(s.tasks);
	return err;
}

static int blki_wait_copies(struct blki_pair *pair, unsigned long end)
{
	while (!blk_copy_detour_settled(&pair->detour)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		usleep_range(50, 200);
	}
	return 0;
}

/**
 * blki_settle() - Wait until each bio from before the hook is in the original.
 * @pair: just hooked
 * @timeout: in jiffies
 *
 * So have copies that its driver has been asked for. I/O goes on meanwhile.
 *
 * Return: 0, -ENOMEM, -EINTR or -ETIMEDOUT.
 */
int blki_settle(struct blki_pair *pair, unsigned long timeout)
{
	unsigned long end = jiffies + timeout;
	int err;

	synchronize_rcu_tasks();
	err = blki_wait_submitters(end);
	if (!err)
		err = blki_wait_copies(pair, end);
	if (!err)
		WRITE_ONCE(pair->settled, true);
	return err;
}
