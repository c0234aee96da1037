// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads and writes as the file system does them. Takes no locks but the file
 * system's.
 */
#include <linux/uio.h>

#include "file-io.h"

/**
 * file_io_rw() - read or write kernel memory and wait for it
 * @file: file_io.data or .meta
 * @write: direction
 * @pos: where, in bytes
 * @bv: the memory
 * @nr: how many entries it has
 * @len: how much
 *
 * Context: may sleep; nobody holds the file system's freeze protection.
 * Return: bytes or a negative error.
 */
ssize_t file_io_rw(struct file *file, bool write, loff_t pos,
		   const struct bio_vec *bv, unsigned int nr, size_t len)
{
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = pos;
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, bv, nr, len);
	if (!write)
		return file->f_op->read_iter(&iocb, &iter);
	iocb.ki_flags |= IOCB_WRITE;
	file_start_write(file);
	ret = file->f_op->write_iter(&iocb, &iter);
	file_end_write(file);
	return ret;
}
