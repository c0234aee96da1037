/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_VMALLOC_H
#define SHIM_VMALLOC_H

#include <linux/shim.h>

void *vmalloc(size_t size);
void *vzalloc(size_t size);
void vfree(const void *p);

#endif
