// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the control device does, for other modules, by block device.
 *
 * Locks: pair.lock.
 */
#include <linux/export.h>

#include "api.h"
#include "lifecycle.h"
#include "pair.h"
#include "transition.h"

/**
 * blk_interposer_create() - Make the pair of disks of an original.
 * @original: a disk or partition, open, mounted or not
 * @lower: becomes the number of the disk that targets are to open
 * @error: step and reason of a failure
 *
 * Return: 0, -EINVAL, -EBUSY (it has a pair), -ENODEV (it is being removed),
 * -EOPNOTSUPP (integrity data, inline encryption, direct access) or -ENOMEM.
 */
int blk_interposer_create(struct block_device *original, dev_t *lower,
			  struct blk_interposer_error *error)
{
	struct blki_pair *pair = blki_create(original, error);

	if (IS_ERR(pair))
		return PTR_ERR(pair);
	*lower = pair->lower_devt;
	blki_put(pair);
	return 0;
}
EXPORT_SYMBOL_GPL(blk_interposer_create);

/* Locked, with a reference. */
static struct blki_pair *blki_find_locked(struct block_device *original)
{
	struct blki_pair *pair = blki_find(original);

	if (!pair)
		return NULL;
	mutex_lock(&pair->lock);
	if (!pair->removed)
		return pair;
	mutex_unlock(&pair->lock);
	blki_put(pair);
	return NULL;
}

static void blki_put_locked(struct blki_pair *pair)
{
	mutex_unlock(&pair->lock);
	blki_put(pair);
}

/**
 * blk_interposer_attach() - Put a target between an original and its users.
 * @original: has a pair
 * @target: a block device of the same size on top of the lower disk
 * @flags: BLK_INTERPOSER_NO_FREEZE or 0
 * @error: step and reason of a failure
 *
 * Return: 0, -ENXIO (there is no pair), -EBUSY (attached already, detached with
 * I/O in flight still, or frozen by its user), -EINVAL, -ELOOP or -ENODEV for
 * the target, -ETIMEDOUT when I/O in flight does not complete in 30 seconds.
 * After an error all is as it was.
 */
int blk_interposer_attach(struct block_device *original,
			  struct block_device *target, unsigned int flags,
			  struct blk_interposer_error *error)
{
	const struct blki_request request = { .flags = flags, .timeout = 30 * HZ };
	struct blki_pair *pair = blki_find_locked(original);
	struct blki_times times = {};
	int err;

	if (!pair)
		return -ENXIO;
	err = blki_attach(pair, target, &request, &times, error);
	blki_put_locked(pair);
	return err;
}
EXPORT_SYMBOL_GPL(blk_interposer_attach);

/**
 * blk_interposer_detach() - Take the target out again.
 * @original: has a target attached
 * @flags: BLK_INTERPOSER_NO_FREEZE or 0
 * @error: step and reason of a failure
 *
 * Return: 0, -ENXIO (there is no pair), -EINVAL (nothing is attached), -EBUSY
 * (frozen by its user) or -ETIMEDOUT. After an error it is still attached.
 */
int blk_interposer_detach(struct block_device *original, unsigned int flags,
			  struct blk_interposer_error *error)
{
	const struct blki_request request = { .flags = flags, .timeout = 30 * HZ };
	struct blki_pair *pair = blki_find_locked(original);
	struct blki_times times = {};
	int err;

	if (!pair)
		return -ENXIO;
	err = blki_detach(pair, &request, &times, error);
	blki_put_locked(pair);
	return err;
}
EXPORT_SYMBOL_GPL(blk_interposer_detach);

/**
 * blk_interposer_destroy() - Take the two disks away.
 * @original: has a pair
 * @error: step and reason of a failure
 *
 * Return: 0, -ENXIO (there is no pair) or -EBUSY (attached, in use, or detached
 * with I/O in flight still).
 */
int blk_interposer_destroy(struct block_device *original,
			   struct blk_interposer_error *error)
{
	struct blki_pair *pair = blki_find_locked(original);
	int err;

	if (!pair)
		return -ENXIO;
	err = blki_destroy(pair, error);
	blki_put_locked(pair);
	return err;
}
EXPORT_SYMBOL_GPL(blk_interposer_destroy);
