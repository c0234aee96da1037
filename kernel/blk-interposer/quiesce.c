// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for what the original had in flight before the hook.
 *
 * It is in a queue, which is frozen to see it complete; or in device-mapper,
 * which suspends the device for a moment to the same end; or below another driver
 * without requests, whose counters are watched.
 *
 * Locks: device-mapper's suspend_lock, which nothing that a bio does waits for.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/part_stat.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>

#include "quiesce.h"
#include "turns.h"

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
