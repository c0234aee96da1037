// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is above and below a device, as far as drivers say so: device-mapper and md
 * do, by links in sysfs from a disk to the "holders" above it and to the "slaves"
 * below it.
 *
 * Locks: open_mutex of a disk, for a moment: with it the links of a disk that is
 * live are there.
 */
#include <linux/kernfs.h>
#include <linux/kobject.h>
#include <linux/slab.h>

#include "stack.h"

/* Beyond that many devices below each other something is wrong. */
#define BLKI_MAX_BELOW	256

/* The folder of a device with links to those above, with a reference, or NULL. */
static struct kobject *blki_holders_of(struct block_device *bdev)
{
	struct kobject *dir = NULL;

	mutex_lock(&bdev->bd_disk->open_mutex);
	if (!inode_unhashed(compat_bdev_mapping(bdev)->host))
		dir = kobject_get(bdev->bd_holder_dir);
	mutex_unlock(&bdev->bd_disk->open_mutex);
	return dir;
}

/* The same, to those below; they are of the disk, and not of its partitions. */
static struct kobject *blki_slaves_of(struct gendisk *disk)
{
	struct kobject *dir = NULL;

	mutex_lock(&disk->open_mutex);
	if (disk_live(disk))
		dir = kobject_get(disk->slave_dir);
	mutex_unlock(&disk->open_mutex);
	return dir;
}

static bool blki_has_link(struct kobject *dir, struct device *dev)
{
	struct kernfs_node *link = kernfs_find_and_get(dir->sd, dev_name(dev));

	kernfs_put(link);
	return link;
}

/* Disks and partitions; ends when FN returns something, and returns that. */
static int blki_each_device(struct block_device *any, void *data,
			    int (*fn)(struct device *dev, void *data))
{
	return class_for_each_device(disk_to_dev(any->bd_disk)->class, NULL,
				     data, fn);
}

static int blki_is_request_holder(struct device *dev, void *dir)
{
	struct block_device *bdev = dev_to_bdev(dev);

	return !bdev_is_partition(bdev) &&
	       queue_is_mq(bdev_get_queue(bdev)) && blki_has_link(dir, dev);
}

/**
 * blki_takes_requests() - Whether a driver above sends requests.
 * @original: a disk or partition
 *
 * As multipath of device-mapper does: what it gets are requests, which it clones
 * and inserts into the queue of the whole disk, so that no bio is seen there.
 *
 * Return: true if one does.
 */
bool blki_takes_requests(struct block_device *original)
{
	struct kobject *dir = blki_holders_of(bdev_whole(original));
	bool found;

	if (!dir)
		return false;
	found = blki_each_device(original, dir, blki_is_request_holder);
	kobject_put(dir);
	return found;
}

/**
 * struct blki_below - what a device is made of
 * @devs: disks and partitions, with a reference each; first where it begins
 * @nr: how many
 * @slaves: the folder of the one that is being looked at
 */
struct blki_below {
	struct device *devs[BLKI_MAX_BELOW];
	unsigned int nr;
	struct kobject *slaves;
};

static void blki_add_below(struct blki_below *below, struct device *dev)
{
	unsigned int i;

	for (i = 0; i < below->nr; i++)
		if (below->devs[i] == dev)
			return;
	if (below->nr < BLKI_MAX_BELOW)
		below->devs[below->nr++] = get_device(dev);
}

static int blki_add_if_linked(struct device *dev, void *data)
{
	struct blki_below *below = data;

	if (blki_has_link(below->slaves, dev))
		blki_add_below(below, dev);
	return 0;
}

/* A disk of ours leads to the original, but has no link to it. */
static void blki_look_below(struct blki_below *below, struct block_device *bdev)
{
	unsigned int i;

	blki_add_below(below, &bdev->bd_device);
	for (i = 0; i < below->nr; i++) {
		struct block_device *at = dev_to_bdev(below->devs[i]);

		below->slaves = blki_slaves_of(at->bd_disk);
		if (!below->slaves)
			continue;
		blki_each_device(at, below, blki_add_if_linked);
		kobject_put(below->slaves);
	}
}

/**
 * blki_check_below() - Look at what a target is made of.
 * @pair: the pair
 * @target: to be attached to it
 * @reason: becomes BLK_INTERPOSER_LOOP if the original is among it by another way
 *	than the lower disk, or BLK_INTERPOSER_UNUSED_LOWER if that disk is not
 *
 * Return: 0 or -ENOMEM.
 */
int blki_check_below(struct blki_pair *pair, struct block_device *target,
		     enum blk_interposer_reason *reason)
{
	struct blki_below *below = kzalloc(sizeof(*below), GFP_KERNEL);
	bool lower = false, loop = false;
	unsigned int i;

	if (!below)
		return -ENOMEM;
	blki_look_below(below, target);
	for (i = 0; i < below->nr; i++) {
		struct block_device *bdev = dev_to_bdev(below->devs[i]);

		lower |= bdev == pair->lower->part0;
		loop |= blki_overlaps(bdev, pair->original.bdev);
		put_device(below->devs[i]);
	}
	kfree(below);
	if (loop)
		*reason = BLK_INTERPOSER_LOOP;
	else if (!lower)
		*reason = BLK_INTERPOSER_UNUSED_LOWER;
	return 0;
}
