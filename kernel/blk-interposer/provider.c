// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lower disk as a provider of copies, for blk-copy.
 *
 * It hands pieces on to the original, so that a target that can use
 * that keeps what the original's driver can do. While a target is attached,
 * copies of the original itself become reads and writes, as its driver would
 * do them past the target.
 *
 * Locks: none.
 */
#include <linux/sizes.h>

#include "provider.h"
#include "trial.h"

static int blki_provider_copy(struct blk_copy_op *op)
{
	struct blki_pair *pair = op->private;
	struct blk_copy_request req = {
		.src = pair->original.bdev,
		.dst = pair->original.bdev,
		.src_pos = op->src,
		.dst_pos = op->dst,
		.len = op->len,
		.parent = op,
		.below = true,
	};
	int err;

	/* A trial counts bios only; what is emulated becomes those. */
	if (blki_on_trial(pair))
		return -EOPNOTSUPP;
	err = blk_copy(&req);
	op->done = req.done;
	return err;
}

static int blki_provider_possible(void *private, unsigned int depth)
{
	struct blki_pair *pair = private;
	const struct blk_copy_request req = {
		.src = pair->original.bdev,
		.dst = pair->original.bdev,
		.below = true,
	};

	return blk_copy_possible(&req, depth);
}

static const struct blk_copy_ops blki_provider_ops = {
	.name = "blk-interposer",
	.copy = blki_provider_copy,
	.possible = blki_provider_possible,
};

/**
 * blki_provider_register() - Hand copies of the lower disk on.
 * @pair: with its disks, not added yet
 *
 * Return: 0 or -ENOMEM.
 */
int blki_provider_register(struct blki_pair *pair)
{
	unsigned int block = bdev_logical_block_size(pair->original.bdev);
	const struct blk_copy_limits limits = {
		.max_bytes = SZ_64M,
		.granularity = block,
		.optimal = block,
		.private = pair,
	};

	pair->copier = blk_copy_register(pair->lower, &blki_provider_ops, &limits);
	return PTR_ERR_OR_ZERO(pair->copier);
}

/**
 * blki_provider_unregister() - No more copies of the lower disk.
 * @pair: whose disks are being removed, or could not be added
 *
 * Waits for those under way; see blk_copy_unregister().
 */
void blki_provider_unregister(struct blki_pair *pair)
{
	blk_copy_unregister(pair->copier);
}
