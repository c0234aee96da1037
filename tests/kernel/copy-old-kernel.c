// SPDX-License-Identifier: GPL-2.0-only
/*
 * How blk-copy is loaded on kernels that cannot be run here: its own main.c,
 * told that it was built for another kernel and runs on one.
 */
#include <linux/module.h>
#include <linux/string.h>
#include <linux/utsname.h>

static unsigned int major, minor, sublevel;
static char *running = "";
static char *text = "";

module_param(major, uint, 0);
module_param(minor, uint, 0);
module_param(sublevel, uint, 0);
module_param(running, charp, 0);
module_param(text, charp, 0);

static struct new_utsname *test_utsname(void)
{
	static struct new_utsname uts;

	strscpy(uts.release, running, sizeof(uts.release));
	strscpy(uts.version, text, sizeof(uts.version));
	return &uts;
}

#define init_utsname test_utsname
#define compat_built_for compat_version(major, minor, sublevel)
#include "../blk-copy/blk-copy.h"

/* Nothing of the rest of it is wanted. */
#define blk_copy_queue_init test_init
#define blk_copy_control_init test_init
#define blk_copy_queue_exit test_exit
#define blk_copy_control_exit test_exit
#define blk_copy_wq test_wq

static struct workqueue_struct *test_wq;
static int test_init(void) { return 0; }
static void test_exit(void) { }

#include "../blk-copy/main.c"
