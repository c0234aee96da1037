// SPDX-License-Identifier: GPL-2.0-only
/* Makes the kernel complain while it is loaded: a test of the VM runner. */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>

static char *what = "warn";
module_param(what, charp, 0);
static char *holds = "";
module_param(holds, charp, 0);

static int __init complain_init(void)
{
	char *buffer;

	if (!strcmp(what, "warn")) {
		WARN(1, "complain was asked for this");
	} else if (!strcmp(what, "oops")) {
		*(volatile int *)8 = 1;
	} else if (!strcmp(what, "leak")) {
		buffer = kmalloc(512, GFP_KERNEL);
		pr_info("complain leaks %zu bytes\n", buffer ? ksize(buffer) : 0);
	} else if (!strcmp(what, "overrun")) {
		buffer = kmalloc(64, GFP_KERNEL);
		if (buffer)
			((volatile char *)buffer)[64] = 1;
		kfree(buffer);
	} else if (!strcmp(what, "hold")) {
		/* Never put: the module that exports it is in use for good. */
		return __symbol_get(holds) ? 0 : -ENOENT;
	} else {
		return -EINVAL;
	}
	return 0;
}

static void __exit complain_exit(void)
{
}

module_init(complain_init);
module_exit(complain_exit);
MODULE_DESCRIPTION("Makes the kernel complain, for the tests of the VM runner");
MODULE_LICENSE("GPL");
