// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control device; see uapi/blk-interposer.h.
 *
 * Locks: pair.lock for the calls that change a pair; blki_owned_lock, inside of
 * it, for the lists of pairs that descriptors own.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/kdev_t.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "control.h"
#include "lifecycle.h"
#include "pair.h"
#include "transition.h"

#define BLKI_DEFAULT_TIMEOUT_MS	30000
#define BLKI_MAX_TIMEOUT_MS	3600000

static DEFINE_MUTEX(blki_owned_lock);

/**
 * struct blki_file - an open control device
 * @owned: its pairs, with a reference each; under blki_owned_lock
 */
struct blki_file {
	struct list_head owned;
};

static u64 blki_encode_dev(dev_t dev)
{
	return (u64)MAJOR(dev) << 32 | MINOR(dev);
}

/* The block device that a descriptor of the caller is open on. */
static int blki_get_bdev(int fd, struct file **filp, struct block_device **bdev)
{
	struct file *file = fget(fd);

	if (!file)
		return -EBADF;
	if (!S_ISBLK(file_inode(file)->i_mode)) {
		fput(file);
		return -ENOTBLK;
	}
	if (!(file->f_mode & FMODE_READ)) {
		fput(file);
		return -EBADF;
	}
	*filp = file;
	*bdev = I_BDEV(file->f_mapping->host);
	return 0;
}

static struct blki_pair *blki_lock_pair(u32 id)
{
	struct blki_pair *pair = blki_get(id, false);
	int err;

	if (!pair)
		return ERR_PTR(-ENXIO);
	err = mutex_lock_killable(&pair->lock);
	if (!err && !pair->removed)
		return pair;
	if (!err) {
		mutex_unlock(&pair->lock);
		err = -ENXIO;
	}
	blki_put(pair);
	return ERR_PTR(err);
}

static void blki_unlock_pair(struct blki_pair *pair)
{
	mutex_unlock(&pair->lock);
	blki_put(pair);
}

/* Whoever owned it before does no longer. */
static void blki_own(struct blki_file *bf, struct blki_pair *pair)
{
	lockdep_assert_held(&pair->lock);
	pair->reap_tries = 0;
	mutex_lock(&blki_owned_lock);
	if (list_empty(&pair->owned))
		kref_get(&pair->kref);
	WRITE_ONCE(pair->orphaned, false);
	list_move_tail(&pair->owned, &bf->owned);
	mutex_unlock(&blki_owned_lock);
}

static void blki_disown(struct blki_pair *pair)
{
	bool was;

	lockdep_assert_held(&pair->lock);
	pair->reap_tries = 0;
	mutex_lock(&blki_owned_lock);
	was = !list_empty(&pair->owned);
	list_del_init(&pair->owned);
	WRITE_ONCE(pair->orphaned, false);
	mutex_unlock(&blki_owned_lock);
	if (was)
		blki_put(pair);
}

static int blki_ioctl_create(struct blki_file *bf, void *arg)
{
	struct blk_interposer_create *create = arg;
	struct block_device *bdev;
	struct blki_pair *pair;
	struct file *file;
	int err;

	if (create->flags & ~BLK_INTERPOSER_OWNED || create->reserved)
		return -EINVAL;
	err = blki_get_bdev(create->fd, &file, &bdev);
	if (err)
		return err;
	pair = blki_create(bdev, &create->error);
	fput(file);
	if (IS_ERR(pair))
		return PTR_ERR(pair);
	if (create->flags & BLK_INTERPOSER_OWNED) {
		mutex_lock(&pair->lock);
		blki_own(bf, pair);
		mutex_unlock(&pair->lock);
	}
	create->id = pair->id;
	create->lower = blki_encode_dev(pair->lower_devt);
	strscpy(create->lower_name, pair->lower_name,
		sizeof(create->lower_name));
	blki_put(pair);
	return 0;
}

static void blki_put_request(struct blki_request *request)
{
	while (request->nr_files)
		fput(request->files[--request->nr_files]);
	kfree(request->files);
}

static int blki_get_files(struct blki_request *request, u64 address, u32 nr)
{
	const s32 __user *fds = u64_to_user_ptr(address);
	s32 fd;

	if (nr > BLK_INTERPOSER_MAX_FILESYSTEMS)
		return -EINVAL;
	request->files = kcalloc(nr, sizeof(*request->files), GFP_KERNEL);
	if (!request->files)
		return -ENOMEM;
	while (request->nr_files < nr) {
		if (get_user(fd, fds + request->nr_files))
			return -EFAULT;
		request->files[request->nr_files] = fget(fd);
		if (!request->files[request->nr_files])
			return -EBADF;
		request->nr_files++;
	}
	return 0;
}

/* The part that attach and detach have in common. */
static int blki_get_request(struct blki_request *request, u32 flags,
			    u32 timeout_ms, u64 filesystems, u32 nr)
{
	int err;

	*request = (struct blki_request) {
		.flags = flags & BLK_INTERPOSER_NO_FREEZE,
	};
	if (timeout_ms > BLKI_MAX_TIMEOUT_MS)
		return -EINVAL;
	request->timeout = msecs_to_jiffies(timeout_ms ?:
					    BLKI_DEFAULT_TIMEOUT_MS);
	err = blki_get_files(request, filesystems, nr);
	if (err)
		blki_put_request(request);
	return err;
}

static int blki_do_attach(struct blk_interposer_attach *attach,
			  const struct blki_request *request)
{
	struct blki_times times = {};
	struct block_device *bdev;
	struct blki_pair *pair;
	struct file *file;
	int err;

	err = blki_get_bdev(attach->fd, &file, &bdev);
	if (err)
		return err;
	pair = blki_lock_pair(attach->id);
	if (IS_ERR(pair)) {
		fput(file);
		return PTR_ERR(pair);
	}
	err = blki_attach(pair, bdev, request, &times, &attach->error);
	if (!err && attach->flags & BLK_INTERPOSER_KEEP)
		blki_disown(pair);
	blki_unlock_pair(pair);
	fput(file);
	attach->parked_ns = times.parked_ns;
	attach->frozen_ns = times.frozen_ns;
	return err;
}

static int blki_ioctl_attach(struct blki_file *bf, void *arg)
{
	struct blk_interposer_attach *attach = arg;
	struct blki_request request;
	int err;

	if (attach->reserved ||
	    attach->flags & ~(BLK_INTERPOSER_NO_FREEZE | BLK_INTERPOSER_KEEP))
		return -EINVAL;
	err = blki_get_request(&request, attach->flags, attach->timeout_ms,
			       attach->filesystems, attach->nr_filesystems);
	if (err)
		return err;
	err = blki_do_attach(attach, &request);
	blki_put_request(&request);
	return err;
}

static int blki_do_detach(struct blki_file *bf,
			  struct blk_interposer_detach *detach,
			  const struct blki_request *request)
{
	struct blki_pair *pair = blki_lock_pair(detach->id);
	struct blki_times times = {};
	int err;

	if (IS_ERR(pair))
		return PTR_ERR(pair);
	err = blki_detach(pair, request, &times, &detach->error);
	if (!err && detach->flags & BLK_INTERPOSER_OWNED)
		blki_own(bf, pair);
	blki_unlock_pair(pair);
	detach->parked_ns = times.parked_ns;
	detach->frozen_ns = times.frozen_ns;
	return err;
}

static int blki_ioctl_detach(struct blki_file *bf, void *arg)
{
	struct blk_interposer_detach *detach = arg;
	struct blki_request request;
	int err;

	if (detach->reserved || detach->reserved2 ||
	    detach->flags & ~(BLK_INTERPOSER_NO_FREEZE | BLK_INTERPOSER_OWNED))
		return -EINVAL;
	err = blki_get_request(&request, detach->flags, detach->timeout_ms,
			       detach->filesystems, detach->nr_filesystems);
	if (err)
		return err;
	err = blki_do_detach(bf, detach, &request);
	blki_put_request(&request);
	return err;
}

static int blki_ioctl_destroy(struct blki_file *bf, void *arg)
{
	struct blk_interposer_destroy *destroy = arg;
	struct blki_pair *pair;
	int err;

	if (destroy->reserved)
		return -EINVAL;
	pair = blki_lock_pair(destroy->id);
	if (IS_ERR(pair))
		return PTR_ERR(pair);
	err = blki_destroy(pair, &destroy->error);
	if (!err)
		blki_disown(pair);
	blki_unlock_pair(pair);
	return err;
}

static u64 blki_redirected(struct blki_pair *pair)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += *per_cpu_ptr(pair->redirected, cpu);
	return sum;
}

/* The target, if no transition is under way. */
static void blki_status_target(struct blki_pair *pair,
			       struct blk_interposer_status *status)
{
	if (!mutex_trylock(&pair->lock)) {
		status->state = BLK_INTERPOSER_IN_TRANSITION;
		return;
	}
	if (pair->target) {
		status->state = BLK_INTERPOSER_ACTIVE;
		status->target = blki_encode_dev(pair->target->bd_dev);
		snprintf(status->target_name, sizeof(status->target_name),
			 "%pg", pair->target);
		if (bdev_nr_sectors(pair->target) != status->sectors)
			status->warnings |= BLK_INTERPOSER_WARN_RESIZED;
	}
	mutex_unlock(&pair->lock);
}

static void blki_fill_status(struct blki_pair *pair,
			     struct blk_interposer_status *status)
{
	struct block_device *original = pair->original.bdev;

	memset(status, 0, sizeof(*status));
	status->id = pair->id;
	status->flags = list_empty(&pair->owned) ? 0 : BLK_INTERPOSER_OWNED;
	status->original = blki_encode_dev(original->bd_dev);
	status->lower = blki_encode_dev(pair->lower_devt);
	status->sectors = bdev_nr_sectors(original);
	status->redirected = blki_redirected(pair);
	status->parked = atomic64_read(&pair->nr_parked);
	status->again = atomic64_read(&pair->nr_again);
	status->bypassed = atomic64_read(&pair->bypassed);
	if (blki_original_dead(pair))
		status->warnings |= BLK_INTERPOSER_WARN_REMOVED;
	if (blk_queue_dax(bdev_get_queue(original)))
		status->warnings |= BLK_INTERPOSER_WARN_DAX;
	if (compat_bdev_rw_page(original))
		status->warnings |= BLK_INTERPOSER_WARN_PAGES;
	snprintf(status->original_name, sizeof(status->original_name), "%pg",
		 original);
	strscpy(status->lower_name, pair->lower_name,
		sizeof(status->lower_name));
	blki_status_target(pair, status);
}

static int blki_ioctl_status(struct blki_file *bf, void *arg)
{
	struct blk_interposer_status *status = arg;
	struct blki_pair *pair;

	if (status->flags & ~BLK_INTERPOSER_NEXT)
		return -EINVAL;
	pair = blki_get(status->id, status->flags & BLK_INTERPOSER_NEXT);
	if (!pair)
		return -ENXIO;
	blki_fill_status(pair, status);
	blki_put(pair);
	return 0;
}

static int blki_ioctl_version(struct blki_file *bf, void *arg)
{
	*(u32 *)arg = BLK_INTERPOSER_VERSION;
	return 0;
}

/**
 * struct blki_call - one of the calls
 * @cmd: its number, which has the size of the argument
 * @fn: does it
 * @error: where in the argument the error is, or -1
 */
struct blki_call {
	unsigned int cmd;
	int (*fn)(struct blki_file *bf, void *arg);
	int error;
};

static const struct blki_call blki_calls[] = {
	{ BLK_INTERPOSER_GET_VERSION, blki_ioctl_version, -1 },
	{ BLK_INTERPOSER_CREATE, blki_ioctl_create,
	  offsetof(struct blk_interposer_create, error) },
	{ BLK_INTERPOSER_ATTACH, blki_ioctl_attach,
	  offsetof(struct blk_interposer_attach, error) },
	{ BLK_INTERPOSER_DETACH, blki_ioctl_detach,
	  offsetof(struct blk_interposer_detach, error) },
	{ BLK_INTERPOSER_DESTROY, blki_ioctl_destroy,
	  offsetof(struct blk_interposer_destroy, error) },
	{ BLK_INTERPOSER_STATUS, blki_ioctl_status, -1 },
};

union blki_argument {
	u32 version;
	struct blk_interposer_create create;
	struct blk_interposer_attach attach;
	struct blk_interposer_detach detach;
	struct blk_interposer_destroy destroy;
	struct blk_interposer_status status;
};

static long blki_call(struct blki_file *bf, const struct blki_call *call,
		      void __user *user)
{
	union blki_argument arg = {};
	size_t size = _IOC_SIZE(call->cmd);
	int err;

	if (_IOC_DIR(call->cmd) & _IOC_WRITE &&
	    copy_from_user(&arg, user, size))
		return -EFAULT;
	if (call->error >= 0)
		memset((void *)&arg + call->error, 0,
		       sizeof(struct blk_interposer_error));
	err = call->fn(bf, &arg);
	/* What was done is not undone for an answer that cannot be given. */
	if (copy_to_user(user, &arg, size) && !err)
		err = -EFAULT;
	return err;
}

static long blki_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	unsigned int i;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	for (i = 0; i < ARRAY_SIZE(blki_calls); i++)
		if (blki_calls[i].cmd == cmd)
			return blki_call(file->private_data, &blki_calls[i],
					 (void __user *)arg);
	return -ENOTTY;
}

static int blki_open(struct inode *inode, struct file *file)
{
	struct blki_file *bf;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	bf = kzalloc(sizeof(*bf), GFP_KERNEL);
	if (!bf)
		return -ENOMEM;
	INIT_LIST_HEAD(&bf->owned);
	file->private_data = bf;
	return 0;
}

/* By a worker: a target may be slow, and the owner is about to exit. */
static int blki_close(struct inode *inode, struct file *file)
{
	struct blki_file *bf = file->private_data;
	struct blki_pair *pair, *next;

	mutex_lock(&blki_owned_lock);
	list_for_each_entry_safe(pair, next, &bf->owned, owned) {
		list_del_init(&pair->owned);
		WRITE_ONCE(pair->orphaned, true);
		blki_reap_soon(pair);
	}
	mutex_unlock(&blki_owned_lock);
	kfree(bf);
	return 0;
}

static const struct file_operations blki_fops = {
	.owner = THIS_MODULE,
	.open = blki_open,
	.release = blki_close,
	.unlocked_ioctl = blki_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice blki_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "blk-interposer",
	.mode = 0600,
	.fops = &blki_fops,
};

/**
 * blki_control_init() - Make the control device.
 *
 * Return: 0 or an error.
 */
int blki_control_init(void)
{
	return misc_register(&blki_misc);
}

/**
 * blki_control_exit() - Take it away. Nobody has it open.
 */
void blki_control_exit(void)
{
	misc_deregister(&blki_misc);
}
