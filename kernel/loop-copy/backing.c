// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opening and closing the file below a disk. A turn with it lasts as long as it
 * is open. Takes no locks; file-io does.
 */
#include <linux/file.h>
#include <linux/fs.h>

#include "backing.h"

static void loop_copy_give_back_failed(struct file_io *f, int err)
{
	pr_info("%pD: XFS keeps blocks reserved, error %d: copies made by looking for holes may lack data until all have closed the file\n",
		f->data, err);
}

static void loop_copy_begin(struct file_io *f)
{
	int err;

	file_io_begin(f);
	file_io_ask_sharing(f);
	if (f->shares && !f->exact)
		pr_info("%pD: has an extent size hint, or is frozen, and shares no extents on this kernel; if others share them (cp --reflink), copy it when it is detached\n",
			f->data);
	/* What there is from before, so that copies from now on are right. */
	err = file_io_give_back(f);
	if (err)
		loop_copy_give_back_failed(f, err);
}

static struct file *loop_copy_reopen(int fd, int flags)
{
	struct file *passed = fget(fd), *file;

	if (!passed)
		return ERR_PTR(-EBADF);
	if (S_ISREG(file_inode(passed)->i_mode))
		file = file_io_reopen(passed, flags);
	else
		file = ERR_PTR(-EINVAL);
	fput(passed);
	return file;
}

/**
 * loop_copy_backing_open() - open the file below a disk
 * @b: zeroed; on error nothing has to be closed
 * @fd: the caller's descriptor
 * @flags: LOOP_COPY_*
 *
 * Return: 0 or a negative error.
 */
int loop_copy_backing_open(struct loop_copy_backing *b, int fd, u32 flags)
{
	bool read_only = flags & LOOP_COPY_READ_ONLY;
	struct file *meta = loop_copy_reopen(fd, read_only ? O_RDONLY : O_RDWR);
	u32 how = FILE_IO_FALL_BACK | FILE_IO_KEEP_SIZE;
	int err;

	if (IS_ERR(meta))
		return PTR_ERR(meta);
	if (read_only)
		how |= FILE_IO_READ_ONLY;
	if (flags & LOOP_COPY_BUFFERED)
		how |= FILE_IO_BUFFERED;
	err = file_io_open(&b->file, meta, how);
	if (!err)
		loop_copy_begin(&b->file);
	return err;
}

/**
 * loop_copy_backing_close() - close it again
 * @b: what is below a disk that has no requests any more; nothing is done if it
 *	is not open
 */
void loop_copy_backing_close(struct loop_copy_backing *b)
{
	int err;

	if (!b->file.data)
		return;
	file_io_touch(&b->file);
	err = file_io_end(&b->file);
	if (err)
		loop_copy_give_back_failed(&b->file, err);
	file_io_close(&b->file);
}
