/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * blk-interposer: the floors and how they fit. Calls go down only; what is above
 * is reached by callbacks: work items, completion functions, references.
 *
 *   main.c        loading and unloading
 *   control.c     the control device; pairs that a descriptor owns
 *   api.c         the same for other modules
 *   lifecycle.c   making and removing pairs
 *   transition.c  attach and detach: the order of the steps
 *   check.c       whether a target may be attached
 *   freeze.c      freezing file systems, and thawing them
 *   leave.c       no longer redirecting, and waiting for what was
 *   hook.c        the ftrace callback that redirects bios
 *   disks.c       the two disks and what they do with bios
 *   provider.c    copies of the lower disk, for blk-copy
 *   gate.c        bios are let through, or parked while it is closed
 *   forward.c     where a bio goes that is past the gate
 *   trial.c       a first write through a target, before others write
 *   proof.c       a read of our own that the hook has to see
 *   context.c     redirected bios and their end
 *   clone.c       what goes to the original
 *   stack.c       what is above and below a device
 *   settle.c      waiting for what was submitted before the hook
 *   quiesce.c     waiting for what the original had in flight before it
 *   pair.c        a pair as an object; the list of pairs
 *
 * Each has a header, but main.c and api.c; who may call whom is a table in
 * Documentation/blk-interposer-design.rst, which make lint checks.
 *
 * Lock order, outermost first:
 *
 *   pair.lock          one transition at a time; creation and removal
 *   blki_owned_lock    pairs that descriptors own (control.c)
 *   blki_pairs_lock    the lists of pairs and their ids; nothing is waited for inside
 *   blki_hook_lock     registration with ftrace, changes of the hash
 *   pair.park_lock     parked bios; a leaf, held for a few instructions
 *
 * The file system's and the block layer's locks (bd_fsfreeze_mutex, s_umount,
 * mq_freeze_lock) are taken inside pair.lock and never the other way round:
 * nothing that a bio does waits for pair.lock.
 *
 * The hash is read under rcu_read_lock() alone.
 *
 * This header is below all others: messages and errors. It calls nobody.
 */
#ifndef BLK_INTERPOSER_H
#define BLK_INTERPOSER_H

#include "../compat/interposer.h"
#include "../uapi/blk-interposer.h"

#undef pr_fmt
#define pr_fmt(fmt) "blk-interposer: " fmt

/* Notes what failed, and why; returns ERR. */
static inline int blki_fail(struct blk_interposer_error *error,
			    enum blk_interposer_step step,
			    enum blk_interposer_reason reason, int err)
{
	error->step = step;
	error->reason = reason;
	return err;
}

#endif
