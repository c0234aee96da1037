// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file or block device of an image: a path or a descriptor is opened, and
 * what it is like is found out. Takes no locks.
 */
#include "store.h"

#include <linux/file.h>
#include <linux/slab.h>

static int open_spec(const char *spec, int flags, struct file **out)
{
	struct file *passed, *file;
	unsigned int fd;

	if (*spec == '/') {
		file = file_io_open_path(spec, flags);
	} else if (!strncmp(spec, "fd:", 3) && !kstrtouint(spec + 3, 10, &fd)) {
		passed = fget(fd);
		if (!passed)
			return -EBADF;
		file = file_io_reopen(passed, flags);
		fput(passed);
		/* It allows less than that. */
		if (file == ERR_PTR(-EBADF))
			file = ERR_PTR(-EACCES);
	} else {
		return -EINVAL;
	}
	if (IS_ERR(file))
		return PTR_ERR(file);
	*out = file;
	return 0;
}

static char *open_file_name(struct file *file)
{
	char *buf = kmalloc(PATH_MAX, GFP_KERNEL);
	char *p, *name;

	if (!buf)
		return NULL;
	p = file_path(file, buf, PATH_MAX);
	name = IS_ERR(p) ? NULL : kstrdup(p, GFP_KERNEL);
	kfree(buf);
	return name;
}

/**
 * qcow2_store_open() - open the file or block device of an image
 * @st: zeroed; on error to be passed to qcow2_store_close()
 * @core: whom it belongs to; named after it, unless it has a name
 * @spec: "/path" or "fd:<n>"
 * @read_only: never write
 *
 * Context: the constructor, in the process that runs dmsetup.
 * Return: 0 or a negative error.
 */
int qcow2_store_open(struct qcow2_store *st, struct qcow2_core *core,
		     const char *spec, bool read_only)
{
	int flags = O_LARGEFILE | (read_only ? O_RDONLY : O_RDWR);
	struct inode *inode;
	int r;

	st->core = core;
	st->read_only = read_only;
	st->punch = true;
	st->wq = alloc_workqueue("qcow2_store", WQ_MEM_RECLAIM, 0);
	if (!st->wq)
		return -ENOMEM;
	r = open_spec(spec, flags, &st->lock_file);
	if (r)
		return r;
	st->path = *spec == '/' ? kstrdup(spec, GFP_KERNEL) :
				  open_file_name(st->lock_file);
	if (st->path && !core->path)
		core->path = kstrdup(st->path, GFP_KERNEL);
	if (!st->path || !core->path)
		return -ENOMEM;
	inode = file_inode(st->lock_file);
	if (S_ISBLK(inode->i_mode))
		return qcow2_bdev_open(st);
	if (!S_ISREG(inode->i_mode))
		return -EINVAL;
	return qcow2_file_open(st);
}

/**
 * qcow2_store_close() - undo qcow2_store_open(), whole, half or not done
 * @st: the store
 */
void qcow2_store_close(struct qcow2_store *st)
{
	if (st->wq)
		destroy_workqueue(st->wq);
	bioset_exit(&st->bs);
	if (st->dev)
		dm_put_device(st->core->ti, st->dev);
	file_io_close(&st->io);
	if (st->lock_file)
		fput(st->lock_file);
	kfree(st->path);
	memset(st, 0, sizeof(*st));
}
