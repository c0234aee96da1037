/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Attach and detach: the order of the steps, with pair.lock held. Above all that
 * is a step.
 */
#ifndef BLK_INTERPOSER_TRANSITION_H
#define BLK_INTERPOSER_TRANSITION_H

#include "pair.h"

/**
 * struct blki_request - how a transition is to be done
 */
struct blki_request {
	/** @flags: BLK_INTERPOSER_NO_FREEZE or 0 */
	unsigned int flags;
	/** @timeout: for each wait, in jiffies */
	unsigned long timeout;
	/**
	 * @files: a file in each file system that is to be frozen besides those
	 * that are found by their block device
	 */
	struct file **files;
	/** @nr_files: how many */
	unsigned int nr_files;
};

/**
 * struct blki_times - how long a transition was felt
 */
struct blki_times {
	/** @parked_ns: the gate was closed */
	u64 parked_ns;
	/** @frozen_ns: file systems were frozen */
	u64 frozen_ns;
};

int blki_attach(struct blki_pair *pair, struct block_device *target,
		const struct blki_request *request, struct blki_times *times,
		struct blk_interposer_error *error);
int blki_detach(struct blki_pair *pair, const struct blki_request *request,
		struct blki_times *times, struct blk_interposer_error *error);
int blki_detach_forced(struct blki_pair *pair, unsigned long closed);

#endif
