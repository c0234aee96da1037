// SPDX-License-Identifier: GPL-2.0-only
/*
 * A turn with a file: from when nobody else may write to it until others may
 * again. What has to be known and done on both sides so that copies of the file
 * by others are right: see compat/cow.h.
 *
 * Takes no locks; what gives back reservations takes those of the file system.
 */
#include <linux/export.h>
#include <linux/fs.h>

#include "file-io.h"
#include "../compat/cow.h"

static struct workqueue_struct *file_io_turn_wq;

static bool file_io_is_written(const struct file_io *f)
{
	return f->data->f_mode & FMODE_WRITE;
}

/**
 * file_io_begin() - a turn begins
 * @f: the file; nobody writes to it
 *
 * Context: may sleep, but waits for no frozen file system.
 */
void file_io_begin(struct file_io *f)
{
	WRITE_ONCE(f->ended, false);
	WRITE_ONCE(f->lost, false);
	file_io_losses_begin(f);
	f->exact = !file_io_is_written(f) || compat_cow_exact(f->data);
	f->shares = file_io_is_written(f) && f->data->f_op->remap_file_range;
}
EXPORT_SYMBOL_GPL(file_io_begin);

/**
 * file_io_ask_sharing() - learn whether the file system really shares extents
 * @f: the file, whose turn has begun
 *
 * For drivers that have to know it beforehand: it is asked by sharing nothing, at
 * the end. Context: may sleep; waits for a frozen file system.
 */
void file_io_ask_sharing(struct file_io *f)
{
	loff_t end = file_io_size(f);

	if (f->shares && vfs_clone_file_range(f->data, end, f->data, end, 0, 0))
		f->shares = false;
}
EXPORT_SYMBOL_GPL(file_io_ask_sharing);

/**
 * file_io_give_back() - give back what XFS has reserved and not written
 * @f: the file; nobody writes to it
 *
 * During a turn there is nothing to be given back, but for a file whose extents
 * others share and where XFS reserves as it likes.
 *
 * Context: may sleep; waits for a bounded time.
 * Return: 0, or a negative error: copies made by looking for holes may lack data
 * until all have closed the file.
 */
int file_io_give_back(struct file_io *f)
{
	int err = 0;

	if (file_io_is_written(f))
		err = compat_cow_give_back(f->data, file_io_turn_wq);
	/* What others have brought about is with them, too. */
	return f->exact ? 0 : err;
}
EXPORT_SYMBOL_GPL(file_io_give_back);

/**
 * file_io_end() - a turn ends: others may write
 * @f: the file, flushed, without I/O
 *
 * Return: as file_io_give_back().
 */
int file_io_end(struct file_io *f)
{
	WRITE_ONCE(f->ended, true);
	flush_work(&f->drop_work);
	return file_io_give_back(f);
}
EXPORT_SYMBOL_GPL(file_io_end);

/**
 * file_io_turn_init() - get ready to give back
 *
 * It has a rescuer, because memory may be freed by I/O that waits for a turn to
 * end.
 * Return: 0 or a negative error.
 */
int file_io_turn_init(void)
{
	file_io_turn_wq = alloc_workqueue("file-io", WQ_MEM_RECLAIM |
					  WQ_UNBOUND, 0);
	return file_io_turn_wq ? 0 : -ENOMEM;
}

/**
 * file_io_turn_exit() - undo it, and wait for what is still under way
 */
void file_io_turn_exit(void)
{
	destroy_workqueue(file_io_turn_wq);
}
