// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading and unloading. No locks.
 */
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "../compat/tested.h"
#include "clone.h"
#include "control.h"
#include "hook.h"
#include "pair.h"
#include "proof.h"

static int __init blki_init(void)
{
	int err = compat_check_kernel();

	if (err)
		return err;
	/* There spinlocks sleep, and the hook is under some in blk-cgroup. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT)) {
		pr_err("not for a PREEMPT_RT kernel\n");
		return -EOPNOTSUPP;
	}
	blki_clone_init();
	err = blki_hook_init();
	if (err)
		return err;
	err = blki_pairs_init();
	if (err)
		goto no_pairs;
	err = blki_control_init();
	if (err)
		goto no_control;
	return 0;

no_control:
	blki_pairs_exit();
no_pairs:
	blki_hook_exit();
	return err;
}

static void __exit blki_exit(void)
{
	blki_control_exit();
	blki_pairs_exit();
	blki_proof_exit();
	/* Who has given up the last reference may yet be on the way back. */
	synchronize_rcu_tasks();
	blki_hook_exit();
}

module_init(blki_init);
module_exit(blki_exit);

MODULE_DESCRIPTION("Put device-mapper targets under a mounted file system");
MODULE_AUTHOR("The liveblk developers");
MODULE_LICENSE("GPL");
