// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads and writes of kernel memory that are waited for, as those of a copy:
 * what the file system does at once, without going on with the rest.
 *
 * Locks: see settle.c.
 */
#include <linux/export.h>

#include "file-io.h"

static ssize_t file_io_rw_once(struct file_io *f, bool write, loff_t pos,
			       const struct bio_vec *bv, unsigned int nr,
			       size_t len)
{
	ssize_t ret = file_io_rw(f->data, write, pos, bv, nr, len);

	/* Not aligned as direct I/O has it here. */
	if (ret == -EINVAL && f->direct && f->flags & FILE_IO_FALL_BACK)
		ret = file_io_rw(f->meta, write, pos, bv, nr, len);
	return ret;
}

/**
 * file_io_read() - read into kernel memory and wait for it
 * @f: the file
 * @pos: where, in bytes
 * @bv: the memory
 * @nr: how many entries it has
 * @len: how much
 *
 * Context: may sleep. Return: bytes, less at the end, or a negative error.
 */
ssize_t file_io_read(struct file_io *f, loff_t pos, const struct bio_vec *bv,
		     unsigned int nr, size_t len)
{
	return file_io_rw_once(f, false, pos, bv, nr, len);
}
EXPORT_SYMBOL_GPL(file_io_read);

/**
 * file_io_write() - write kernel memory and wait for it
 * @f: the file
 * @pos: where, in bytes
 * @bv: the memory
 * @nr: how many entries it has
 * @len: how much
 *
 * Context: a worker; nobody holds the file system's freeze protection.
 * Return: bytes or a negative error, after which nothing is left behind.
 */
ssize_t file_io_write(struct file_io *f, loff_t pos, const struct bio_vec *bv,
		      unsigned int nr, size_t len)
{
	u64 since = file_io_mark(f);
	ssize_t ret;

	file_io_note_write(f);
	ret = file_io_rw_once(f, true, pos, bv, nr, len);
	ret = file_io_settle(f, pos, len, since, ret);
	if (ret < 0 && file_io_leaves(f, pos, len))
		file_io_put_back(f, pos, len);
	return ret;
}
EXPORT_SYMBOL_GPL(file_io_write);
