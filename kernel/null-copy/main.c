// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and unloading. No locks.
 */
#include <linux/module.h>

#include "../compat/tested.h"
#include "null-copy.h"

static int __init null_copy_init(void)
{
	int err = compat_check_kernel();

	return err ?: null_copy_config_init();
}

static void __exit null_copy_exit(void)
{
	null_copy_config_exit();
}

module_init(null_copy_init);
module_exit(null_copy_exit);

MODULE_DESCRIPTION("Memory-backed test disk that copies, zoned or not");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
