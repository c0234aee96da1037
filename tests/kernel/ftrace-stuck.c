// SPDX-License-Identifier: GPL-2.0-only
/*
 * While it is loaded, unregister_ftrace_function() does nothing but fail, for a test.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

/* Back to the caller, as the function would with an error. */
static int fail_at_once(struct kprobe *probe, struct pt_regs *regs)
{
	regs_set_return_value(regs, -EBUSY);
	instruction_pointer_set(regs, *(unsigned long *)regs->sp);
	regs->sp += sizeof(unsigned long);
	return 1;
}

/* A probe that has one is not turned into a jump, which could not change the way. */
static void never_called(struct kprobe *probe, struct pt_regs *regs,
			 unsigned long flags)
{
}

static struct kprobe stuck = {
	.symbol_name = "unregister_ftrace_function",
	.pre_handler = fail_at_once,
	.post_handler = never_called,
};

static int __init stuck_init(void)
{
	return register_kprobe(&stuck);
}

static void __exit stuck_exit(void)
{
	unregister_kprobe(&stuck);
}

module_init(stuck_init);
module_exit(stuck_exit);

MODULE_DESCRIPTION("Test: ftrace does not let go");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
