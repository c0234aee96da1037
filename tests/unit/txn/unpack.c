// SPDX-License-Identifier: GPL-2.0-only
/*
 * The floor xform of dm-qcow2, for images without compressed clusters: what meta
 * and map use of it.
 */
#include "../../../kernel/dm-qcow2/xform/xform.h"

#include <linux/slab.h>

struct qcow2_unpacker {
	struct qcow2_core *core;
};

struct qcow2_unpacker *qcow2_unpacker_new(struct qcow2_core *core,
					  struct qcow2_store *store)
{
	struct qcow2_unpacker *u = kzalloc(sizeof(*u), GFP_KERNEL);

	u->core = core;
	return u;
}

void qcow2_unpacker_destroy(struct qcow2_unpacker *u)
{
	kfree(u);
}

void qcow2_unpacker_begin(struct qcow2_unpacker *u,
			  const struct qcow2_geometry *g)
{
}

void qcow2_unpacker_end(struct qcow2_unpacker *u)
{
}

int qcow2_unpacker_expect(struct qcow2_unpacker *u)
{
	sim_fail("a compressed cluster is expected");
	return -ENOMEM;
}

int qcow2_unpack_to_buf(const struct qcow2_packed *p, u64 from,
			struct qcow2_buf *buf, u64 skip, u64 len,
			struct qcow2_how how)
{
	sim_fail("a compressed cluster is read");
	return -EIO;
}
