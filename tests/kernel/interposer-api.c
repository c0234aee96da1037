// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls the exported functions of blk-interposer, for a test: each is a
 * parameter, and what is written to it are paths of block devices.
 *
 *	create ORIGINAL; attach ORIGINAL TARGET; detach ORIGINAL; destroy ORIGINAL
 *
 * The write fails with the error of the function; then "failed" has the step and
 * the reason. "lower" has the number of the disk that was made last.
 */
#include <linux/blkdev.h>
#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../compat/interposer.h"
#include "../blk-interposer/api.h"

static dev_t lower;
static struct blk_interposer_error failed;

static int open_path(struct compat_bdev *c, const char *path)
{
	dev_t dev;
	int err = path ? lookup_bdev(path, &dev) : -EINVAL;

	return err ?: compat_bdev_open(c, dev);
}

static int do_attach(struct block_device *original, const char *path)
{
	struct compat_bdev target;
	int err = open_path(&target, path);

	if (err)
		return err;
	err = blk_interposer_attach(original, target.bdev, 0, &failed);
	compat_bdev_close(&target);
	return err;
}

static int call(const char *what, struct block_device *original,
		const char *path)
{
	failed = (struct blk_interposer_error) {};
	if (!strcmp(what, "create"))
		return blk_interposer_create(original, &lower, &failed);
	if (!strcmp(what, "attach"))
		return do_attach(original, path);
	if (!strcmp(what, "detach"))
		return blk_interposer_detach(original, 0, &failed);
	return blk_interposer_destroy(original, &failed);
}

static int set_call(const char *value, const struct kernel_param *param)
{
	char *text = kstrdup(value, GFP_KERNEL), *rest, *path;
	struct compat_bdev original;
	int err;

	if (!text)
		return -ENOMEM;
	rest = strim(text);
	path = strsep(&rest, " ");
	err = open_path(&original, path);
	if (!err) {
		err = call(param->arg, original.bdev, rest);
		compat_bdev_close(&original);
	}
	kfree(text);
	return err;
}

static const struct kernel_param_ops call_ops = { .set = set_call };

module_param_cb(create, &call_ops, "create", 0200);
module_param_cb(attach, &call_ops, "attach", 0200);
module_param_cb(detach, &call_ops, "detach", 0200);
module_param_cb(destroy, &call_ops, "destroy", 0200);

static int get_lower(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%u:%u\n", MAJOR(lower), MINOR(lower));
}

static int get_failed(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%u %u\n", failed.step, failed.reason);
}

static const struct kernel_param_ops lower_ops = { .get = get_lower };
static const struct kernel_param_ops failed_ops = { .get = get_failed };

module_param_cb(lower, &lower_ops, NULL, 0400);
module_param_cb(failed, &failed_ops, NULL, 0400);

MODULE_DESCRIPTION("Test of the functions that blk-interposer exports");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
