// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the crash tests: a device-mapper target that decides when flushes and
 * writes go on.
 *
 *   0 <sectors> flush-order <device> in_turn
 *   0 <sectors> flush-order <device> late <milliseconds> [<milliseconds>]
 *   0 <sectors> flush-order <device> none
 *
 * in_turn: one at a time. dm-log-writes gives what a flush covers to that flush
 * when it begins, and logs it when that flush ends. A second one that begins
 * later and ends sooner is logged without it, though it too promises all that
 * was complete when it began. So above dm-log-writes no two are under way at
 * once, as the block layer does for drivers with requests.
 *
 * late: one flush in four takes a random time, up to so long. Above and below
 * dm-log-writes that is the case in which its log is wrong. With a second time,
 * one write in four does so too: what begins meanwhile does not cover it.
 *
 * none: flushes end at once, and nobody below hears of them. Who makes a write
 * durable sends a flush after it, besides asking for FUA; here FUA has to do.
 *
 * Lock: flush_order.lock, a leaf, taken from any context.
 */
#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define DM_MSG_PREFIX "flush-order"

/**
 * struct flush_order - an instance
 * @dev: where all goes
 * @late: longest delay of a flush in milliseconds; 0: in turn
 * @late_writes: longest delay of a write in milliseconds; 0: none
 * @none: no flush goes on
 * @lock: @waiting and @busy
 * @waiting: flushes whose turn it is not yet
 * @busy: one is under way
 */
struct flush_order {
	struct dm_dev *dev;
	unsigned int late;
	unsigned int late_writes;
	bool none;
	spinlock_t lock; /* waiting, busy */
	struct bio_list waiting;
	bool busy;
};

/* Per-bio data. */
struct flush_io {
	struct delayed_work work;
	bool in_turn;
};

static struct bio *bio_of(struct flush_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

static void go_on(struct work_struct *work)
{
	submit_bio_noacct(bio_of(container_of(to_delayed_work(work),
					      struct flush_io, work)));
}

static int start_late(struct flush_io *io, unsigned int longest)
{
	u32 random = get_random_u32();

	if (!longest || random & 3)
		return DM_MAPIO_REMAPPED;
	INIT_DELAYED_WORK(&io->work, go_on);
	queue_delayed_work(system_unbound_wq, &io->work,
			   msecs_to_jiffies((random >> 2) % longest));
	return DM_MAPIO_SUBMITTED;
}

static int start_in_turn(struct flush_order *fo, struct flush_io *io)
{
	unsigned long flags;
	bool wait;

	io->in_turn = true;
	INIT_DELAYED_WORK(&io->work, go_on);
	spin_lock_irqsave(&fo->lock, flags);
	wait = fo->busy;
	fo->busy = true;
	if (wait)
		bio_list_add(&fo->waiting, bio_of(io));
	spin_unlock_irqrestore(&fo->lock, flags);
	return wait ? DM_MAPIO_SUBMITTED : DM_MAPIO_REMAPPED;
}

static int flush_order_map(struct dm_target *ti, struct bio *bio)
{
	struct flush_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct flush_order *fo = ti->private;

	bio_set_dev(bio, fo->dev->bdev);
	io->in_turn = false;
	if (bio_op(bio) == REQ_OP_WRITE && bio_has_data(bio))
		return start_late(io, fo->late_writes);
	if (!(bio->bi_opf & REQ_PREFLUSH))
		return DM_MAPIO_REMAPPED;
	if (fo->none) {
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	return fo->late ? start_late(io, fo->late) : start_in_turn(fo, io);
}

static int flush_order_end_io(struct dm_target *ti, struct bio *bio,
			      blk_status_t *error)
{
	struct flush_io *io = dm_per_bio_data(bio, sizeof(*io));
	struct flush_order *fo = ti->private;
	unsigned long flags;
	struct bio *next;

	if (!io->in_turn)
		return DM_ENDIO_DONE;
	spin_lock_irqsave(&fo->lock, flags);
	next = bio_list_pop(&fo->waiting);
	fo->busy = next;
	spin_unlock_irqrestore(&fo->lock, flags);
	if (next) {
		io = dm_per_bio_data(next, sizeof(*io));
		queue_delayed_work(system_unbound_wq, &io->work, 0);
	}
	return DM_ENDIO_DONE;
}

static int parse_mode(struct flush_order *fo, unsigned int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "in_turn"))
		return 0;
	fo->none = argc == 2 && !strcmp(argv[1], "none");
	if (fo->none)
		return 0;
	if (argc < 3 || argc > 4 || strcmp(argv[1], "late") ||
	    kstrtouint(argv[2], 10, &fo->late) || !fo->late)
		return -EINVAL;
	return argc == 4 ? kstrtouint(argv[3], 10, &fo->late_writes) : 0;
}

static int flush_order_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct flush_order *fo = kzalloc(sizeof(*fo), GFP_KERNEL);
	int r;

	if (!fo) {
		ti->error = "out of memory";
		return -ENOMEM;
	}
	spin_lock_init(&fo->lock);
	r = parse_mode(fo, argc, argv);
	if (r)
		ti->error = "expected <device> in_turn | none | late <ms> [<ms>]";
	else
		r = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table),
				  &fo->dev);
	if (r) {
		ti->error = ti->error ?: "cannot open the device";
		kfree(fo);
		return r;
	}
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->num_discard_bios = 1;
	ti->per_io_data_size = sizeof(struct flush_io);
	ti->private = fo;
	return 0;
}

static void flush_order_dtr(struct dm_target *ti)
{
	struct flush_order *fo = ti->private;

	dm_put_device(ti, fo->dev);
	kfree(fo);
}

static int flush_order_iterate_devices(struct dm_target *ti,
				       iterate_devices_callout_fn fn, void *data)
{
	struct flush_order *fo = ti->private;

	return fn(ti, fo->dev, 0, ti->len, data);
}

static struct target_type flush_order_target = {
	.name = "flush-order",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = flush_order_ctr,
	.dtr = flush_order_dtr,
	.map = flush_order_map,
	.end_io = flush_order_end_io,
	.iterate_devices = flush_order_iterate_devices,
};

static int __init flush_order_init(void)
{
	return dm_register_target(&flush_order_target);
}

static void __exit flush_order_exit(void)
{
	dm_unregister_target(&flush_order_target);
}

module_init(flush_order_init);
module_exit(flush_order_exit);

MODULE_DESCRIPTION("device-mapper target that decides when flushes and writes go on, for tests");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
