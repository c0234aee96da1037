// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control device; which disks there are.
 *
 * What is done to a disk goes into the file system below it, which may hang, and
 * with it whoever waits; nobody else does. So there is no lock for all disks but
 * that of the table, which is a leaf.
 *
 * Locks: loop_copy.lock of one disk for what is done to it as a whole; below it
 * what disk.c takes. xa_lock of loop_copy_disks, a leaf.
 *
 * A disk has its number from before it is made until it is gone, and is ready in
 * between. One that goes away by itself does so in a worker,
 * because it learns of it under the disk's open_mutex.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "loop-copy.h"

/* The disks by number. */
static DEFINE_XARRAY_ALLOC(loop_copy_disks);
static struct workqueue_struct *loop_copy_remove_wq;

static void release(struct kref *kref)
{
	struct loop_copy *lc = container_of(kref, struct loop_copy, refs);

	loop_copy_free(lc);
	module_put(THIS_MODULE);
}

static void put(struct loop_copy *lc)
{
	kref_put(&lc->refs, release);
}

/* With a reference, or NULL. */
static struct loop_copy *find(u32 number)
{
	struct loop_copy *lc;

	xa_lock(&loop_copy_disks);
	lc = xa_load(&loop_copy_disks, number);
	if (lc)
		kref_get(&lc->refs);
	xa_unlock(&loop_copy_disks);
	return lc;
}

/* The number is free again, for the disk is gone. */
static void forget(struct loop_copy *lc)
{
	lockdep_assert_held(&lc->lock);
	lc->ready = false;
	xa_erase(&loop_copy_disks, lc->number);
	put(lc);
}

static void unlock_disk(struct loop_copy *lc)
{
	mutex_unlock(&lc->lock);
	put(lc);
}

static void remove_work(struct work_struct *work)
{
	struct loop_copy *lc = container_of(work, struct loop_copy, remove);

	mutex_lock(&lc->lock);
	loop_copy_remove(lc);
	forget(lc);
	unlock_disk(lc);
}

/**
 * loop_copy_removed() - remove a disk that nobody has open any more
 * @lc: the disk, which cannot be opened again
 *
 * Context: under the disk's open_mutex.
 */
void loop_copy_removed(struct loop_copy *lc)
{
	kref_get(&lc->refs);
	INIT_WORK(&lc->remove, remove_work);
	queue_work(loop_copy_remove_wq, &lc->remove);
}

/* With two references: the table's and the caller's. */
static struct loop_copy *new_disk(u32 flags)
{
	struct loop_copy *lc = kzalloc(sizeof(*lc), GFP_KERNEL);
	int err;

	if (!lc)
		return ERR_PTR(-ENOMEM);
	kref_init(&lc->refs);
	kref_get(&lc->refs);
	mutex_init(&lc->lock);
	lc->flags = flags;
	err = xa_alloc(&loop_copy_disks, &lc->number, lc, XA_LIMIT(0, INT_MAX),
		       GFP_KERNEL);
	if (err) {
		kfree(lc);
		return ERR_PTR(err);
	}
	__module_get(THIS_MODULE);
	return lc;
}

static long attach(void __user *user)
{
	struct loop_copy_attach call;
	struct loop_copy *lc;
	int err;

	if (copy_from_user(&call, user, sizeof(call)))
		return -EFAULT;
	if (call.flags & ~LOOP_COPY_FLAGS)
		return -EINVAL;
	lc = new_disk(call.flags);
	if (IS_ERR(lc))
		return PTR_ERR(lc);
	mutex_lock(&lc->lock);
	call.number = lc->number;
	err = loop_copy_create(lc, &call);
	if (err)
		forget(lc);
	else
		lc->ready = true;
	unlock_disk(lc);
	/* What was done is not undone for an answer that cannot be given. */
	if (!err && copy_to_user(user, &call, sizeof(call)))
		err = -EFAULT;
	return err;
}

/* The disk that a call is for, locked, for unlock_disk(), or an error pointer. */
static struct loop_copy *lock_disk(void __user *user)
{
	struct loop_copy_disk call;
	struct loop_copy *lc;
	int err;

	if (copy_from_user(&call, user, sizeof(call)))
		return ERR_PTR(-EFAULT);
	if (call.reserved)
		return ERR_PTR(-EINVAL);
	lc = find(call.number);
	if (!lc)
		return ERR_PTR(-ENXIO);
	err = mutex_lock_killable(&lc->lock);
	if (err) {
		put(lc);
		return ERR_PTR(err);
	}
	if (lc->ready)
		return lc;
	unlock_disk(lc);
	return ERR_PTR(-ENXIO);
}

static long detach(void __user *user)
{
	struct loop_copy *lc = lock_disk(user);
	int err;

	if (IS_ERR(lc))
		return PTR_ERR(lc);
	err = loop_copy_close_for_good(lc);
	if (!err) {
		loop_copy_remove(lc);
		forget(lc);
	}
	unlock_disk(lc);
	return err;
}

static long resize(void __user *user)
{
	struct loop_copy *lc = lock_disk(user);
	int err;

	if (IS_ERR(lc))
		return PTR_ERR(lc);
	err = loop_copy_resize(lc);
	unlock_disk(lc);
	return err;
}

static long control_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	void __user *user = (void __user *)arg;

	if (cmd == LOOP_COPY_GET_VERSION)
		return put_user(LOOP_COPY_VERSION, (u32 __user *)user);
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (cmd) {
	case LOOP_COPY_ATTACH:
		return attach(user);
	case LOOP_COPY_DETACH:
		return detach(user);
	case LOOP_COPY_RESIZE:
		return resize(user);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice control_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "loop-copy",
	.mode = 0600,
	.fops = &control_fops,
};

/**
 * loop_copy_control_init() - make the device
 *
 * Return: 0 or a negative error.
 */
int loop_copy_control_init(void)
{
	int err;

	loop_copy_remove_wq = alloc_workqueue("loop-copy", WQ_UNBOUND, 0);
	if (!loop_copy_remove_wq)
		return -ENOMEM;
	err = misc_register(&control_device);
	if (err)
		destroy_workqueue(loop_copy_remove_wq);
	return err;
}

/**
 * loop_copy_control_exit() - take it away, and wait for what goes by itself
 */
void loop_copy_control_exit(void)
{
	misc_deregister(&control_device);
	destroy_workqueue(loop_copy_remove_wq);
}
