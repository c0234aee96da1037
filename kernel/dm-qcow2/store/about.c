// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a store is like. Takes no locks.
 */
#include "store.h"

/**
 * qcow2_store_inode() - what tells a store from others
 * @st: the store
 *
 * Return: an inode that is the same for all paths to the file or block device.
 */
struct inode *qcow2_store_inode(const struct qcow2_store *st)
{
	return st->bdev ? st->lock_file->f_mapping->host :
			  file_io_inode(&st->io);
}

/**
 * qcow2_store_size() - bytes in the store
 * @st: the store
 *
 * Return: the size of the file or block device.
 */
u64 qcow2_store_size(const struct qcow2_store *st)
{
	if (st->bdev)
		return bdev_nr_bytes(st->bdev);
	return file_io_size(&st->io);
}

/**
 * qcow2_store_most() - how large the store can become
 * @st: the store
 *
 * Return: bytes.
 */
u64 qcow2_store_most(const struct qcow2_store *st)
{
	if (st->bdev)
		return bdev_nr_bytes(st->bdev);
	return file_inode(st->file)->i_sb->s_maxbytes;
}

/**
 * qcow2_store_lies_on() - whether the store's bytes are on a disk
 * @st: the store
 * @disk: the disk
 *
 * As after a reload under a mounted file system: a suspend would wait for
 * itself. Return: true if they are, as far as the next level below tells.
 */
bool qcow2_store_lies_on(const struct qcow2_store *st,
			 const struct gendisk *disk)
{
	struct super_block *sb;

	if (st->bdev)
		return st->bdev->bd_disk == disk;
	sb = file_io_inode(&st->io)->i_sb;
	return sb->s_bdev && sb->s_bdev->bd_disk == disk;
}

/**
 * qcow2_store_block() - the size of writes that cost no read below
 * @st: the store
 *
 * Return: bytes, a power of two from 512 to 4096.
 */
u32 qcow2_store_block(const struct qcow2_store *st)
{
	u32 size = st->bdev ? bdev_physical_block_size(st->bdev) :
			      file_io_block(&st->io);

	return clamp_t(u32, size, st->align, PAGE_SIZE);
}

/**
 * qcow2_store_stable() - whether pages must not change while they are written
 * @st: the store
 *
 * Return: true if something below computes checksums over them.
 */
bool qcow2_store_stable(const struct qcow2_store *st)
{
	if (st->bdev)
		return bdev_stable_writes(st->bdev);
	return compat_inode_stable_writes(file_io_inode(&st->io));
}
