// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters of compression type zstd: frames one after the other, until the
 * cluster is complete. Takes no locks.
 */
#include "xform.h"

#include <linux/zstd.h>

/*
 * Frames that need a larger window to be decoded piece by piece are refused by
 * QEMU, which does that. Here each is decoded as a whole, where what was decoded
 * is the window, and no memory depends on what a frame says of it.
 */
#define ZSTD_WINDOW_MOST (128ULL << 20)

/**
 * qcow2_zstd_memory() - the memory that decoding takes
 *
 * Return: bytes.
 */
size_t qcow2_zstd_memory(void)
{
	return zstd_dctx_workspace_bound();
}

static bool zstd_window_is_sane(const void *src, u32 len)
{
	zstd_frame_header h;

	return !zstd_get_frame_header(&h, src, len) &&
	       h.windowSize <= ZSTD_WINDOW_MOST;
}

/**
 * qcow2_zstd_decode() - decode a cluster
 * @mem: qcow2_zstd_memory() bytes
 * @src: the frames; what comes after the last that is needed is not looked at
 * @len: bytes there
 * @dst: where the cluster goes
 * @size: bytes of the cluster
 *
 * Return: 0, or -EIO if a frame is damaged, or they do not give just as much.
 */
int qcow2_zstd_decode(void *mem, const void *src, u32 len, void *dst, u32 size)
{
	zstd_dctx *dctx = zstd_init_dctx(mem, qcow2_zstd_memory());
	size_t frame, got;

	if (!dctx)
		return -EIO;
	while (size) {
		if (!zstd_window_is_sane(src, len))
			return -EIO;
		frame = zstd_find_frame_compressed_size(src, len);
		if (zstd_is_error(frame) || !frame)
			return -EIO;
		got = zstd_decompress_dctx(dctx, dst, size, src, frame);
		if (zstd_is_error(got))
			return -EIO;
		src += frame;
		len -= frame;
		dst += got;
		size -= got;
	}
	return 0;
}
