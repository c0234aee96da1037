// SPDX-License-Identifier: GPL-2.0-only
/*
 * A user of blk-copy's functions: while it is loaded it copies the first piece
 * of a device to many places at once, and then each of these on to another;
 * loading fails if a count is wrong.
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "api.h"

#define NR	32
#define LEN	(256 * 1024)

static char *device;
module_param(device, charp, 0);

struct copies {
	struct blk_copy_request req[2 * NR];
	atomic_t left;
	struct completion done;
};

static void ended(struct blk_copy_request *req)
{
	struct copies *c = req->private;

	if (atomic_dec_and_test(&c->left))
		complete(&c->done);
}

static int outcome(struct copies *c)
{
	int i;

	for (i = 0; i < 2 * NR; i++) {
		struct blk_copy_request *req = &c->req[i];

		if (!req->error && req->done == LEN && req->offloaded == LEN)
			continue;
		pr_err("copy %d: error %d, %llu bytes\n", i, req->error,
		       req->done);
		return req->error ?: -EIO;
	}
	return 0;
}

/* Number i goes from the beginning to slot i, number NR + i from there on. */
static void copy_half(struct copies *c, struct block_device *bdev, int first)
{
	int i;

	atomic_set(&c->left, NR);
	init_completion(&c->done);
	for (i = first; i < first + NR; i++) {
		c->req[i] = (struct blk_copy_request) {
			.src = bdev,
			.dst = bdev,
			.src_pos = i < NR ? 0 : (1 + i - NR) * LEN,
			.dst_pos = (1 + i) * LEN,
			.len = LEN,
			.end = ended,
			.private = c,
		};
		blk_copy_submit(&c->req[i]);
	}
	wait_for_completion(&c->done);
}

/* What has to be refused, at once and by the worker. */
static int refuse(struct copies *c, struct block_device *bdev)
{
	struct blk_copy_request overlap = {
		.src = bdev, .dst = bdev, .dst_pos = 512, .len = LEN,
	};

	if (blk_copy(&overlap) != -EINVAL || overlap.done)
		return -EIO;
	atomic_set(&c->left, 1);
	init_completion(&c->done);
	overlap.end = ended;
	overlap.private = c;
	blk_copy_submit(&overlap);
	wait_for_completion(&c->done);
	return overlap.error == -EINVAL && !overlap.done &&
	       blk_copy_possible(bdev, bdev) ? 0 : -EIO;
}

static int __init copy_async_init(void)
{
	struct copies *c = kzalloc(sizeof(*c), GFP_KERNEL);
	struct file *file;
	int err;

	if (!c)
		return -ENOMEM;
	file = filp_open(device, O_RDWR | O_LARGEFILE, 0);
	err = PTR_ERR_OR_ZERO(file);
	if (!err) {
		struct block_device *bdev = I_BDEV(file->f_mapping->host);

		err = refuse(c, bdev);
		if (!err) {
			copy_half(c, bdev, 0);
			copy_half(c, bdev, NR);
			err = outcome(c);
		}
		fput(file);
	}
	kfree(c);
	return err;
}

static void __exit copy_async_exit(void)
{
}

module_init(copy_async_init);
module_exit(copy_async_exit);

MODULE_DESCRIPTION("A test of blk-copy's functions");
MODULE_LICENSE("GPL");
