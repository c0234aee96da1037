// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control device; which disks there are.
 *
 * What is done to a disk goes into the file system below it, which may hang, and
 * with it whoever waits; nobody else does. So there is no lock for all disks but
 * that of the table, which is a leaf.
 *
 * Locks: loop_copy_entry.lock of one disk for what is done to it as a whole; below it
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

#include "control.h"
#include "disk.h"

/**
 * struct loop_copy_entry - a disk in the table
 */
struct loop_copy_entry {
	/** @disk: the disk */
	struct loop_copy disk;
	/** @refs: the table's, and of whoever is at it */
	struct kref refs;
	/** @lock: for what is done to it as a whole; protects @ready */
	struct mutex lock;
	/** @ready: it is made, and not gone yet */
	bool ready;
	/** @remove: for one that goes away by itself; holds a reference */
	struct work_struct remove;
};

/* The disks by number. */
static DEFINE_XARRAY_ALLOC(loop_copy_disks);
static struct workqueue_struct *loop_copy_remove_wq;

static void loop_copy_release(struct kref *kref)
{
	struct loop_copy_entry *e = container_of(kref, struct loop_copy_entry,
						 refs);

	loop_copy_close_file(&e->disk);
	kfree(e);
	module_put(THIS_MODULE);
}

static void loop_copy_put(struct loop_copy_entry *e)
{
	kref_put(&e->refs, loop_copy_release);
}

/* With a reference, or NULL. */
static struct loop_copy_entry *loop_copy_find(u32 number)
{
	struct loop_copy_entry *e;

	xa_lock(&loop_copy_disks);
	e = xa_load(&loop_copy_disks, number);
	if (e)
		kref_get(&e->refs);
	xa_unlock(&loop_copy_disks);
	return e;
}

/* The number is free again, for the disk is gone. */
static void loop_copy_forget(struct loop_copy_entry *e)
{
	lockdep_assert_held(&e->lock);
	e->ready = false;
	xa_erase(&loop_copy_disks, e->disk.number);
	loop_copy_put(e);
}

static void loop_copy_unlock(struct loop_copy_entry *e)
{
	mutex_unlock(&e->lock);
	loop_copy_put(e);
}

static void loop_copy_remove_work(struct work_struct *work)
{
	struct loop_copy_entry *e = container_of(work, struct loop_copy_entry,
						 remove);

	mutex_lock(&e->lock);
	loop_copy_remove(&e->disk);
	loop_copy_forget(e);
	loop_copy_unlock(e);
}

/* Of a disk that has closed by itself; under its open_mutex. */
static void loop_copy_gone(struct loop_copy *lc)
{
	struct loop_copy_entry *e = container_of(lc, struct loop_copy_entry,
						 disk);

	kref_get(&e->refs);
	INIT_WORK(&e->remove, loop_copy_remove_work);
	queue_work(loop_copy_remove_wq, &e->remove);
}

/* With two references: the table's and the caller's. */
static struct loop_copy_entry *loop_copy_new(u32 flags)
{
	struct loop_copy_entry *e = kzalloc(sizeof(*e), GFP_KERNEL);
	int err;

	if (!e)
		return ERR_PTR(-ENOMEM);
	kref_init(&e->refs);
	kref_get(&e->refs);
	mutex_init(&e->lock);
	e->disk.queue.flags = flags;
	e->disk.gone = loop_copy_gone;
	err = xa_alloc(&loop_copy_disks, &e->disk.number, e,
		       XA_LIMIT(0, INT_MAX), GFP_KERNEL);
	if (err) {
		kfree(e);
		return ERR_PTR(err);
	}
	__module_get(THIS_MODULE);
	return e;
}

static long loop_copy_attach(void __user *user)
{
	struct loop_copy_attach call;
	struct loop_copy_entry *e;
	int err;

	if (copy_from_user(&call, user, sizeof(call)))
		return -EFAULT;
	if (call.flags & ~LOOP_COPY_FLAGS)
		return -EINVAL;
	e = loop_copy_new(call.flags);
	if (IS_ERR(e))
		return PTR_ERR(e);
	mutex_lock(&e->lock);
	call.number = e->disk.number;
	err = loop_copy_create(&e->disk, &call);
	if (err)
		loop_copy_forget(e);
	else
		e->ready = true;
	loop_copy_unlock(e);
	/* What was done is not undone for an answer that cannot be given. */
	if (!err && copy_to_user(user, &call, sizeof(call)))
		err = -EFAULT;
	return err;
}

/*
 * The disk that a call is for, locked, for loop_copy_unlock(), or an error
 * pointer.
 */
static struct loop_copy_entry *loop_copy_lock(void __user *user)
{
	struct loop_copy_disk call;
	struct loop_copy_entry *e;
	int err;

	if (copy_from_user(&call, user, sizeof(call)))
		return ERR_PTR(-EFAULT);
	if (call.reserved)
		return ERR_PTR(-EINVAL);
	e = loop_copy_find(call.number);
	if (!e)
		return ERR_PTR(-ENXIO);
	err = mutex_lock_killable(&e->lock);
	if (err) {
		loop_copy_put(e);
		return ERR_PTR(err);
	}
	if (e->ready)
		return e;
	loop_copy_unlock(e);
	return ERR_PTR(-ENXIO);
}

static long loop_copy_detach(void __user *user)
{
	struct loop_copy_entry *e = loop_copy_lock(user);
	int err;

	if (IS_ERR(e))
		return PTR_ERR(e);
	err = loop_copy_close_for_good(&e->disk);
	if (!err) {
		loop_copy_remove(&e->disk);
		loop_copy_forget(e);
	}
	loop_copy_unlock(e);
	return err;
}

static long loop_copy_call_resize(void __user *user)
{
	struct loop_copy_entry *e = loop_copy_lock(user);
	int err;

	if (IS_ERR(e))
		return PTR_ERR(e);
	err = loop_copy_resize(&e->disk);
	loop_copy_unlock(e);
	return err;
}

static long loop_copy_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	void __user *user = (void __user *)arg;

	if (cmd == LOOP_COPY_GET_VERSION)
		return put_user(LOOP_COPY_VERSION, (u32 __user *)user);
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (cmd) {
	case LOOP_COPY_ATTACH:
		return loop_copy_attach(user);
	case LOOP_COPY_DETACH:
		return loop_copy_detach(user);
	case LOOP_COPY_RESIZE:
		return loop_copy_call_resize(user);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations loop_copy_control_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = loop_copy_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice loop_copy_control_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "loop-copy",
	.mode = 0600,
	.fops = &loop_copy_control_fops,
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
	err = misc_register(&loop_copy_control_device);
	if (err)
		destroy_workqueue(loop_copy_remove_wq);
	return err;
}

/**
 * loop_copy_control_exit() - take it away, and wait for what goes by itself
 */
void loop_copy_control_exit(void)
{
	misc_deregister(&loop_copy_control_device);
	destroy_workqueue(loop_copy_remove_wq);
}
