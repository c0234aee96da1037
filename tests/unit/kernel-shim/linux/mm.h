/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_MM_H
#define SHIM_MM_H

/* A page is its memory. */
#include <linux/gfp.h>
#include <linux/sched.h>

struct page;

extern char sim_zero_page[PAGE_SIZE];

#define ZERO_PAGE(addr) ((struct page *)sim_zero_page)

static inline void *page_address(struct page *page)
{
	return page;
}

static inline struct page *virt_to_page(const void *addr)
{
	return (struct page *)((unsigned long)addr & ~(PAGE_SIZE - 1));
}

#endif
