/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_BIO_H
#define SHIM_BIO_H

/* The types that headers of modules have members of. No bios. */
#include <linux/bvec.h>

struct bio;
struct bio_set {
	int unused;
};

#define REQ_SYNC 0x1U
#define REQ_META 0x2U
#define REQ_PRIO 0x4U
#define REQ_IDLE 0x8U
#define REQ_BACKGROUND 0x10U
#define REQ_RAHEAD 0x20U
#define REQ_SWAP 0x40U
#define REQ_FAILFAST_MASK 0x80U

#endif
