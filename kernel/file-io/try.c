// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads and writes at once, in the context of whoever sends them.
 *
 * They are tried with IOCB_NOWAIT; where that would block, a worker of the
 * driver's does them. The file system then runs inside of whatever the sender is
 * doing. What that entails:
 *
 * - The sender may be in a transaction, which the file system would take for its
 *   own: current->journal_info keeps it from being tried.
 * - Metadata (REQ_META, REQ_PRIO) is read and written under locks of the same
 *   classes that the file system takes, some of which it takes even under
 *   NOWAIT. Drivers do not try it, nor what is for swap; only they know.
 * - Memory is allocated as for I/O (memalloc_noio). In reclaim (PF_MEMALLOC) a
 *   worker does it, which may take and wait for what the sender must not.
 * - A driver with a queue is also called by workers of others, which may be what
 *   others wait for (kblockd, writeback): a worker of its own does it.
 * - A list of bios that wait for our return would wait forever if the file system
 *   reads a block of its own and waits for it: it is taken away for the time of
 *   the call. It is empty then, or a worker does it.
 * - What is in the plug is sent when the call sleeps after all, for somebody may
 *   wait for it; but not while blk-mq is sending just that, and has got to us
 *   through a driver of bios: a worker does it. A driver with a queue is always
 *   called in this way. Its own requests may wait, for nothing below depends
 *   on them; with those of others, a tag or a block of the disk below for
 *   instance, a worker does it. What the file system sends then is not to be
 *   put there: the plug is taken away, too.
 * - The stack holds two file systems: below FILE_IO_STACK a worker does it.
 * - A frozen file system lets no write in: the worker waits for it.
 * - A limit on the size of the sender's files is not meant for us.
 * - What goes through the page cache nevertheless a worker does again, and sees
 *   it written (settle.c).
 * - The time stamp is not updated by the write; see file_io_touch().
 *
 * Takes no locks.
 */
#include <linux/export.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/uio.h>

#include "../compat/plug.h"
#include "file-io.h"

#define FILE_IO_STACK 6144

static bool file_io_stack_is_deep(void)
{
	unsigned long here = (unsigned long)__builtin_frame_address(0);

	return here - (unsigned long)end_of_stack(current) < FILE_IO_STACK;
}

/* Whether others would not wait for what we do, should it sleep after all. */
static bool file_io_may_sleep(const struct file_io *f)
{
	if (!f->queue)
		return !compat_plug_is_stuck();
	return !(current->flags & PF_WQ_WORKER) &&
	       !compat_plug_holds_others(f->queue);
}

/**
 * file_io_may_try() - whether a read or write may be tried here
 * @f: the file
 * @write: direction
 *
 * That it is neither metadata nor for swap, and that the current task is charged
 * for it, is for the driver to see.
 * Return: false if a worker has to do it.
 */
bool file_io_may_try(const struct file_io *f, bool write)
{
	struct bio_list *list = current->bio_list;

	if (!f->nowait)
		return false;
	if (current->journal_info || current->flags & PF_MEMALLOC)
		return false;
	if (write && rlimit(RLIMIT_FSIZE) != RLIM_INFINITY)
		return false;
	if (list && !(bio_list_empty(&list[0]) && bio_list_empty(&list[1])))
		return false;
	return file_io_may_sleep(f) && !file_io_stack_is_deep();
}
EXPORT_SYMBOL_GPL(file_io_may_try);

static bool file_io_begin_write(struct kiocb *iocb)
{
	struct super_block *sb = file_inode(iocb->ki_filp)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	/* Another thread will end it: tell lockdep. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	iocb->ki_flags |= IOCB_WRITE;
	return true;
}

static ssize_t file_io_try_read(struct file_io *f, struct kiocb *iocb,
				struct iov_iter *iter)
{
	return f->data->f_op->read_iter(iocb, iter);
}

static ssize_t file_io_try_write(struct file_io *f, struct kiocb *iocb,
				 struct iov_iter *iter)
{
	u64 since = file_io_mark(f);
	loff_t pos = iocb->ki_pos;
	ssize_t ret;

	if (f->flags & FILE_IO_KEEP_SIZE &&
	    !file_io_holds(f, pos, iov_iter_count(iter)))
		return -EAGAIN;
	if (!file_io_begin_write(iocb))
		return -EAGAIN;
	file_io_note_write(f);
	ret = f->data->f_op->write_iter(iocb, iter);
	if (ret > 0 && !file_io_is_settled(f, pos, ret, since))
		return -EAGAIN;
	return ret;
}

/**
 * file_io_try() - try a read or write at once
 * @f: the file
 * @iocb: with ki_pos, ki_complete and ki_ioprio set, and all else zero
 * @write: direction
 * @bv: the memory
 * @part: what of it
 *
 * Context: file_io_may_try() has said yes.
 * Return: -EIOCBQUEUED: iocb.ki_complete is called when it is over, in any
 * context, or has been, after which the file system may still look at @iocb
 * until this returns. Else what it would be called with: bytes, or a negative
 * error, which may be one only because it was tried here. Both are to call
 * file_io_ended(). A worker repeats, or goes on with, what is not done.
 */
ssize_t file_io_try(struct file_io *f, struct kiocb *iocb, bool write,
		    const struct bio_vec *bv, const struct bvec_iter *part)
{
	struct bio_list *bios = current->bio_list;
	struct blk_plug *plug = NULL;
	struct iov_iter iter;
	unsigned int noio;
	ssize_t ret;

	iocb->ki_filp = f->data;
	iocb->ki_flags = IOCB_DIRECT | IOCB_NOWAIT;
	file_io_iter(&iter, write, bv, part);
	noio = memalloc_noio_save();
	current->bio_list = NULL;
	if (f->queue)
		plug = compat_take_plug();
	ret = write ? file_io_try_write(f, iocb, &iter) :
		      file_io_try_read(f, iocb, &iter);
	if (f->queue)
		current->plug = plug;
	current->bio_list = bios;
	memalloc_noio_restore(noio);
	return ret;
}
EXPORT_SYMBOL_GPL(file_io_try);
