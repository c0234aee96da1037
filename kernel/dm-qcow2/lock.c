// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image locks that QEMU and its tools respect.
 *
 * QEMU marks what it does with an image by shared open-file-description locks
 * on single bytes: 100 + n, "uses permission n", and 200 + n, "does not let
 * others have permission n". Whoever comes takes its own bytes first and then
 * looks whether the opposite bytes are locked by somebody else. The locks of a
 * file belong to the open file that its I/O goes through: on NFS only that one
 * learns that a lock is lost. They go with it at the latest.
 */
#include "dm-qcow2.h"

#define QEMU_PERM_BASE		100
#define QEMU_UNSHARED_BASE	200
#define QEMU_LOCK_BYTES		200	/* what release covers */

enum qemu_perm {
	QEMU_PERM_CONSISTENT_READ,
	QEMU_PERM_WRITE,
	QEMU_PERM_WRITE_UNCHANGED,
	QEMU_PERM_RESIZE,
	QEMU_PERM_NR,
};

static const char * const perm_names[] = {
	"consistent read", "write", "write unchanged", "resize",
};

#define USES_RO (BIT(QEMU_PERM_CONSISTENT_READ))
#define USES_RW (USES_RO | BIT(QEMU_PERM_WRITE) | BIT(QEMU_PERM_RESIZE))
/* Another reader may come along; nobody may change or resize the image. */
#define UNSHARED (BIT(QEMU_PERM_WRITE) | BIT(QEMU_PERM_RESIZE))

static struct file *owner(const struct qcow2_image *q)
{
	return q->store.file ?: q->store.lock_file;
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

static int byte_is_free(struct file *file, loff_t start)
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

static int take_all(struct file *file, unsigned long uses)
{
	int perm, r = 0;

	for (perm = 0; !r && perm < QEMU_PERM_NR; perm++) {
		if (uses & BIT(perm))
			r = lock_bytes(file, F_RDLCK, QEMU_PERM_BASE + perm, 1);
		if (!r && (UNSHARED & BIT(perm)))
			r = lock_bytes(file, F_RDLCK,
				       QEMU_UNSHARED_BASE + perm, 1);
	}
	return r;
}

static int check_all(struct qcow2_image *q, unsigned long uses)
{
	struct file *file = owner(q);
	int perm, r;

	for (perm = 0; perm < QEMU_PERM_NR; perm++) {
		if (uses & BIT(perm)) {
			r = byte_is_free(file, QEMU_UNSHARED_BASE + perm);
			if (r) {
				qcow2_err(q, "Failed to get \"%s\" lock: image in use elsewhere",
					  perm_names[perm]);
				return r;
			}
		}
		if (UNSHARED & BIT(perm)) {
			r = byte_is_free(file, QEMU_PERM_BASE + perm);
			if (r) {
				qcow2_err(q, "Failed to get shared \"%s\" lock: image in use elsewhere",
					  perm_names[perm]);
				return r;
			}
		}
	}
	return 0;
}

/**
 * qcow2_lock_image() - lock the image against QEMU, its tools and ourselves
 * @q: the image; nothing is done with no_lock
 *
 * Return: 0, -EBUSY if somebody else uses the image, or another error, each
 * with a line in the kernel log.
 */
int qcow2_lock_image(struct qcow2_image *q)
{
	unsigned long uses = q->read_only ? USES_RO : USES_RW;
	int r;

	if (q->no_lock)
		return 0;
	r = take_all(owner(q), uses);
	if (r)
		qcow2_err(q, "cannot lock the image: error %d", r);
	else
		r = check_all(q, uses);
	if (r)
		qcow2_unlock_image(q);
	return r;
}

/**
 * qcow2_unlock_image() - give the locks back
 * @q: the image
 */
void qcow2_unlock_image(struct qcow2_image *q)
{
	if (!q->no_lock)
		lock_bytes(owner(q), F_UNLCK, QEMU_PERM_BASE, QEMU_LOCK_BYTES);
}
