// SPDX-License-Identifier: GPL-2.0-only
/*
 * What programs cannot ask for. Loading fails with the error that there was.
 *
 * what=async: a user of blk-copy's functions, which copies the first piece of a
 * device to many places at once, and then each of these on to another; a count
 * that is wrong is an error. With other=, that disk, whose driver is not asked
 * for copies, must not be taken for one that device can copy from or to.
 * what=append: a zone append of 4 KiB to the zone that begins at sector=, whose
 * place is logged.
 */
#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "../blk-copy/api.h"

#undef pr_fmt
#define pr_fmt(fmt) "copy-test: " fmt

#define NR	32
#define LEN	(256 * 1024)

static char *device;
module_param(device, charp, 0);
static char *other = "";
module_param(other, charp, 0);
static char *what = "async";
module_param(what, charp, 0);
static unsigned long sector;
module_param(sector, ulong, 0);

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
	       blk_copy_possible(&overlap, 0) == 1 ? 0 : -EIO;
}

static struct file *open_bdev(const char *path, struct block_device **bdev)
{
	struct file *file = filp_open(path, O_RDWR | O_LARGEFILE, 0);

	if (!IS_ERR(file))
		*bdev = I_BDEV(file->f_mapping->host);
	return file;
}

static int must_be_impossible(struct block_device *bdev)
{
	struct blk_copy_request to = { .src = bdev }, from = { .dst = bdev };
	struct file *file = open_bdev(other, &to.dst);
	int err = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	from.src = to.dst;
	if (blk_copy_possible(&to, 0) || blk_copy_possible(&from, 0))
		err = -EXDEV;
	fput(file);
	return err;
}

static int async(struct block_device *bdev)
{
	struct copies *c = kzalloc(sizeof(*c), GFP_KERNEL);
	int err;

	if (!c)
		return -ENOMEM;
	err = *other ? must_be_impossible(bdev) : 0;
	if (!err)
		err = refuse(c, bdev);
	if (!err) {
		copy_half(c, bdev, 0);
		copy_half(c, bdev, NR);
		err = outcome(c);
	}
	kfree(c);
	return err;
}

static int append(struct block_device *bdev)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	struct bio *bio;
	int err;

	if (!page)
		return -ENOMEM;
	bio = bio_alloc(bdev, 1, REQ_OP_ZONE_APPEND | REQ_SYNC, GFP_KERNEL);
	bio->bi_iter.bi_sector = sector;
	__bio_add_page(bio, page, PAGE_SIZE, 0);
	err = submit_bio_wait(bio);
	if (!err)
		pr_info("appended at sector %llu\n", bio->bi_iter.bi_sector);
	bio_put(bio);
	__free_page(page);
	return err;
}

static int __init copy_test_init(void)
{
	struct block_device *bdev;
	struct file *file = open_bdev(device, &bdev);
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);
	err = strcmp(what, "append") ? async(bdev) : append(bdev);
	fput(file);
	return err;
}

static void __exit copy_test_exit(void)
{
}

module_init(copy_test_init);
module_exit(copy_test_exit);

MODULE_DESCRIPTION("A test of blk-copy's functions");
MODULE_LICENSE("GPL");
