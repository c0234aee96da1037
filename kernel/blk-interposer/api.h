/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * blk-interposer for other modules: what the control device does, by block
 * device. Comments are with the functions.
 */
#ifndef BLK_INTERPOSER_API_H
#define BLK_INTERPOSER_API_H

#include <linux/blkdev.h>

#include "../uapi/blk-interposer.h"

int blk_interposer_create(struct block_device *original, dev_t *lower,
			  struct blk_interposer_error *error);
int blk_interposer_attach(struct block_device *original,
			  struct block_device *target, unsigned int flags,
			  struct blk_interposer_error *error);
int blk_interposer_detach(struct block_device *original, unsigned int flags,
			  struct blk_interposer_error *error);
int blk_interposer_destroy(struct block_device *original,
			   struct blk_interposer_error *error);

#endif
