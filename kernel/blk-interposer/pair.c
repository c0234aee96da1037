// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pair of disks: making, finding, removing; the exported API.
 *
 * Locks: pair.lock, then blki_pairs_lock for the lists. The latter is held for no
 * longer than it takes to go through them: to open a disk or to add one may take
 * as long as that disk does not answer. A pair that is on the list holds a reference
 * to the module, so that it cannot be unloaded; one that is off the list, but has
 * its lower disk open somewhere, is waited for.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "blk-interposer.h"

/* So often the time between two tries to remove a pair doubles. */
#define BLKI_MAX_TRIES	6

static DEFINE_MUTEX(blki_pairs_lock);
static LIST_HEAD(blki_pairs);
/* Not found by anybody yet, but in the way of another pair for the same disk. */
static LIST_HEAD(blki_making);
static u32 blki_last_id;
static atomic_t blki_alive = ATOMIC_INIT(0);

/* Waits for what may take as long as a disk does not answer. */
struct workqueue_struct *blki_reap_wq;
/* Sends on what was parked; reclaim may wait for that. */
struct workqueue_struct *blki_io_wq;

/**
 * blki_is_own_disk() - Whether a disk is one of a pair.
 * @disk: any disk
 *
 * Return: true if it is.
 */
bool blki_is_own_disk(struct gendisk *disk)
{
	return disk->fops == &blki_upper_fops || disk->fops == &blki_lower_fops;
}

static void blki_release(struct kref *kref)
{
	struct blki_pair *pair = container_of(kref, struct blki_pair, kref);

	blki_io_exit_pair(pair);
	free_percpu(pair->redirected);
	if (pair->original.bdev)
		compat_bdev_close(&pair->original);
	kfree(pair);
	if (atomic_dec_and_test(&blki_alive))
		wake_up_var(&blki_alive);
}

/**
 * blki_put() - Give a reference to a pair back.
 * @pair: the pair
 *
 * Context: may sleep.
 */
void blki_put(struct blki_pair *pair)
{
	kref_put(&pair->kref, blki_release);
}

/**
 * blki_get() - Find a pair.
 * @id: its id
 * @next: the first with a greater id instead
 *
 * Return: the pair with a reference, or NULL.
 */
struct blki_pair *blki_get(u32 id, bool next)
{
	struct blki_pair *pair, *found = NULL;

	mutex_lock(&blki_pairs_lock);
	list_for_each_entry(pair, &blki_pairs, node)
		if (next ? pair->id > id && (!found || pair->id < found->id) :
			   pair->id == id)
			found = pair;
	if (found)
		kref_get(&found->kref);
	mutex_unlock(&blki_pairs_lock);
	return found;
}

static struct blki_pair *blki_find(struct block_device *original)
{
	struct blki_pair *pair, *found = NULL;

	mutex_lock(&blki_pairs_lock);
	list_for_each_entry(pair, &blki_pairs, node) {
		if (pair->original.bdev == original) {
			found = pair;
			kref_get(&found->kref);
			break;
		}
	}
	mutex_unlock(&blki_pairs_lock);
	return found;
}

static enum blk_interposer_reason blki_check_original(struct block_device *bdev)
{
	if (blki_is_own_disk(bdev->bd_disk))
		return BLK_INTERPOSER_OWN_DISK;
	if (bdev->bd_disk->flags & GENHD_FL_HIDDEN)
		return BLK_INTERPOSER_HIDDEN;
	if (test_bit(GD_DEAD, &bdev->bd_disk->state))
		return BLK_INTERPOSER_REMOVED;
	if (blk_get_integrity(bdev->bd_disk))
		return BLK_INTERPOSER_INTEGRITY;
	if (compat_bdev_encrypts(bdev))
		return BLK_INTERPOSER_ENCRYPTION;
	/* A file system there, now or later, may go past the block layer. */
	if (blk_queue_dax(bdev_get_queue(bdev)))
		return BLK_INTERPOSER_DAX;
	return BLK_INTERPOSER_OK;
}

/* Nobody else can make one for the same disk from here on. */
static enum blk_interposer_reason blki_begin_making(struct blki_pair *pair,
						    struct block_device *original)
{
	enum blk_interposer_reason reason = BLK_INTERPOSER_OK;
	struct blki_pair *other;

	mutex_lock(&blki_pairs_lock);
	list_for_each_entry(other, &blki_pairs, node)
		if (blki_overlaps(other->claimed, original))
			reason = BLK_INTERPOSER_EXISTS;
	list_for_each_entry(other, &blki_making, node)
		if (blki_overlaps(other->claimed, original))
			reason = BLK_INTERPOSER_EXISTS;
	if (!reason) {
		pair->claimed = original;
		pair->id = ++blki_last_id;
		list_add_tail(&pair->node, &blki_making);
	}
	mutex_unlock(&blki_pairs_lock);
	return reason;
}

static void blki_end_making(struct blki_pair *pair, int err)
{
	mutex_lock(&blki_pairs_lock);
	if (err)
		list_del(&pair->node);
	else
		list_move_tail(&pair->node, &blki_pairs);
	mutex_unlock(&blki_pairs_lock);
}

static int blki_create_errno(enum blk_interposer_reason reason)
{
	switch (reason) {
	case BLK_INTERPOSER_OK:
		return 0;
	case BLK_INTERPOSER_REMOVED:
		return -ENODEV;
	case BLK_INTERPOSER_EXISTS:
		return -EBUSY;
	case BLK_INTERPOSER_INTEGRITY:
	case BLK_INTERPOSER_ENCRYPTION:
	case BLK_INTERPOSER_DAX:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}

/* What can change below without anybody being told. */
static void blki_watch(struct work_struct *work)
{
	struct blki_pair *pair = container_of(to_delayed_work(work),
					      struct blki_pair, watch);
	struct block_device *original = pair->original.bdev;
	struct block_device *lower = pair->lower->part0;
	sector_t sectors = bdev_nr_sectors(original);
	bool read_only = bdev_read_only(original);

	if (bdev_nr_sectors(lower) != sectors) {
		set_capacity(pair->upper, sectors);
		set_capacity_and_notify(pair->lower, sectors);
	}
	if (bdev_write_cache(lower) != bdev_write_cache(original) ||
	    bdev_fua(lower) != (bdev_fua(original) &&
				bdev_write_cache(original))) {
		compat_mirror_cache(pair->upper, original);
		compat_mirror_cache(pair->lower, original);
	}
	set_disk_ro(pair->upper, read_only);
	set_disk_ro(pair->lower, read_only);
	queue_delayed_work(system_power_efficient_wq, &pair->watch, HZ);
}

static struct gendisk *blki_alloc_disk(struct blki_pair *pair,
				       const struct block_device_operations *ops)
{
	struct block_device *original = pair->original.bdev;
	struct gendisk *disk = compat_alloc_mirror(original);

	if (IS_ERR(disk))
		return disk;
	disk->fops = ops;
	disk->private_data = pair;
	disk->flags |= GENHD_FL_NO_PART;
#ifdef CONFIG_BLK_DEV_ZONED
	disk->nr_zones = bdev_nr_zones(original);
#endif
	set_capacity(disk, bdev_nr_sectors(original));
	set_disk_ro(disk, bdev_read_only(original));
	return disk;
}

/* The block layer gives the disk's reference to the pair back, but only then. */
static int blki_add_disk(struct blki_pair *pair, struct gendisk *disk)
{
	int err;

	kref_get(&pair->kref);
	err = add_disk(disk);
	if (err)
		blki_put(pair);
	return err;
}

static int blki_make_disks(struct blki_pair *pair)
{
	int err;

	pair->upper = blki_alloc_disk(pair, &blki_upper_fops);
	if (IS_ERR(pair->upper))
		return PTR_ERR(pair->upper);
	snprintf(pair->upper->disk_name, DISK_NAME_LEN, "interpose%u-upper",
		 pair->id);
	pair->upper->flags |= GENHD_FL_HIDDEN;
	pair->lower = blki_alloc_disk(pair, &blki_lower_fops);
	if (IS_ERR(pair->lower)) {
		err = PTR_ERR(pair->lower);
		goto no_lower;
	}
	snprintf(pair->lower->disk_name, DISK_NAME_LEN, "interpose%u", pair->id);
	err = blki_copy_register(pair);
	if (err)
		goto no_copies;
	err = blki_add_disk(pair, pair->upper);
	if (err)
		goto no_add_upper;
	err = blki_add_disk(pair, pair->lower);
	if (err)
		goto no_add_lower;
	strscpy(pair->lower_name, pair->lower->disk_name,
		sizeof(pair->lower_name));
	pair->lower_devt = disk_devt(pair->lower);
	return 0;

no_add_lower:
	del_gendisk(pair->upper);
no_add_upper:
	blk_copy_unregister(pair->copier);
no_copies:
	put_disk(pair->lower);
no_lower:
	put_disk(pair->upper);
	return err;
}

static void blki_remove(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	pair->removed = true;
	mutex_lock(&blki_pairs_lock);
	list_del(&pair->node);
	mutex_unlock(&blki_pairs_lock);
	cancel_delayed_work_sync(&pair->watch);
	del_gendisk(pair->lower);
	del_gendisk(pair->upper);
	blk_copy_unregister(pair->copier);
	put_disk(pair->lower);
	put_disk(pair->upper);
}

/* How long the gate may be closed for it, in jiffies: 2 to 16 seconds. */
static unsigned long blki_reap_closed(struct blki_pair *pair)
{
	return 2 * HZ << min(pair->reap_tries, 3U);
}

/* False if that is queued already, for another owner who is gone. */
static bool blki_reap_later(struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	if (pair->reap_tries < BLKI_MAX_TRIES)
		pair->reap_tries++;
	return queue_delayed_work(blki_reap_wq, &pair->reap,
				  HZ << pair->reap_tries);
}

/*
 * Detaches and removes a pair whose owner is gone. A lower disk that is open
 * becomes a disk that is gone. What takes long is tried again later and later, with
 * I/O going on meanwhile. By then somebody may have made the pair theirs.
 */
static void blki_reap(struct work_struct *work)
{
	struct blki_pair *pair = container_of(to_delayed_work(work),
					      struct blki_pair, reap);
	bool mine, again;
	int err = 0;

	mutex_lock(&pair->lock);
	mine = !pair->removed && READ_ONCE(pair->orphaned);
	if (mine && pair->target)
		err = blki_detach_forced(pair, blki_reap_closed(pair));
	if (mine && !err && pair->leaving)
		err = -EBUSY;
	if (mine && !err)
		blki_remove(pair);
	again = err && blki_reap_later(pair);
	mutex_unlock(&pair->lock);
	if (mine && !err) {
		blki_put(pair);
		module_put(THIS_MODULE);
	}
	if (!again)
		blki_put(pair);
}

/**
 * blki_reap_soon() - Remove a pair whose owner is gone.
 * @pair: orphaned; a reference goes to the work
 */
void blki_reap_soon(struct blki_pair *pair)
{
	/* One that is waiting for its next try has a reference. */
	if (mod_delayed_work(blki_reap_wq, &pair->reap, 0))
		blki_put(pair);
}

static struct blki_pair *blki_alloc(void)
{
	struct blki_pair *pair = kzalloc(sizeof(*pair), GFP_KERNEL);

	if (!pair)
		return NULL;
	kref_init(&pair->kref);
	mutex_init(&pair->lock);
	INIT_LIST_HEAD(&pair->owned);
	INIT_DELAYED_WORK(&pair->watch, blki_watch);
	INIT_WORK(&pair->leave, blki_leave_work);
	INIT_WORK(&pair->forward, blki_forward_work);
	INIT_DELAYED_WORK(&pair->reap, blki_reap);
	pair->redirected = alloc_percpu(u64);
	if (!pair->redirected)
		goto no_counter;
	if (blki_io_init_pair(pair))
		goto no_io;
	atomic_inc(&blki_alive);
	return pair;

no_io:
	free_percpu(pair->redirected);
no_counter:
	kfree(pair);
	return NULL;
}

static int blki_open_original(struct blki_pair *pair)
{
	int err = compat_bdev_open(&pair->original, pair->claimed->bd_dev);

	if (err)
		return err;
	/* Its number may have been given to another one. */
	return pair->original.bdev == pair->claimed ? 0 : -ENODEV;
}

/**
 * blki_create() - Make a pair of disks.
 * @original: what it is for
 * @error: step and reason of a failure
 *
 * Return: the pair, with a reference besides that of the list, or an error.
 */
struct blki_pair *blki_create(struct block_device *original,
			      struct blk_interposer_error *error)
{
	struct blki_pair *pair = blki_alloc();
	enum blk_interposer_reason reason;
	int err;

	if (!pair)
		return ERR_PTR(blki_fail(error, BLK_INTERPOSER_STEP_DISKS,
					 BLK_INTERPOSER_OK, -ENOMEM));
	reason = blki_check_original(original);
	if (!reason)
		reason = blki_begin_making(pair, original);
	if (reason) {
		blki_put(pair);
		return ERR_PTR(blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
					 reason, blki_create_errno(reason)));
	}
	err = blki_open_original(pair);
	if (!err)
		err = blki_make_disks(pair);
	if (!err) {
		__module_get(THIS_MODULE);
		kref_get(&pair->kref);
		queue_delayed_work(system_power_efficient_wq, &pair->watch, HZ);
	}
	blki_end_making(pair, err);
	if (!err)
		return pair;
	blki_put(pair);
	return ERR_PTR(blki_fail(error, BLK_INTERPOSER_STEP_DISKS,
				 BLK_INTERPOSER_OK, err));
}

/**
 * blki_destroy() - Take the disks of a pair away.
 * @pair: its lock is held, and so is a reference
 * @error: step and reason of a failure
 *
 * Return: 0, or -EBUSY if a target is attached, what was redirected to it is not
 * complete, or the lower disk is open.
 */
int blki_destroy(struct blki_pair *pair, struct blk_interposer_error *error)
{
	lockdep_assert_held(&pair->lock);
	if (pair->target)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_ATTACHED, -EBUSY);
	if (pair->leaving)
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_LEAVING, -EBUSY);
	if (disk_openers(pair->lower))
		return blki_fail(error, BLK_INTERPOSER_STEP_CHECK,
				 BLK_INTERPOSER_BUSY, -EBUSY);
	blki_remove(pair);
	blki_put(pair);
	module_put(THIS_MODULE);
	return 0;
}

/**
 * blk_interposer_create() - Make the pair of disks of an original.
 * @original: a disk or partition, open, mounted or not
 * @lower: becomes the number of the disk that targets are to open
 * @error: step and reason of a failure
 *
 * Return: 0, -EINVAL, -EBUSY (it has a pair), -ENODEV (it is being removed),
 * -EOPNOTSUPP (integrity data, inline encryption, direct access) or -ENOMEM.
 */
int blk_interposer_create(struct block_device *original, dev_t *lower,
			  struct blk_interposer_error *error)
{
	struct blki_pair *pair = blki_create(original, error);

	if (IS_ERR(pair))
		return PTR_ERR(pair);
	*lower = pair->lower_devt;
	blki_put(pair);
	return 0;
}
EXPORT_SYMBOL_GPL(blk_interposer_create);

/* Locked, with a reference. */
static struct blki_pair *blki_find_locked(struct block_device *original)
{
	struct blki_pair *pair = blki_find(original);

	if (!pair)
		return NULL;
	mutex_lock(&pair->lock);
	if (!pair->removed)
		return pair;
	mutex_unlock(&pair->lock);
	blki_put(pair);
	return NULL;
}

static void blki_put_locked(struct blki_pair *pair)
{
	mutex_unlock(&pair->lock);
	blki_put(pair);
}

/**
 * blk_interposer_attach() - Put a target between an original and its users.
 * @original: has a pair
 * @target: a block device of the same size on top of the lower disk
 * @flags: BLK_INTERPOSER_NO_FREEZE or 0
 * @error: step and reason of a failure
 *
 * Return: 0, -ENXIO (there is no pair), -EBUSY (attached already, detached with
 * I/O in flight still, or frozen by its user), -EINVAL, -ELOOP or -ENODEV for
 * the target, -ETIMEDOUT when I/O in flight does not complete in 30 seconds.
 * After an error all is as it was.
 */
int blk_interposer_attach(struct block_device *original,
			  struct block_device *target, unsigned int flags,
			  struct blk_interposer_error *error)
{
	const struct blki_request request = { .flags = flags, .timeout = 30 * HZ };
	struct blki_pair *pair = blki_find_locked(original);
	struct blki_times times = {};
	int err;

	if (!pair)
		return -ENXIO;
	err = blki_attach(pair, target, &request, &times, error);
	blki_put_locked(pair);
	return err;
}
EXPORT_SYMBOL_GPL(blk_interposer_attach);

/**
 * blk_interposer_detach() - Take the target out again.
 * @original: has a target attached
 * @flags: BLK_INTERPOSER_NO_FREEZE or 0
 * @error: step and reason of a failure
 *
 * Return: 0, -ENXIO (there is no pair), -EINVAL (nothing is attached), -EBUSY
 * (frozen by its user) or -ETIMEDOUT. After an error it is still attached.
 */
int blk_interposer_detach(struct block_device *original, unsigned int flags,
			  struct blk_interposer_error *error)
{
	const struct blki_request request = { .flags = flags, .timeout = 30 * HZ };
	struct blki_pair *pair = blki_find_locked(original);
	struct blki_times times = {};
	int err;

	if (!pair)
		return -ENXIO;
	err = blki_detach(pair, &request, &times, error);
	blki_put_locked(pair);
	return err;
}
EXPORT_SYMBOL_GPL(blk_interposer_detach);

/**
 * blk_interposer_destroy() - Take the two disks away.
 * @original: has a pair
 * @error: step and reason of a failure
 *
 * Return: 0, -ENXIO (there is no pair) or -EBUSY (attached, in use, or detached
 * with I/O in flight still).
 */
int blk_interposer_destroy(struct block_device *original,
			   struct blk_interposer_error *error)
{
	struct blki_pair *pair = blki_find_locked(original);
	int err;

	if (!pair)
		return -ENXIO;
	err = blki_destroy(pair, error);
	blki_put_locked(pair);
	return err;
}
EXPORT_SYMBOL_GPL(blk_interposer_destroy);

/**
 * blki_pairs_init() - Make the work queues.
 *
 * Return: 0 or -ENOMEM.
 */
int __init blki_pairs_init(void)
{
	blki_reap_wq = alloc_workqueue("blk-interposer", WQ_UNBOUND, 0);
	if (!blki_reap_wq)
		return -ENOMEM;
	blki_io_wq = alloc_workqueue("blk-interposer-io",
				     WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (blki_io_wq)
		return 0;
	destroy_workqueue(blki_reap_wq);
	return -ENOMEM;
}

/**
 * blki_pairs_exit() - Wait for the last pair to be freed.
 *
 * There is none on the list, as each holds the module. Work of theirs may be
 * waiting for a timer yet, with a reference, so that the queues go afterwards.
 */
void blki_pairs_exit(void)
{
	wait_var_event(&blki_alive, !atomic_read(&blki_alive));
	blki_proof_exit();
	destroy_workqueue(blki_io_wq);
	destroy_workqueue(blki_reap_wq);
}
