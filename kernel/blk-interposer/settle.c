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
 * Afterwards it is in the queue, which is frozen to see it complete; or in
 * device-mapper, which suspends the device for a moment to the same end; or below
 * another driver without requests, whose counters are watched.
 *
 * No locks are taken, except RCU's to walk the tasks, and device-mapper's
 * suspend_lock, which nothing that a bio does waits for.
 */
#include <linux/completion.h>
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
 * struct blki_probe - a read that shows how a driver completes
 * @task: who submits it
 * @inside: it was complete before the driver had returned to that task
 * @done: it is complete
 */
struct blki_probe {
	struct task_struct *task;
	bool inside;
	struct completion done;
};

static void blki_probe_end_io(struct bio *bio)
{
	struct blki_probe *probe = bio->bi_private;

	probe->inside = in_task() && current == probe->task;
	complete(&probe->done);
}

/* Whether a driver completes a bio before it returns, as brd does. */
static bool blki_completes_inside(struct block_device *bdev)
{
	struct blki_probe probe = { .task = current };
	struct page *page = alloc_page(GFP_KERNEL);
	struct bio *bio;
	bool inside;

	if (!page)
		return false;
	init_completion(&probe.done);
	bio = bio_alloc(bdev, 1, REQ_OP_READ | REQ_SYNC, GFP_KERNEL);
	__bio_add_page(bio, page, bdev_logical_block_size(bdev), 0);
	bio->bi_private = &probe;
	bio->bi_end_io = blki_probe_end_io;
	submit_bio(bio);
	wait_for_completion_io(&probe.done);
	inside = probe.inside && bio->bi_status == BLK_STS_OK;
	bio_put(bio);
	__free_page(page);
	return inside;
}

static bool blki_is_dm(struct block_device *bdev)
{
	struct mapped_device *md = dm_get_md(disk_devt(bdev->bd_disk));

	if (md)
		dm_put(md);
	return md;
}

/**
 * blki_sees_inflight() - Whether I/O below a device can be waited for.
 * @bdev: the device
 *
 * Of a driver that is neither device-mapper's nor has requests only what it
 * counts can be seen, unless it has nothing in flight once it has returned. To
 * know, a block is read.
 *
 * Return: true if it can.
 */
bool blki_sees_inflight(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);

	if (queue_is_mq(q) || blki_is_dm(bdev) || blki_completes_inside(bdev))
		return true;
	return blk_queue_io_stat(q) && part_stat_read(bdev, ios[STAT_READ]);
}

static int blki_freeze_queue(struct request_queue *q, unsigned long timeout)
{
	struct blki_turns turns = blki_turns_begin(timeout);
	int left, err;

	do {
		blk_freeze_queue_start(q);
		left = blk_mq_freeze_queue_wait_timeout(q, blki_turn(&turns));
		blk_mq_unfreeze_queue(q);
		err = left ? 0 : blki_turn_over(&turns);
	} while (!left && !err);
	return err;
}

/* Some targets count a bio only when they send it on; device-mapper counts all. */
static bool blki_suspend_dm(struct block_device *bdev)
{
	struct mapped_device *md = dm_get_md(disk_devt(bdev->bd_disk));

	if (!md)
		return false;
	dm_internal_suspend_fast(md);
	dm_internal_resume_fast(md);
	dm_put(md);
	return true;
}

/*
 * In some kernels md counts a write that carries a flush after the flush. One of
 * our own comes after all that are under way; then a worker may be about to count.
 */
static void blki_flush_original(struct blki_pair *pair)
{
	struct bio *bio = bio_alloc_bioset(pair->original.bdev, 0,
					   REQ_OP_WRITE | REQ_PREFLUSH,
					   GFP_KERNEL, &pair->bs);

	/* An original that cannot flush has none under way. */
	submit_bio_wait(bio);
	bio_put(bio);
	synchronize_rcu_tasks();
}

/**
 * blki_quiesce_original() - Wait for I/O from before the hook.
 * @pair: settled, with its gate open
 * @timeout: in jiffies
 *
 * The original takes nothing for that time, or in turns. Without requests and
 * device-mapper, what remains can be seen by blki_wait_counted().
 *
 * Return: 0, -EINTR or -ETIMEDOUT.
 */
int blki_quiesce_original(struct blki_pair *pair, unsigned long timeout)
{
	struct block_device *original = pair->original.bdev;
	struct request_queue *q = bdev_get_queue(original);

	if (!queue_is_mq(q) && blki_suspend_dm(original))
		return 0;
	if (!queue_is_mq(q))
		blki_flush_original(pair);
	return blki_freeze_queue(q, timeout);
}

/**
 * blki_wait_counted() - Wait until the original counts no I/O in flight.
 * @pair: quiesced, its gate closed and drained
 * @end: no longer than to there, in jiffies
 *
 * Return: 0, -EINTR or -ETIMEDOUT.
 */
int blki_wait_counted(struct blki_pair *pair, unsigned long end)
{
	struct block_device *original = pair->original.bdev;

	if (queue_is_mq(bdev_get_queue(original)) || blki_is_dm(original))
		return 0;
	while (blki_in_flight(pair)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		usleep_range(50, 200);
	}
	return 0;
}
