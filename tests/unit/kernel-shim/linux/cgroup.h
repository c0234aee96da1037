/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_CGROUP_H
#define SHIM_CGROUP_H

struct cgroup_subsys_state;

#endif
