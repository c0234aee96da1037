// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and unloading. No locks.
 */
#include <linux/module.h>

#include "../compat/tested.h"
#include "control.h"
#include "loop-copy.h"

static int __init loop_copy_init(void)
{
	int err = compat_check_kernel();

	return err ?: loop_copy_control_init();
}

static void __exit loop_copy_exit(void)
{
	loop_copy_control_exit();
}

module_init(loop_copy_init);
module_exit(loop_copy_exit);

MODULE_DESCRIPTION("Disks in files, which copy by copy_file_range");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
