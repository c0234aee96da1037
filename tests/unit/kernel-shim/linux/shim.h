/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H

/* Types and macros that kernel sources have without asking. */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <linux/types.h>

#include "../sim.h"

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef unsigned long long u64;
typedef __s32 s32;
typedef long long s64;
typedef unsigned int gfp_t;
typedef unsigned int blk_opf_t;
typedef u64 sector_t;

#define U32_MAX UINT32_MAX
#define U64_MAX (~0ULL)

#define cpu_to_le64(x) htole64(x)

#define BITS_PER_LONG (8 * (int)sizeof(long))
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define SECTOR_SHIFT 9
#define SECTOR_SIZE 512

#define __packed __attribute__((__packed__))
#define __printf(a, b) __attribute__((__format__(printf, a, b)))
#define __percpu
#define __force
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) ((void)(*(volatile __typeof__(x) *)&(x) = (v)))
#define xchg(p, v)							\
({									\
	__typeof__(*(p)) __old = *(p);					\
									\
	*(p) = (v);							\
	__old;								\
})
#define cmpxchg(p, o, n)						\
({									\
	__typeof__(*(p)) __old = *(p);					\
									\
	if (__old == (o))						\
		*(p) = (n);						\
	__old;								\
})
/* One processor. */
#define smp_rmb() barrier()
#define smp_wmb() barrier()
#define smp_mb__before_atomic() barrier()
#define barrier() __asm__ volatile("" : : : "memory")

#define min(a, b)							\
({									\
	__typeof__(a) __a = (a);					\
	__typeof__(b) __b = (b);					\
									\
	__a < __b ? __a : __b;						\
})
#define max(a, b)							\
({									\
	__typeof__(a) __m = (a);					\
	__typeof__(b) __n = (b);					\
									\
	__m > __n ? __m : __n;						\
})
#define min_t(t, a, b) min((t)(a), (t)(b))
#define max_t(t, a, b) max((t)(a), (t)(b))
#define min3(a, b, c) min(min(a, b), c)
#define clamp(v, lo, hi) min(max(v, lo), hi)
#define round_up(x, y) ((((x) - 1) | ((__typeof__(x))(y) - 1)) + 1)
#define round_down(x, y) ((x) & ~((__typeof__(x))(y) - 1))
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define DIV_ROUND_UP_ULL(n, d) DIV_ROUND_UP((unsigned long long)(n), (d))

#define container_of(p, type, member) \
	((type *)((char *)(p) - offsetof(type, member)))

#define MAX_ERRNO 4095
#define IS_ERR(p) ((unsigned long)(p) >= (unsigned long)-MAX_ERRNO)

static inline void *ERR_PTR(long err)
{
	return (void *)err;
}

static inline long PTR_ERR(const void *p)
{
	return (long)p;
}

static inline int PTR_ERR_OR_ZERO(const void *p)
{
	return IS_ERR(p) ? PTR_ERR(p) : 0;
}

#define WARN_ON(x)							\
({									\
	bool __warn = (x);						\
									\
	if (__warn)							\
		sim_fail("WARN_ON(%s), %s:%d", #x, __FILE__, __LINE__);	\
	__warn;								\
})

#endif
