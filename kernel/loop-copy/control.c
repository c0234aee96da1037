// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control device; which disks there are.
 *
 * Locks: loop_copy_lock for the list and for everything that is done to a disk
 * as a whole, but for closing its file. A disk that goes away by itself does so
 * in a worker, because it learns of it under the disk's open_mutex.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "loop-copy.h"

static DEFINE_MUTEX(loop_copy_lock);
static LIST_HEAD(loop_copy_disks);
static struct workqueue_struct *loop_copy_remove_wq;

static struct loop_copy *find(u32 number)
{
	struct loop_copy *lc;

	lockdep_assert_held(&loop_copy_lock);
	list_for_each_entry(lc, &loop_copy_disks, node)
		if (lc->number == number)
			return lc;
	return NULL;
}

static u32 free_number(void)
{
	u32 number = 0;

	while (find(number))
		number++;
	return number;
}

static void remove_work(struct work_struct *work)
{
	struct loop_copy *lc = container_of(work, struct loop_copy, remove);

	mutex_lock(&loop_copy_lock);
	/* The number is free when the disk is gone. */
	loop_copy_remove(lc);
	list_del(&lc->node);
	mutex_unlock(&loop_copy_lock);
	loop_copy_free(lc);
	module_put(THIS_MODULE);
}

/**
 * loop_copy_removed() - remove a disk that nobody has open any more
 * @lc: the disk, which cannot be opened again
 *
 * Context: under the disk's open_mutex.
 */
void loop_copy_removed(struct loop_copy *lc)
{
	INIT_WORK(&lc->remove, remove_work);
	queue_work(loop_copy_remove_wq, &lc->remove);
}

static long attach(void __user *user)
{
	struct loop_copy_attach call;
	struct loop_copy *lc;
	long err = 0;

	if (copy_from_user(&call, user, sizeof(call)))
		return -EFAULT;
	if (call.flags & ~LOOP_COPY_FLAGS)
		return -EINVAL;
	err = mutex_lock_killable(&loop_copy_lock);
	if (err)
		return err;
	call.number = free_number();
	lc = loop_copy_create(&call, call.number);
	if (IS_ERR(lc)) {
		err = PTR_ERR(lc);
	} else {
		__module_get(THIS_MODULE);
		list_add_tail(&lc->node, &loop_copy_disks);
	}
	mutex_unlock(&loop_copy_lock);
	/* What was done is not undone for an answer that cannot be given. */
	if (!err && copy_to_user(user, &call, sizeof(call)))
		err = -EFAULT;
	return err;
}

/* The disk that a call is for, with the lock held unless it is an error. */
static struct loop_copy *lock_disk(void __user *user)
{
	struct loop_copy_disk call;
	struct loop_copy *lc;
	int err;

	if (copy_from_user(&call, user, sizeof(call)))
		return ERR_PTR(-EFAULT);
	if (call.reserved)
		return ERR_PTR(-EINVAL);
	err = mutex_lock_killable(&loop_copy_lock);
	if (err)
		return ERR_PTR(err);
	lc = find(call.number);
	if (lc)
		return lc;
	mutex_unlock(&loop_copy_lock);
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
		list_del(&lc->node);
	}
	mutex_unlock(&loop_copy_lock);
	if (err)
		return err;
	loop_copy_free(lc);
	module_put(THIS_MODULE);
	return 0;
}

static long resize(void __user *user)
{
	struct loop_copy *lc = lock_disk(user);
	int err;

	if (IS_ERR(lc))
		return PTR_ERR(lc);
	err = loop_copy_resize(lc);
	mutex_unlock(&loop_copy_lock);
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
