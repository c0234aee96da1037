/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_BVEC_H
#define SHIM_BVEC_H

#include <linux/mm.h>

struct bio_vec {
	struct page *bv_page;
	unsigned int bv_len;
	unsigned int bv_offset;
};

struct bvec_iter {
	sector_t bi_sector;
	unsigned int bi_size;
	unsigned int bi_idx;
	unsigned int bi_bvec_done;
};

static inline void bvec_set_page(struct bio_vec *bv, struct page *page,
				 unsigned int len, unsigned int offset)
{
	bv->bv_page = page;
	bv->bv_len = len;
	bv->bv_offset = offset;
}

static inline bool bvec_iter_advance(const struct bio_vec *bv,
				     struct bvec_iter *iter, unsigned int bytes)
{
	if (bytes > iter->bi_size)
		return false;
	iter->bi_size -= bytes;
	iter->bi_bvec_done += bytes;
	while (iter->bi_bvec_done && iter->bi_bvec_done >= bv[iter->bi_idx].bv_len)
		iter->bi_bvec_done -= bv[iter->bi_idx++].bv_len;
	return true;
}

#endif
