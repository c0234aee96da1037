// SPDX-License-Identifier: GPL-2.0-only
/*
 * Freezing what is mounted on an original, and thawing it.
 *
 * File systems are found by the block devices that they are on; those that have
 * none of their own are named by who asks for it.
 *
 * Locks: bd_fsfreeze_mutex and s_umount, in the functions of the kernel that
 * freeze and thaw.
 */
#include <linux/fs.h>
#include <linux/slab.h>

#include "freeze.h"

static struct super_block *blki_super_of(struct file *file)
{
	return file_inode(file)->i_sb;
}

/**
 * blki_thaw() - Thaw what has been frozen.
 * @frozen: from blki_freeze(), or zeroed
 */
void blki_thaw(struct blki_frozen *frozen)
{
	int err;

	while (frozen->nr_files_frozen) {
		struct super_block *sb;

		sb = blki_super_of(frozen->files[--frozen->nr_files_frozen]);
		err = compat_super_thaw(sb);
		if (err)
			pr_warn("%s: the file system does not thaw: error %d\n",
				sb->s_id, err);
	}
	while (frozen->nr) {
		struct compat_bdev *dev = &frozen->devs[--frozen->nr];

		err = 0;
		if (frozen->nr < frozen->nr_frozen)
			err = compat_bdev_thaw(dev->bdev);
		/* Somebody else has thawed it, and the device still counts. */
		if (err)
			pr_warn("%pg: the file system does not thaw: error %d; thaw it by itself, remove with --no-freeze\n",
				dev->bdev, err);
		compat_bdev_close(dev);
	}
	kvfree(frozen->devs);
	*frozen = (struct blki_frozen) {};
}

/* The original, and if it is a whole disk, its partitions. */
static unsigned int blki_list_devices(struct blki_pair *pair, dev_t *devs,
				      unsigned int size)
{
	struct block_device *bdev = pair->original.bdev, *part;
	unsigned long index;
	unsigned int nr = 0;

	devs[nr++] = bdev->bd_dev;
	if (!blki_is_whole(pair))
		return nr;
	rcu_read_lock();
	xa_for_each_start(&bdev->bd_disk->part_tbl, index, part, 1) {
		if (nr == size)
			break;
		devs[nr++] = part->bd_dev;
	}
	rcu_read_unlock();
	return nr;
}

static int blki_open_devices(struct blki_pair *pair, struct blki_frozen *frozen)
{
	dev_t *devs = kvmalloc_array(DISK_MAX_PARTS, sizeof(*devs), GFP_KERNEL);
	unsigned int i, nr;
	int err = 0;

	frozen->devs = kvmalloc_array(DISK_MAX_PARTS, sizeof(*frozen->devs),
				      GFP_KERNEL);
	if (!devs || !frozen->devs) {
		kvfree(devs);
		return -ENOMEM;
	}
	nr = blki_list_devices(pair, devs, DISK_MAX_PARTS);
	for (i = 0; i < nr && !err; i++) {
		err = compat_bdev_open(&frozen->devs[frozen->nr], devs[i]);
		/* A partition that has gone meanwhile has no file system. */
		if (err && i)
			err = 0;
		else if (!err)
			frozen->nr++;
	}
	kvfree(devs);
	return err;
}

/*
 * Whether any is frozen is asked before one is: a file system may be on several.
 */
static int blki_freeze_devices(struct blki_frozen *frozen)
{
	unsigned int i;
	int err;

	for (i = 0; i < frozen->nr; i++)
		if (compat_bdev_frozen(frozen->devs[i].bdev))
			return -EBUSY;
	while (frozen->nr_frozen < frozen->nr) {
		err = compat_bdev_freeze(frozen->devs[frozen->nr_frozen].bdev);
		if (err)
			return err;
		if (compat_super_frozen(frozen->devs[frozen->nr_frozen].bdev))
			frozen->supers = true;
		frozen->nr_frozen++;
	}
	return 0;
}

static int blki_freeze_files(struct blki_frozen *frozen, unsigned int nr)
{
	int err;

	while (frozen->nr_files_frozen < nr) {
		struct super_block *sb;

		sb = blki_super_of(frozen->files[frozen->nr_files_frozen]);
		/* On a disk it is enough that nobody writes, as for a device. */
		if (!sb->s_op->freeze_fs && !sb->s_bdev)
			return -EOPNOTSUPP;
		if (READ_ONCE(sb->s_writers.frozen) != SB_UNFROZEN)
			return -EBUSY;
		err = compat_super_freeze(sb);
		if (err)
			return err;
		frozen->supers = true;
		frozen->nr_files_frozen++;
	}
	return 0;
}

static int blki_freeze_all(struct blki_pair *pair, struct file **files,
			   unsigned int nr_files, struct blki_frozen *frozen,
			   struct blk_interposer_error *error)
{
	int err = blki_open_devices(pair, frozen);

	frozen->files = files;
	if (!err)
		err = blki_freeze_devices(frozen);
	if (!err)
		err = blki_freeze_files(frozen, nr_files);
	if (!err)
		return 0;
	blki_thaw(frozen);
	return blki_fail(error, BLK_INTERPOSER_STEP_FREEZE,
			 err == -EBUSY ? BLK_INTERPOSER_FROZEN :
					 BLK_INTERPOSER_OK, err);
}

/**
 * blki_freeze() - Freeze what is on an original.
 * @pair: its lock is held
 * @files: a file in each file system that is to be frozen besides those that are
 *	found by their block device
 * @nr_files: how many
 * @frozen: zeroed; becomes what blki_thaw() takes
 * @error: step and reason of a failure
 *
 * Meanwhile pair.freezer is who freezes, and where they write is noted.
 *
 * Return: 0, or an error; then nothing is frozen.
 */
int blki_freeze(struct blki_pair *pair, struct file **files,
		unsigned int nr_files, struct blki_frozen *frozen,
		struct blk_interposer_error *error)
{
	int err;

	lockdep_assert_held(&pair->lock);
	WRITE_ONCE(pair->freezer, current);
	err = blki_freeze_all(pair, files, nr_files, frozen, error);
	WRITE_ONCE(pair->freezer, NULL);
	return err;
}
