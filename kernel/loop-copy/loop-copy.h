/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * loop-copy: the parts and how they fit. Calls go down only; each part has a
 * structure of its own, which holds that of the part below.
 *
 *   main.c     loading and unloading
 *   control.c  the control device; which disks there are
 *   disk.c     a disk: making, removing, its attributes
 *   request.c  requests: at once where that does not block, or by a worker
 *   copy.c     a piece of a copy
 *   backing.c  opening and closing the file below
 *   file-io    I/O to it: a module of its own
 *
 * Upwards goes only that a disk is gone: loop_copy.gone.
 *
 * Lock order, outermost first:
 *
 *   loop_copy_entry.lock     attach, detach, resize, removal of one (control.c)
 *   gendisk.open_mutex       the block layer's; protects loop_copy.closed
 *   loop_copy_disks.xa_lock  which disks there are (control.c); a leaf
 *
 * Requests take none of them. They go through the file system below by file-io,
 * which has locks of its own.
 */
#ifndef LOOP_COPY_H
#define LOOP_COPY_H

#include "../compat/copy.h"
#include "../uapi/loop-copy.h"

#undef pr_fmt
#define pr_fmt(fmt) "loop-copy: " fmt

#endif
