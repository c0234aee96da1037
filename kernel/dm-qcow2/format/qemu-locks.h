/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which bytes of an image QEMU and its tools lock.
 *
 * Who does something with an image says so by shared open-file-description
 * locks on single bytes: QEMU_PERM_BASE + n for "uses permission n", and
 * QEMU_UNSHARED_BASE + n for "does not let others have permission n". A
 * newcomer takes its own bytes first, and then looks whether the opposite ones
 * are locked by somebody else.
 */
#ifndef QCOW2_QEMU_LOCKS_H
#define QCOW2_QEMU_LOCKS_H

#define QEMU_PERM_BASE		100
#define QEMU_UNSHARED_BASE	200
/* Bytes from QEMU_PERM_BASE on in which all locks lie. */
#define QEMU_LOCK_BYTES		200

enum qemu_perm {
	QEMU_PERM_CONSISTENT_READ,
	QEMU_PERM_WRITE,
	QEMU_PERM_WRITE_UNCHANGED,
	QEMU_PERM_RESIZE,
	QEMU_PERM_NR,
};

/* What a reader uses, what a writer uses, and what neither lets others do. */
#define QEMU_USES_RO	(1U << QEMU_PERM_CONSISTENT_READ)
#define QEMU_USES_RW	(QEMU_USES_RO | 1U << QEMU_PERM_WRITE | \
			 1U << QEMU_PERM_RESIZE)
#define QEMU_UNSHARED	(1U << QEMU_PERM_WRITE | 1U << QEMU_PERM_RESIZE)

#endif
