// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and unloading. No locks.
 */
#include <linux/module.h>

#include "../compat/tested.h"
#include "file-io.h"

static int __init file_io_init(void)
{
	int err = compat_check_kernel();

	return err ?: file_io_turn_init();
}

static void __exit file_io_exit(void)
{
	file_io_turn_exit();
}

module_init(file_io_init);
module_exit(file_io_exit);

MODULE_DESCRIPTION("I/O to the files that disks are kept in");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
