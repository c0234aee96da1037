/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernels that the modules were tested on. This is the only place that names
 * them: dkms.conf and the scripts read the line below.
 *
 * The modules depend on what no interface promises, and what another kernel does
 * differently may lose data without a word. So each refuses to be loaded there,
 * unless told to by its parameter "force". Included by one file of each module.
 */
#ifndef LIVEBLK_TESTED_H
#define LIVEBLK_TESTED_H

#define LIVEBLK_TESTED_KERNELS "6.1 6.12"

#ifdef __KERNEL__
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/utsname.h>
#else
#include <string.h>
#endif

/* Whether a release, as "6.1.0-57-amd64", is of one of VERSIONS, as "6.1 6.12". */
static inline int compat_is_release_of(const char *release, const char *versions)
{
	while (*versions) {
		size_t len = strcspn(versions, " ");

		if (len && !strncmp(release, versions, len) &&
		    (!release[len] || strchr(".-", release[len])))
			return 1;
		versions += len;
		versions += strspn(versions, " ");
	}
	return 0;
}

#ifdef __KERNEL__
static bool force;
module_param(force, bool, 0444);
MODULE_PARM_DESC(force, "load it on a kernel that it was not tested on");

/* First of all in a module's initialization. */
static inline int compat_check_kernel(void)
{
	const char *release = init_utsname()->release;

	if (compat_is_release_of(release, LIVEBLK_TESTED_KERNELS))
		return 0;
	if (force) {
		pr_warn("this kernel is %s, and %s was tested on %s: loaded by force\n",
			release, module_name(THIS_MODULE),
			LIVEBLK_TESTED_KERNELS);
		return 0;
	}
	pr_err("this kernel is %s, and %s was tested on %s: not loaded without force=1\n",
	       release, module_name(THIS_MODULE), LIVEBLK_TESTED_KERNELS);
	return -EOPNOTSUPP;
}
#endif

#endif
