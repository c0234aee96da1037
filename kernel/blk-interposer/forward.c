// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a bio goes that is past the gate: to the target, or to the original.
 *
 * Locks: none.
 */
#include <linux/bio.h>

#include "clone.h"
#include "forward.h"
#include "proof.h"
#include "trial.h"

/* Before an attach is done, and after a detach: nothing that has to be fast. */
static void blki_forward_untargeted(struct blki_pair *pair, struct bio *bio)
{
	blki_proof_arrived(bio->bi_private);
	if (current == READ_ONCE(pair->freezer))
		blki_trial_note(pair, bio);
	blki_clone_send(pair, bio, blki_clone_end_io);
}

/**
 * blki_forward() - Send a bio on.
 * @pair: pair.target cannot change
 * @bio: redirected and past the gate: its context holds pair.inflight
 */
void blki_forward(struct blki_pair *pair, struct bio *bio)
{
	struct block_device *target = READ_ONCE(pair->target);

	if (!target) {
		blki_forward_untargeted(pair, bio);
		return;
	}
	/* What the original could do at once, the target may have to wait for. */
	if (bio->bi_opf & REQ_NOWAIT && !bdev_nowait(target)) {
		atomic64_inc(&pair->nr_again);
		bio_wouldblock_error(bio);
		return;
	}
	bio_set_dev(bio, target);
	submit_bio_noacct(bio);
}
