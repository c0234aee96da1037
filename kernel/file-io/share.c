// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies that the file system does: by sharing extents, or in its own way.
 *
 * Takes no locks but the file system's.
 */
#include <linux/export.h>
#include <linux/fs.h>

#include "file-io.h"

/**
 * file_io_share() - have a range share what another one is stored in
 * @src: where it is
 * @from: byte offset in @src
 * @dst: where it goes; a file of the same file system, or @src
 * @to: byte offset in @dst
 * @len: bytes, not 0; the ranges do not overlap
 *
 * Takes no memory for data. Context: a worker.
 * Return: bytes from the beginning on that it was done for; -EOPNOTSUPP if
 * nothing can be shared here; or another negative error, which may be -EINVAL
 * for ranges that are no blocks.
 */
loff_t file_io_share(struct file_io *src, loff_t from, struct file_io *dst,
		     loff_t to, u64 len)
{
	loff_t ret;

	if (!file_io_may_share(dst) || !src->exact)
		return -EOPNOTSUPP;
	file_io_note_write(dst);
	ret = vfs_clone_file_range(src->data, from, dst->data, to, len,
				   REMAP_FILE_CAN_SHORTEN);
	if (ret == -EOPNOTSUPP)
		WRITE_ONCE(dst->shares, false);
	return ret;
}
EXPORT_SYMBOL_GPL(file_io_share);

/**
 * file_io_copy() - have the file system copy a range in its own way (NFS)
 * @src: where it is
 * @from: byte offset in @src
 * @dst: where it goes; a file of the same file system, or @src
 * @to: byte offset in @dst
 * @len: bytes; the ranges do not overlap
 *
 * It may need memory for it: not for what memory is freed by. Overlayfs would
 * read and write as it likes; what that leaves is not known. Context: a worker.
 * Return: bytes from the beginning on that it was done for; -EOPNOTSUPP if it
 * has no way of its own; or another negative error.
 */
ssize_t file_io_copy(struct file_io *src, loff_t from, struct file_io *dst,
		     loff_t to, u64 len)
{
	if (!dst->data->f_op->copy_file_range ||
	    file_inode(dst->data) != file_io_inode(dst))
		return -EOPNOTSUPP;
	file_io_note_write(dst);
	return vfs_copy_file_range(src->data, from, dst->data, to, len, 0);
}
EXPORT_SYMBOL_GPL(file_io_copy);
