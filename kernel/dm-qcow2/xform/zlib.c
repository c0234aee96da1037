// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clusters of compression type zlib: a raw deflate stream, without header and
 * checksum. Takes no locks.
 */
#include "xform.h"

#include <linux/zlib.h>

/**
 * qcow2_zlib_memory() - the memory that decoding takes
 *
 * Return: bytes.
 */
size_t qcow2_zlib_memory(void)
{
	return zlib_inflate_workspacesize();
}

/**
 * qcow2_zlib_decode() - inflate a cluster
 * @mem: qcow2_zlib_memory() bytes
 * @src: the stream; what comes after it is not looked at
 * @len: bytes there
 * @dst: where the cluster goes
 * @size: bytes of the cluster
 *
 * It need not end there: QEMU takes what fills the cluster.
 * Return: 0, or -EIO if the stream is damaged or gives less.
 */
int qcow2_zlib_decode(void *mem, const void *src, u32 len, void *dst, u32 size)
{
	struct z_stream_s strm = {
		.workspace = mem,
		.next_in = src,
		.avail_in = len,
		.next_out = dst,
		.avail_out = size,
	};
	int r;

	/*
	 * QEMU writes with a window of 4 KiB, and others may with the largest
	 * there is. Negative: no header.
	 */
	if (zlib_inflateInit2(&strm, -MAX_WBITS) != Z_OK)
		return -EIO;
	r = zlib_inflate(&strm, Z_FINISH);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !strm.avail_out ?
		0 : -EIO;
}
