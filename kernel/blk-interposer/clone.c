// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clones: what goes to an original.
 *
 * They are known by their bio_set, and so is what was split from one: the hook
 * leaves both alone.
 *
 * Locks: none.
 */
#include <linux/bio.h>

#include "clone.h"

/* That of bio_chain(), which is static in the kernel; set once. */
bio_end_io_t *blki_chain_end_io __ro_after_init;

/* What a bio is chained to, or NULL. */
static struct bio *blki_chain_parent(struct bio *bio)
{
	struct bio *parent = READ_ONCE(bio->bi_private);

	/* Redirecting it meanwhile changes the function before the data. */
	smp_rmb(); /* blki_context_attach() */
	return READ_ONCE(bio->bi_end_io) == blki_chain_end_io ? parent : NULL;
}

/**
 * blki_clone_has_split() - Whether a bio was split from a clone.
 * @pair: the pair
 * @bio: a clone, but none of the pair's
 *
 * By a driver below, which sends it to itself once more: such a bio is of the
 * driver's bio_set, and chained to ours. A parent cannot end before its children.
 *
 * Return: true if it was.
 */
bool blki_clone_has_split(struct blki_pair *pair, struct bio *bio)
{
	do {
		bio = blki_chain_parent(bio);
	} while (bio && bio->bi_pool != &pair->bs);
	return bio;
}

/**
 * blki_clone_end_io() - End a bio as its clone has ended.
 * @clone: from blki_clone_send()
 */
void blki_clone_end_io(struct bio *clone)
{
	struct bio *bio = clone->bi_private;

	bio->bi_status = clone->bi_status;
	if (bio_op(bio) == REQ_OP_ZONE_APPEND)
		bio->bi_iter.bi_sector = clone->bi_iter.bi_sector;
	bio_put(clone);
	bio_endio(bio);
}

/**
 * blki_clone_send() - Send a clone to the original.
 * @pair: whose original
 * @bio: what is cloned; it ends when the clone does
 * @end_io: for the clone: blki_clone_end_io(), or what ends in it
 *
 * Return: false if there is no memory and the bio must not wait: it has ended then.
 */
bool blki_clone_send(struct blki_pair *pair, struct bio *bio,
		     bio_end_io_t *end_io)
{
	gfp_t gfp = bio->bi_opf & REQ_NOWAIT ? GFP_NOWAIT : GFP_NOIO;
	struct bio *clone;

	clone = bio_alloc_clone(pair->original.bdev, bio, gfp, &pair->bs);
	if (!clone) {
		bio_wouldblock_error(bio);
		return false;
	}
	/* Whoever polls does so at the bio of its own, which has no queue. */
	clone->bi_opf &= ~REQ_POLLED;
	clone->bi_private = bio;
	clone->bi_end_io = end_io;
	submit_bio_noacct(clone);
	return true;
}

/* Two bios that are never submitted show it. */
static bio_end_io_t * __init blki_learn_chain_end_io(void)
{
	struct bio child, parent;

	bio_init(&parent, NULL, NULL, 0, REQ_OP_READ);
	bio_init(&child, NULL, NULL, 0, REQ_OP_READ);
	bio_chain(&child, &parent);
	return child.bi_end_io;
}

/**
 * blki_clone_init() - Learn how a bio that is chained ends.
 */
void __init blki_clone_init(void)
{
	blki_chain_end_io = blki_learn_chain_end_io();
}
