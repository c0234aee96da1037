// SPDX-License-Identifier: GPL-2.0-only
/*
 * Takes what is read from one device away from whoever traces submit_bio_noacct()
 * too, for a test: as a driver that does the same as blk-interposer would. The one
 * that was registered last is called first.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/ftrace.h>
#include <linux/module.h>

#include "../compat/interposer.h"

static char *from;
module_param(from, charp, 0400);
MODULE_PARM_DESC(from, "path of the device that is robbed");

static char *to;
module_param(to, charp, 0400);
MODULE_PARM_DESC(to, "path of the device that is read instead");

static struct compat_bdev robbed, given;

static void notrace thief(unsigned long ip, unsigned long parent_ip,
			  struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct bio *bio = (struct bio *)compat_ftrace_arg0(fregs);

	if (bio->bi_bdev == robbed.bdev && bio_op(bio) == REQ_OP_READ)
		bio_set_dev(bio, given.bdev);
}

static struct ftrace_ops thief_ops = { .func = thief };

static int open_path(struct compat_bdev *c, const char *path)
{
	dev_t dev;
	int err = path ? lookup_bdev(path, &dev) : -EINVAL;

	return err ?: compat_bdev_open(c, dev);
}

static int __init thief_init(void)
{
	int err = open_path(&robbed, from);

	if (err)
		return err;
	err = open_path(&given, to);
	if (err)
		goto no_given;
	err = ftrace_set_filter_ip(&thief_ops,
				   (unsigned long)submit_bio_noacct, 0, 1);
	if (!err)
		err = register_ftrace_function(&thief_ops);
	if (!err)
		return 0;
	ftrace_free_filter(&thief_ops);
	compat_bdev_close(&given);
no_given:
	compat_bdev_close(&robbed);
	return err;
}

static void __exit thief_exit(void)
{
	unregister_ftrace_function(&thief_ops);
	ftrace_free_filter(&thief_ops);
	compat_bdev_close(&given);
	compat_bdev_close(&robbed);
}

module_init(thief_init);
module_exit(thief_exit);

MODULE_DESCRIPTION("Test: another one that redirects bios");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
