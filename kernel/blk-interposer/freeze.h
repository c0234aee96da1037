/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Freezing what is mounted on an original. Takes bd_fsfreeze_mutex and s_umount
 * inside of pair.lock; above pair.h.
 */
#ifndef BLK_INTERPOSER_FREEZE_H
#define BLK_INTERPOSER_FREEZE_H

#include <linux/fs.h>

#include "pair.h"

/**
 * struct blki_frozen - what is to be frozen, and has been
 */
struct blki_frozen {
	/** @devs: open block devices */
	struct compat_bdev *devs;
	/** @nr: how many */
	unsigned int nr;
	/** @nr_frozen: the first of them are frozen */
	unsigned int nr_frozen;
	/** @files: a file in each file system that has no block device */
	struct file **files;
	/** @nr_files_frozen: the first of these are frozen */
	unsigned int nr_files_frozen;
	/** @supers: a file system is frozen, not just devices */
	bool supers;
};

int blki_freeze(struct blki_pair *pair, struct file **files,
		unsigned int nr_files, struct blki_frozen *frozen,
		struct blk_interposer_error *error);
void blki_thaw(struct blki_frozen *frozen);

#endif
