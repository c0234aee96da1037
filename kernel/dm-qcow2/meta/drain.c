// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commits for the sake of the clusters that they set free.
 *
 * Takes no locks; what it calls does.
 */
#include "meta.h"

/**
 * qcow2_drain() - wait until what is unlinked now is free
 * @q: the image
 *
 * Commits first. What that fails to write is not free then. Context: a worker
 * that does not hold image.srcu or any lock that a commit or the freeing needs.
 */
void qcow2_drain(struct qcow2_image *q)
{
	bool collecting;
	u64 gen = qcow2_free_last(q, &collecting);

	if (collecting)
		qcow2_txn_commit(q);
	/* A commit is done with it by now, or has it and will be. */
	qcow2_free_wait(q, gen);
}

/**
 * qcow2_drain_and_retry() - whether to try again after an error
 * @q: the image
 * @err: how an attempt to allocate clusters ended
 * @tried: false before the first attempt
 *
 * What was discarded lately may be waiting for a commit: it is free if this
 * returns true. Context: as for qcow2_drain().
 * Return: true after the first -ENOSPC.
 */
bool qcow2_drain_and_retry(struct qcow2_image *q, int err, bool *tried)
{
	if (err != -ENOSPC || *tried)
		return false;
	*tried = true;
	qcow2_drain(q);
	return true;
}
