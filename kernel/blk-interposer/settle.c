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
 * Afterwards it is in the queue, which is frozen to see it complete, or below a
 * driver without requests, whose counters are watched.
 *
 * No locks are taken, except RCU's to walk the tasks.
 */
#include <linux/delay.h>
#include <linux/part_stat.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "blk-interposer.h"

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

/**
 * blki_settle() - Wait until each bio from before the hook is in the original.
 * @pair: just hooked
 * @timeout: in jiffies
 *
 * I/O goes on meanwhile.
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
		WRITE_ONCE(pair->settled, true);
	return err;
}

static unsigned long blki_part_in_flight(struct block_device *bdev)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += part_stat_local_read_cpu(bdev, in_flight[0], cpu) +
		       part_stat_local_read_cpu(bdev, in_flight[1], cpu);
	return sum;
}

/* Bios for a partition are counted there, and not at the disk. */
static unsigned long blki_in_flight(struct blki_pair *pair)
{
	struct block_device *bdev = pair->original.bdev, *part;
	unsigned long sum, index;

	if (!blki_is_whole(pair))
		return blki_part_in_flight(bdev);
	sum = 0;
	rcu_read_lock();
	xa_for_each(&bdev->bd_disk->part_tbl, index, part)
		sum += blki_part_in_flight(part);
	rcu_read_unlock();
	return sum;
}

/**
 * blki_counts_inflight() - Whether I/O below a device can be seen.
 * @bdev: the device
 *
 * A driver that has never counted anything is one that completes a bio before
 * it returns, as brd does.
 *
 * Return: false if there are counters, but they have been turned off.
 */
bool blki_counts_inflight(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);

	return queue_is_mq(q) || blk_queue_io_stat(q) ||
	       !(part_stat_read(bdev, ios[STAT_READ]) ||
		 part_stat_read(bdev, ios[STAT_WRITE]));
}

static int blki_wait_in_flight(struct blki_pair *pair, unsigned long end)
{
	while (blki_in_flight(pair)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		usleep_range(50, 200);
	}
	return 0;
}

/**
 * blki_quiesce_original() - Wait for I/O in flight below the original.
 * @pair: settled, its gate closed and drained
 * @timeout: in jiffies
 *
 * Return: 0, -EINTR or -ETIMEDOUT.
 */
int blki_quiesce_original(struct blki_pair *pair, unsigned long timeout)
{
	struct request_queue *q = bdev_get_queue(pair->original.bdev);
	unsigned long end = jiffies + timeout;
	int left;

	blk_freeze_queue_start(q);
	left = blk_mq_freeze_queue_wait_timeout(q, timeout);
	blk_mq_unfreeze_queue(q);
	if (!left)
		return -ETIMEDOUT;
	return queue_is_mq(q) ? 0 : blki_wait_in_flight(pair, end);
}
