// SPDX-License-Identifier: GPL-2.0-only
/*
 * Redirected bios: what is known of one, and its end.
 *
 * Locks: none; the lists of bios to be completed are of a CPU each, with
 * interrupts disabled.
 */
#include <linux/bio.h>
#include <linux/mempool.h>

#include "clone.h"
#include "context.h"

/**
 * struct blki_ending - redirected bios that a CPU is to complete
 * @bios: complete below, and chained to others above
 * @busy: somebody on this CPU is completing them
 *
 * With preemption disabled; interrupts too, for the list.
 */
struct blki_ending {
	struct bio_list bios;
	bool busy;
};

static DEFINE_PER_CPU(struct blki_ending, blki_ending);

/*
 * The submitter sees the device that it has sent the bio to, for its messages for
 * instance. All that the bio has seen stay until it has heard.
 */
static void blki_complete(struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;
	struct blki_pair *pair = ctx->pair;
	bool inflight = ctx->inflight;

	bio->bi_end_io = ctx->end_io;
	bio->bi_private = ctx->private;
	bio->bi_bdev = ctx->bdev;
	mempool_free(ctx, &pair->contexts);
	if (bio->bi_end_io)
		bio->bi_end_io(bio);
	if (inflight)
		percpu_ref_put(&pair->inflight);
	percpu_ref_put(&pair->users);
}

/*
 * bio_endio() goes up a chain in a loop, but it does not know that what is
 * redirected is in one. A thousand bios that have waited for the first would end
 * inside of each other: so those that find one ending on this CPU leave it to that.
 */
static void blki_complete_chained(struct bio *bio)
{
	struct blki_ending *ending;
	unsigned long flags;

	preempt_disable();
	ending = this_cpu_ptr(&blki_ending);
	local_irq_save(flags);
	bio_list_add(&ending->bios, bio);
	if (!ending->busy) {
		ending->busy = true;
		while ((bio = bio_list_pop(&ending->bios))) {
			local_irq_restore(flags);
			blki_complete(bio);
			local_irq_save(flags);
		}
		ending->busy = false;
	}
	local_irq_restore(flags);
	preempt_enable();
}

static void blki_end_io(struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;

	if (ctx->end_io == blki_chain_end_io)
		blki_complete_chained(bio);
	else
		blki_complete(bio);
}

/**
 * blki_context_attach() - Hear of the end of a bio.
 * @pair: a reference to its users goes to the bio
 * @bio: to be redirected
 * @bdev: where its submitter sent it
 * @ctx: from the pair's contexts
 *
 * A bio that the block layer ends before the upper disk sees it, because it is
 * beyond the end for instance, gives its reference back as well.
 */
void blki_context_attach(struct blki_pair *pair, struct bio *bio,
			 struct block_device *bdev, struct blki_context *ctx)
{
	ctx->pair = pair;
	ctx->end_io = bio->bi_end_io;
	ctx->private = bio->bi_private;
	ctx->bdev = bdev;
	ctx->inflight = false;
	bio->bi_end_io = blki_end_io;
	/* Whoever finds the context there knows that it is none of a chain. */
	smp_wmb(); /* blki_chain_parent() */
	bio->bi_private = ctx;
}

/**
 * blki_context_of() - What is known of a bio.
 * @pair: the pair
 * @bio: has come to its upper disk
 *
 * The hook may have had no memory for a context; here it is waited for.
 *
 * Return: its context.
 */
struct blki_context *blki_context_of(struct blki_pair *pair, struct bio *bio)
{
	struct blki_context *ctx = bio->bi_private;

	if (likely(bio->bi_end_io == blki_end_io && ctx->pair == pair))
		return ctx;
	ctx = mempool_alloc(&pair->contexts, GFP_NOIO);
	blki_context_attach(pair, bio, pair->original.bdev, ctx);
	return ctx;
}
