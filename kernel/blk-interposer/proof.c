// SPDX-License-Identifier: GPL-2.0-only
/*
 * A proof that the hook sees what is sent to an original.
 *
 * That it is registered does not say so: another tracer may divert bios before
 * it, or a compiler may have merged the function into another one. So one read of
 * our own goes by each way that others take, and has to arrive where bios go that
 * were redirected.
 *
 * Locks: none.
 */
#include <linux/slab.h>

#include "proof.h"

/**
 * struct blki_proof - a read of our own
 * @users: the bio, and who submits it
 * @seen: it was redirected
 * @page: what it reads to
 * @vec: that of @bio
 * @bio: to the original, and none of pair.bs
 */
struct blki_proof {
	refcount_t users;
	bool seen;
	struct page *page;
	struct bio_vec vec;
	struct bio bio;
};

/* Those that are left, which end in here. */
static atomic_t blki_proofs = ATOMIC_INIT(0);

static void blki_proof_put(struct blki_proof *proof)
{
	if (!refcount_dec_and_test(&proof->users))
		return;
	__free_page(proof->page);
	kfree(proof);
	if (atomic_dec_and_test(&blki_proofs))
		wake_up_var(&blki_proofs);
}

/**
 * blki_proof_exit() - Wait for proofs that went to an original by themselves.
 *
 * No pair waits for those, as they were never redirected.
 */
void blki_proof_exit(void)
{
	wait_var_event(&blki_proofs, !atomic_read(&blki_proofs));
	/* The last one is not interrupted by us any more. */
	synchronize_rcu();
}

/* What was read, or whether at all, is of no interest. */
static void blki_proof_end_io(struct bio *bio)
{
	struct blki_proof *proof = bio->bi_private;

	bio_uninit(bio);
	blki_proof_put(proof);
}

/**
 * blki_proof_arrived() - Note that a bio is a proof.
 * @ctx: of a bio that was redirected and is on its way to the original
 */
void blki_proof_arrived(struct blki_context *ctx)
{
	struct blki_proof *proof = ctx->private;

	if (ctx->end_io == blki_proof_end_io)
		proof->seen = true;
}

static struct blki_proof *blki_proof_alloc(struct block_device *bdev)
{
	struct blki_proof *proof = kzalloc(sizeof(*proof), GFP_KERNEL);

	if (!proof)
		return NULL;
	proof->page = alloc_page(GFP_KERNEL);
	if (!proof->page) {
		kfree(proof);
		return NULL;
	}
	refcount_set(&proof->users, 2);
	atomic_inc(&blki_proofs);
	bio_init(&proof->bio, bdev, &proof->vec, 1, REQ_OP_READ | REQ_SYNC);
	__bio_add_page(&proof->bio, proof->page, bdev_logical_block_size(bdev),
		       0);
	proof->bio.bi_private = proof;
	proof->bio.bi_end_io = blki_proof_end_io;
	return proof;
}

/* Nothing is waited for: it has arrived when the submission returns, or never will. */
static int blki_prove_entry(struct blki_pair *pair, bool noacct)
{
	struct blki_proof *proof = blki_proof_alloc(pair->original.bdev);
	bool seen;

	if (!proof)
		return -ENOMEM;
	if (noacct)
		submit_bio_noacct(&proof->bio);
	else
		submit_bio(&proof->bio);
	seen = READ_ONCE(proof->seen);
	blki_proof_put(proof);
	return seen ? 0 : -EOPNOTSUPP;
}

/**
 * blki_prove() - Make sure that bios to an original are redirected.
 * @pair: just hooked, with its gate open and without a target
 *
 * Return: 0, -ENOMEM, or -EOPNOTSUPP if they are not.
 */
int blki_prove(struct blki_pair *pair)
{
	int err = blki_prove_entry(pair, false);

	lockdep_assert_held(&pair->lock);
	return err ?: blki_prove_entry(pair, true);
}
