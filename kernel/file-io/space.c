// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holes and zeros in a file, and its end.
 *
 * Locks: see settle.c.
 */
#include <linux/export.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "file-io.h"

static int file_io_allocate(struct file_io *f, int mode, loff_t pos, u64 len)
{
	u64 since = file_io_mark(f);
	int err;

	if (f->flags & FILE_IO_KEEP_SIZE && !file_io_holds(f, pos, len))
		return -EIO;
	file_io_note_write(f);
	err = vfs_fallocate(f->data, mode | FALLOC_FL_KEEP_SIZE, pos, len);
	/* Parts of blocks are written. */
	return file_io_settle(f, pos, len, since, err);
}

/**
 * file_io_punch() - have a range read as zeros, and give its space back
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Context: a worker. Return: 0; -EOPNOTSUPP; or another negative error.
 */
int file_io_punch(struct file_io *f, loff_t pos, u64 len)
{
	return file_io_allocate(f, FALLOC_FL_PUNCH_HOLE, pos, len);
}
EXPORT_SYMBOL_GPL(file_io_punch);

/**
 * file_io_zero() - have a range read as zeros, and keep its space
 * @f: the file
 * @pos: where, in bytes
 * @len: how much
 *
 * Context: a worker. Return: 0; -EOPNOTSUPP; or another negative error.
 */
int file_io_zero(struct file_io *f, loff_t pos, u64 len)
{
	return file_io_allocate(f, FALLOC_FL_ZERO_RANGE, pos, len);
}
EXPORT_SYMBOL_GPL(file_io_zero);

/**
 * file_io_extend() - make room at the end of a file
 * @f: the file
 * @from: where space is needed from on; not before the present end
 * @to: the wanted end
 *
 * The new part reads as zeros. Reserves space where the file system can, so
 * that a later write does not run out of it. Return: 0 or a negative error.
 */
int file_io_extend(struct file_io *f, loff_t from, loff_t to)
{
	int err;

	file_io_note_write(f);
	err = vfs_fallocate(f->data, 0, from, to - from);
	if (err != -EOPNOTSUPP || file_io_size(f) >= to)
		return err == -EOPNOTSUPP ? 0 : err;
	return vfs_truncate(&f->data->f_path, to);
}
EXPORT_SYMBOL_GPL(file_io_extend);

/**
 * file_io_trim() - cut a file at its end
 * @f: the file
 * @size: wanted size in bytes; a file that is shorter is left alone
 *
 * Return: 0 or a negative error.
 */
int file_io_trim(struct file_io *f, loff_t size)
{
	if (file_io_size(f) <= size)
		return 0;
	return vfs_truncate(&f->data->f_path, size);
}
EXPORT_SYMBOL_GPL(file_io_trim);
