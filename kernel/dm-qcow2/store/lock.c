// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image locks that QEMU and its tools respect.
 *
 * format/qemu-locks.h says which bytes stand for what. The locks of a file
 * belong to the open file that its I/O goes through: on NFS only that one learns
 * that a lock is lost. They go with it at the latest.
 */
#include "store.h"
#include "../format/qemu-locks.h"

static const char * const perm_names[] = {
	"consistent read", "write", "write unchanged", "resize",
};

/* Tells the data file of an image from the image. */
#define lock_err(st, fmt, ...)						\
	DMERR("%s: %s: " fmt, (st)->core->device, (st)->path, ##__VA_ARGS__)

static struct file *lock_owner(const struct qcow2_store *st)
{
	return st->file ?: st->lock_file;
}

static int lock_bytes(struct file *file, unsigned char type, loff_t start,
		      loff_t len)
{
	struct file_lock fl;
	int r;

	compat_flock_init(&fl, file, type);
	fl.fl_start = start;
	fl.fl_end = start + len - 1;
	r = vfs_lock_file(file, F_SETLK, &fl, NULL);
	/* A file system may have put something of its own there. */
	locks_release_private(&fl);
	return r;
}

static int lock_byte_is_free(struct file *file, loff_t start)
{
	struct file_lock fl;
	bool is_free;
	int r;

	compat_flock_init(&fl, file, F_WRLCK);
	fl.fl_start = start;
	fl.fl_end = start;
	r = vfs_test_lock(file, &fl);
	is_free = compat_flock_type(&fl) == F_UNLCK;
	locks_release_private(&fl);
	if (r)
		return r;
	return is_free ? 0 : -EBUSY;
}

static int lock_take_all(struct file *file, unsigned long uses)
{
	int perm, r = 0;

	for (perm = 0; !r && perm < QEMU_PERM_NR; perm++) {
		if (uses & BIT(perm))
			r = lock_bytes(file, F_RDLCK, QEMU_PERM_BASE + perm, 1);
		if (!r && (QEMU_UNSHARED & BIT(perm)))
			r = lock_bytes(file, F_RDLCK,
				       QEMU_UNSHARED_BASE + perm, 1);
	}
	return r;
}

static int lock_check_all(struct qcow2_store *st, unsigned long uses)
{
	struct file *file = lock_owner(st);
	int perm, r;

	for (perm = 0; perm < QEMU_PERM_NR; perm++) {
		if (uses & BIT(perm)) {
			r = lock_byte_is_free(file, QEMU_UNSHARED_BASE + perm);
			if (r) {
				lock_err(st, "Failed to get \"%s\" lock: image in use elsewhere",
					 perm_names[perm]);
				return r;
			}
		}
		if (QEMU_UNSHARED & BIT(perm)) {
			r = lock_byte_is_free(file, QEMU_PERM_BASE + perm);
			if (r) {
				lock_err(st, "Failed to get shared \"%s\" lock: image in use elsewhere",
					 perm_names[perm]);
				return r;
			}
		}
	}
	return 0;
}

/**
 * qcow2_store_lock() - lock the image against QEMU, its tools and ourselves
 * @st: the store
 *
 * Return: 0, -EBUSY if somebody else uses the image, or another error, each
 * with a line in the kernel log.
 */
int qcow2_store_lock(struct qcow2_store *st)
{
	unsigned long uses = st->read_only ? QEMU_USES_RO : QEMU_USES_RW;
	int r;

	r = lock_take_all(lock_owner(st), uses);
	if (r)
		lock_err(st, "cannot lock the image: error %d", r);
	else
		r = lock_check_all(st, uses);
	if (r)
		qcow2_store_unlock(st);
	return r;
}

/**
 * qcow2_store_unlock() - give the locks back
 * @st: the store
 */
void qcow2_store_unlock(struct qcow2_store *st)
{
	lock_bytes(lock_owner(st), F_UNLCK, QEMU_PERM_BASE, QEMU_LOCK_BYTES);
}
