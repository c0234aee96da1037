// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and unloading. No locks.
 */
#include <linux/module.h>

#include "../compat/tested.h"
#include "blk-copy.h"

static int __init blk_copy_init(void)
{
	int err = compat_check_kernel();

	if (err)
		return err;
	if (!compat_copy_is_safe())
		return -EOPNOTSUPP;
	blk_copy_wq = alloc_workqueue("blk-copy", WQ_UNBOUND, 0);
	if (!blk_copy_wq)
		return -ENOMEM;
	err = blk_copy_queue_init();
	if (err)
		goto no_queue;
	err = blk_copy_control_init();
	if (!err)
		return 0;
	blk_copy_queue_exit();
no_queue:
	destroy_workqueue(blk_copy_wq);
	return err;
}

static void __exit blk_copy_exit(void)
{
	blk_copy_control_exit();
	blk_copy_queue_exit();
	destroy_workqueue(blk_copy_wq);
}

module_init(blk_copy_init);
module_exit(blk_copy_exit);

MODULE_DESCRIPTION("Copy ranges of block devices by their drivers");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
